"""How the client follows a stream: what has been told, whether that was the end, and how long it tries to come back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from engine.client.asking import Stream
from engine.client.connection import FIRST_PAUSE_S, LONGEST_PAUSE_S
from engine.client.wire import StreamEvent
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import TERMINAL_EVENTS

GAVE_UP_S = 30.0
"""How long a stream, or a wait, tries to come back before it raises."""


@dataclass(slots=True)
class Patience:
    """How long somebody tries to reach an API that does not answer, and with which pauses."""

    _since: float | None = None
    _pause_s: float = FIRST_PAUSE_S

    def reached(self) -> None:
        """Note that the API answers."""
        self._since = None

    def rest(self) -> None:
        """Begin with short pauses again."""
        self._pause_s = FIRST_PAUSE_S

    def is_over(self) -> bool:
        """Note that the API does not answer, and say whether that has lasted too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > GAVE_UP_S

    def pause_s(self) -> float:
        """Return the next pause; each is longer than the one before."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s


@dataclass(slots=True)
class Followed:
    """A stream over all its connections.

    Attributes:
        what: Which stream it is.
        last_id: Id of the last event.
        deadline: Until when the caller listens (time.monotonic); None = without limit.
        patience: How long it tries to come back.
    """

    what: Stream
    last_id: str = ""
    deadline: float | None = None
    patience: Patience = field(default_factory=Patience)
    _last: StreamEvent | None = None
    _gave: bool = False
    _connected_at: float | None = None

    def connected(self) -> None:
        """Note that a connection is there."""
        self.patience.reached()
        self._gave, self._connected_at = False, time.monotonic()

    def take(self, event: StreamEvent) -> bool:
        """Take an event and say whether it tells something new: a new status stream begins with what is known."""
        if self.what == "status" and self._last is not None and event.data == self._last.data:
            return False
        self.last_id, self._last, self._gave = event.id or self.last_id, event, True
        self.patience.rest()
        return True

    @property
    def gave_nothing(self) -> bool:
        """Whether the connection that has just ended had nothing to tell: then the execution may be over."""
        return not self._gave

    @property
    def has_ended(self) -> bool:
        """Whether the last thing told was the end of the stream, and not only that of its connection."""
        last = self._last
        if last is None:
            return False
        if self.what == "tokens":
            return last.event == "end"
        if self.what == "status":
            return ExecutionStatus(last.data["status"]).is_terminal
        return last.data.get("type") in TERMINAL_EVENTS

    def pause_s(self) -> float:
        """Return the pause before the next connection: a short one after one that lasted."""
        began, self._connected_at = self._connected_at, None
        if began is not None and time.monotonic() - began > LONGEST_PAUSE_S:
            self.patience.rest()
        return self.patience.pause_s()

    @property
    def is_late(self) -> bool:
        """Whether the caller does not listen any more."""
        return self.deadline is not None and time.monotonic() >= self.deadline
