"""One look over all executions that Temporal and the store should agree about; bounded, however many sleep."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.adopting import adopt_many
from engine.control.describing import Described, describe, list_executions, tenant_in
from engine.control.failing import is_shared
from engine.control.foreign import Foreign
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
MOST_ADOPTED = 500
"""Executions that are made known to the store at one time; a store that was lost has more, and they wait their turn."""
REFUSED_S = 600.0
"""How long an execution that cannot be adopted or looked at is left alone."""
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
        waiting: How many the store does not know yet, or nobody has ever compared with their histories.
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
    waiting: int = 0
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
    _strangers: dict[str, bool] = field(default_factory=dict)
    """Executions that the store has never heard of, and whether they have ended, as far as Temporal's lists know."""
    _refused: dict[str, float] = field(default_factory=dict)
    """Executions that could not be adopted or looked at, with the time of the last try."""
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
        self._refused = {name: at for name, at in self._refused.items() if began - at < REFUSED_S}
        trusted = await self.foreign.check_server()
        running = list_executions(self.client, _running())
        listed: dict[str, str] = {}
        owners: dict[str, str] = {}
        async for info in running:
            listed[info.execution.workflow_id] = info.execution.run_id
            owners[info.execution.workflow_id] = tenant_in(info)
        rows = await self._open_rows()
        self._report.open, self._report.listed = len(rows), len(listed)
        await self._check_listed(listed.keys() - rows.keys(), owners)
        await self._check_closed()
        await self._check_open(rows, listed, trusted=trusted)
        if trusted:
            await self._check_settled()
        await self.upkeep.clear_stuck()
        # last, since a store that was lost has thousands of them
        await self.adopt()
        self._report.waiting += len(self._strangers)
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

    async def _check_listed(self, ids: Iterable[str], owners: Mapping[str, str]) -> None:
        """Note running executions that the store does not know, and open again those that it believes ended."""
        known = await self.upkeep.known(list(ids))

        async def check(execution_id: str) -> None:
            row = known.get(execution_id)
            if row is None:
                self._meet(execution_id, has_ended=False)
            elif row.settled and owners[execution_id] in ("", row.tenant):
                await self._check_again(execution_id)

        await each(ids, check)

    async def _check_closed(self) -> None:
        """Look at ends of the last moments: of strangers, and of executions that had ended before and were reset."""
        now = time.time()
        since = self._closed_since or now - FIRST_WINDOW_S
        query = _all_of((f"{ATTRIBUTE_TENANT} IS NOT NULL", f"CloseTime > '{utc(round(since * 1e6))}'"))
        closed: dict[str, int] = {}
        owners: dict[str, str] = {}
        async for info in list_executions(self.client, query):
            if info.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
                at_us = info.close_time.ToMicroseconds()
                owners[info.execution.workflow_id] = tenant_in(info)
                closed[info.execution.workflow_id] = max(at_us, closed.get(info.execution.workflow_id, 0))
        known = await self.upkeep.known(list(closed))

        async def check(execution_id: str) -> None:
            row = known.get(execution_id)
            if row is None:
                self._meet(execution_id, has_ended=True)
            elif owners[execution_id] not in ("", row.tenant):
                return  # another tenant's execution, whose id Temporal had forgotten
            elif row.settled and closed[execution_id] > (row.closed_us or 0) + LATE_CLOSE_US:
                await self._check_again(execution_id)

        await each(closed, check)
        self._closed_since = now - CLOSED_OVERLAP_S

    def _meet(self, execution_id: str, *, has_ended: bool) -> None:
        """Note an execution that the store has never heard of, unless it could not be adopted a while ago."""
        if execution_id not in self._refused:
            self._strangers[execution_id] = self._strangers.get(execution_id, False) or has_ended

    async def adopt(self) -> bool:
        """Make some of the executions known to the store that it has never heard of; returns whether more wait.

        Raises:
            RPCError: Temporal does not answer.
        """
        some = dict(itertools.islice(self._strangers.items(), MOST_ADOPTED))
        if some:
            # one that is left out was deleted in between, or is no execution of ours
            adopted = await adopt_many(self.client, self.store, some)
            self._report.adopted += len(adopted)
            for execution_id in some:
                del self._strangers[execution_id]
            self._refused |= dict.fromkeys(some.keys() - set(adopted), time.monotonic())
            # what runs, or has just ended, is looked at by the next scan
            await each([name for name in adopted if some[name]], self.settle)
        return bool(self._strangers)

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
            try:
                await self._look(row, diagnosis)
            except Exception as error:
                if is_shared(error):
                    raise
                self._refused[row.id] = time.monotonic()
                log.error("an execution cannot be looked at", execution=row.id, exc_info=error)

        await each(chosen, look)
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
        self._report.waiting = max(0, sum(row.checked_events is None for row in quiet) - MOST_LOOKS)
        stuck = [row for row in rows.values() if row.stuck is not None or row.id in problems][:MOST_STUCK]
        turn = [row for row in quiet if row.id > self._turn_after][:TURN]
        self._turn_after = turn[-1].id if len(turn) == TURN else ""
        # the first ones may be missing because the list does not know them yet; none may keep the others waiting
        picked = [*missing[:MOST_LOOKS], *new[:MOST_LOOKS], *late[:MOST_LOOKS], *stuck, *turn]
        return list({row.id: row for row in picked if row.id not in self._refused}.values())

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
        if not found.is_of(row.tenant):
            # Temporal had forgotten this one, and another tenant's execution has its id now
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

        await each(page, look)


async def each(items: Iterable[T], work: Callable[[T], Awaitable[object]]) -> None:
    """Do something with each item, some at a time; an error ends it that would meet the others as well."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> None:
        async with gate:
            try:
                await work(item)
            except Exception as error:
                if is_shared(error):
                    raise
                log.error("work on one execution failed", about=str(item)[:200], exc_info=error)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))


def _running() -> str:
    return _all_of((f"{ATTRIBUTE_TENANT} IS NOT NULL", "ExecutionStatus = 'Running'"))
