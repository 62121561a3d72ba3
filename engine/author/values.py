"""Values of a task in Python: literals, templates and expressions, turned into the JSON that a task file would hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypeVar

from engine.author.places import author_error
from engine.core.spec import codes
from engine.core.values import MAX_DEPTH, Json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression of the task language; made by `expr`."""

    source: str

    def __str__(self) -> str:
        """Return the expression as a task file has it."""
        return f"$ {self.source}"


def expr(source: str) -> Expr:
    """Return an expression, which keeps the type of its value.

    `expr("_.x > 3")` is `$ _.x > 3` of a task file. It is checked when the task is compiled.

    Args:
        source: The expression, without the `$ ` in front.
    """
    return Expr(source)


Value: TypeAlias = "bool | int | float | str | Expr | Sequence[Value] | Mapping[str, Value] | None"
"""What a step computes or passes on: texts follow the rules of task files (`{{ }}` makes a template)."""

Condition: TypeAlias = "str | bool | Expr"
"""A field that is an expression by nature; its text needs no `expr` and no `$ `."""

Duration: TypeAlias = "int | float | str | timedelta"
"""Seconds, text such as `500ms`, `30s`, `5m`, `2h`, `1d`, or a timedelta."""


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        """Return the name of the only instance."""
        return "UNSET"


UNSET = Unset()
"""Stands for a member that was not given where null is a value."""


def plain(value: object, where: str) -> Json:
    """Turn a value into what a task file would hold.

    Args:
        value: The value.
        where: What it is for, in messages: `evaluate`, `arguments`.

    Returns:
        A JSON value of its own; expressions are text with `$ ` in front.

    Raises:
        DefinitionError: E203 for what JSON cannot hold, with the place of the author's call.
    """
    return _plain(value, where, 0)


def _plain(value: object, where: str, depth: int) -> Json:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Expr):
        return str(value)
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth >= MAX_DEPTH:
        raise author_error(codes.TOO_DEEP, f"'{where}' is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, depth + 1) for item in value]
    what = f"the number {value}" if isinstance(value, float) else f"a value of type {type(value).__name__}"
    hint = "use text, numbers, true, false, None, lists, objects and expr(…)"
    raise author_error(codes.WRONG_TYPE, f"'{where}' holds {what}, which a task cannot hold", hint)


def _text(value: str, where: str) -> str:
    # enumerations of text print their name, but mean their value
    text = str.__str__(value)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise author_error(codes.NOT_TEXT, f"'{where}' holds half of a surrogate pair, which no text file can hold")
    return text


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        return _text(key, where)
    message = f"'{where}' has a key of type {type(key).__name__}; keys are text"
    raise author_error(codes.BAD_KEY, message, "put quotes around it")


def seconds(duration: Duration | Expr, where: str) -> Json:
    """Return a duration as a task file has it: a number of seconds or text."""
    if isinstance(duration, timedelta):
        amount = duration.total_seconds()
        return int(amount) if amount.is_integer() else amount
    return plain(duration, where)


def given(**members: T | None) -> dict[str, T]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
