"""Secrets in a task: references in definitions of tools, and calls that no secret may get into. Workflow-safe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from engine.core.diagnostics import Findings
from engine.core.lang.secret import NAME, SecretText, take_out
from engine.core.plan.computed import Value
from engine.core.plan.ir import ToolContract
from engine.core.plan.reach import secrets_in
from engine.core.plan.resolve import clip, mark_length
from engine.core.spec import codes
from engine.core.spec.model import ToolSpec
from engine.core.spec.steps import ToolCallStep

_TAG: Final = re.compile(r"\{\{-?(?P<code>[^{}]*)-?\}\}")
_REFERENCE: Final = re.compile(
    rf"""\s*secrets\s*(?:\.\s*({NAME.pattern})|\[\s*(?:'({NAME.pattern})'|"({NAME.pattern})")\s*\])\s*"""
)
_WORD: Final = re.compile(r"\bsecrets\s*[.\[]")
_MARKED: Final = ("{{", "{%")


def with_secrets(contract: ToolContract, spec: ToolSpec, findings: Findings) -> ToolContract:
    """Return the contract of a task's own tool with the secrets that its definition names.

    Args:
        contract: The tool, whose spec stands as the author wrote it.
        spec: What the author wrote.
        findings: Where to put what is wrong.
    """
    read = _read(contract.spec, f"{spec.path}.{spec.type}", spec, findings)
    plain, slots = take_out(read)
    return replace(contract, spec=plain, secrets=tuple(slots)) if slots else contract


def _read(value: Any, path: str, spec: ToolSpec, findings: Findings) -> Any:
    if isinstance(value, dict):
        return {key: _read(item, f"{path}.{key}", spec, findings) for key, item in value.items()}
    if isinstance(value, list):
        return [_read(item, f"{path}[{number}]", spec, findings) for number, item in enumerate(value)]
    if isinstance(value, str) and _WORD.search(value) and (mark_length(value) or any(m in value for m in _MARKED)):
        return _read_text(value, path, spec, findings)
    return value


def _read_text(text: str, path: str, spec: ToolSpec, findings: Findings) -> Any:
    lead = mark_length(text)
    parts = [{"secret": _name(text[lead:])}] if lead else list(_parts(text))
    if any(isinstance(part, dict) and not part["secret"] for part in parts) or "{%" in text:
        findings.error(
            codes.SECRET_PLACE,
            f"the definition of a tool computes nothing: '{clip(text)}'",
            spec.position,
            path=path,
            hint="write `{{ secrets.NAME }}` within the text, and nothing else in braces",
        )
        return text
    return SecretText(part for part in parts if part != "")


def _parts(text: str) -> Iterator[Any]:
    place = 0
    for tag in _TAG.finditer(text):
        yield text[place : tag.start()]
        yield {"secret": _name(tag["code"])}
        place = tag.end()
    yield text[place:]


def _name(code: str) -> str:
    found = _REFERENCE.fullmatch(code)
    return "" if found is None else next(name for name in found.groups() if name)


def check_no_client_sees(contract: ToolContract, arguments: Value, step: ToolCallStep, findings: Findings) -> None:
    """Report secrets in the arguments of a tool that the client runs, or whose arguments are kept."""
    if contract.refuses_secrets and secrets_in(arguments):
        findings.error(
            codes.SECRET_PLACE,
            contract.refuses_secrets,
            step.tool.position,
            path=f"{step.path}.arguments",
            hint="let an api_call or a Python tool of the operator make the call",
        )
