"""What the readers of one execution share: its latest events, each encoded once for every view of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.core.run.events import EventRecord
from engine.core.run.projection import Stamp

View = Callable[[EventRecord], bytes | None]
"""How a stream shows an event; None = not at all. One function for each view, since texts are kept by it."""

WINDOW_EVENTS = 1_024
WINDOW_CHARS = 4 * 1024 * 1024
"""Bounds of what is kept of an execution that is followed; a reader that falls behind reads from the store."""

GAP_S = 5.0
"""How long a follower waits for missing events before it goes on without them; the repair needs less."""


class Slot:
    """One event and its texts."""

    __slots__ = ("_texts", "record")

    def __init__(self, record: EventRecord) -> None:
        self.record = record
        self._texts: dict[View, bytes | None] = {}

    def text(self, view: View) -> bytes | None:
        """Return the event as a view shows it."""
        if view not in self._texts:
            self._texts[view] = view(self.record)
        return self._texts[view]


class Window:
    """The latest events in the order in which they are told, at positions that count on for ever.

    Attributes:
        first: Position of the oldest event that is kept.

    Args:
        most_events: Most events to keep.
        most_chars: Most characters of their bodies to keep; the latest event is always kept.
    """

    def __init__(self, most_events: int = WINDOW_EVENTS, most_chars: int = WINDOW_CHARS) -> None:
        self.first = 0
        self._slots: list[Slot] = []
        self._chars = 0
        self._most_events = most_events
        self._most_chars = most_chars

    @property
    def end(self) -> int:
        """Position that the next event will get."""
        return self.first + len(self._slots)

    def add(self, records: Sequence[EventRecord]) -> None:
        """Put events at the end and let go of the oldest ones that are too many."""
        self._slots += [Slot(record) for record in records]
        self._chars += sum(len(record.body) for record in records)
        gone, left = 0, len(self._slots)
        while left > 1 and (left > self._most_events or self._chars > self._most_chars):
            self._chars -= len(self._slots[gone].record.body)
            gone, left = gone + 1, left - 1
        del self._slots[:gone]
        self.first += gone

    def since(self, position: int) -> Iterator[Slot]:
        """Return the events from a position on; it must not be before `first`.

        The caller must not wait for anything between two of them.
        """
        for index in range(position - self.first, len(self._slots)):
            yield self._slots[index]


@dataclass(frozen=True, slots=True)
class Page:
    """Events that were read from the store for readers behind the window.

    Attributes:
        slots: The events.
        mark: End of the window when the read began: what stands before it was in the store by then.
        full: Whether more must be read before the reader may go on in the window.
        read_s: When it was read, monotonic.
    """

    slots: list[Slot]
    mark: int
    full: bool
    read_s: float


class Patience:
    """Counts how long something has been missing."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was missing too long."""
        return self._since is not None and time.monotonic() - self._since > GAP_S

    @property
    def is_running(self) -> bool:
        """Whether something is missing."""
        return self._since is not None

    def run(self, *, waiting: bool) -> None:
        """Begin to count, unless nothing is missing."""
        if not waiting:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()

    def renew(self) -> None:
        """Count anew from the next `run` on."""
        self._since = None


def is_news(seen: Stamp, record: EventRecord) -> bool:
    """Whether a reader does not know an event yet: it has a higher number, or replaces one by its later time."""
    return record.seq > seen.seq or record.now_us > seen.now_us


def seen_after(seen: Stamp, record: EventRecord) -> Stamp:
    """Return the stamp of a reader that was told one more event; a replaced one makes those after it new again."""
    return Stamp(record.seq, max(seen.now_us, record.now_us))


def gapless(seq: int, found: Sequence[EventRecord]) -> int:
    """Return how many events come before the first missing number.

    Args:
        seq: The number before the first event.
        found: Events in order of their numbers.
    """
    for index, record in enumerate(found):
        if record.seq > seq + 1:
            return index
        seq = record.seq
    return len(found)
