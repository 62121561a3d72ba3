"""What the command line prints: text or JSON on standard output, errors with their hint on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from engine.core.errors import DefinitionError, EngineError


class Mode(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


def write(text: str) -> None:
    """Print a line on standard output at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line for a person on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def as_json(value: Any, *, pretty: bool = True) -> str:
    """Return a value as JSON text, characters of all languages as they are."""
    return json.dumps(value, ensure_ascii=False, indent=2 if pretty else None, default=str)


def write_value(value: Any, mode: Mode) -> None:
    """Print one value: a text as it is in text mode, else JSON."""
    if mode is Mode.TEXT and isinstance(value, str):
        write(value)
    else:
        write(as_json(value, pretty=mode is not Mode.JSONL))


def write_rows(rows: Iterable[Any], mode: Mode) -> None:
    """Print a list as one JSON array, or as one JSON value a line."""
    if mode is Mode.JSON:
        write(as_json(list(rows)))
        return
    for row in rows:
        write(as_json(row, pretty=False))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as columns of text, two blanks between them.

    Args:
        headers: Names of the columns.
        rows: Cells, as many per row as there are headers.

    Returns:
        Lines without a newline at the end.
    """
    body = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in body) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in body
    )


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; needed where its parsing itself failed."""
    for number, word in enumerate(arguments):
        name, _, value = word.partition("=")
        if name in ("-o", "--output"):
            value = value or (arguments[number + 1] if number + 1 < len(arguments) else "")
        elif word.startswith("-o"):
            value = word[2:]
        else:
            continue
        return value in (Mode.JSON, Mode.JSONL)
    return False


def error_text(error: EngineError) -> str:
    """Return an error for a person: `error[code]: message`, diagnostics with carets if there are any, and the hint."""
    lines: list[str] = []
    if isinstance(error, DefinitionError) and error.diagnostics:
        lines.append(error.render())
    lines.append(f"error[{error.code}]: {error.message}")
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def error_json(error: EngineError) -> dict[str, Any]:
    """Return an error for a program: {error: {code, message, hint?, details?, diagnostics?}}."""
    body = error.to_json()
    if isinstance(error, DefinitionError):
        body["diagnostics"] = [item.to_json(error.file) for item in error.diagnostics]
    return {"error": body}


def report_error(error: EngineError, *, as_json_text: bool, pretty: bool = True) -> None:
    """Print an error on standard error, as JSON on one line unless it is to be pretty."""
    note(as_json(error_json(error), pretty=pretty) if as_json_text else error_text(error))
