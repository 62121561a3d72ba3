"""JSON that callers send: read, and checked for what no history and no store can hold."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from engine.core.values import MAX_DEPTH, Json

MAX_BODY_DEPTH: Final = MAX_DEPTH + 10
"""Levels of a body: those of the deepest value, and what stands around it."""


def load_json(text: str) -> Json:
    """Read JSON.

    Raises:
        ValueError: If it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def flaw_of(value: Json, *, most_depth: int = MAX_BODY_DEPTH) -> str:
    """Say what is wrong with a value that a parser made; empty if nothing is.

    Parsers make infinities of numbers like `1e400`, and halves of characters of escapes like `ud800`.

    Args:
        value: The value.
        most_depth: Levels of lists and objects that it may have.
    """
    level, depth = [value], 0
    while level:
        inner: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, float) and not math.isfinite(item):
                return "a number is larger than any that can be kept"
            elif isinstance(item, str) and not _is_whole(item):
                return "a text holds half of a surrogate pair, which no text file can hold"
        # scalars stand one level below the list or object that holds them
        if depth > most_depth:
            return f"it is nested deeper than {most_depth} levels"
        level, depth = inner, depth + 1
    return ""


def _is_whole(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
