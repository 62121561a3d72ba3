"""Follows executions for streams: all readers of one share a follower and have nothing of their own but a place."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

import structlog

from engine.broker.rooms import Room, RoomReader, TokenRooms
from engine.control.executions import ExecutionService
from engine.control.followed import IDLE_S, Followed, StatusChange
from engine.control.window import Patience, Slot, View, gapless, is_news, seen_after
from engine.core.run.projection import Stamp
from engine.store.changes import Changes

__all__ = ["KEEP_ALIVE_S", "Follower", "StatusChange"]

KEEP_ALIVE_S = 15.0
"""Silence after which a reader gets an empty text, so that its connection can be proved alive."""

BATCH_BYTES = 64 * 1024
"""About the most that a reader is handed at once, and so the most that is kept for one that does not take it."""

log = structlog.get_logger(__name__)


class Follower:
    """Follows executions for streams.

    Args:
        executions: Use cases on executions.
        changes: Watch over the store.
        rooms: Where the texts of model calls arrive; None = they do not.
    """

    def __init__(self, executions: ExecutionService, changes: Changes, rooms: TokenRooms | None = None) -> None:
        self._executions = executions
        self._changes = changes
        self._rooms = rooms
        self._followed: dict[tuple[str, str], Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- streams ---------------------------------------------------------------------------------------------------

    async def events(
        self, execution_id: str, *, tenant: str, view: View, after_seq: int = 0, keep_alive_s: float = KEEP_ALIVE_S
    ) -> AsyncIterator[bytes]:
        """Yield the texts of an execution's events until it has ended and all are told.

        An event that replaces one told before is told again under the same number. A gap holds the events behind it
        back for a while, since the repair closes it.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            view: How an event is shown.
            after_seq: Number of the last event that the reader knows.
            keep_alive_s: Seconds of silence after which an empty text is yielded.

        Raises:
            NotFound: `execution.not_found`.
        """
        seen = await self._stamp(execution_id, tenant, after_seq)
        with self._joined(execution_id, tenant) as followed:
            reader = _Reader(followed, seen, view)
            spoken = time.monotonic()
            while (text := await reader.take()) is not None and not self._changes.closed:
                if not text and time.monotonic() - spoken < keep_alive_s:
                    await reader.rest(spoken + keep_alive_s - time.monotonic())
                    continue
                yield text
                spoken = time.monotonic()

    async def status(
        self, execution_id: str, *, tenant: str, keep_alive_s: float = KEEP_ALIVE_S
    ) -> AsyncIterator[StatusChange | None]:
        """Yield an execution at once and then whenever its status changes; None means that nothing happened.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            keep_alive_s: Seconds of silence after which None is yielded.

        Raises:
            NotFound: `execution.not_found`.
        """
        with self._joined(execution_id, tenant, watching=True) as followed:
            facts = (await self._executions.read(execution_id, tenant=tenant)).facts
            opened = await self._executions.store.open_waits([execution_id], tenant=tenant)
            shown = StatusChange(facts, opened.get(execution_id, []))
            yield shown
            spoken = time.monotonic()
            while not (shown.facts.settled or self._changes.closed):
                change = followed.change
                if change is not None and change.is_later_than(shown):
                    shown = change
                    yield change
                    spoken = time.monotonic()
                elif followed.over:
                    return
                elif (left := spoken + keep_alive_s - time.monotonic()) > 0:
                    await asyncio.wait({followed.news}, timeout=left)
                else:
                    yield None
                    spoken = time.monotonic()

    async def tokens(
        self,
        execution_id: str,
        *,
        tenant: str,
        view: View,
        finished: View,
        after_seq: int = 0,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> AsyncIterator[bytes]:
        """Yield the texts of model calls as they come, and of the events that a view shows.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            view: How an event is shown.
            finished: Gives the effect id of a call that an event ends.
            after_seq: Number of the last event that the reader knows.
            keep_alive_s: Seconds of silence after which an empty text is yielded.

        Raises:
            NotFound: `execution.not_found`.
        """
        seen = await self._stamp(execution_id, tenant, after_seq)
        with self._joined(execution_id, tenant) as followed, self._listening(execution_id, tenant) as room:
            live = None if room is None else RoomReader(room)
            reader = _Reader(followed, seen, view, _forget(room, finished))
            spoken = time.monotonic()
            while not self._changes.closed:
                text = b"" if live is None else live.take()
                if not text:
                    told = await reader.take()
                    if told is None:
                        return
                    text = told
                if not text and time.monotonic() - spoken < keep_alive_s:
                    more = () if live is None else (live.news,)
                    if live is None or not live.has_more:
                        await reader.rest(spoken + keep_alive_s - time.monotonic(), *more)
                    continue
                yield text
                spoken = time.monotonic()

    async def close(self) -> None:
        """Wait for the ends of all tasks; the watch over the store must be closed before."""
        for followed in self._followed.values():
            followed.want()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- who follows what ------------------------------------------------------------------------------------------

    async def _stamp(self, execution_id: str, tenant: str, after_seq: int) -> Stamp:
        await self._executions.store.get_execution(execution_id, tenant=tenant)
        if not after_seq:
            return Stamp(0, 0)
        last = await self._executions.store.find_event(execution_id, after_seq, tenant=tenant)
        # unknown number: nothing before it can be a replacement that the reader waits for
        return Stamp(after_seq, time.time_ns() // 1_000 if last is None else last.now_us)

    @contextlib.contextmanager
    def _joined(self, execution_id: str, tenant: str, *, watching: bool = False) -> Iterator[Followed]:
        key = (tenant, execution_id)
        followed = self._followed.get(key)
        if followed is None:
            followed = Followed(self._executions, self._changes, execution_id, tenant)
            self._followed[key] = followed
            task = asyncio.create_task(followed.run(self._end_of(key)), name=f"follow-{execution_id}")
            self._tasks.add(task)
            task.add_done_callback(self._done)
        followed.readers += 1
        followed.watchers += watching
        followed.want()
        try:
            yield followed
        finally:
            followed.readers -= 1
            followed.watchers -= watching
            followed.want()

    def _end_of(self, key: tuple[str, str]) -> Callable[[], None]:
        def end() -> None:
            del self._followed[key]

        return end

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("following an execution failed", exc_info=error)

    @contextlib.contextmanager
    def _listening(self, execution_id: str, tenant: str) -> Iterator[Room | None]:
        if self._rooms is None:
            yield None
            return
        with self._rooms.joined(tenant, execution_id) as room:
            yield room


class _Reader:
    """A reader of events: a place in the window, or in the store if it is not that far, and nothing else."""

    def __init__(self, followed: Followed, seen: Stamp, view: View, note: Callable[[Slot], None] | None = None) -> None:
        if followed.seen is None:
            followed.seen = seen
        self._followed = followed
        self._seen = seen
        self._view = view
        self._note = note
        self._position: int | None = None
        self._page: list[Slot] = []
        self._patience = Patience()

    async def take(self) -> bytes | None:
        """Return what can be told now, empty if there is nothing; None when all is told.

        Raises:
            NotFound: `execution.not_found`.
        """
        window = self._followed.window
        while True:
            if self._page:
                taken, text = self._told(self._page)
                del self._page[:taken]
            elif self._position is None or self._position < window.first:
                if not await self._turn_page():
                    return b""
                continue
            else:
                taken, text = self._told(window.since(self._position))
                self._position += taken
                if not taken and not self._followed.over:
                    return b""
                if not taken:
                    if self._followed.error is not None:
                        raise self._followed.error
                    return None
            if text:
                return text

    async def rest(self, longest_s: float, *more: asyncio.Future[None]) -> None:
        """Wait until there may be something to take."""
        followed = self._followed
        if self._position is None:
            # behind a gap that the repair closes without telling us
            await _first_of({followed.news, *more}, min(longest_s, IDLE_S))
        elif not followed.over:
            with followed.at_the_end():
                await _first_of({followed.news, *more}, longest_s)

    def _told(self, slots: Iterator[Slot] | list[Slot]) -> tuple[int, bytes]:
        """Take events until there is enough for once; return how many, and their texts."""
        taken, size = 0, 0
        texts: list[bytes] = []
        for slot in slots:
            taken += 1
            if not is_news(self._seen, slot.record):
                continue
            self._seen = seen_after(self._seen, slot.record)
            if self._note is not None:
                self._note(slot)
            text = slot.text(self._view)
            if text is not None:
                texts.append(text)
                size += len(text)
                if size >= BATCH_BYTES:
                    break
        return taken, b"".join(texts)

    async def _turn_page(self) -> bool:
        """Read on in the store; False if something is missing there that may still come."""
        self._position = None
        followed, seen = self._followed, self._seen
        page = await followed.page(seen, fresh=self._patience.is_running)
        ready = page.slots
        if not (followed.complete or followed.over or self._patience.is_over):
            ready = ready[: gapless(seen.seq, [slot.record for slot in ready])]
        # a copy: other readers have the same page
        self._page = list(ready)
        if ready:
            self._patience.renew()
        if len(ready) < len(page.slots):
            self._patience.run(waiting=True)
            return bool(ready)
        if not page.full:
            self._position = page.mark
        return True


async def _first_of(news: set[asyncio.Future[None]], longest_s: float) -> None:
    await asyncio.wait(news, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)


def _forget(room: Room | None, finished: View) -> Callable[[Slot], None] | None:
    if room is None:
        return None

    def note(slot: Slot) -> None:
        effect_id = slot.text(finished)
        if effect_id is not None:
            room.finish(effect_id.decode())

    return note
