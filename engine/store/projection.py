"""Writes of the projection: events as they arrive, their replacement by a repair, and the final word of Temporal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, delete, insert, select, update

from engine.core.contracts.patches import INTERPRETER
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.projection import TERMINAL_EVENTS, merge_run
from engine.core.values import Json
from engine.store.batches import Batch, State, load_states, new_state, own_events, take, write_batch
from engine.store.ends import ExecutionEnd, stored_events, write_ends
from engine.store.locks import lock_executions
from engine.store.purging import buried
from engine.store.reading import ProjectionReader, events_of
from engine.store.rows import Named, event_row
from engine.store.schema import events, executions
from engine.store.tags import add_tags, date_tags, named_tags

FIRST_REAL_US = 86_400_000_000
"""Events of an evicted run carry a time near 1970-01-01 and never happened."""

log = structlog.get_logger(__name__)


class ProjectionStore(ProjectionReader):
    """The projection: everything that is derived from events, and the settled facts of ended executions.

    Attributes:
        on_closed: Told of the ends that this process stored, and by execution what `write_ends` says of `news`.
    """

    on_closed: Callable[[Sequence[ExecutionEnd], Mapping[str, bool]], None] | None = None

    # --- live path -------------------------------------------------------------------------------------------------

    async def append_events(
        self, records: Sequence[EventRecord], *, tenant_of: Mapping[str, str] | None = None
    ) -> list[str]:
        """Store a batch of events in one transaction; repeated, superseded and late ones do no harm.

        The status written is a hint (starting, running, awaiting_input); terminal ones come by `settle`. Events
        of an execution whose tenant is unknown (no row, no `init` in the batch, not in `tenant_of`) are not stored: the
        repair finds them in the history.

        Args:
            records: Events of any executions and runs.
            tenant_of: Tenants by execution id, for executions that may have no row yet.

        Returns:
            Ids of executions in the batch that have a terminal event and are not settled.
        """
        by_execution: dict[str, list[EventRecord]] = {}
        for record in records:
            if record.now_us >= FIRST_REAL_US:
                by_execution.setdefault(record.execution_id, []).append(record)
        if not by_execution:
            return []
        return await self.database.run(
            lambda connection: _append(connection, by_execution, tenant_of or {}), write=True
        )

    # --- repair path -----------------------------------------------------------------------------------------------

    async def replace_runs(
        self,
        execution_id: str,
        runs: Mapping[str, Sequence[EventRecord]],
        *,
        tenant: str,
        until_us: Mapping[str, int] | None = None,
    ) -> None:
        """Replace the events of some runs by those that a replay of their histories gave.

        Args:
            execution_id: The execution.
            runs: Events by run id; a run with no events loses its rows.
            tenant: Tenant, if the execution has no row yet.
            until_us: By run id, the time up to which the history was read; later rows are newer and stay.
        """
        await self.database.run(
            lambda connection: replace_events(connection, execution_id, runs, tenant=tenant, until_us=until_us),
            write=True,
        )

    async def settle(self, ends: Sequence[ExecutionEnd]) -> dict[str, bool | None]:
        """Write how executions ended, as Temporal tells it; afterwards only `verified` may change.

        Args:
            ends: At most `ends.MOST_AT_ONCE`.

        Returns:
            By execution whether its stored events are those of the workflow (None = the workflow did not say);
            executions that the store does not know are left out, and nothing is written for them.
        """
        ids = [end.execution_id for end in ends]
        # outside the write transaction: a long execution takes a while
        stored = await self.database.run(lambda connection: stored_events(connection, ids))
        news: dict[str, bool] = {}
        matches = await self.database.run(lambda connection: write_ends(connection, ends, stored, news), write=True)
        if news and self.on_closed is not None:
            self.on_closed(ends, news)
        return matches

    async def mark_verified(self, execution_id: str, *, tenant: str, verified: bool) -> None:
        """Say whether the stored events equal the workflow's; False marks rows that could not be replayed."""
        async with self.database.write() as connection:
            await connection.run_sync(lock_executions, [execution_id])
            await connection.execute(
                update(executions)
                .where(executions.c.tenant == tenant, executions.c.id == execution_id)
                .values(verified=verified)
            )

    async def ensure_execution(
        self,
        execution_id: str,
        *,
        tenant: str,
        task_id: str,
        task_name: str,
        task_version: int = 1,
        agent_id: str = "",
        input: Json = None,
        metadata: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        actor: str = "",
        trace: str = "",
        created_us: int,
        parent_id: str = "",
        parent_path: str = "",
        forked_from: str = "",
        fork_kind: str = "",
        fork_path: str = "",
    ) -> None:
        """Make sure that an execution just started can be read; what its events have told of it already stays.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            task_id: Its task.
            task_name: Name of the task.
            task_version: Version of the task.
            agent_id: Its agent, may be empty.
            input: The input.
            metadata: The caller's metadata.
            labels: Words by which to find it.
            actor: Who started it, may be empty.
            trace: W3C traceparent of what started it, may be empty.
            created_us: When it was started, Unix microseconds.
            parent_id: The execution that started it, may be empty.
            parent_path: Path of the step that did.
            forked_from: The execution whose recorded steps it begins with, may be empty.
            fork_kind: `retry` or `fork`, if it does.
            fork_path: Path of its first step, if it does.
        """
        named = Named(
            task_id=task_id,
            task_name=task_name,
            task_version=task_version,
            agent_id=agent_id,
            input=input,
            metadata=metadata or {},
            labels=tuple(labels),
            actor=actor,
            trace=trace,
            parent_id=parent_id,
            parent_path=parent_path,
            forked_from=forked_from,
            fork_kind=fork_kind,
            fork_path=fork_path,
            created_us=created_us,
        )
        await self.ensure_executions([(execution_id, tenant, named)])

    async def ensure_executions(self, named: Sequence[tuple[str, str, Named]]) -> None:
        """Do what `ensure_execution` does for many, in one transaction.

        Args:
            named: Of each its id, its tenant and what is known of it.
        """

        def ensure(connection: Connection) -> None:
            lock_executions(connection, [execution_id for execution_id, _, _ in named])
            for execution_id, tenant, known in named:
                ensure_named(connection, execution_id, tenant, known)

        await self.database.run(ensure, write=True)


def ensure_named(connection: Connection, execution_id: str, tenant: str, named: Named) -> None:
    """Do what `ProjectionStore.ensure_execution` does, in a transaction of the caller's that has locked it."""
    mine = (executions.c.tenant == tenant) & (executions.c.id == execution_id)
    # an id stands for one execution, so whoever else has it keeps it
    known = select(executions.c.tenant, executions.c.task_name, executions.c.updated_us)
    row = connection.execute(known.where(executions.c.id == execution_id)).one_or_none()
    if row is not None and row.tenant != tenant:
        log.error("the id of an execution is another tenant's in the store", execution=execution_id)
        return
    if row is not None and row.task_name:
        return
    if row is None:
        if buried(connection, [execution_id]):
            return
        first = {"tenant": tenant, "id": execution_id, "interpreter": INTERPRETER}
        hint = {"status": ExecutionStatus.QUEUED.value, "updated_us": named.created_us}
        connection.execute(insert(executions).values(**named.row(), **first, **hint))
    else:
        # an event came before its `init`, which says the same when it comes
        moved = {"updated_us": max(row.updated_us, named.created_us)}
        connection.execute(update(executions).where(mine).values(**named.row(), **moved))
        date_tags(connection, tenant, execution_id, named.created_us)
    add_tags(connection, named_tags(tenant, execution_id, named))


def replace_events(
    connection: Connection,
    execution_id: str,
    runs: Mapping[str, Sequence[EventRecord]],
    *,
    tenant: str,
    until_us: Mapping[str, int] | None = None,
) -> None:
    """Do what `ProjectionStore.replace_runs` does, in a transaction of the caller's."""
    states = load_states(connection, [execution_id])
    if not states and buried(connection, [execution_id]):
        return
    state = states.get(execution_id) or State(
        execution_id, tenant, is_new=True, named=False, status=ExecutionStatus.QUEUED.value, settled=False
    )
    if any(len(own_events(state, arrived)) < len(arrived) for arrived in runs.values()):
        return
    for run_id, arrived in runs.items():
        old = delete(events).where(events_of(state.tenant, execution_id), events.c.run_id == run_id)
        if until_us is not None and run_id in until_us:
            highest = max((record.seq for record in arrived), default=0)
            old = old.where((events.c.now_us <= until_us[run_id]) | (events.c.seq <= highest))
        connection.execute(old)
    batch = Batch(touched=[state], rebuild=[state])
    for arrived in runs.values():
        kept, _ = merge_run([], arrived)
        batch.inserts += [event_row(state.tenant, record) for record in kept]
    write_batch(connection, batch)


def _append(
    connection: Connection, by_execution: Mapping[str, Sequence[EventRecord]], tenant_of: Mapping[str, str]
) -> list[str]:
    unknown_ended: list[str] = []
    states = load_states(connection, list(by_execution))
    over = buried(connection, [execution_id for execution_id in by_execution if execution_id not in states])
    batch = Batch()
    for execution_id, arrived in by_execution.items():
        if execution_id in over:
            continue
        state = states.get(execution_id) or new_state(execution_id, arrived, tenant_of)
        if state is None:
            if any(record.type in TERMINAL_EVENTS for record in arrived):
                unknown_ended.append(execution_id)
            continue
        own = own_events(state, arrived)
        if own:
            take(connection, state, own, batch)
    write_batch(connection, batch)
    return [state.id for state in batch.touched if state.terminal_seen and not state.settled] + unknown_ended
