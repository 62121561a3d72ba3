"""One execution that is followed: a single task looks at the store for all readers and fills the window they share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from engine.control.executions import ExecutionService
from engine.control.window import Page, Patience, Slot, Window, gapless, seen_after
from engine.core.errors import NotFound
from engine.core.run.projection import ExecutionFacts, Stamp, Wait
from engine.store.changes import Changes, Subscription

IDLE_S = 1.0
"""Longest pause between two looks when nothing seems to happen; an end without an event is noticed this late."""

ENDING_S = 0.02
ENDING_MOST_S = 0.5
"""Pauses between looks when the last event is there and Temporal is about to close the workflow, or is down."""

RETRY_S = 1.0
"""Pause after a look that failed."""

PAGE_EVENTS = 256
KEPT_PAGES = 4
KEPT_PAGE_CHARS = 1024 * 1024
KEPT_PAGE_S = 2.0
"""Pages that were just read are kept for the other readers at the same place: they often come back all at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StatusChange:
    """An execution at a moment when its status or its open waits changed."""

    facts: ExecutionFacts
    waits: list[Wait]

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it a change."""
        return (self.facts.status, tuple(wait.wait_id for wait in self.waits))

    def is_later_than(self, shown: StatusChange) -> bool:
        """Whether a reader that was shown another change must be shown this one."""
        is_older = not self.facts.settled and self.facts.updated_us < shown.facts.updated_us
        return self.key != shown.key and not is_older


class Followed:
    """An execution that somebody follows. Its task runs for as long as there are readers and it has not ended.

    Attributes:
        window: Its latest events.
        seen: Number and time of the last event in the window; None before the first reader of events.
        complete: Whether it has ended and its stored events are all there, so that no gap will be closed.
        over: Whether nothing more will be told.
        error: Why it is over, if not because the execution has ended.
        change: The latest status, while somebody watches it.
        readers: Readers of all kinds.
        watchers: Readers of the status among them.

    Args:
        executions: Use cases on executions.
        changes: Watch over the store.
        execution_id: The execution.
        tenant: Its tenant.
    """

    def __init__(self, executions: ExecutionService, changes: Changes, execution_id: str, tenant: str) -> None:
        self._executions = executions
        self._changes = changes
        self._id = execution_id
        self._tenant = tenant
        self.window = Window()
        self.seen: Stamp | None = None
        self.complete = False
        self.over = False
        self.error: NotFound | None = None
        self.change: StatusChange | None = None
        self.readers = 0
        self.watchers = 0
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._wanted = asyncio.Event()
        self._patience = Patience()
        self._known: tuple[object, ...] | None = None
        self._ending_s = ENDING_S
        self._pages: dict[Stamp, asyncio.Task[Page]] = {}

    # --- for readers -----------------------------------------------------------------------------------------------

    @property
    def news(self) -> asyncio.Future[None]:
        """Done as soon as there is something new; never to be cancelled by those who wait for it."""
        return self._news

    @contextlib.contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Say for the length of the block that a reader knows all events of the window: only then more are read.

        So nothing is read while all readers still have to take what is there, and the fastest one sets the pace.
        """
        self._waiting += 1
        if self._waiting == 1:
            self._wanted.set()
        try:
            yield
        finally:
            self._waiting -= 1

    def want(self) -> None:
        """Let the task look at once: a reader came or went."""
        self._wanted.set()

    async def page(self, seen: Stamp, *, fresh: bool = False) -> Page:
        """Read from the store for a reader behind the window; readers at the same place share one read.

        Args:
            seen: The last event that the reader knows.
            fresh: Whether what was read before does not count, since something is missing in it.
        """
        reading = self._pages.get(seen)
        if reading is not None and reading.done():
            usable = not fresh and reading.exception() is None and _is_young(reading.result())
            reading = reading if usable else None
        if reading is None:
            reading = asyncio.create_task(self._read_page(seen), name="stream-page")
            self._pages[seen] = reading
        # one reader that leaves must not take the others' page with it
        page = await asyncio.shield(reading)
        self._tidy_pages()
        return page

    def _tidy_pages(self) -> None:
        done = [seen for seen, reading in self._pages.items() if reading.done()]
        keep = [seen for seen in done if self._pages[seen].exception() is None and _is_kept(self._pages[seen].result())]
        for seen in {*done} - {*keep[-KEPT_PAGES:]}:
            del self._pages[seen]

    async def _read_page(self, seen: Stamp) -> Page:
        mark, until = self.window.end, self.seen
        assert until is not None
        began = time.monotonic()
        found = await self._executions.store.events_since(self._id, seen, tenant=self._tenant, limit=PAGE_EVENTS)
        # what has higher numbers comes by the window
        known = [record for record in found if record.seq <= until.seq]
        return Page([Slot(record) for record in known], mark, len(known) == PAGE_EVENTS, began)

    # --- the task --------------------------------------------------------------------------------------------------

    async def run(self, ended: Callable[[], None]) -> None:
        """Follow until nobody reads, the execution has ended, or the process goes down.

        Args:
            ended: Called at the end, whatever it was.
        """
        nap: asyncio.Task[bool] | None = None
        try:
            async with self._changes.subscribe() as changes:
                quiet = True
                while self.readers and not (self._changes.closed or self.over):
                    self._wanted.clear()
                    # nobody has time for more: a reader that never reads costs no looks either
                    pause_s = await self._look(quiet=quiet) if self.watchers or self._waiting else None
                    if pause_s == 0:
                        continue
                    nap = nap or asyncio.create_task(_nap(changes, pause_s))
                    quiet = await self._pause(nap)
                    nap = None if nap.done() else nap
        except NotFound as error:
            self.error = error
        finally:
            self.over = True
            ended()
            self._tell()
            if nap is not None:
                nap.cancel()
            await asyncio.gather(*([] if nap is None else [nap]), *self._pages.values(), return_exceptions=True)

    async def _pause(self, nap: asyncio.Task[bool]) -> bool:
        """Wait for a write, the time, or a wish; say whether the time was up without a write."""
        wanted = asyncio.create_task(self._wanted.wait())
        try:
            await asyncio.wait({nap, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
        return nap.done() and not nap.result()

    async def _look(self, *, quiet: bool) -> float | None:
        """Look once; return the pause until the next look: none after the end, None = until something happens."""
        try:
            return await self._look_once(quiet=quiet)
        except NotFound:
            raise
        except Exception as error:
            # a database that is away for a moment must not break the streams of all who read
            log.warning("an execution could not be followed for a moment", execution=self._id, error=str(error))
            self._known = None
            return RETRY_S

    async def _look_once(self, *, quiet: bool) -> float | None:
        facts = (await self._executions.read(self._id, tenant=self._tenant)).facts
        known = (facts.last_seq, facts.updated_us, facts.status, facts.settled, facts.verified)
        changed, self._known = known != self._known or quiet, known
        if self.watchers and (changed or self.change is None):
            await self._look_at_waits(facts)
        self.complete = facts.settled and facts.verified is not False
        if self.seen is not None and self._waiting:
            if (changed or facts.last_seq != self.seen.seq) and await self._look_for_events(self.seen, facts):
                return None
            if facts.settled and (self.complete or self._patience.is_over):
                self.over = True
        elif facts.settled and self.readers == self.watchers:
            self.over = True
        if self.over:
            return 0
        if facts.terminal_seen and not facts.settled:
            # Temporal closes a workflow a moment after its last event and tells nobody
            pause_s, self._ending_s = self._ending_s, min(self._ending_s * 1.5, ENDING_MOST_S)
            return pause_s
        return None

    async def _look_at_waits(self, facts: ExecutionFacts) -> None:
        opened = await self._executions.store.open_waits([self._id], tenant=self._tenant)
        change = StatusChange(facts, opened.get(self._id, []))
        if self.change is None or change.key != self.change.key:
            self.change = change
            self._tell()

    async def _look_for_events(self, seen: Stamp, facts: ExecutionFacts) -> bool:
        found = await self._executions.store.events_since(self._id, seen, tenant=self._tenant, limit=PAGE_EVENTS)
        passing = self.complete or self._patience.is_over
        ready = found if passing else found[: gapless(seen.seq, found)]
        if not ready:
            # only what is known to be missing is worth impatience
            self._patience.run(waiting=bool(found) or facts.settled)
            return False
        self._patience.renew()
        for record in ready:
            if record.seq <= seen.seq:
                self._pages.clear()  # they may hold what was replaced
            seen = seen_after(seen, record)
        self.seen = seen
        self.window.add(ready)
        self._tell()
        return True

    def _tell(self) -> None:
        news, self._news = self._news, self._loop.create_future()
        news.set_result(None)


async def _nap(changes: Subscription, pause_s: float | None) -> bool:
    if pause_s is not None:
        await asyncio.sleep(pause_s)
        return True
    return await changes.wait(IDLE_S)


def _is_young(page: Page) -> bool:
    return time.monotonic() - page.read_s < KEPT_PAGE_S


def _is_kept(page: Page) -> bool:
    # only what many will ask for; others are read when they are needed
    return page.full and _is_young(page) and sum(len(slot.record.body) for slot in page.slots) <= KEPT_PAGE_CHARS
