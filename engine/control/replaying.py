"""Replays the histories of an execution and makes its stored rows those that the replay gives.

Live events may get lost with a killed worker and may tell of workflow tasks that never counted. The history is
the truth: replaying it with the same interpreter gives the same events again, with no worker alive and nothing
written twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType as HistoryEventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from engine.control.adopting import adopt_from_temporal
from engine.control.describing import describe, is_namespace_missing
from engine.control.settling import read_end
from engine.core.errors import EngineError, NotFound
from engine.core.run.events import EventRecord
from engine.store.projection import ProjectionStore
from engine.store.upkeep import Upkeep

ALL_EVENTS = 10_000_000

Replay = Callable[[Client, str, str, WorkflowHistory], Awaitable[list[EventRecord]]]
"""Replays one run: (client, execution id, run id, history) → its events.

Raises:
    ReplayFailed: The history does not replay with this interpreter.
"""


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


@dataclass(frozen=True, slots=True)
class Chain:
    """All runs of an execution.

    Attributes:
        runs: By run id, the latest run first.
        began_us: When the latest run was made; after a reset this is the time of the reset.
    """

    runs: dict[str, Replayed]
    began_us: int

    def events(self, stored: Iterable[str]) -> dict[str, list[EventRecord]]:
        """Return what should be stored by run id; a run of `stored` that is not in the chain has nothing to tell."""
        records = {run_id: run.records for run_id, run in self.runs.items()}
        return {run_id: list[EventRecord]() for run_id in stored if run_id not in self.runs} | records

    def horizon(self, stored: Iterable[str]) -> dict[str, int]:
        """Return by run id the time up to which the histories say what should be stored."""
        known = {run_id: run.committed_us for run_id, run in self.runs.items()}
        # runs that the chain does not name: what was reset away has told its last before the latest run was made,
        # and a run that began after the chain was read has told nothing before that
        newest = max(self.began_us, *known.values())
        return {run_id: newest for run_id in stored if run_id not in known} | known


def committed_part(history: WorkflowHistory) -> tuple[WorkflowHistory | None, int]:
    """Cut a history after its last workflow task that was completed, and the commands of that task.

    A replay hands over whatever follows too, and tells it as of the last task: a signal that no worker has taken yet
    would have its effect before it had one, at a time that the true event will not have.

    Returns:
        The part, or None if no task was completed; and the time of that task in Unix microseconds, or 0.
    """
    started_us: dict[int, int] = {}
    last_us = task_id = end = 0
    for position, event in enumerate(history.events, start=1):
        if event.event_type == HistoryEventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            started_us[event.event_id] = event.event_time.ToMicroseconds()
        elif event.event_type == HistoryEventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            done = event.workflow_task_completed_event_attributes
            last_us, task_id, end = started_us.get(done.started_event_id, last_us), event.event_id, position
        elif end and _commanded_by(event) == task_id:
            end = position
    return (WorkflowHistory(history.workflow_id, history.events[:end]) if end else None), last_us


def _commanded_by(event: HistoryEvent) -> int:
    """Return the id of the completion of the workflow task that ordered an event; 0 if none did."""
    attributes = getattr(event, event.WhichOneof("attributes") or "", None)
    return int(getattr(attributes, "workflow_task_completed_event_id", 0))


async def replay_chain(client: Client, execution_id: str, replay: Replay, *, tenant: str) -> Chain:
    """Replay all runs of an execution, from the latest back to the first.

    Raises:
        NotFound: Temporal does not know the execution of this tenant, or no longer has one of its runs.
        ReplayFailed: A history does not replay.
        RPCError: Temporal does not answer.
    """
    runs: dict[str, Replayed] = {}
    # asked for first: a run may continue as new at any time, and after a reset its first event names another run
    latest = await describe(client, execution_id)
    if not latest.is_of(tenant):
        # an id that Temporal had forgotten was taken again: that is another execution, and its story another one's
        raise NotFound(f"Temporal no longer has this execution {execution_id}", code="execution.not_found")
    run_id = latest.run_id
    while run_id:
        history = await _fetch(client, execution_id, run_id)
        started = history.events[0].workflow_execution_started_event_attributes
        part, until = committed_part(history)
        records = [] if part is None else await replay(client, execution_id, run_id, part)
        runs[run_id] = Replayed(records, until)
        run_id = started.continued_execution_run_id
    return Chain(runs, latest.started_us)


async def _fetch(client: Client, execution_id: str, run_id: str) -> WorkflowHistory:
    try:
        return await client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
            raise
        raise NotFound(f"Temporal has no run {run_id} of {execution_id}", code="execution.not_found") from error


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
    chain = await replay_chain(client, execution_id, replay, tenant=tenant)
    stored = await store.list_events(execution_id, tenant=tenant, limit=ALL_EVENTS)
    known = {(record.run_id, record.seq): record for record in stored}
    run_ids = {record.run_id for record in stored}
    horizon = chain.horizon(run_ids)
    fresh = {(r.run_id, r.seq): r._replace(tenant="") for run in chain.runs.values() for r in run.records}
    old = {(record.run_id, record.seq) for record in stored if record.now_us <= horizon[record.run_id]}
    if set(fresh) == old and all(known[key] == value for key, value in fresh.items()):
        return False
    await store.replace_runs(execution_id, chain.events(run_ids), tenant=tenant, until_us=horizon)
    return True


async def rebuild_execution(
    client: Client, store: ProjectionStore, execution_id: str, replay: Replay, *, drop: bool = False
) -> bool:
    """Make all rows of an execution anew from its histories and from how Temporal says that it ended.

    Args:
        client: A connected client.
        store: The projection.
        execution_id: The execution; one that the store has never heard of is adopted.
        replay: How to replay a run.
        drop: Whether to begin without its rows, as if the store had never heard of it.

    Returns:
        Whether any row is another one than before.

    Raises:
        NotFound: Temporal does not know the execution; the stored rows stay.
        ReplayFailed: A history does not replay; the stored rows stay.
        RPCError: Temporal does not answer.
    """
    known = await store.tenant_of(execution_id)
    tenant = known or await adopt_from_temporal(client, store, execution_id)
    chain = await replay_chain(client, execution_id, replay, tenant=tenant)
    # after the chain: an end that is read with a shorter chain would not agree with it
    end = await read_end(client, execution_id)
    if end is not None:
        whole = _is_whole(chain, end.events)
        chain = chain if whole else await replay_chain(client, execution_id, replay, tenant=tenant)
    run_ids = await store.run_ids(execution_id, tenant=tenant)
    changed = await Upkeep(store.database).rebuild(
        execution_id,
        chain.events(run_ids),
        tenant=tenant,
        until_us=chain.horizon(run_ids),
        end=end,
        drop=drop and any(run.records for run in chain.runs.values()),
    )
    return changed or known is None


def _is_whole(chain: Chain, count: int | None) -> bool:
    return count is None or sum(len(run.records) for run in chain.runs.values()) == count
