"""What a caller may wish of a start, beside the task and its input, and how it is sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.client.asking import Time, moment_text
from engine.core.errors import InvalidInput
from engine.core.values import duration_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """When an execution begins, until when it must have ended, how urgent it is, and where it pauses.

    Attributes:
        delay: How long it waits before it begins: seconds, `15m`, or a timedelta.
        start_at: When it begins, in place of `delay`: a datetime, or RFC 3339 text.
        deadline: How long it has from when it is let in (seconds, `1h`, a timedelta), or the time at which it is out
            of time (a datetime, or RFC 3339 text); then it fails with `limit.time`.
        priority: 1 (first) to 5 (last); None = that of the task, or 3.
        break_at: Paths of steps before which it pauses.
        webhook: Who is told how it stands: {url, statuses?, secret?}; without a secret of yours messages are signed
            with one that only the answer to the HTTP request shows.
    """

    delay: float | str | dt.timedelta | None = None
    start_at: Time | None = None
    deadline: float | str | dt.timedelta | dt.datetime | None = None
    priority: int | None = None
    break_at: Sequence[str] = ()
    webhook: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """Return the members of the request.

        Raises:
            InvalidInput: `request.invalid` if a time is none.
        """
        found: dict[str, Any] = {
            "delay": _duration(self.delay),
            "start_at": moment_text(self.start_at, "start_at"),
            "deadline": self._deadline(),
            "priority": self.priority,
            "break_at": list(self.break_at) or None,
            "webhook": None if self.webhook is None else dict(self.webhook),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _deadline(self) -> float | str | None:
        given = self.deadline
        if isinstance(given, dt.datetime) or (isinstance(given, str) and duration_seconds(given) is None):
            return moment_text(given, "deadline")
        return _duration(given)

    def refuse_in_memory(self) -> None:
        """Refuse what a client without a server cannot do.

        Raises:
            InvalidInput: `memory.start_option`.
        """
        named = [name for name in self.body() if name != "priority"]
        if named:
            raise InvalidInput(
                f"a client in memory starts at once and knows no {', '.join(named)}",
                code="memory.start_option",
                hint="leave it out, or test against a server",
            )


def _duration(given: float | str | dt.timedelta | None) -> float | str | None:
    return given.total_seconds() if isinstance(given, dt.timedelta) else given
