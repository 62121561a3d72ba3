"""Writes findings for other programs: SARIF 2.1.0 for code scanning, command lines for GitHub's workflows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from engine.core.diagnostics import Diagnostic
from engine.core.spec.codebook.book import BOOK
from engine.core.spec.codes import CODES

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_SOURCE_ROOT = "%SRCROOT%"


@dataclass(frozen=True, slots=True)
class FileFindings:
    """What was found in one file.

    Attributes:
        file: Its name, as the user gave it.
        findings: What was found.
    """

    file: str
    findings: Sequence[Diagnostic]


def sarif_log(reports: Iterable[FileFindings], *, version: str) -> dict[str, Any]:
    """Return findings as a SARIF 2.1.0 log with one run.

    Args:
        reports: Findings by file.
        version: Version of the program.

    Returns:
        The log as JSON: every code is a rule, every finding a result with its place.
    """
    index = {code: number for number, code in enumerate(CODES)}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "everstep",
                        "semanticVersion": version,
                        "rules": [_rule(code, meaning) for code, meaning in CODES.items()],
                    }
                },
                # positions count characters, not units of UTF-16
                "columnKind": "unicodeCodePoints",
                "results": [_result(report.file, found, index) for report in reports for found in report.findings],
            }
        ],
    }


def github_commands(reports: Iterable[FileFindings]) -> list[str]:
    """Return findings as workflow commands, which GitHub shows beside the lines of a change.

    Args:
        reports: Findings by file.

    Returns:
        One line a finding: `::error file=…,line=…,col=…,title=E104::message`.
    """
    return [_command(report.file, found) for report in reports for found in report.findings]


def _rule(code: str, meaning: str) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": code,
        "shortDescription": {"text": meaning},
        "defaultConfiguration": {"level": "error" if code.startswith("E") else "warning"},
    }
    entry = BOOK.get(code)
    if entry is not None:
        bad, good = entry.shown_bad, entry.good
        rule["fullDescription"] = {"text": entry.why}
        rule["help"] = {
            "text": f"{entry.why}\n\nWrong:\n\n{bad}\nRight:\n\n{good}",
            "markdown": f"{entry.why}\n\nWrong:\n\n```yaml\n{bad}```\n\nRight:\n\n```yaml\n{good}```\n",
        }
    return rule


def _result(file: str, found: Diagnostic, index: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": _artifact(file),
            "region": {"startLine": found.position.line, "startColumn": found.position.column},
        }
    }
    if found.path:
        location["logicalLocations"] = [{"fullyQualifiedName": found.path}]
    result: dict[str, Any] = {
        "ruleId": found.code,
        "level": found.severity.value,
        "message": {"text": _message(found)},
        "locations": [location],
    }
    if found.code in index:
        result["ruleIndex"] = index[found.code]
    return result


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(file)
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": _SOURCE_ROOT}


def _message(found: Diagnostic) -> str:
    return f"{found.message}\n{found.hint}" if found.hint else found.message


def _command(file: str, found: Diagnostic) -> str:
    properties = {"file": file, "line": found.position.line, "col": found.position.column, "title": found.code}
    written = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{found.severity.value} {written}::{_data(_message(found))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
