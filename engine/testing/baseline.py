"""Pass rates of earlier runs: a case whose rate falls below the one that was written down, fails."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.core.errors import InvalidInput
from engine.testing.suite import CaseReport, FileReport

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Drop:
    """A case that passes less often than before.

    Attributes:
        file: The test file.
        case: The case.
        before: Part of the runs that passed then, 0 to 1.
        now: Part of the runs that passes now.
    """

    file: Path
    case: str
    before: float
    now: float

    def __str__(self) -> str:
        return f"{self.file}: {self.case}: {self.now:.0%} of the runs pass, {self.before:.0%} passed before"


def rate_of(case: CaseReport) -> float:
    """Return which part of a case's runs passed."""
    return sum(not run.misses for run in case.runs) / len(case.runs) if case.runs else 0.0


def save_baseline(path: Path, reports: Sequence[FileReport]) -> None:
    """Write the pass rates of all cases that were run.

    Raises:
        InvalidInput: `file.unwritable`.
    """
    rates = {
        report.file.as_posix(): {case.case.name: round(rate_of(case), 4) for case in report.cases if not case.skipped}
        for report in reports
    }
    try:
        path.write_text(
            f"{json.dumps({'format': FORMAT, 'rates': rates}, indent=1, sort_keys=True)}\n", encoding="utf-8"
        )
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", code="file.unwritable") from error


def drops_since(path: Path, reports: Sequence[FileReport], *, tolerance: float) -> list[Drop]:
    """Return the cases whose pass rate has fallen by more than the tolerance; new cases have nothing to fall from.

    Args:
        path: The file that `save_baseline` wrote.
        reports: The runs of now.
        tolerance: How far a rate may fall, 0 to 1.

    Raises:
        InvalidInput: `test.baseline` if the file is missing or is no baseline.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise ValueError(f"its format is {body['format']}, not {FORMAT}")
        rates: dict[str, dict[str, float]] = {
            str(file): {str(name): float(rate) for name, rate in cases.items()} for file, cases in body["rates"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is no baseline: {error}", code="test.baseline", hint="write one with --save-baseline FILE"
        ) from error
    found: list[Drop] = []
    for report in reports:
        known = rates.get(report.file.as_posix(), {})
        for case in report.cases:
            before, now = known.get(case.case.name), rate_of(case)
            if before is not None and not case.skipped and now < before - tolerance - 1e-9:
                found.append(Drop(report.file, case.case.name, before, now))
    return found
