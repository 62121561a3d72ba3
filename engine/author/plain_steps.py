"""Steps that compute, remember and end: evaluate, set, get, log, sleep, return, error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from engine.author.places import author_error
from engine.author.step import Modifiers, Step, make_step
from engine.author.values import Duration, Expr, Value, given, plain, seconds
from engine.core.spec import codes


def evaluate(value: Value, /, **modifiers: Unpack[Modifiers]) -> Step:
    """Compute a value; it is the step's output.

    Args:
        value: Literals, templates and `expr(…)`, also inside lists and objects.
        **modifiers: See `Modifiers`.
    """
    return make_step({"evaluate": plain(value, "evaluate")}, modifiers)


def return_(value: Value, /, **modifiers: Unpack[Modifiers]) -> Step:
    """End the surrounding workflow with a value; in `main` that ends the task.

    Args:
        value: The result.
        **modifiers: See `Modifiers`.
    """
    return make_step({"return": plain(value, "return_")}, modifiers)


def error(message: Value, /, **modifiers: Unpack[Modifiers]) -> Step:
    """End with an error of the task's own.

    Args:
        message: What went wrong: text, a template or an expression.
        **modifiers: See `Modifiers`.
    """
    return make_step({"error": plain(message, "error")}, modifiers)


def log(message: Value, /, **modifiers: Unpack[Modifiers]) -> Step:
    """Write a message into the execution's history; the input passes through.

    Args:
        message: Text, a template or an expression.
        **modifiers: See `Modifiers`.
    """
    return make_step({"log": plain(message, "log")}, modifiers)


def set_(values: Mapping[str, Value] | Expr, /, **modifiers: Unpack[Modifiers]) -> Step:
    """Remember values under their names in `state`; the output is the values.

    Args:
        values: An object, or an expression that gives one.
        **modifiers: See `Modifiers`.
    """
    return make_step({"set": plain(values, "set_")}, modifiers)


def get(key: str | Expr, /, **modifiers: Unpack[Modifiers]) -> Step:
    """Read a value that `set_` remembered; it is the step's output.

    Args:
        key: Its name.
        **modifiers: See `Modifiers`.
    """
    return make_step({"get": plain(key, "get")}, modifiers)


def sleep(
    duration: Duration | Expr | None = None,
    /,
    *,
    seconds: float | Expr | None = None,
    minutes: float | Expr | None = None,
    hours: float | Expr | None = None,
    days: float | Expr | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Wait for some time; the input passes through.

    Args:
        duration: Seconds, `"5m"`, a timedelta, or an expression that gives seconds.
        seconds: Instead of `duration`, alone or with the others.
        minutes: As `seconds`.
        hours: As `seconds`.
        days: As `seconds`.
        **modifiers: See `Modifiers`.

    Raises:
        DefinitionError: E509 if the duration is given in both ways.
    """
    parts = given(seconds=seconds, minutes=minutes, hours=hours, days=days)
    if duration is None:
        return make_step({"sleep": plain(parts, "sleep")}, modifiers, ("seconds", "minutes", "hours", "days"))
    if parts:
        raise author_error(codes.CONFLICT, "'sleep' has its duration twice", "give one duration, or parts of it")
    return make_step({"sleep": _amount(duration)}, modifiers)


def _amount(duration: Duration | Expr) -> Any:
    return plain(duration, "sleep") if isinstance(duration, Expr) else seconds(duration, "sleep")
