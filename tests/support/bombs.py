"""Runs a hostile expression or template and tells how it ended and how much memory it took."""

from __future__ import annotations

import datetime as dt
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from engine.core.errors import ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import DEFAULT_FUEL, EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template

MAX_PEAK_BYTES = 64 * 1024 * 1024
MAX_CALLS = 20 * DEFAULT_FUEL
"""Most functions, Python's and C's, that one evaluation with the default fuel may call, its compilation included. The
count is the same on every machine, which a time is not."""
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def _nested(levels: int) -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"a": deep}
    return deep


ENV: dict[str, Any] = {"_": {"text": "ab" * 500_000, "list": list(range(50_000)), "deep": _nested(90)}}


@dataclass(frozen=True, slots=True)
class Ended:
    """How an evaluation ended.

    Attributes:
        code: What is behind `expression.` in the error's code, `syntax`, or `ok`.
        value: The value, or None.
        peak_bytes: Most memory that was taken at one time.
    """

    code: str
    value: Any
    peak_bytes: int


def explode(source: str, *, template: bool = False) -> Ended:
    """Evaluate with the default fuel; an error that is not typed goes through to the test."""
    tracemalloc.start()
    try:
        code, value = outcome(source, template=template)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Ended(code, value, peak)


def outcome(source: str, *, template: bool = False) -> tuple[str, Any]:
    """Return the short code of the error, or `ok`, and the value."""
    context = EvalContext(NOW, "seed", Fuel(DEFAULT_FUEL))
    try:
        if template:
            return "ok", compile_template(source).render(ENV, context)
        return "ok", compile_expression(source).evaluate(ENV, context)
    except ExpressionSyntaxError:
        return "syntax", None
    except ExpressionError as error:
        found = error
    assert found.code.startswith("expression.")
    assert "offset" in found.details
    return found.code.removeprefix("expression."), None


def calls_of(action: Callable[[], object]) -> int:
    """Return how many functions, Python's and C's, an action calls."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        del frame, argument
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return made
