"""Reads of the projection: executions, events, waits, the digest, and what the repair must look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select

from engine.core.errors import NotFound
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord, roll_digest, roll_time
from engine.core.run.projection import ExecutionFacts, Stamp, Wait
from engine.core.run.usage import UsageSums
from engine.store.attempts import AttemptReader
from engine.store.database import Database
from engine.store.schema import events, executions, waits

ROW_ORDER = (events.c.seq, events.c.now_us, events.c.run_id)
"""Order of an execution's events; the number alone decides unless two runs claim the same one, which repair mends."""

LOOK_BACK = 200
"""How many numbers back a follower looks for events that were replaced."""

ANSWER_EVENTS = (EventType.ANSWER_ACCEPTED.value, EventType.ANSWER_REFUSED.value)
CONTROL_EVENTS = (
    EventType.EXECUTION_PAUSED.value,
    EventType.EXECUTION_CONTINUED.value,
    EventType.BREAKS_CHANGED.value,
    EventType.DEADLINE_CHANGED.value,
    EventType.CONTROL_REFUSED.value,
)


_USED = tuple(item.name for item in fields(UsageSums))


class OpenExecution(NamedTuple):
    """An execution that Temporal has not been asked about for the last time.

    Attributes:
        id: Execution id.
        tenant: Its tenant.
        status: What the store believes.
        last_seq: Highest event number stored.
        last_us: Time of the latest event, Unix microseconds; 0 if there is none.
        created_us: When it was created, Unix microseconds.
        terminal_seen: Whether a terminal event is stored.
    """

    id: str
    tenant: str
    status: ExecutionStatus
    last_seq: int
    last_us: int
    created_us: int
    terminal_seen: bool


def record_of(row: Row[*tuple[Any, ...]]) -> EventRecord:
    """Turn a row of `events` into the record it came from."""
    return EventRecord(row.execution_id, row.run_id, row.seq, row.now_us, row.type, row.body)


def wait_of(row: Row[*tuple[Any, ...]]) -> Wait:
    """Turn a row of `waits` into a wait."""
    return Wait(
        wait_id=row.wait_id,
        path=row.path,
        label=row.label,
        info=json.loads(row.info),
        schema=json.loads(row.schema),
        deadline_us=row.deadline_us,
        opened_seq=row.opened_seq,
        opened_us=row.opened_us,
        closed_seq=row.closed_seq,
        closed_us=row.closed_us,
        outcome=row.outcome,
        actor=row.actor,
        answer=None if row.answer is None else json.loads(row.answer),
    )


def facts_of(row: Row[*tuple[Any, ...]]) -> ExecutionFacts:
    """Turn a row of `executions` into what is known of it."""
    values = row._mapping  # the only documented way to columns whose names are attributes of Row, such as `metadata`
    return ExecutionFacts(
        id=row.id,
        tenant=row.tenant,
        task_id=row.task_id,
        task_name=row.task_name,
        task_version=row.task_version,
        agent_id=row.agent_id,
        status=ExecutionStatus(row.status),
        input=json.loads(row.input),
        output=None if row.output is None else json.loads(row.output),
        error=None if row.error is None else json.loads(row.error),
        metadata=json.loads(values["metadata"]),
        created_us=row.created_us,
        updated_us=row.updated_us,
        closed_us=row.closed_us,
        transition_count=row.transition_count,
        last_seq=row.last_seq,
        terminal_seen=row.terminal_seen,
        settled=row.settled,
        verified=row.verified,
        parent_id=row.parent_id,
        parent_path=row.parent_path,
        forked_from=row.forked_from,
        fork_kind=row.fork_kind,
        fork_path=row.fork_path,
        labels=json.loads(row.labels),
        actor=row.actor,
        trace_id=row.trace_id,
        usage=UsageSums(**{name: values[name] for name in _USED}),
        stuck=None if row.stuck is None else json.loads(row.stuck),
        gone_us=row.gone_us,
    )


def _open_of(row: Row[*tuple[Any, ...]]) -> OpenExecution:
    return OpenExecution(
        row.id, row.tenant, ExecutionStatus(row.status), row.last_seq, row.last_us, row.created_us, row.terminal_seen
    )


_OPEN_COLUMNS = (
    executions.c.id,
    executions.c.tenant,
    executions.c.status,
    executions.c.last_seq,
    executions.c.last_us,
    executions.c.created_us,
    executions.c.terminal_seen,
)


def events_of(tenant: str, execution_id: str) -> ColumnElement[bool]:
    """Return the condition that picks an execution's events."""
    return and_(events.c.tenant == tenant, events.c.execution_id == execution_id)


class ProjectionReader(AttemptReader):
    """What API, CLI and repair ask of the projection.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # A whole read is one function in a thread: a caller that is cancelled in the middle, such as a stream whose reader
    # went away, leaves no connection in the air.

    async def _one(self, query: Select[Any]) -> Row[*tuple[Any, ...]] | None:
        return await self.database.run(lambda connection: connection.execute(query).one_or_none())

    async def _all(self, query: Select[Any]) -> Sequence[Row[*tuple[Any, ...]]]:
        return await self.database.run(lambda connection: connection.execute(query).all())

    async def find_execution(self, execution_id: str, *, tenant: str) -> ExecutionFacts | None:
        """Return an execution, or None if the store does not know it."""
        query = select(executions).where(executions.c.tenant == tenant, executions.c.id == execution_id)
        row = await self._one(query)
        return None if row is None else facts_of(row)

    async def get_execution(self, execution_id: str, *, tenant: str) -> ExecutionFacts:
        """Return an execution.

        Raises:
            NotFound: `execution.not_found`.
        """
        facts = await self.find_execution(execution_id, tenant=tenant)
        if facts is None:
            raise NotFound(
                f"there is no execution {execution_id}", code="execution.not_found", hint="list them with `everstep ls`"
            )
        return facts

    async def tenant_of(self, execution_id: str) -> str | None:
        """Return the tenant of an execution, or None if the store does not know it."""
        query = select(executions.c.tenant).where(executions.c.id == execution_id)
        return await self.database.run(lambda connection: connection.execute(query).scalar_one_or_none())

    async def list_events(
        self,
        execution_id: str,
        *,
        tenant: str,
        after_seq: int = 0,
        limit: int = 1_000,
        offset: int = 0,
        transitions_only: bool = False,
        descending: bool = False,
    ) -> list[EventRecord]:
        """Return one page of an execution's events in order of their numbers.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            after_seq: Only events with a higher number.
            limit: Most to return.
            offset: How many to leave out first.
            transitions_only: Only events that callers see as transitions.
            descending: Latest first.
        """
        query = select(events).where(events_of(tenant, execution_id), events.c.seq > after_seq)
        if transitions_only:
            query = query.where(events.c.is_transition)
        order = [key.desc() for key in ROW_ORDER] if descending else ROW_ORDER
        return [record_of(row) for row in await self._all(query.order_by(*order).limit(limit).offset(offset))]

    async def events_since(
        self, execution_id: str, seen: Stamp, *, tenant: str, limit: int = 1_000
    ) -> list[EventRecord]:
        """Return what a follower has not seen: events with higher numbers, and those that replaced ones it has seen.

        Args:
            execution_id: The execution.
            seen: Number and time of the last event that the follower saw.
            tenant: Its tenant.
            limit: Most to return.

        Returns:
            Events in order of their numbers; one with a number up to `seen.seq` stands in place of an earlier version.
        """
        # whatever replaced a seen event has a later time than all of them (the drop rule), and one workflow task
        # emits few events, so there is no need to look far back
        replaced = (events.c.seq > seen.seq - LOOK_BACK) & (events.c.now_us > seen.now_us)
        query = select(events).where(events_of(tenant, execution_id), (events.c.seq > seen.seq) | replaced)
        return [record_of(row) for row in await self._all(query.order_by(*ROW_ORDER).limit(limit))]

    async def find_event(self, execution_id: str, seq: int, *, tenant: str) -> EventRecord | None:
        """Return the event with a number, or None."""
        query = select(events).where(events_of(tenant, execution_id), events.c.seq == seq).order_by(*ROW_ORDER).limit(1)
        row = await self._one(query)
        return None if row is None else record_of(row)

    async def terminal_event(self, execution_id: str, *, tenant: str) -> EventRecord | None:
        """Return the last finish, error or cancelled event, or None."""
        kinds = [EventType.FINISH.value, EventType.ERROR.value, EventType.CANCELLED.value]
        query = select(events).where(events_of(tenant, execution_id), events.c.type.in_(kinds))
        row = await self._one(query.order_by(events.c.seq.desc()).limit(1))
        return None if row is None else record_of(row)

    async def answer_events(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> list[EventRecord]:
        """Return what became of the answers given to an execution, in order."""
        query = select(events).where(
            events_of(tenant, execution_id), events.c.seq > after_seq, events.c.type.in_(ANSWER_EVENTS)
        )
        return [record_of(row) for row in await self._all(query.order_by(*ROW_ORDER))]

    async def control_events(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> list[EventRecord]:
        """Return what became of the wishes of operators, in order."""
        query = select(events).where(
            events_of(tenant, execution_id), events.c.seq > after_seq, events.c.type.in_(CONTROL_EVENTS)
        )
        return [record_of(row) for row in await self._all(query.order_by(*ROW_ORDER))]

    async def message_events(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> list[EventRecord]:
        """Return what became of the messages sent to an execution, in order."""
        query = select(events).where(
            events_of(tenant, execution_id),
            events.c.seq > after_seq,
            events.c.type == EventType.MESSAGE_TAKEN.value,
        )
        return [record_of(row) for row in await self._all(query.order_by(*ROW_ORDER))]

    async def open_waits(self, execution_ids: Sequence[str], *, tenant: str) -> dict[str, list[Wait]]:
        """Return the open waits of executions, the oldest first; executions without any are left out."""
        if not execution_ids:
            return {}
        query = (
            select(waits)
            .where(waits.c.tenant == tenant, waits.c.execution_id.in_(execution_ids), waits.c.closed_seq.is_(None))
            .order_by(waits.c.opened_seq)
        )
        found: dict[str, list[Wait]] = {}
        for row in await self._all(query):
            found.setdefault(row.execution_id, []).append(wait_of(row))
        return found

    async def find_wait(self, execution_id: str, wait_id: str, *, tenant: str) -> Wait | None:
        """Return a wait, open or closed, or None."""
        query = select(waits).where(
            waits.c.tenant == tenant, waits.c.execution_id == execution_id, waits.c.wait_id == wait_id
        )
        row = await self._one(query)
        return None if row is None else wait_of(row)

    async def digest(self, execution_id: str) -> tuple[int, str, int]:
        """Return the number of an execution's stored events and the rolling hashes over them, and over their times."""
        mine = (executions.c.tenant == events.c.tenant) & (executions.c.id == events.c.execution_id)
        columns = select(events.c.seq, events.c.now_us, events.c.type, events.c.body).join(executions, mine)
        query = columns.where(executions.c.id == execution_id).order_by(*ROW_ORDER)

        def roll(connection: Connection) -> tuple[int, str, int]:
            count, digest, times = 0, "", 0
            for row in connection.execute(query):
                count += 1
                digest = roll_digest(digest, row.seq, row.type, row.body)
                times = roll_time(times, row.now_us)
            return count, digest, times

        return await self.database.run(roll)

    async def run_ids(self, execution_id: str, *, tenant: str) -> list[str]:
        """Return the run ids that have events, in the order of the chain."""
        query = select(events.c.run_id).where(events_of(tenant, execution_id)).group_by(events.c.run_id)
        return [row.run_id for row in await self._all(query.order_by(func.min(events.c.seq)))]

    async def unsettled(self, limit: int = 100) -> list[OpenExecution]:
        """Return executions that have a terminal event but not yet Temporal's word, the oldest first."""
        query = select(*_OPEN_COLUMNS).where(executions.c.settled.is_(False), executions.c.terminal_seen.is_(True))
        return [
            _open_of(row) for row in await self._all(query.order_by(executions.c.last_us, executions.c.id).limit(limit))
        ]

    async def unverified(self, limit: int = 100, *, newest: bool = False) -> list[OpenExecution]:
        """Return ended executions whose stored events were not found equal to the workflow's yet.

        Args:
            limit: Most to return.
            newest: Whether those that spoke last come first; otherwise the oldest do.
        """
        # what Temporal no longer has cannot be compared any more
        query = select(*_OPEN_COLUMNS).where(
            executions.c.settled.is_(True), executions.c.verified.is_not(True), executions.c.gone_us.is_(None)
        )
        columns = (executions.c.last_us, executions.c.id)
        order = [column.desc() for column in columns] if newest else columns
        return [_open_of(row) for row in await self._all(query.order_by(*order).limit(limit))]

    async def open_executions(self, *, after_id: str = "", limit: int = 500) -> list[OpenExecution]:
        """Return one page of executions that are not settled, of all tenants, in order of their ids.

        Args:
            after_id: Last id of the page before; empty for the first page.
            limit: Most to return.
        """
        query = select(*_OPEN_COLUMNS).where(executions.c.settled.is_(False), executions.c.id > after_id)
        return [_open_of(row) for row in await self._all(query.order_by(executions.c.id).limit(limit))]
