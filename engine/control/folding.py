"""Folds the events of executions into stories: remembers them, goes on where it was, and holds nobody else up."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from engine.core.errors import InvalidInput
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.projection import ExecutionFacts
from engine.core.run.story import Story
from engine.core.run.story_parts import StepState, StepStory
from engine.core.run.usage import UsageSums
from engine.store.stories import EventMark, StoryReader

MOST_EVENTS = 100_000
"""Longest execution whose steps are told: a story is held in memory, with about 1.5 kB for each step."""
KEPT_CHARS = 500
"""What the fold keeps of a value; whole ones are read again for what is shown."""
KEPT_IN_ALL_CHARS = 10_000_000
"""What it keeps of one value of each event together, so that long executions keep less of each."""
SLICE_S = 0.002
"""How long the fold works before everybody else has a turn."""
LIGHT_EVENTS = 2_000
"""So many events are folded at once; whoever has more to fold waits for a turn."""
AT_ONCE = 4
"""Long folds that run at one time, one for each tenant: they are held in memory."""
MOST_REMEMBERED = 64
MOST_REMEMBERED_STEPS = 100_000
"""What the remembered stories have together, unless a single one has more."""
REMEMBERED_S = 60.0
"""How long the story of an execution that may still change is gone on with before it is told anew."""

_STOPPED: Final = {ExecutionStatus.FAILED: StepState.FAILED, ExecutionStatus.CANCELLED: StepState.CANCELLED}
"""Ends that an execution may have without an event that says so."""


@dataclass(frozen=True, slots=True)
class FoldedStory:
    """A story with what lists need of it.

    Attributes:
        story: The story; of an open execution it may grow while others ask for it, but not between two awaits.
        order: All steps as the task has them.
        totals: What each step and all inside it used, by path; that of the execution by the empty path.
    """

    story: Story
    order: tuple[StepStory, ...]
    totals: dict[str, UsageSums]


@dataclass(slots=True)
class _Kept:
    """A story that was told, and the events that it was made of."""

    story: Story = field(default_factory=lambda: Story(KEPT_CHARS))
    mark: EventMark = field(default_factory=EventMark)
    began_s: float = field(default_factory=time.monotonic)
    folded: FoldedStory | None = None
    order_mark: EventMark | None = None
    closed: tuple[object, ...] | None = None

    def take(self, records: list[EventRecord], start: int, until_s: float) -> int:
        """Fold some events, until a time; return the place of the first that is left."""
        for place in range(start, len(records)):
            record = records[place]
            self.story.apply(record)
            self.mark = self.mark.plus(record)
            if time.monotonic() >= until_s:
                return place + 1
        return len(records)


class _Turns:
    """Locks by name, each of which is there for as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, name: Hashable) -> AsyncIterator[None]:
        """Wait for the turn of a name."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = lock, users - 1


class Folder:
    """Tells stories.

    An execution that has ended and is found right is told once. One that is open goes on where it was when it was
    asked for last, if what was folded then is what is stored now: a repair may have replaced or added events.

    The fold works in the event loop, for some milliseconds at a time: a thread would keep the interpreter lock for as
    long, and the story could change under the hands of those who show it.

    Args:
        reader: Where the events come from.
    """

    def __init__(self, reader: StoryReader) -> None:
        self._reader = reader
        self._remembered: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._executions = _Turns()
        self._tenants = _Turns()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._slice = asyncio.Lock()

    async def fold(self, facts: ExecutionFacts) -> FoldedStory:
        """Return the story of an execution, its values cut.

        Args:
            facts: The execution.

        Raises:
            InvalidInput: `story.too_long`.
        """
        if facts.last_seq > MOST_EVENTS:
            raise InvalidInput(
                f"the execution has {facts.last_seq:,} events, and its steps are told of at most {MOST_EVENTS:,}",
                code="story.too_long",
                hint="read its history, attempts, transitions or events: they come page by page",
            )
        async with self._executions.of((facts.tenant, facts.id)):
            known = self._known(facts)
            if known.folded is not None and known.closed == _closed(facts) is not None:
                return known.folded
            if known.mark.events and await self._reader.mark(facts.id, known.mark, tenant=facts.tenant) != known.mark:
                known = _Kept()
            async with self._turn(facts, known):
                folded = await self._go_on(facts, known)
            known.closed = _closed(facts)
            if known.closed is not None and facts.status in _STOPPED:
                known.story.stop(_STOPPED[facts.status], facts.closed_us or facts.updated_us, facts.error)
            self._remember(facts, known)
            return folded

    def _known(self, facts: ExecutionFacts) -> _Kept:
        known = self._remembered.get((facts.tenant, facts.id))
        if known is None:
            return _Kept()
        too_old = time.monotonic() - known.began_s > REMEMBERED_S
        if (known.closed is None and too_old) or known.closed not in (None, _closed(facts)):
            return _Kept()
        return known

    @asynccontextmanager
    async def _turn(self, facts: ExecutionFacts, known: _Kept) -> AsyncIterator[None]:
        if facts.last_seq - known.story.last_seq <= LIGHT_EVENTS:
            yield
            return
        # the tenant's own turn first: those who wait for it must not fill the gate of all
        async with self._tenants.of(facts.tenant), self._gate:
            yield

    async def _go_on(self, facts: ExecutionFacts, known: _Kept) -> FoldedStory:
        story = known.story
        async for batch in self._reader.batches(facts.id, tenant=facts.tenant, after_seq=story.last_seq):
            done = 0
            while done < len(batch):
                story.limit = min(KEPT_CHARS, KEPT_IN_ALL_CHARS // max(story.last_seq, facts.last_seq, 1))
                # one slice of all folds in each round of the loop
                async with self._slice:
                    done = known.take(batch, done, time.monotonic() + SLICE_S)
                    await asyncio.sleep(0)
        if known.folded is None or known.order_mark != known.mark:
            # nothing changes the story meanwhile: this execution's turn is ours
            folded = await asyncio.to_thread(_ordered, story)
            known.folded, known.order_mark = folded, known.mark
        return known.folded

    def _remember(self, facts: ExecutionFacts, known: _Kept) -> None:
        key = (facts.tenant, facts.id)
        self._remembered[key] = known
        self._remembered.move_to_end(key)
        steps = sum(len(kept.story.steps) for kept in self._remembered.values())
        while len(self._remembered) > 1 and (len(self._remembered) > MOST_REMEMBERED or steps > MOST_REMEMBERED_STEPS):
            _, oldest = self._remembered.popitem(last=False)
            steps -= len(oldest.story.steps)


def _closed(facts: ExecutionFacts) -> tuple[object, ...] | None:
    """Return the numbers by which a repair of an execution that has ended is seen; None = it may still change."""
    if not facts.settled or facts.verified is False:
        return None
    return (facts.last_seq, facts.updated_us, facts.verified)


def _ordered(story: Story) -> FoldedStory:
    return FoldedStory(story, tuple(story.walk()), story.totals())
