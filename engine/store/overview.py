"""What goes on now, for an overview that is asked for every second: what is open, and what the last hour brought."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, case, func, select, tuple_

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.usage import UsageSums
from engine.store.database import Database
from engine.store.reading import record_of
from engine.store.schema import attempts, events, executions
from engine.store.usage import SUMS, sums_of

MINUTE_S, HOUR_S = 60.0, 3_600.0
LONGEST_CALL_S = 600.0
"""Calls are found by their beginning; one that took longer than this is counted in no minute, but in the execution."""
SHORT_CHARS = 20_000
"""Longest event that is read to tell what it says."""
REMEMBERED_S = 10.0
"""How long the sums of the last hour are good enough."""
MOST_REMEMBERED = 1_000
"""Tenants whose sums of the last hour are remembered."""
OPEN = (
    ExecutionStatus.RUNNING.value,
    ExecutionStatus.STARTING.value,
    ExecutionStatus.QUEUED.value,
    ExecutionStatus.AWAITING_INPUT.value,
    ExecutionStatus.PAUSED.value,
)


class While(NamedTuple):
    """What a span of time has brought.

    Attributes:
        started: Executions that were created.
        ended: Executions that ended, by status.
        usage: What calls that ended have used.
    """

    started: int
    ended: dict[str, int]
    usage: UsageSums


class OpenOne(NamedTuple):
    """An execution that has not ended, and the last thing that happened in it.

    Attributes:
        id: Its id.
        task_name: Its task.
        status: How it stands.
        created_us: When it was created.
        updated_us: When something last happened.
        total_tokens: What its calls used so far.
        cost_nano: What they cost, in thousand-millionths of a dollar; None = not known.
        stuck: Why it does not go on although it should, as JSON text; None = nothing is wrong.
        last: Its last event, `{}` as body if that is long; None = there is none.
    """

    id: str
    task_name: str
    status: str
    created_us: int
    updated_us: int
    total_tokens: int
    cost_nano: int | None
    stuck: str | None
    last: EventRecord | None


class OverviewReader:
    """Reads overviews.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hours: OrderedDict[str, tuple[float, While]] = OrderedDict()

    async def open_ones(self, *, tenant: str, limit: int) -> list[OpenOne]:
        """Return executions that have not ended: the stuck ones first, then those where something happened last."""
        # no whole rows and events, which may hold megabytes
        query = (
            select(*(executions.c[name] for name in OpenOne._fields[:-1]), executions.c.last_seq)
            .where(executions.c.tenant == tenant, executions.c.status.in_(OPEN))
            .order_by(executions.c.updated_us.desc(), executions.c.id)
            .limit(limit)
        )
        held = query.where(executions.c.stuck.is_not(None))

        def read(connection: Connection) -> list[OpenOne]:
            rows = {row.id: row for part in (held, query) for row in connection.execute(part)}
            shown = list(rows.values())[:limit]
            last = _last_events(connection, tenant, {row.id: row.last_seq for row in shown})
            return [OpenOne._make((*row[:-1], last.get(row.id))) for row in shown]

        return await self._database.run(read)

    async def minute(self, *, tenant: str) -> While:
        """Return what the last minute has brought."""
        return await self._since(MINUTE_S, tenant)

    async def hour(self, *, tenant: str) -> While:
        """Return what the last hour has brought; may be some seconds old."""
        known = self._hours.get(tenant)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_S:
            return known[1]
        found = await self._since(HOUR_S, tenant)
        self._hours[tenant] = time.monotonic(), found
        self._hours.move_to_end(tenant)
        while len(self._hours) > MOST_REMEMBERED:
            self._hours.popitem(last=False)
        return found

    async def _since(self, seconds: float, tenant: str) -> While:
        since_us = time.time_ns() // 1_000 - round(seconds * 1e6)
        return await self._database.run(lambda connection: _while(connection, tenant, since_us))


def _while(connection: Connection, tenant: str, since_us: int) -> While:
    mine = executions.c.tenant == tenant
    created = select(func.count()).select_from(executions).where(mine, executions.c.created_us >= since_us)
    # whatever has ended was changed then or later, and there is an index on that
    closed = (
        select(executions.c.status, func.count().label("n"))
        .where(mine, executions.c.updated_us >= since_us, executions.c.closed_us >= since_us)
        .group_by(executions.c.status)
    )
    ended = {row.status: row.n for row in connection.execute(closed)}
    begun = attempts.c.started_us >= since_us - round(LONGEST_CALL_S * 1e6)
    used = select(*SUMS).where(attempts.c.tenant == tenant, begun, attempts.c.ended_us >= since_us)
    usage = sums_of(connection.execute(used).one()).to_usage()
    return While(connection.execute(created).scalar_one(), ended, usage)


def _last_events(connection: Connection, tenant: str, seqs: Mapping[str, int]) -> dict[str, EventRecord]:
    if not seqs:
        return {}
    keys = tuple_(events.c.execution_id, events.c.seq).in_(list(seqs.items()))
    short = case((func.length(events.c.body) <= SHORT_CHARS, events.c.body), else_="{}").label("body")
    columns = (events.c.execution_id, events.c.run_id, events.c.seq, events.c.now_us, events.c.type, short)
    query = select(*columns).where(events.c.tenant == tenant, keys)
    return {row.execution_id: record_of(row) for row in connection.execute(query)}


def is_retrying(last: EventRecord | None) -> bool:
    """Whether the last thing that happened is an attempt that failed."""
    return last is not None and last.type == EventType.ATTEMPT_FAILED.value
