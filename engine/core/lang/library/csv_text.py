"""The module csv of the library: rows out of text and text out of rows. Workflow-safe."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

from engine.core.lang.border import output_text
from engine.core.lang.containers import iterate
from engine.core.lang.context import TEXT_SHIFT, Frame
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_text


def _delimiter(value: Any) -> str:
    mark = need_text(value, "the delimiter")
    if len(mark) != 1 or mark in '"\r\n':
        raise fail("value", "the delimiter must be one character", 'such as "," or ";"')
    return mark


def _rows(frame: Frame, text: Any, delimiter: Any) -> list[list[str]]:
    source, mark = need_text(text, "the CSV"), _delimiter(delimiter)
    lines = source.count("\n") + source.count("\r") + 1
    # a field is a text of 50 bytes and a place in a list, a row a list of 90
    frame.fuel.charge((len(source) >> TEXT_SHIFT - 2) + (source.count(mark) + lines >> 2) + lines)
    rows = []
    try:
        for row in csv.reader(io.StringIO(source, newline=""), delimiter=mark, strict=True):
            if row:
                rows.append(row)
    except csv.Error as error:
        number = len(rows) + 1
        raise fail("value", f"the text is not CSV: {str(error)[:200]} (row {number})") from error
    return rows


def read_rows(frame: Frame, text: Any, delimiter: Any = ",") -> list[list[str]]:
    """Return the rows of a CSV text, each a list of texts; empty lines are left out."""
    return _rows(frame, text, delimiter)


def read_objects(frame: Frame, text: Any, delimiter: Any = ",") -> list[dict[str, Any]]:
    """Return one object per row with the first row's fields as keys; missing fields are null.

    Raises:
        ExpressionError: `expression.value` if a row has more fields than the first one.
    """
    rows = _rows(frame, text, delimiter)
    if not rows:
        return []
    head = rows[0]
    if len(dict.fromkeys(head)) != len(head):
        raise fail("value", "two columns of the CSV have the same name", "read it with csv.reader()")
    frame.fuel.charge((len(head) >> 2) * len(rows) + len(rows))
    objects = []
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(head):
            message = f"row {number} of the CSV has {len(row)} fields, but there are {len(head)} columns"
            raise fail("value", message, "read it with csv.reader()")
        values: list[str | None] = [*row, *[None] * (len(head) - len(row))]
        objects.append(dict(zip(head, values, strict=True)))
    return objects


def write_rows(frame: Frame, rows: Any, delimiter: Any = ",") -> str:
    """Return rows as CSV text; of objects the first one's keys become the head."""
    mark = _delimiter(delimiter)
    lines = list(_as_lists(frame, iterate(rows)))
    out: list[str] = []
    for line in lines:
        texts = [_field(frame, value) for value in line]
        frame.fuel.charge((sum(map(len, texts)) >> TEXT_SHIFT - 3) + (len(texts) >> 1) + 1)
        # an empty line would be no row
        out.append('""' if texts == [""] else mark.join(_quoted(text, mark) for text in texts))
    return "".join(f"{line}\n" for line in out)


def _quoted(text: str, mark: str) -> str:
    if any(sign in text for sign in (mark, '"', "\n", "\r")):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def _as_lists(frame: Frame, rows: Any) -> list[list[Any]]:
    frame.fuel.charge((len(rows) >> 1) + 1)
    head: dict[Any, None] | None = None
    lists: list[list[Any]] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, Mapping):
            if head is None:
                if lists:
                    raise wrong_type("the rows of a CSV are lists or objects, not both")
                head = dict.fromkeys(row)
                lists.append(list(head))
            frame.fuel.charge((len(head) + len(row) >> 2) + 1)
            unknown = next((key for key in row if key not in head), None)
            if unknown is not None:
                message = f"row {number} has the key {str(unknown)[:80]!r}, which the first one has not"
                raise fail("value", message, "give all rows the same keys")
            lists.append([row.get(key) for key in head])
        elif isinstance(row, (list, tuple)) and head is None:
            frame.fuel.charge((len(row) >> 2) + 1)
            lists.append(list(row))
        else:
            hint = "such as [[1, 2], [3, 4]]"
            raise wrong_type(f"a row of a CSV is a list or an object, not {type_name(row)}", hint)
    return lists


def _field(frame: Frame, value: Any) -> str:
    text = output_text(value, frame.fuel)
    if "\x00" in text:
        raise fail("value", "a field of a CSV holds a NUL character", "remove it with .replace()")
    return text


def _csv(name: str, code: Any, arguments: str, text: str, example: str, result: Any) -> Function:
    doc = Doc(f"csv.{name}({arguments})", text, example, result)
    return Function(f"csv.{name}", code, 1, 2, keywords=("delimiter",), framed=True, doc=doc)


CSV: Final = module(
    "csv",
    _csv(
        "DictReader",
        read_objects,
        "text, delimiter=','",
        "An object for each row; the first row holds the keys.",
        "csv.DictReader('a,b\\n1,x')",
        [{"a": "1", "b": "x"}],
    ),
    _csv(
        "dumps",
        write_rows,
        "rows, delimiter=','",
        "Lists or objects as CSV text.",
        "csv.dumps([{'a': 1, 'b': 'x,y'}])",
        'a,b\n1,"x,y"\n',
    ),
    _csv(
        "reader",
        read_rows,
        "text, delimiter=','",
        "The rows as lists of texts.",
        "csv.reader('1;\"a;b\"', delimiter=';')",
        [["1", "a;b"]],
    ),
)
