"""The repair path: replays histories whose events are not those in the store, and replaces the rows.

Live events may get lost with a killed worker and may tell of workflow tasks that never counted. The history is
the truth: replaying it with the same interpreter gives the same events again, with no worker alive and nothing
written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import structlog
from temporalio.api.enums.v1 import EventType as HistoryEventType
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from engine.control.settling import Settled, adopt_from_temporal, settle_from_temporal
from engine.core.contracts.execution import ATTRIBUTE_TENANT
from engine.core.errors import EngineError, NotFound
from engine.core.run.events import EventRecord
from engine.store.projection import ProjectionStore
from engine.store.reading import OpenExecution

POLL_S = 0.5
SCAN_S = 5.0
QUIET_US = 2_000_000
"""An open execution is looked at when it has said nothing for so long; until then its events are on their way."""
ADOPT_WINDOW_S = 600
GIVEN_UP_S = 600.0
"""How long an execution that cannot be settled or replayed is left alone."""
ALL_EVENTS = 10_000_000

Replay = Callable[[Client, str, str, WorkflowHistory], Awaitable[list[EventRecord]]]
"""Replays one run: (client, execution id, run id, history) → its events.

Raises:
    ReplayFailed: The history does not replay with this interpreter.
"""

log = structlog.get_logger(__name__)


class ReplayFailed(EngineError):
    """A history does not replay with the interpreter of this version."""

    default_code = "replay.failed"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The events of a run as its history gives them.

    Attributes:
        records: Events of the workflow tasks that were completed.
        committed_us: Time of the last completed workflow task; later rows are newer than the history that was read.
    """

    records: list[EventRecord]
    committed_us: int


def committed_us(history: WorkflowHistory) -> int:
    """Return the time of the last workflow task that was completed, in Unix microseconds; 0 if none was."""
    started_us: dict[int, int] = {}
    last = 0
    for event in history.events:
        if event.event_type == HistoryEventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            started_us[event.event_id] = event.event_time.ToMicroseconds()
        elif event.event_type == HistoryEventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            done = event.workflow_task_completed_event_attributes
            last = started_us.get(done.started_event_id, last)
    return last


async def replay_chain(client: Client, execution_id: str, replay: Replay) -> dict[str, Replayed]:
    """Replay all runs of an execution, from the latest back to the first.

    Returns:
        Events by run id, the latest run first.

    Raises:
        NotFound: Temporal does not know the execution.
        ReplayFailed: A history does not replay.
        RPCError: Temporal does not answer.
    """
    runs: dict[str, Replayed] = {}
    run_id = await _latest_run(client, execution_id)
    while run_id:
        history = await _fetch(client, execution_id, run_id)
        started = history.events[0].workflow_execution_started_event_attributes
        until = committed_us(history)
        records = await replay(client, execution_id, run_id, history)
        runs[run_id] = Replayed([record for record in records if record.now_us <= until], until)
        run_id = started.continued_execution_run_id
    return runs


async def _latest_run(client: Client, execution_id: str) -> str:
    # asked for first: a run may continue as new at any time, and after a reset its first event names another run
    with _gone_is_not_found(execution_id):
        return (await client.get_workflow_handle(execution_id).describe()).run_id


async def _fetch(client: Client, execution_id: str, run_id: str) -> WorkflowHistory:
    with _gone_is_not_found(execution_id):
        return await client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()


@contextlib.contextmanager
def _gone_is_not_found(execution_id: str) -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise NotFound(f"Temporal knows no execution {execution_id}", code="execution.not_found") from error


async def repair_execution(client: Client, store: ProjectionStore, execution_id: str, replay: Replay) -> bool:
    """Replace the stored events of an execution by those of its history, if they differ.

    Returns:
        Whether rows were replaced.

    Raises:
        NotFound: Temporal does not know the execution.
        ReplayFailed: A history does not replay; the stored rows stay.
        RPCError: Temporal does not answer.
    """
    tenant = await store.tenant_of(execution_id) or await adopt_from_temporal(client, store, execution_id)
    runs = await replay_chain(client, execution_id, replay)
    stored = await store.list_events(execution_id, tenant=tenant, limit=ALL_EVENTS)
    known = {(record.run_id, record.seq): (record.type, record.body) for record in stored}
    horizon = {run_id: run.committed_us for run_id, run in runs.items()}
    newest = max(horizon.values())
    # runs that the chain does not name: what was reset away, or a run that began after the chain was read
    horizon |= {record.run_id: newest for record in stored if record.run_id not in runs}
    fresh = {(r.run_id, r.seq): (r.type, r.body) for run in runs.values() for r in run.records}
    old = {(record.run_id, record.seq) for record in stored if record.now_us <= horizon[record.run_id]}
    if set(fresh) == old and all(known[key] == value for key, value in fresh.items()):
        return False
    records = {run_id: run.records for run_id, run in runs.items()}
    strangers = {record.run_id: list[EventRecord]() for record in stored if record.run_id not in runs}
    await store.replace_runs(execution_id, {**strangers, **records}, tenant=tenant, until_us=horizon)
    return True


@dataclass(slots=True)
class Repair:
    """The loop of the repair process.

    Attributes:
        client: A connected client.
        store: The projection.
        replay: How to replay a run.
        checked: History length at which an open execution was last found, or made, right.
        given_up: Executions that do not replay, with the time of the last try.
    """

    client: Client
    store: ProjectionStore
    replay: Replay
    checked: dict[str, int] = field(default_factory=dict)
    given_up: dict[str, float] = field(default_factory=dict)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; a Temporal or a store that does not answer is waited for."""
        next_scan = 0.0
        while not stopping.is_set():
            try:
                await self.settle_ended()
                if time.monotonic() >= next_scan:
                    await self.scan()
                    next_scan = time.monotonic() + SCAN_S
            except RPCError as error:
                log.warning("Temporal does not answer, trying again", error=str(error))
            except OSError as error:
                log.warning("the store does not answer, trying again", error=str(error))
            try:
                await asyncio.wait_for(stopping.wait(), POLL_S)
            except TimeoutError:
                continue

    async def settle_ended(self) -> None:
        """Settle executions that seem to have ended, and repair those whose events do not match."""
        quiet = time.time_ns() // 1_000 - QUIET_US // 2
        # those given up stand in the way of none behind them
        for item in await self.store.unsettled(limit=200 + len(self.given_up)):
            if item.last_us < quiet and self._is_due(item.id):
                await self._settle(item.id)
        for item in await self.store.unverified(limit=50 + len(self.given_up)):
            if self._is_due(item.id):
                await self._repair_closed(item)

    def _is_due(self, execution_id: str) -> bool:
        return time.monotonic() - self.given_up.get(execution_id, -1e9) > GIVEN_UP_S

    async def _settle(self, execution_id: str) -> Settled | None:
        try:
            return await settle_from_temporal(self.client, self.store, execution_id)
        except NotFound:
            self.given_up[execution_id] = time.monotonic()
            log.warning("an execution is gone from Temporal", execution=execution_id)
        except (RPCError, OSError):
            raise
        except Exception as error:
            # one end that cannot be read or stored must not stop the repair of all others
            self.given_up[execution_id] = time.monotonic()
            log.error("the end of an execution could not be settled", execution=execution_id, exc_info=error)
        return None

    async def _repair_closed(self, item: OpenExecution) -> None:
        await self._repair(item.id)
        settled = None if item.id in self.given_up else await self._settle(item.id)
        if settled is None:
            return
        if settled.matches is False:
            self.given_up[item.id] = time.monotonic()
            log.error("a replay gives other events than the workflow counted", execution=item.id)
            return
        await self.store.mark_verified(item.id, tenant=item.tenant, verified=True)

    async def _repair(self, execution_id: str) -> bool:
        try:
            replaced = await repair_execution(self.client, self.store, execution_id, self.replay)
        except (ReplayFailed, NotFound) as error:
            self.given_up[execution_id] = time.monotonic()
            log.error("an execution's events cannot be verified", execution=execution_id, reason=error.message)
            return False
        except (RPCError, OSError):
            raise
        except Exception as error:
            self.given_up[execution_id] = time.monotonic()
            log.error("an execution's events cannot be verified", execution=execution_id, exc_info=error)
            return False
        self.given_up.pop(execution_id, None)
        if replaced:
            log.info("events restored from the history", execution=execution_id)
        return replaced

    async def scan(self) -> None:
        """Look at open executions that are quiet, and for executions that the store has never heard of."""
        await self._adopt_strangers()
        quiet = time.time_ns() // 1_000 - QUIET_US
        after = ""
        while page := await self.store.open_executions(after_id=after, limit=200):
            for item in page:
                if max(item.last_us, item.created_us) < quiet:
                    await self._check_open(item)
            after = page[-1].id

    async def _check_open(self, item: OpenExecution) -> None:
        try:
            description = await self.client.get_workflow_handle(item.id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return
        except ValueError:
            # temporalio 1.35 cannot describe a natively paused run; it changes nothing while it is paused
            return
        if description.close_time is not None:
            await self._settle(item.id)
        elif description.history_length != self.checked.get(item.id):
            await self._repair(item.id)
            self.checked[item.id] = description.history_length

    async def _adopt_strangers(self) -> None:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ADOPT_WINDOW_S))
        query = f"{ATTRIBUTE_TENANT} IS NOT NULL AND StartTime > '{since}'"
        try:
            async for found in self.client.list_workflows(query, page_size=500):
                if await self.store.tenant_of(found.id) is None:
                    await adopt_from_temporal(self.client, self.store, found.id)
        except ValueError:
            # one natively paused run makes temporalio 1.35 give up a whole page; the next scan tries again
            log.warning("a natively paused execution hides others from the scan")
