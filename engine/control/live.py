"""The live path: takes events from workflow threads without blocking them and writes them to the store in batches."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from engine.core.run.events import EventRecord

FLUSH_S = 0.05
SHARE = 0.05
"""Part of the time that writing may take: a busy or slow store gets fewer and larger batches, up to LONGEST_S apart."""
LONGEST_S = 0.25
BATCH_EVENTS = 5_000
RETRY_S = 1.0
MOST_QUEUED = 500_000
"""Beyond this, events are dropped: the repair path brings them back, a worker out of memory would not."""

log = structlog.get_logger(__name__)


class EventStore(Protocol):
    """What the live path needs of the store."""

    async def append_events(self, records: Sequence[EventRecord]) -> list[str]:
        """Write events; return the executions that seem to have ended."""
        ...


class LiveEvents:
    """Queue and writer of the live path.

    Args:
        store: Where events go.
        on_ended: Called with ids of executions that seem to have ended, so that their status is read from Temporal.
        on_stored: Called with each batch once the store has it; must not raise.
    """

    def __init__(
        self,
        store: EventStore,
        on_ended: Callable[[list[str]], None],
        on_stored: Callable[[Sequence[EventRecord]], None] | None = None,
    ) -> None:
        self._store = store
        self._on_ended = on_ended
        self._on_stored = on_stored
        self._queue: queue.SimpleQueue[EventRecord] = queue.SimpleQueue()
        self._dropped = 0
        self._stopping = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events wait to be written."""
        return self._queue.qsize()

    def sink(self, record: tuple[Any, ...], replaying: bool) -> None:
        """Take an event from a workflow thread; replays say nothing new."""
        if replaying:
            return
        if self._queue.qsize() >= MOST_QUEUED:
            self._dropped += 1
            return
        self._queue.put(EventRecord(*record))

    async def run(self) -> None:
        """Write until `stop` is called; then write what is left."""
        clock = asyncio.get_running_loop().time
        took_s = before_s = 0.0
        while not self._stopping.is_set():
            # one slow write says nothing: the first ones build statements, another process may hold the lock
            pause_s = min(max(FLUSH_S, min(took_s, before_s) / SHARE), LONGEST_S)
            try:
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            except TimeoutError:
                began, before_s = clock(), took_s
                await self.flush()
                took_s = clock() - began
        await self.flush()

    def stop(self) -> None:
        """Let `run` write what is left and return."""
        self._stopping.set()

    async def flush(self) -> None:
        """Write all queued events; a store that fails is tried again until it takes them or the worker stops."""
        if self._dropped:
            log.warning("events dropped, the repair path will restore them", count=self._dropped)
            self._dropped = 0
        while batch := self._take():
            ended = await self._write(batch)
            if self._on_stored is not None:
                self._on_stored(batch)
            if ended:
                self._on_ended(ended)

    def _take(self) -> list[EventRecord]:
        batch: list[EventRecord] = []
        while len(batch) < BATCH_EVENTS:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    async def _write(self, batch: list[EventRecord]) -> list[str]:
        while True:
            try:
                return await self._store.append_events(batch)
            except Exception as error:
                # whatever the database says, the events must not be lost while the worker lives
                log.error("the store did not take events", error=str(error), events=len(batch))
                if self._stopping.is_set():
                    return []
                await asyncio.sleep(RETRY_S)
