"""One batch of events on its way into the tables: what is stored already, what is kept, what the rows become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Update, bindparam, delete, insert, select, update

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.plan.ir import PLAN_FORMAT
from engine.core.run.events import EventRecord
from engine.core.run.projection import TRANSITION_TYPES, Progress, Stamp, Wait, merge_run
from engine.core.values import compact_json
from engine.store.reading import ROW_ORDER, events_of, record_of, wait_of
from engine.store.schema import events, executions, waits

IN_CHUNK = 500
"""Most values in one IN list; SQLite's builds differ in how many parameters they take."""


_NAMED = ("task_id", "task_name", "task_version", "agent_id", "input", "metadata", "parent_id", "parent_path")
_MOVING = (
    "status",
    "updated_us",
    "transition_count",
    "last_seq",
    "last_run_id",
    "last_us",
    "open_waits",
    "terminal_seen",
)


def _update_of(columns: Iterable[str]) -> Update:
    return (
        update(executions)
        .where(executions.c.tenant == bindparam("b_tenant"), executions.c.id == bindparam("b_id"))
        .values({name: bindparam(name) for name in columns})
    )


# built once: with few events in a batch, putting statements together takes longer than running them
_STATES = select(
    *(executions.c[name] for name in ("id", "tenant", "task_name", "settled", *_MOVING)),
).where(executions.c.id.in_(bindparam("ids", expanding=True)))
_NAME = _update_of(_NAMED)
_MOVE = _update_of(_MOVING)
_ADD_EVENTS = insert(events)
_ADD_EXECUTIONS = insert(executions)


@dataclass(slots=True)
class State:
    """The mutable part of an `executions` row while a batch is applied."""

    id: str
    tenant: str
    is_new: bool
    named: bool
    status: str
    settled: bool
    last_seq: int = 0
    last_us: int = 0
    last_run_id: str = ""
    updated_us: int = 0
    transitions: int = 0
    open_waits: int = 0
    terminal_seen: bool = False
    progress: Progress = field(default_factory=Progress)


@dataclass(slots=True)
class Batch:
    """What one call will write."""

    inserts: list[dict[str, Any]] = field(default_factory=list)
    touched: list[State] = field(default_factory=list)
    rebuild: list[State] = field(default_factory=list)


def load_states(connection: Connection, ids: Sequence[str]) -> dict[str, State]:
    """Read the rows of executions, with their open waits; unknown ids are left out."""
    states: dict[str, State] = {}
    for start in range(0, len(ids), IN_CHUNK):
        chunk = ids[start : start + IN_CHUNK]
        for row in connection.execute(_STATES, {"ids": chunk}):
            states[row.id] = State(
                row.id,
                row.tenant,
                is_new=False,
                named=bool(row.task_name),
                status=row.status,
                settled=row.settled,
                last_seq=row.last_seq,
                last_us=row.last_us,
                last_run_id=row.last_run_id,
                updated_us=row.updated_us,
                transitions=row.transition_count,
                open_waits=row.open_waits,
                terminal_seen=row.terminal_seen,
            )
    waiting = [state.id for state in states.values() if state.open_waits]
    for start in range(0, len(waiting), IN_CHUNK):
        chunk = waiting[start : start + IN_CHUNK]
        query = select(waits).where(waits.c.execution_id.in_(chunk), waits.c.closed_seq.is_(None))
        for row in connection.execute(query):
            states[row.execution_id].progress.waits[row.wait_id] = wait_of(row)
    return states


def new_state(execution_id: str, arrived: Iterable[EventRecord], tenant_of: Mapping[str, str]) -> State | None:
    """Begin an execution that has no row yet; None if nothing says whose it is."""
    tenant = tenant_of.get(execution_id, "")
    probe = Progress()
    for record in arrived:
        if record.type == EventType.INIT:
            probe.apply(record)
    if probe.init is not None:
        tenant = str(probe.init.get("tenant") or tenant)
    if not tenant:
        return None
    return State(execution_id, tenant, is_new=True, named=False, status=ExecutionStatus.QUEUED.value, settled=False)


def take(connection: Connection, state: State, arrived: Sequence[EventRecord], batch: Batch) -> None:
    """Merge an execution's new events: in order they extend its state, otherwise the state is rebuilt from the rows."""
    by_run: dict[str, list[EventRecord]] = {}
    for record in arrived:
        by_run.setdefault(record.run_id, []).append(record)
    kept: list[EventRecord] = []
    dropped = False
    for run_id, records in by_run.items():
        stored = [] if _continues(state, run_id, records) else _stamps(connection, state, run_id)
        keep, drop = merge_run(stored, records)
        kept += keep
        if drop:
            dropped = True
            connection.execute(
                delete(events).where(
                    events_of(state.tenant, state.id), events.c.run_id == run_id, events.c.seq.in_(drop)
                )
            )
    batch.touched.append(state)
    if not kept and not dropped:
        return
    kept.sort(key=lambda record: (record.seq, record.now_us, record.run_id))
    batch.inserts += [event_row(state.tenant, record) for record in kept]
    if dropped or kept[0].seq <= state.last_seq:
        batch.rebuild.append(state)
        return
    progress = state.progress
    progress.last_seq, progress.last_us, progress.transitions = state.last_seq, state.last_us, state.transitions
    progress.last_run_id, progress.ended = state.last_run_id, state.terminal_seen
    for record in kept:
        progress.apply(record)
    _absorb(state, progress)


def _continues(state: State, run_id: str, records: Sequence[EventRecord]) -> bool:
    """Whether stored rows cannot conflict with these records, so that nobody needs to look at them."""
    if state.last_seq == 0:
        return True
    return run_id == state.last_run_id and all(
        record.seq > state.last_seq and record.now_us >= state.last_us for record in records
    )


def _stamps(connection: Connection, state: State, run_id: str) -> list[Stamp]:
    query = select(events.c.seq, events.c.now_us).where(events_of(state.tenant, state.id), events.c.run_id == run_id)
    return [Stamp(row.seq, row.now_us) for row in connection.execute(query)]


def _absorb(state: State, progress: Progress) -> None:
    state.progress = progress
    state.last_seq, state.last_us, state.last_run_id = progress.last_seq, progress.last_us, progress.last_run_id
    state.transitions = progress.transitions
    state.terminal_seen = progress.ended
    state.updated_us = max(state.updated_us, progress.last_us)
    if not state.settled:
        state.open_waits = len(progress.open_waits)
        state.status = progress.status.value


def write_batch(connection: Connection, batch: Batch) -> None:
    """Write the events, then the rows that follow from them."""
    if batch.inserts:
        connection.execute(_ADD_EVENTS, batch.inserts)
    for state in batch.rebuild:
        _rebuild(connection, state)
    new = [_named_row(state) | _moving_row(state) | _first_row(state) for state in batch.touched if state.is_new]
    if new:
        connection.execute(_ADD_EXECUTIONS, new)
    old = [state for state in batch.touched if not state.is_new]
    unnamed = [state for state in old if not state.named and state.progress.init is not None]
    if unnamed:
        rows = [_named_row(state) | {"b_tenant": state.tenant, "b_id": state.id} for state in unnamed]
        connection.execute(_NAME, rows)
    if old:
        rows = [_moving_row(state) | {"b_tenant": state.tenant, "b_id": state.id} for state in old]
        connection.execute(_MOVE, rows)
    _write_waits(connection, batch.touched)


def _rebuild(connection: Connection, state: State) -> None:
    """Fold the state of an execution anew from all its stored events."""
    progress = Progress()
    for row in connection.execute(select(events).where(events_of(state.tenant, state.id)).order_by(*ROW_ORDER)):
        progress.apply(record_of(row))
    progress.changed = set(progress.waits)
    connection.execute(delete(waits).where(waits.c.tenant == state.tenant, waits.c.execution_id == state.id))
    _absorb(state, progress)
    if state.settled:
        for wait in progress.open_waits:
            wait.closed_seq = progress.last_seq


def _write_waits(connection: Connection, states: Iterable[State]) -> None:
    changed = [
        (state, wait)
        for state in states
        for wait_id, wait in state.progress.waits.items()
        if wait_id in state.progress.changed
    ]
    if not changed:
        return
    keys = [{"b_tenant": state.tenant, "b_execution": state.id, "b_wait": wait.wait_id} for state, wait in changed]
    connection.execute(
        delete(waits).where(
            waits.c.tenant == bindparam("b_tenant"),
            waits.c.execution_id == bindparam("b_execution"),
            waits.c.wait_id == bindparam("b_wait"),
        ),
        keys,
    )
    connection.execute(insert(waits), [_wait_row(state, wait) for state, wait in changed])


# --- rows ----------------------------------------------------------------------------------------------------------


def event_row(tenant: str, record: EventRecord) -> dict[str, Any]:
    """Return the row of an event."""
    return {
        "tenant": tenant,
        "execution_id": record.execution_id,
        "run_id": record.run_id,
        "seq": record.seq,
        "now_us": record.now_us,
        "type": record.type,
        "is_transition": record.type in TRANSITION_TYPES,
        "body": record.body,
    }


def _moving_row(state: State) -> dict[str, Any]:
    return {
        "status": state.status,
        "updated_us": state.updated_us,
        "transition_count": state.transitions,
        "last_seq": state.last_seq,
        "last_run_id": state.last_run_id,
        "last_us": state.last_us,
        "open_waits": state.open_waits,
        "terminal_seen": state.terminal_seen,
    }


def _named_row(state: State) -> dict[str, Any]:
    init = state.progress.init or {}
    version, parent = init.get("version"), init.get("parent") or {}
    return {
        "task_id": str(init.get("task_id") or ""),
        "task_name": str(init.get("task") or ""),
        "task_version": version if isinstance(version, int) else 1,
        "agent_id": str(init.get("agent_id") or ""),
        "input": compact_json(init.get("input")),
        "metadata": compact_json(init.get("metadata") or {}),
        "parent_id": str(parent.get("execution_id") or ""),
        "parent_path": str(parent.get("path") or ""),
    }


def _first_row(state: State) -> dict[str, Any]:
    return {
        "tenant": state.tenant,
        "id": state.id,
        "created_us": state.progress.first_us or state.last_us,
        "interpreter": PLAN_FORMAT,
    }


def _wait_row(state: State, wait: Wait) -> dict[str, Any]:
    return {
        "tenant": state.tenant,
        "execution_id": state.id,
        "wait_id": wait.wait_id,
        "path": wait.path,
        "label": wait.label,
        "info": compact_json(wait.info),
        "schema": compact_json(wait.schema),
        "deadline_us": wait.deadline_us,
        "opened_seq": wait.opened_seq,
        "opened_us": wait.opened_us,
        "closed_seq": wait.closed_seq,
    }
