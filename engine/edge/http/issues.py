"""Tells findings about a task in the words of Julep's server, for clients that show its list of issues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.core.diagnostics import Diagnostic

_KINDS: Final = {"E2": "schema", "E3": "python_expression", "E4": "python_expression", "E5": "schema"}
"""What kind of issue a finding is, by the first two characters of its code; all others are `other`."""
_NAMES_OF_EXPRESSIONS: Final = ("E401", "E405")


def issues_of(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """Return findings as [{location, message, severity, type}].

    Args:
        diagnostics: The findings.
    """
    return [
        {"location": item.path, "message": item.message, "severity": item.severity.value.upper(), "type": _kind(item)}
        for item in diagnostics
    ]


def _kind(item: Diagnostic) -> str:
    if item.code.startswith("E4") and item.code not in _NAMES_OF_EXPRESSIONS:
        # names of tools, lists and labels
        return "schema"
    return _KINDS.get(item.code[:2], "other")
