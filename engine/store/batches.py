"""One batch of events on its way into the tables: what is stored already, what is kept, what the rows become."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import structlog
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from engine.core.contracts.patches import INTERPRETER
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord, body_of
from engine.core.run.progress import Progress
from engine.core.run.projection import Stamp, merge_run
from engine.core.run.usage import UsageSums
from engine.core.values import compact_json
from engine.store.attempts import AttemptsOf, write_attempts
from engine.store.bulk import Bulk, ById, replacing
from engine.store.ends import cancel_error
from engine.store.locks import lock_executions
from engine.store.outbox import note_events
from engine.store.reading import ROW_ORDER, events_of, record_of, wait_of
from engine.store.rows import ENDED_OVER, NAMED_COLUMNS, Named, event_row, named_of, wait_row
from engine.store.schema import attempts, events, executions, waits
from engine.store.tags import add_tags, drop_tags, named_tags, served_tags

IN_CHUNK = 500
"""Most values in one IN list; SQLite's builds differ in how many parameters they take."""

log = structlog.get_logger(__name__)

_TURN = ("status", "open_waits", "terminal_seen")
_MOVED = ("updated_us", "transition_count", "last_seq", "last_run_id", "last_us")
_MOVING = (*_MOVED, "interpreter")
_USED = tuple(item.name for item in fields(UsageSums))


def _update_of(*columns: str) -> Bulk:
    return Bulk(
        update(executions)
        .where(executions.c.tenant == bindparam("b_tenant"), executions.c.id == bindparam("b_id"))
        .values({name: bindparam(name) for name in columns})
    )


# built once: with few events in a batch, putting statements together takes longer than running them
_STATES = ById(
    select(
        *(
            executions.c[name]
            for name in ("id", "tenant", "task_name", "settled", "created_us", "closed_us", *_TURN, *_MOVED, *_USED)
        ),
    ),
    executions.c.id,
)
_OPEN_WAITS = select(waits).where(
    waits.c.tenant.in_(bindparam("tenants", expanding=True)),
    waits.c.execution_id.in_(bindparam("ids", expanding=True)),
    waits.c.closed_seq.is_(None) | (waits.c.closed_seq == ENDED_OVER),
)
_NAME = _update_of(*NAMED_COLUMNS)
_DATE = _update_of("created_us")
# by whether the turn changes, and whether the sums do: they stand in indexes of their own, for which only those events
# pay that change them
_MOVE = {
    (False, False): _update_of(*_MOVING),
    (True, False): _update_of(*_MOVING, *_TURN),
    (False, True): _update_of(*_MOVING, *_USED),
    (True, True): _update_of(*_MOVING, *_TURN, *_USED),
}
_CANCELLED = _update_of("error")
_ADD_EVENTS = Bulk(insert(events))
_ADD_EXECUTIONS = Bulk(insert(executions))
_PUT_WAITS = replacing(waits)
_FRESH = {item.name: getattr(item.default, "arg", None) for item in executions.c}
"""A row of `executions` of which nothing is known."""


@dataclass(slots=True)
class State:
    """The mutable part of an `executions` row while a batch is applied.

    `stored_turn` is what `turn` is in the row; `init` is an event and its body, which need not be read twice; `name` is
    what names the execution, if its `init` was seen.
    """

    id: str
    tenant: str
    is_new: bool
    named: bool
    status: str
    settled: bool
    created_us: int = 0
    closed_us: int | None = None
    last_seq: int = 0
    last_us: int = 0
    last_run_id: str = ""
    updated_us: int = 0
    transitions: int = 0
    open_waits: int = 0
    terminal_seen: bool = False
    stored_turn: tuple[str, int, bool] | None = None
    init: tuple[EventRecord, dict[str, Any]] | None = None
    name: Named | None = None
    kept: Sequence[EventRecord] = ()
    progress: Progress = field(default_factory=Progress)

    @property
    def turn(self) -> tuple[str, int, bool]:
        """What lists ask for and few events change."""
        return self.status, self.open_waits, self.terminal_seen

    @property
    def ended_us(self) -> int | None:
        """When it ended, as Temporal told; None = it has not."""
        return self.closed_us if self.settled else None


@dataclass(slots=True)
class Batch:
    """What one call will write."""

    inserts: list[dict[str, Any]] = field(default_factory=list)
    touched: list[State] = field(default_factory=list)
    rebuild: list[State] = field(default_factory=list)


# --- what is stored ------------------------------------------------------------------------------------------------


def load_states(connection: Connection, ids: Sequence[str]) -> dict[str, State]:
    """Read the rows of executions for writing, with their open waits; unknown ids are left out."""
    lock_executions(connection, ids)
    states = {row[0]: _state_of(*row) for row in _STATES.read(connection, ids)}
    _load_waits(connection, [state for state in states.values() if state.open_waits or state.settled], states)
    return states


def _state_of(
    # in the order of _STATES
    execution_id: str,
    tenant: str,
    task_name: str,
    settled: bool,
    created_us: int,
    closed_us: int | None,
    status: str,
    open_waits: int,
    terminal_seen: bool,
    updated_us: int,
    transitions: int,
    last_seq: int,
    last_run_id: str,
    last_us: int,
    *used: Any,
) -> State:
    return State(
        execution_id,
        tenant,
        is_new=False,
        named=bool(task_name),
        status=status,
        settled=settled,
        created_us=created_us,
        closed_us=closed_us,
        last_seq=last_seq,
        last_us=last_us,
        last_run_id=last_run_id,
        updated_us=updated_us,
        transitions=transitions,
        open_waits=open_waits,
        terminal_seen=terminal_seen,
        stored_turn=(status, open_waits, terminal_seen),
        progress=Progress(usage=UsageSums(*used)),
    )


def _load_waits(connection: Connection, waiting: Sequence[State], states: Mapping[str, State]) -> None:
    for start in range(0, len(waiting), IN_CHUNK):
        chunk = waiting[start : start + IN_CHUNK]
        wanted = {"tenants": sorted({state.tenant for state in chunk}), "ids": [state.id for state in chunk]}
        for row in connection.execute(_OPEN_WAITS, wanted):
            wait = wait_of(row)
            # as the events alone told it: `wait_row` closes it again if the execution has ended
            wait.closed_seq, wait.closed_us, wait.outcome = None, None, ""
            states[row.execution_id].progress.waits[row.wait_id] = wait


def new_state(execution_id: str, arrived: Iterable[EventRecord], tenant_of: Mapping[str, str]) -> State | None:
    """Begin an execution that has no row yet; None if nothing says whose it is."""
    tenant, init = tenant_of.get(execution_id, ""), None
    for record in arrived:
        if record.type == EventType.INIT:
            init = (record, body_of(record))
            tenant = str(init[1].get("tenant") or tenant)
    if not tenant:
        return None
    queued = ExecutionStatus.QUEUED.value
    return State(execution_id, tenant, is_new=True, named=False, status=queued, settled=False, init=init)


# --- what is kept --------------------------------------------------------------------------------------------------


def own_events(state: State, arrived: Sequence[EventRecord]) -> Sequence[EventRecord]:
    """Leave out events of runs of another tenant: one whose execution took an id that Temporal had forgotten."""
    foreign = {record.run_id for record in arrived if _tenant_in(record) not in ("", state.tenant)}
    if not foreign:
        return arrived
    log.error("events of another tenant's execution are dropped", execution=state.id, runs=sorted(foreign))
    return [record for record in arrived if record.run_id not in foreign]


def _tenant_in(record: EventRecord) -> str:
    if record.tenant or record.type != EventType.INIT:
        return record.tenant
    return str(body_of(record).get("tenant") or "")


def take(connection: Connection, state: State, arrived: Sequence[EventRecord], batch: Batch) -> None:
    """Merge an execution's new events: in order they extend its state, otherwise the state is rebuilt from the rows."""
    batch.touched.append(state)
    if _is_next(state, arrived):
        batch.inserts += [event_row(state.tenant, record) for record in arrived]
        state.kept = arrived
        return
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
    if not kept and not dropped:
        return
    kept.sort(key=lambda record: (record.seq, record.now_us, record.run_id))
    batch.inserts += [event_row(state.tenant, record) for record in kept]
    if dropped or kept[0].seq <= state.last_seq:
        batch.rebuild.append(state)
    else:
        state.kept = kept


def _is_next(state: State, arrived: Sequence[EventRecord]) -> bool:
    """Whether these records are what nearly all are: those that follow the stored ones, in order, of the same run."""
    run_id, seq, us = state.last_run_id, state.last_seq, state.last_us
    if seq == 0:
        run_id, us = arrived[0].run_id, 0
    for record in arrived:
        if record.seq <= seq or record.now_us < us or record.run_id != run_id:
            return False
        seq, us = record.seq, record.now_us
    return True


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


# --- what the events say -------------------------------------------------------------------------------------------


def _extend(state: State) -> None:
    """Fold new events onto what is stored."""
    progress = state.progress
    progress.last_seq, progress.last_us, progress.transitions = state.last_seq, state.last_us, state.transitions
    progress.last_run_id, progress.ended = state.last_run_id, state.terminal_seen
    progress.paused = state.status == ExecutionStatus.PAUSED.value
    init, body = state.init or (None, None)
    for record in state.kept:
        progress.apply(record, body if record is init else None)
    _absorb(state, whole=state.is_new)


def _rebuild(connection: Connection, state: State) -> None:
    """Fold the state of an execution anew from all its stored events; rows that follow from others go."""
    progress = state.progress = Progress()
    for row in connection.execute(select(events).where(events_of(state.tenant, state.id)).order_by(*ROW_ORDER)):
        progress.apply(record_of(row))
    for table in (waits, attempts):
        connection.execute(delete(table).where(table.c.tenant == state.tenant, table.c.execution_id == state.id))
    state.updated_us = 0
    _absorb(state, whole=True)


def _absorb(state: State, *, whole: bool) -> None:
    """Take over what the fold found; `whole` = it ran over all events of the execution."""
    progress = state.progress
    state.last_seq, state.last_us, state.last_run_id = progress.last_seq, progress.last_us, progress.last_run_id
    state.transitions = progress.transitions
    state.terminal_seen = progress.ended
    if progress.init is not None or (whole and not state.named):
        state.created_us = progress.created_us or state.created_us
    state.name = None if progress.init is None else named_of(progress.init, state.created_us)
    state.updated_us = max(state.updated_us, progress.last_us, state.created_us, state.ended_us or 0)
    if not state.settled:
        state.open_waits = len(progress.open_waits)
        state.status = progress.status.value


# --- what is written -----------------------------------------------------------------------------------------------


def write_batch(connection: Connection, batch: Batch) -> None:
    """Write the events, then the rows that follow from them."""
    if batch.inserts:
        _ADD_EVENTS.run(connection, batch.inserts)
    for state in batch.touched:
        if state.kept:
            _extend(state)
    for state in batch.rebuild:
        _rebuild(connection, state)
    rebuilt = {state.id for state in batch.rebuild}
    moved = [state for state in batch.touched if state.kept or state.id in rebuilt]
    _write_executions(connection, moved, rebuilt)
    _write_tags(connection, moved, rebuilt)
    _PUT_WAITS.run(
        connection,
        [
            wait_row(state.tenant, state.id, wait, state.ended_us)
            for state in moved
            for wait_id, wait in state.progress.waits.items()
            if wait_id in state.progress.changed
        ],
    )
    write_attempts(
        connection,
        (
            AttemptsOf(state.tenant, state.id, state.progress, state.is_new or state.id in rebuilt, state.ended_us)
            for state in moved
            if state.progress.attempts
        ),
    )
    # last, since what webhooks are told of depends on the rows
    note_events(connection, batch.inserts)


def _write_executions(connection: Connection, moved: Sequence[State], rebuilt: Collection[str]) -> None:
    _ADD_EXECUTIONS.run(connection, [_first_row(state) for state in moved if state.is_new])
    changes: dict[Bulk, list[dict[str, Any]]] = {}
    for state in moved:
        if state.is_new:
            continue
        key = {"b_tenant": state.tenant, "b_id": state.id}
        summed = state.id in rebuilt or bool(state.progress.attempts)
        move = _MOVE[state.turn != state.stored_turn, summed]
        changes.setdefault(move, []).append(_moving_row(state) | (_sum_row(state) if summed else {}) | key)
        name = state.name
        if name is not None:
            changes.setdefault(_NAME, []).append(name.row() | key)
        elif state.id in rebuilt and not state.named:
            changes.setdefault(_DATE, []).append({"created_us": state.created_us} | key)
        is_cancelled = state.settled and state.status == ExecutionStatus.CANCELLED.value
        if is_cancelled and (state.id in rebuilt or state.progress.cancelled is not None):
            # Temporal knows only that it was cancelled; the reason stands in an event, which may come late
            reason = compact_json(cancel_error(state.progress.cancelled or {}))
            changes.setdefault(_CANCELLED, []).append({"error": reason} | key)
    for statement, rows in changes.items():
        statement.run(connection, rows)


def _write_tags(connection: Connection, moved: Sequence[State], rebuilt: Collection[str]) -> None:
    named = [state for state in moved if state.progress.init is not None]
    # without an `init` event, labels and metadata are those that whoever started the execution told
    nameless = [state for state in moved if state.id in rebuilt and state.progress.init is None]
    drop_tags(connection, [(state.tenant, state.id) for state in named if not state.is_new])
    drop_tags(connection, [(state.tenant, state.id) for state in nameless if not state.is_new], only_served=True)
    rows: list[dict[str, Any]] = []
    for state in moved:
        name = state.name
        if name is not None:
            rows += named_tags(state.tenant, state.id, name)
        rows += served_tags(state.tenant, state.id, state.progress.served, state.created_us)
    add_tags(connection, rows)


# --- rows ----------------------------------------------------------------------------------------------------------


def _moving_row(state: State) -> dict[str, Any]:
    return {
        "updated_us": state.updated_us,
        "transition_count": state.transitions,
        "last_seq": state.last_seq,
        "last_run_id": state.last_run_id,
        "last_us": state.last_us,
        # whoever writes events has made them: a worker, or a replay of this version
        "interpreter": INTERPRETER,
        "status": state.status,
        "open_waits": state.open_waits,
        "terminal_seen": state.terminal_seen,
    }


def _sum_row(state: State) -> dict[str, Any]:
    return {name: getattr(state.progress.usage, name) for name in _USED}


def _first_row(state: State) -> dict[str, Any]:
    name = state.name or Named(task_id="", task_name="", created_us=state.created_us)
    first = {"tenant": state.tenant, "id": state.id}
    return _FRESH | name.row() | _moving_row(state) | _sum_row(state) | first
