"""Takes text apart as the body of an f-string, and writes it down as one expression. Workflow-safe.

`{…}` is a field only if it parses and starts at a name that is known there; all other braces are text, so that a prompt
may show JSON. `{{` and `}}` stand for one brace, but around a field they are read as in a template.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.expression import Expression, compile_expression

MAX_FIELDS: Final = 500
"""Fields that are looked for in one text; an expression of its largest size holds fewer."""
MAX_FIELD_CHARS: Final = 4_000

_BRACE: Final = re.compile(r"[{}]")
_START: Final = re.compile(r"\s*([A-Za-z_]\w*)")
_TAIL: Final = re.compile(r"(!\s*[rsa]\s*)?(:[^{}\n\\'\"]*)?")


@dataclass(frozen=True, slots=True)
class Field:
    """A part of the text that is computed.

    Attributes:
        source: The expression.
        offset: Its first character in the text.
        tail: Conversion and format, such as `!r` or `:.2f`; mostly empty.
        compiled: The compiled expression.
    """

    source: str
    offset: int
    tail: str
    compiled: Expression


@dataclass(frozen=True, slots=True)
class Body:
    """A text taken apart: literal pieces, braces already single, and fields."""

    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> list[Field]:
        """What is computed."""
        return [part for part in self.parts if isinstance(part, Field)]

    @property
    def text(self) -> str:
        """The literal pieces alone."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def to_expression(self) -> str:
        """Return one expression that gives the text: an f-string where its quoting rules allow one."""
        fields = self.fields
        for quote in ("'", '"'):
            if all(_embeddable(field.source, quote) for field in fields):
                pieces = [
                    _escaped(part, quote, braces=True) if isinstance(part, str) else f"{{{part.source}{part.tail}}}"
                    for part in self.parts
                ]
                return f"f{quote}{''.join(pieces)}{quote}"
        items = [f"'{_escaped(part, chr(39))}'" if isinstance(part, str) else _as_text(part) for part in self.parts]
        return f"''.join([{', '.join(items)}])"


def split_body(text: str, names: Collection[str]) -> Body:
    """Take a text apart.

    Args:
        text: The text.
        names: Names at which a field may start.

    Returns:
        Its parts; literal pieces are never empty and never stand side by side.
    """
    parts: list[str | Field] = []
    literal: list[str] = []
    open_marks: list[bool] = []
    at = tries = 0
    while (brace := _BRACE.search(text, at)) is not None:
        mark = brace.start()
        literal.append(text[at:mark])
        double = text.startswith(brace.group() * 2, mark)
        if brace.group() == "{":
            at = mark + 1 + double
            start = _START.match(text, at)
            if start is not None and start[1] in names and tries < MAX_FIELDS:
                tries += 1
                found = _read_field(text, at, double)
                if found is not None:
                    _flush(literal, parts)
                    parts.append(found[0])
                    at = found[1]
                    continue
            open_marks.append(double)
            literal.append("{")
        else:
            # two closing marks are one brace only where two opening ones were, or where none is open
            single = bool(open_marks) and not open_marks.pop()
            at = mark + 1 + (double and not single)
            literal.append("}")
    literal.append(text[at:])
    _flush(literal, parts)
    return Body(tuple(parts))


def _flush(literal: list[str], parts: list[str | Field]) -> None:
    piece = "".join(literal)
    literal.clear()
    if piece:
        parts.append(piece)


def _read_field(text: str, start: int, double: bool) -> tuple[Field, int] | None:
    """Return the field whose content starts at a place, and the place behind it; None if there is none."""
    ends = _field_ends(text, start)
    if ends is None:
        return None
    cut, close = ends
    if double and not text.startswith("}}", close):
        return None
    tail = text[cut:close]
    content = text[start:cut]
    source = content.strip()
    if _TAIL.fullmatch(tail) is None:
        return None
    try:
        compiled = compile_expression(source)
    except ExpressionSyntaxError:
        return None
    offset = start + len(content) - len(content.lstrip())
    return Field(source, offset, tail, compiled), close + 1 + double


def _field_ends(text: str, start: int) -> tuple[int, int] | None:
    """Return where the expression of a field ends and where its closing brace stands."""
    depth, quote, cut = 0, "", -1
    at, limit = start, min(len(text), start + MAX_FIELD_CHARS)
    while at < limit:
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char == "}" and depth == 0:
            return (at if cut < 0 else cut), at
        elif cut < 0 and char in "'\"":
            quote = char
        elif cut < 0 and char == "#":
            return None  # a comment would swallow what is put behind the field
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif cut < 0 and depth == 0 and (char == ":" or (char == "!" and text[at + 1 : at + 2] != "=")):
            cut = at
        at += 1
    return None


def _embeddable(source: str, quote: str) -> bool:
    # Python 3.11 knows neither the outer quote nor these inside a field; later versions must give the same plan
    return not any(char in source for char in (quote, "\\", "#", "\n", "\r"))


def _escaped(text: str, quote: str, *, braces: bool = False) -> str:
    pieces: list[str] = []
    for char in text:
        if char in ("\\", quote):
            pieces.append(f"\\{char}")
        elif not char.isprintable():
            pieces.append(repr(char)[1:-1])
        elif braces and char in "{}":
            pieces.append(char * 2)
        else:
            pieces.append(char)
    return "".join(pieces)


def _as_text(field: Field) -> str:
    return f"[f'{{part{field.tail}}}' for part in [{field.source}]][0]" if field.tail else f"str({field.source})"
