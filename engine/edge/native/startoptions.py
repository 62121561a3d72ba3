"""What a request to start may wish: when it begins, until when it must have ended, where it pauses."""

from __future__ import annotations

import datetime as dt

from engine.control.admission import StartOptions
from engine.core.errors import InvalidInput
from engine.core.values import duration_seconds
from engine.edge.http.times import to_us


def options_of(
    *,
    delay: float | str | None,
    start_at: dt.datetime | None,
    deadline: float | str | None,
    priority: int | None,
    break_at: list[str],
) -> StartOptions:
    """Read the wishes of a request.

    Raises:
        InvalidInput: `start.bad_option`.
    """
    deadline_s, deadline_us = _deadline(deadline)
    return StartOptions(
        delay_s=None if delay is None else _seconds(delay, "delay"),
        start_at_us=None if start_at is None else to_us(start_at),
        deadline_s=deadline_s,
        deadline_us=deadline_us,
        priority=priority,
        breaks=tuple(break_at),
    )


def _deadline(given: float | str | None) -> tuple[float | None, int | None]:
    if given is None:
        return None, None
    if isinstance(given, str) and duration_seconds(given) is None:
        try:
            moment = dt.datetime.fromisoformat(given)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            hint = "write a duration such as 15m, or a time with its zone such as 2026-12-24T18:00:00Z"
            raise InvalidInput(f"the deadline {given[:60]!r} is none", code="start.bad_option", hint=hint)
        return None, to_us(moment)
    return _seconds(given, "deadline"), None


def _seconds(given: float | str, name: str) -> float:
    seconds = duration_seconds(given) if isinstance(given, str) else float(given)
    if seconds is None:
        hint = "write seconds as a number, or text such as 90s, 15m or 1h30m"
        raise InvalidInput(f"the {name} {str(given)[:60]!r} is no duration", code="start.bad_option", hint=hint)
    return seconds
