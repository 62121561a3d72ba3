"""Format specs of f-strings, with a cap on width and precision. Workflow-safe."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from engine.core.lang.border import pay_for_digits, python_repr, python_text
from engine.core.lang.context import TEXT_SHIFT, Fuel
from engine.core.lang.dates import format_date
from engine.core.lang.failures import fail, type_name, wrong_type

MAX_WIDTH: Final = 10_000
MAX_PRECISION: Final = 400
MAX_SPEC_CHARS: Final = 200

# `n` is left out since it depends on the machine's locale
_SPEC: Final = re.compile(
    r"(?s:.?[<>=^])?[-+ ]?z?#?0?(?P<width>\d{0,9})[,_]?(?:\.(?P<precision>\d{1,9}))?[a-mo-zA-Z%]?"
)


def format_value(value: Any, spec: str, fuel: Fuel) -> str:
    """Return a value as an f-string shows it.

    Args:
        value: Any value of an evaluation.
        spec: Format spec; empty for the plain text.
        fuel: What pays for it.

    Raises:
        ExpressionError: `expression.value` for a spec that does not fit, `expression.too_large` for a giant width.
    """
    if not spec:
        return python_text(value, fuel)
    if len(spec) > MAX_SPEC_CHARS:
        raise fail("too_large", f"a format spec has at most {MAX_SPEC_CHARS} characters")
    if isinstance(value, dt.date):
        fuel.charge(5 + (len(spec) >> 2))
        return format_date(value, spec)
    if not isinstance(value, (str, int, float)):
        raise wrong_type(f"{type_name(value)} takes no format spec", "format its parts, or leave the spec away")
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise fail("value", f"unknown format spec {spec[:40]!r}", "such as .2f, >10, 08d or ,")
    width = int(match["width"] or 0)
    precision = int(match["precision"] or 0)
    if width > MAX_WIDTH or (precision > MAX_PRECISION and not isinstance(value, str)):
        message = f"a format may ask for {MAX_WIDTH:,} characters and {MAX_PRECISION} digits at most"
        raise fail("too_large", message)
    size = len(value) if isinstance(value, str) else MAX_PRECISION
    fuel.charge(max(size, width) >> TEXT_SHIFT)
    if isinstance(value, int):
        pay_for_digits(value, fuel)
    return format(value, spec)


def convert(value: Any, how: str, fuel: Fuel) -> str:
    """Return the value after `!s`, `!r` or `!a`."""
    if how == "s":
        return python_text(value, fuel)
    text = python_repr(value, fuel)
    if how == "a":
        fuel.charge(len(text) >> TEXT_SHIFT - 3)
        return text.encode("ascii", "backslashreplace").decode("ascii")
    return text
