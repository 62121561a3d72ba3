"""Data sets of tests: rows of inputs with expected values, from a list, JSON lines, JSON or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.core.errors import InvalidInput
from engine.core.values import Json

OWN_KEYS = ("name", "input", "expected", "error", "replies", "answers")
"""Members of a row that mean something; of a row without `input`, all others are the input."""
HINT = 'a row is an object such as {"input": {…}, "expected": …}'


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set.

    Attributes:
        values: Its members.
        place: `file:line`.
    """

    values: dict[str, Json]
    place: str

    @property
    def given(self) -> Json:
        """The input."""
        if "input" in self.values:
            return self.values["input"]
        return {key: value for key, value in self.values.items() if key not in OWN_KEYS}


def rows_of(values: Sequence[Json], places: Sequence[str]) -> Iterator[Row]:
    """Return rows for JSON values; a value that is no object is an input.

    Args:
        values: The values.
        places: Where they stand.
    """
    for value, place in zip(values, places, strict=True):
        yield Row(dict(value) if isinstance(value, Mapping) else {"input": value}, place)


def read_rows(path: Path) -> list[Row]:
    """Read a data file.

    Args:
        path: `.jsonl` (one JSON value a line), `.json` (a list) or `.csv`, whose cells are JSON if they can be read as
            such and text otherwise, and whose columns may be called `input.a.b` and `expected.c`.

    Raises:
        InvalidInput: `test.data` with file, line, reason and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise _bad(
            str(path), f"cannot be read: {reason}", "`data:` is a file name relative to the test file"
        ) from error
    if path.suffix == ".csv":
        rows = list(_csv_rows(text, path))
    elif path.suffix == ".json":
        rows = list(_json_rows(text, path))
    else:
        rows = list(_line_rows(text, path))
    if not rows:
        raise _bad(str(path), "has no rows", HINT)
    return rows


def _bad(place: str, reason: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{place}: {reason}", code="test.data", hint=hint)


def _line_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = f"{path}:{number}"
            yield from rows_of([_parse(line, place)], [place])


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    values = _parse(text, str(path))
    if not isinstance(values, list):
        raise _bad(str(path), "is not a list", HINT)
    yield from rows_of(values, [f"{path}[{number}]" for number in range(len(values))])


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _bad(place, f"is not JSON: {error}", HINT) from error


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    for cells in reader:
        place = f"{path}:{reader.line_num}"
        values: dict[str, Json] = {}
        for column, cell in cells.items():
            if column is None or cell is None:
                wrong = "more" if column is None else "fewer"
                raise _bad(place, f"has {wrong} cells than there are columns", "put cells with commas into quotes")
            _put(values, column.strip().split("."), _cell(cell), place)
        yield Row(values, place)


def _cell(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(values: dict[str, Json], path: list[str], value: Json, place: str) -> None:
    for name in path[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise _bad(place, f"has a column '{name}' and a column '{'.'.join(path)}'", "rename one of them")
        values = inner
    values[path[-1]] = value
