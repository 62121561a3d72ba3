"""Typed failures of an evaluation: from Python's errors to ours, with the place in the expression. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, NoReturn

from engine.core.diagnostics import did_you_mean
from engine.core.errors import ExpressionError, ExpressionSyntaxError

MAX_QUOTED_CHARS: Final = 300
MAX_NAMED_KEYS: Final = 200
MAX_WORD_CHARS: Final = 80

FOREIGN: Final = (ArithmeticError, TypeError, ValueError, LookupError, RecursionError, MemoryError)
"""What Python itself raises on values that do not fit an operation; anything else is a fault of ours."""
CAUGHT: Final = (ExpressionError, *FOREIGN)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word.

    Long words and long lists would take too long; which are left out does not depend on the order of a set.
    """
    if len(word) > MAX_WORD_CHARS:
        return ""
    reach = len(word) // 2 + 1
    return did_you_mean(word, sorted(name for name in known if abs(len(name) - len(word)) <= reach)[:MAX_NAMED_KEYS])


def fail(code: str, message: str, hint: str = "", offset: int | None = None) -> ExpressionError:
    """Return an error with the code `expression.<code>`; the caller raises it."""
    details = {} if offset is None else {"offset": offset}
    return ExpressionError(message, code=f"expression.{code}", hint=hint, details=details)


def wrong_type(message: str, hint: str = "") -> ExpressionError:
    """Return the error for a value whose type does not fit; the caller raises it."""
    return fail("type", message, hint)


def blame(error: Exception, offset: int) -> NoReturn:
    """Raise any error of an operation as ours, with the place where it happened.

    Args:
        error: One of CAUGHT; an error of ours that has a place already keeps it, so the innermost place wins.
        offset: Character of the source at which the operation stands.

    Raises:
        ExpressionError: Always.
    """
    if isinstance(error, ExpressionError):
        error.details.setdefault("offset", offset)
        raise error
    text = str(error)[:MAX_QUOTED_CHARS]
    if isinstance(error, ZeroDivisionError):
        found = fail("zero_division", "division by zero", "test the divisor first: a / b if b else 0", offset)
    elif isinstance(error, OverflowError):
        found = fail("overflow", f"a number is out of range: {text}", "", offset)
    elif isinstance(error, RecursionError):
        found = fail("too_deep", "a value or expression is nested too deeply", "use a flatter structure", offset)
    elif isinstance(error, MemoryError):
        found = fail("too_large", "a value does not fit into memory", "work on less data", offset)
    elif isinstance(error, LookupError):
        found = fail("no_key", f"no such key: {text}", "", offset)
    elif isinstance(error, TypeError):
        found = fail("type", text, "", offset)
    else:
        found = fail("value", text, "", offset)
    raise found from error


def describe(error: ExpressionError, source: str) -> None:
    """Add the (clipped) source text to an error's details."""
    clipped = source if len(source) <= MAX_QUOTED_CHARS else source[: MAX_QUOTED_CHARS - 1] + "…"
    error.details.setdefault("offset", 0)
    error.details.setdefault("expression", clipped)


def no_key(key: Any, value: Mapping[Any, Any], *, called: bool = False) -> ExpressionError:
    """Return the error for a key that an object does not have; the caller raises it."""
    names = [name for name in islice(value, MAX_NAMED_KEYS) if isinstance(name, str)]
    shown = repr(key)[:MAX_WORD_CHARS]
    hint = suggest(key, names) if isinstance(key, str) else ""
    if isinstance(key, int) and key < 0:
        hint = "objects, and so the steps, are not counted from the end; outputs[-1] is the last output"
    if called:
        return fail("no_key", f"an object has neither a key nor a method {shown}", hint)
    if not hint:
        hint = f"it has {', '.join(name[:40] for name in names[:8])}" if names else "the object is empty"
        if len(value) > 8:
            hint += ", …"
        hint += "; use .get(key, default) if the key may be missing"
    return fail("no_key", f"the object has no key {shown}", hint)


def unknown_name(name: str, known: Iterable[str]) -> ExpressionError:
    """Return the error for a name that nothing stands for; the caller raises it."""
    return fail("unknown_name", f"unknown name '{name[:MAX_WORD_CHARS]}'", suggest(name, known))


def syntax_error(message: str, offset: int, hint: str, source: str) -> ExpressionSyntaxError:
    """Return the error for a text that cannot be compiled; the caller raises it.

    Args:
        message: What is wrong.
        offset: Character of the source, from 0; moved into the text if it lies outside.
        hint: The remedy, or empty.
        source: The whole text.
    """
    place = max(0, min(offset, len(source)))
    error = ExpressionSyntaxError(message, hint=hint)
    error.offset = place
    describe_syntax = source if len(source) <= MAX_QUOTED_CHARS else source[: MAX_QUOTED_CHARS - 1] + "…"
    error.details.update(offset=place, expression=describe_syntax)
    return error


def type_name(value: Any) -> str:
    """Return what authors call the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple, range)):
        return "a list"
    if isinstance(value, (dt.datetime, dt.date)):
        return "a date"
    if isinstance(value, dt.timedelta):
        return "a duration"
    return _NAMES.get(type(value).__name__, f"a {type(value).__name__}")


_NAMES: Final = {
    "OrderedSet": "a set",
    "Function": "a function",
    "Module": "a module",
    "SecretText": "a secret",
    "SecretNames": "the secrets",
}
