"""One look over all executions that Temporal and the store should agree about; bounded, however many sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.describing import Described, describe, list_executions
from engine.control.foreign import Foreign
from engine.control.settling import adopt_from_temporal
from engine.control.stuck import Diagnosis, utc
from engine.core.contracts.execution import ATTRIBUTE_TENANT
from engine.core.errors import NotFound
from engine.store.projection import ProjectionStore
from engine.store.pulses import WORKER, PulseStore
from engine.store.upkeep import KnownRow, OpenRow, Upkeep

QUIET_US = 2_000_000
"""An open execution is looked at when it has said nothing for so long; until then its events are on their way."""
FIRST_WINDOW_S = 600.0
CLOSED_OVERLAP_S = 10.0
"""Temporal's lists may be some seconds old, so each scan asks for ends from so long before the last one."""
LATE_CLOSE_US = 1_000
MOST_LOOKS = 500
"""Executions that are looked at in one scan because something about them is new."""
MOST_STUCK = 100
TURN = 100
"""Executions that are looked at in one scan although nothing seems new: events of one that a killed worker took with
it are missing without a sign. With 10,000 that sleep each has its turn every eight minutes, and all have it at once
when a worker is known to have died."""
SETTLED_TURN = 100
AT_ONCE = 8
_all_of = " AND ".join

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Report:
    """What a scan did.

    Attributes:
        open: Open executions in the store.
        listed: Executions that run as Temporal lists them.
        looked: How many were described.
        repaired: How many got other rows.
        adopted: How many the store had never heard of.
        reopened: How many had ended and run again, or ended in another way.
        gone: How many were found deleted.
        stuck: How many do not go on although they should.
        took_s: Seconds.
    """

    open: int = 0
    listed: int = 0
    looked: int = 0
    repaired: int = 0
    adopted: int = 0
    reopened: int = 0
    gone: int = 0
    stuck: int = 0
    took_s: float = 0.0


@dataclass(slots=True)
class Scan:
    """Finds what is not in line.

    Attributes:
        client: A connected client.
        store: The projection.
        repair: Replays an execution and replaces its events; returns whether they differed, None if it cannot.
        settle: Reads the end of an execution and stores it.
        rebuild: Makes all rows of an execution anew, taking back an end that was stored.
        foreign: Decides what a missing execution means.
    """

    client: Client
    store: ProjectionStore
    repair: Callable[[str], Awaitable[bool | None]]
    settle: Callable[[str], Awaitable[object]]
    rebuild: Callable[[str], Awaitable[None]]
    foreign: Foreign
    upkeep: Upkeep = field(init=False)
    _pulses: PulseStore = field(init=False)
    _seen: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    _overdue: set[str] = field(default_factory=set)
    _turn_after: str = ""
    _settled_after: str = ""
    _closed_since: float = 0.0
    _workers: set[str] = field(default_factory=set)
    _no_problem_list: bool = False
    _checked: dict[str, int] = field(default_factory=dict)
    _stuck: dict[str, str | None] = field(default_factory=dict)
    _vanished: list[str] = field(default_factory=list)
    _report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        """Build what goes with the store."""
        self.upkeep = Upkeep(self.store.database)
        self._pulses = PulseStore(self.store.database)

    async def run(self) -> Report:
        """Look once over everything.

        Raises:
            RPCError: Temporal does not answer.
        """
        began = time.monotonic()
        self._report = Report()
        trusted = await self.foreign.check_server()
        running = list_executions(self.client, _running())
        listed = {info.execution.workflow_id: info.execution.run_id async for info in running}
        rows = await self._open_rows()
        self._report.open, self._report.listed = len(rows), len(listed)
        await self._check_listed(listed.keys() - rows.keys())
        await self._check_closed()
        await self._check_open(rows, listed, trusted=trusted)
        if trusted:
            await self._check_settled()
        await self.upkeep.clear_stuck()
        self._report.took_s = time.monotonic() - began
        return self._report

    async def _open_rows(self) -> dict[str, OpenRow]:
        rows: dict[str, OpenRow] = {}
        after = ""
        while page := await self.upkeep.open_rows(after_id=after):
            rows |= {row.id: row for row in page}
            after = page[-1].id
        for execution_id in self._seen.keys() - rows.keys():
            del self._seen[execution_id]
        return rows

    # --- what Temporal has and the store has not -------------------------------------------------------------------

    async def _check_listed(self, ids: Iterable[str]) -> None:
        """Adopt running executions that the store does not know, and open again those that it believes ended."""
        known = await self.upkeep.known(list(ids))

        async def check(execution_id: str) -> None:
            row = known.get(execution_id)
            if row is None:
                await self._adopt(execution_id)
            elif row.settled:
                await self._check_again(execution_id)

        await _each(ids, check)

    async def _check_closed(self) -> None:
        """Look at ends of the last moments: of strangers, and of executions that had ended before and were reset."""
        now = time.time()
        since = self._closed_since or now - FIRST_WINDOW_S
        query = _all_of((f"{ATTRIBUTE_TENANT} IS NOT NULL", f"CloseTime > '{utc(round(since * 1e6))}'"))
        closed: dict[str, int] = {}
        async for info in list_executions(self.client, query):
            if info.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
                at_us = info.close_time.ToMicroseconds()
                closed[info.execution.workflow_id] = max(at_us, closed.get(info.execution.workflow_id, 0))
        known = await self.upkeep.known(list(closed))

        async def check(execution_id: str) -> None:
            row = known.get(execution_id)
            if row is None:
                await self._adopt(execution_id)
            elif row.settled and closed[execution_id] > (row.closed_us or 0) + LATE_CLOSE_US:
                await self._check_again(execution_id)

        await _each(closed, check)
        self._closed_since = now - CLOSED_OVERLAP_S

    async def _adopt(self, execution_id: str) -> None:
        try:
            await adopt_from_temporal(self.client, self.store, execution_id)
        except NotFound:
            return  # deleted in between, or no execution of ours
        self._report.adopted += 1
        await self.settle(execution_id)

    async def _check_again(self, execution_id: str) -> None:
        """Open an execution again that has ended, as far as the store knows: its workflow was reset, or is back."""
        log.info("an execution that had ended runs again", execution=execution_id)
        self._report.reopened += 1
        await self.rebuild(execution_id)

    # --- what the store has ----------------------------------------------------------------------------------------

    async def _check_open(self, rows: Mapping[str, OpenRow], listed: Mapping[str, str], *, trusted: bool) -> None:
        self._checked, self._stuck, self._vanished = {}, {}, []
        diagnosis = Diagnosis(self.client)
        chosen = await self._choose(rows, listed)

        async def look(row: OpenRow) -> None:
            await self._look(row, diagnosis)

        await _each(chosen, look)
        self._report.looked += len(chosen)
        await self.upkeep.mark_checked(self._checked)
        await self.upkeep.mark_stuck(self._stuck)
        if trusted:
            now_us = time.time_ns() // 1_000
            marked = self.foreign.mark_vanished(self._vanished, looked_at=len(chosen), now_us=now_us)
            self._report.gone += await marked

    async def _choose(self, rows: Mapping[str, OpenRow], listed: Mapping[str, str]) -> list[OpenRow]:
        """Return the open executions to look at: those with news, those that are stuck, and some in their turn."""
        if await self._has_lost_worker():
            self._overdue |= rows.keys()
        self._overdue &= rows.keys()
        now_us = time.time_ns() // 1_000
        problems = await self._problems()
        quiet = [row for row in rows.values() if max(row.last_us, row.created_us) < now_us - QUIET_US]
        missing = [row for row in quiet if row.id not in listed]
        new = [row for row in quiet if self._is_new(row, listed.get(row.id, ""))]
        late = [row for row in quiet if row.id in self._overdue]
        stuck = [row for row in rows.values() if row.stuck is not None or row.id in problems][:MOST_STUCK]
        turn = [row for row in quiet if row.id > self._turn_after][:TURN]
        self._turn_after = turn[-1].id if len(turn) == TURN else ""
        # the first ones may be missing because the list does not know them yet; none may keep the others waiting
        picked = [*missing[:MOST_LOOKS], *new[:MOST_LOOKS], *late[:MOST_LOOKS], *stuck, *turn]
        return list({row.id: row for row in picked}.values())

    def _is_new(self, row: OpenRow, run_id: str) -> bool:
        """Whether an open execution went on, or got another run, since it was last looked at."""
        seen = self._seen.get(row.id)
        return seen is None or seen[:2] != (row.last_seq, row.last_us) or (bool(run_id) and seen[2] != run_id)

    async def _has_lost_worker(self) -> bool:
        """Whether a worker has died since the last scan; one that ends in order has written all its events."""
        workers = [pulse for pulse in await self._pulses.all() if pulse.kind == WORKER]
        alive = {pulse.name for pulse in workers if pulse.is_alive}
        lost = self._workers - alive - {pulse.name for pulse in workers if pulse.info.get("stopped")}
        self._workers = alive
        return bool(lost)

    async def _problems(self) -> set[str]:
        """Return executions of which Temporal itself says that their workflow tasks fail; older servers do not."""
        if self._no_problem_list:
            return set()
        query = _all_of((_running(), "TemporalReportedProblems IS NOT NULL"))
        try:
            return {info.execution.workflow_id async for info in list_executions(self.client, query)}
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            self._no_problem_list = True
            return set()

    async def _look(self, row: OpenRow, diagnosis: Diagnosis) -> None:
        try:
            found = await describe(self.client, row.id)
        except NotFound:
            self._vanished.append(row.id)
            return
        if found.is_closed:
            await self.settle(row.id)
            return
        stuck = await diagnosis.of(row.id, found)
        text = None if stuck is None else stuck.to_text(row.stuck)
        self._report.stuck += text is not None
        if text != row.stuck:
            self._stuck[row.id] = text
        await self._compare(row, found)

    async def _compare(self, row: OpenRow, found: Described) -> None:
        stamp = (row.last_seq, row.last_us, found.run_id)
        # rows that changed although the history did not may be late words of a run that was reset away
        same = found.history_length == row.checked_events and self._seen.get(row.id, stamp) == stamp
        if not same:
            replaced = await self.repair(row.id)
            if replaced is None:
                return
            self._report.repaired += replaced
            if replaced:
                # its row is another one now; the next look finds it as it is
                stamp = (-1, -1, found.run_id)
            self._checked[row.id] = found.history_length
        self._seen[row.id] = stamp
        self._overdue.discard(row.id)

    async def _check_settled(self) -> None:
        """Look at some ended executions in their turn: they may have been deleted, or be there again."""
        page = await self.upkeep.settled_rows(after_id=self._settled_after, limit=SETTLED_TURN)
        self._settled_after = page[-1].id if len(page) == SETTLED_TURN else ""
        now_us = time.time_ns() // 1_000

        async def look(row: KnownRow) -> None:
            if await self.foreign.check_settled(row, now_us=now_us):
                await self._check_again(row.id)

        await _each(page, look)


async def _each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Do something with each item, some at a time; the first error ends it."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> None:
        async with gate:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))


def _running() -> str:
    return _all_of((f"{ATTRIBUTE_TENANT} IS NOT NULL", "ExecutionStatus = 'Running'"))
