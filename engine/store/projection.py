"""Writes of the projection: events as they arrive, their replacement by a repair, and the final word of Temporal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, update

from engine.core.kinds import ExecutionStatus
from engine.core.plan.ir import PLAN_FORMAT
from engine.core.run.events import EventRecord
from engine.core.run.projection import TERMINAL_EVENTS, merge_run
from engine.core.values import Json, compact_json
from engine.store.batches import Batch, State, event_row, load_states, new_state, take, write_batch
from engine.store.ends import ExecutionEnd, stored_events, write_ends
from engine.store.reading import ProjectionReader, events_of
from engine.store.schema import events, executions

FIRST_REAL_US = 86_400_000_000
"""Events of an evicted run carry a time near 1970-01-01 and never happened."""


class ProjectionStore(ProjectionReader):
    """The projection: everything that is derived from events, and the settled facts of ended executions."""

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

        def replace(connection: Connection) -> None:
            states = load_states(connection, [execution_id])
            state = states.get(execution_id) or State(
                execution_id, tenant, is_new=True, named=False, status=ExecutionStatus.QUEUED.value, settled=False
            )
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

        await self.database.run(replace, write=True)

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
        return await self.database.run(lambda connection: write_ends(connection, ends, stored), write=True)

    async def mark_verified(self, execution_id: str, *, tenant: str, verified: bool) -> None:
        """Say whether the stored events equal the workflow's; False marks rows that could not be replayed."""
        async with self.database.write() as connection:
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
        created_us: int,
        parent_id: str = "",
        parent_path: str = "",
    ) -> None:
        """Make sure that an execution just started can be read; a row that its events made already gets what they lack.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            task_id: Its task.
            task_name: Name of the task.
            task_version: Version of the task.
            agent_id: Its agent, may be empty.
            input: The input.
            metadata: The caller's metadata.
            created_us: When it was started, Unix microseconds.
            parent_id: The execution that started it, may be empty.
            parent_path: Path of the step that did.
        """
        named: dict[str, Any] = {
            "task_id": task_id,
            "task_name": task_name,
            "task_version": task_version,
            "agent_id": agent_id,
            "input": compact_json(input),
            "metadata": compact_json(dict(metadata or {})),
            "parent_id": parent_id,
            "parent_path": parent_path,
        }
        mine = (executions.c.tenant == tenant) & (executions.c.id == execution_id)
        async with self.database.write() as connection:
            found = (await connection.execute(update(executions).where(mine).values(named))).rowcount
            if not found:
                await connection.execute(
                    insert(executions).values(
                        **named,
                        tenant=tenant,
                        id=execution_id,
                        status=ExecutionStatus.QUEUED.value,
                        created_us=created_us,
                        updated_us=created_us,
                        interpreter=PLAN_FORMAT,
                    )
                )


def _append(
    connection: Connection, by_execution: Mapping[str, Sequence[EventRecord]], tenant_of: Mapping[str, str]
) -> list[str]:
    unknown_ended: list[str] = []
    states = load_states(connection, list(by_execution))
    batch = Batch()
    for execution_id, arrived in by_execution.items():
        state = states.get(execution_id) or new_state(execution_id, arrived, tenant_of)
        if state is None:
            if any(record.type in TERMINAL_EVENTS for record in arrived):
                unknown_ended.append(execution_id)
            continue
        take(connection, state, arrived, batch)
    write_batch(connection, batch)
    return [state.id for state in batch.touched if state.terminal_seen and not state.settled] + unknown_ended
