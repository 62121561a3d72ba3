"""What is wrong with a definition, and where: findings with code, place, hint and caret. Workflow-safe."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is; only errors stop a task from being created."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a source text; line and column count from 1."""

    line: int
    column: int


NOWHERE = Position(1, 1)

MAX_LINE_CHARS = 160
"""Longest part of a source line that is printed with a finding."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    Attributes:
        code: Stable code, `E…` for errors and `W…` for warnings (docs/diagnostics.md lists them).
        message: What is wrong, with the name of the thing.
        position: Where it stands in the source.
        hint: What to do about it; empty if the message says it already.
        severity: Error or warning.
        path: Place in the structure, such as `main[2].then.tool`.
    """

    code: str
    message: str
    position: Position = NOWHERE
    hint: str = ""
    severity: Severity = Severity.ERROR
    path: str = ""

    def to_json(self, file: str) -> dict[str, Any]:
        """Return the finding as JSON: {code, severity, message, hint, file, line, column, path}."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "hint": self.hint,
            "file": file,
            "line": self.position.line,
            "column": self.position.column,
            "path": self.path,
        }


@dataclass(slots=True)
class Findings:
    """Collects diagnostics while a definition is read, so that all are reported at once."""

    items: list[Diagnostic] = field(default_factory=list)

    def error(self, code: str, message: str, position: Position = NOWHERE, *, hint: str = "", path: str = "") -> None:
        """Add an error."""
        self.items.append(Diagnostic(code, message, position, hint, Severity.ERROR, path))

    def warn(self, code: str, message: str, position: Position = NOWHERE, *, hint: str = "", path: str = "") -> None:
        """Add a warning."""
        self.items.append(Diagnostic(code, message, position, hint, Severity.WARNING, path))

    @property
    def errors(self) -> list[Diagnostic]:
        """The findings that forbid the definition."""
        return [item for item in self.items if item.severity is Severity.ERROR]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the known word nearest to `word`, or an empty text if none is near."""
    nearest = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{nearest[0]}'?" if nearest else ""


def render_diagnostics(items: Iterable[Diagnostic], *, file: str, source: str) -> str:
    """Print findings as `file:line:col: error[E104]: …` with the source line, a caret and the hint.

    Args:
        items: The findings; printed in the order of their places.
        file: Name shown for the source.
        source: The whole source text.

    Returns:
        Text of several lines, without a newline at the end; empty if there are no findings.
    """
    lines = source.splitlines()
    blocks: list[str] = []
    for item in sorted(items, key=lambda found: (found.position.line, found.position.column, found.code)):
        at = item.position
        block = [f"{file}:{at.line}:{at.column}: {item.severity.value}[{item.code}]: {item.message}"]
        if 1 <= at.line <= len(lines):
            text, indent = _window(lines[at.line - 1].expandtabs(1), at.column - 1)
            block.append(f"{at.line:>5} | {text}")
            block.append(f"      | {' ' * indent}^")
        if item.hint:
            block.append(f"      = hint: {item.hint}")
        blocks.append("\n".join(block))
    return "\n".join(blocks)


def _window(line: str, index: int) -> tuple[str, int]:
    """Cut a long line (JSON often is one) around a character; return the part and the character's index in it."""
    if len(line) <= MAX_LINE_CHARS:
        return line, index
    start = max(0, min(index - MAX_LINE_CHARS // 2, len(line) - MAX_LINE_CHARS))
    head, tail = "…" if start else "", "…" if start + MAX_LINE_CHARS < len(line) else ""
    return f"{head}{line[start : start + MAX_LINE_CHARS]}{tail}", index - start + len(head)
