"""Follows an execution: its events in order and without gaps, and its status as it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from engine.control.executions import ExecutionService
from engine.core.run.events import EventRecord
from engine.core.run.projection import ExecutionFacts, Stamp, Wait
from engine.store.changes import Changes, Subscription

IDLE_S = 1.0
"""Longest pause between two looks when nothing seems to happen; an end without an event is noticed this late."""

ENDING_S = 0.02
"""Pause between two looks when the last event is there and Temporal is about to close the workflow."""

GAP_S = 5.0
"""How long a follower waits for missing events before it goes on without them; the repair needs less."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """An execution at a moment when its status or its open waits changed."""

    facts: ExecutionFacts
    waits: list[Wait]


class Follower:
    """Follows executions for streams.

    Args:
        executions: Use cases on executions.
        changes: Watch over the store.
    """

    def __init__(self, executions: ExecutionService, changes: Changes) -> None:
        self._executions = executions
        self._changes = changes

    async def events(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> AsyncIterator[list[EventRecord]]:
        """Yield an execution's events until it has ended and all are told; an empty list means that nothing happened.

        An event that replaces one told before is told again under the same number. A gap holds the events behind it
        back for a while, since the repair closes it.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            after_seq: Number of the last event that the reader knows.

        Raises:
            NotFound: `execution.not_found`.
        """
        store = self._executions.store
        last = await store.find_event(execution_id, after_seq, tenant=tenant) if after_seq else None
        seen = Stamp(after_seq, 0 if last is None else last.now_us)
        if after_seq and last is None:
            # unknown number: nothing before it can be a replacement that the reader waits for
            seen = Stamp(after_seq, time.time_ns() // 1_000)
        patience = _Patience()
        async with self._changes.subscribe() as changes:
            while True:
                facts = (await self._executions.read(execution_id, tenant=tenant)).facts
                found = await store.events_since(execution_id, seen, tenant=tenant)
                complete = facts.settled and facts.verified is not False
                ready = found if complete or patience.is_over else _without_gap(seen.seq, found)
                if ready:
                    yield ready
                    seen = Stamp(ready[-1].seq, max(seen.now_us, *(record.now_us for record in ready)))
                    patience.renew()
                    continue
                if self._changes.closed or (facts.settled and (complete or patience.is_over)):
                    return
                # only what is known to be missing is worth impatience
                patience.run(waiting=bool(found) or facts.settled)
                if not await _pause(changes, facts):
                    yield []

    async def status(self, execution_id: str, *, tenant: str) -> AsyncIterator[StatusChange | None]:
        """Yield an execution at once and then whenever its status changes; None means that nothing happened.

        Args:
            execution_id: The execution.
            tenant: Its tenant.

        Raises:
            NotFound: `execution.not_found`.
        """
        shown: tuple[object, ...] | None = None
        async with self._changes.subscribe() as changes:
            while True:
                facts = (await self._executions.read(execution_id, tenant=tenant)).facts
                opened = await self._executions.store.open_waits([execution_id], tenant=tenant)
                waits = opened.get(execution_id, [])
                now = (facts.status, tuple(wait.wait_id for wait in waits))
                if now != shown:
                    shown = now
                    yield StatusChange(facts, waits)
                if facts.settled or self._changes.closed:
                    return
                if not await _pause(changes, facts):
                    yield None


async def _pause(changes: Subscription, facts: ExecutionFacts) -> bool:
    if facts.terminal_seen and not facts.settled:
        # Temporal closes a workflow a moment after its last event and tells nobody
        await asyncio.sleep(ENDING_S)
        return True
    return await changes.wait(IDLE_S)


def _without_gap(seq: int, found: list[EventRecord]) -> list[EventRecord]:
    """Return the events up to the first missing number."""
    ready: list[EventRecord] = []
    for record in found:
        if record.seq > seq + 1:
            break
        ready.append(record)
        seq = record.seq
    return ready


class _Patience:
    """Counts how long something has been missing."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def is_over(self) -> bool:
        return self._since is not None and time.monotonic() - self._since > GAP_S

    def run(self, *, waiting: bool) -> None:
        if not waiting:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()

    def renew(self) -> None:
        self._since = None
