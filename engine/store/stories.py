"""Reads for the story of one execution: its events in batches of bounded size, single bodies, and its full id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.store.database import Database
from engine.store.reading import ROW_ORDER, events_of, record_of
from engine.store.schema import events, executions

LEAST_ROWS, MOST_ROWS = 20, 1_000
BATCH_CHARS = 4_000_000
"""What the bodies of a batch should hold together at most; batches shrink where bodies are large."""


_TIMES = 1 << 31
"""Sums of whole times do not fit into a column: those of this remainder, half an hour, do."""


class FoundId(NamedTuple):
    """An execution whose id begins with some text."""

    id: str
    status: ExecutionStatus
    task_name: str
    created_us: int


class EventMark(NamedTuple):
    """Tells whether stored events are those that somebody has read: their number, and sums of numbers and times."""

    events: int = 0
    seqs: int = 0
    times: int = 0
    last_seq: int = 0

    def plus(self, record: EventRecord) -> EventMark:
        """Return the mark with one more event."""
        return EventMark(self.events + 1, self.seqs + record.seq, self.times + record.now_us % _TIMES, record.seq)


class StoryReader:
    """What the story of an execution is made of.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def batches(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> AsyncIterator[list[EventRecord]]:
        """Yield an execution's events in order, so many at a time as memory allows.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            after_seq: Only events with a higher number.
        """
        rows = 100
        while True:
            query = select(events).where(events_of(tenant, execution_id), events.c.seq > after_seq)
            page = await self._records(query.order_by(*ROW_ORDER).limit(rows))
            if page:
                yield page
            if len(page) < rows:
                return
            after_seq = page[-1].seq
            chars = sum(len(record.body) for record in page)
            rows = min(max(LEAST_ROWS, rows * BATCH_CHARS // max(chars, 1)), MOST_ROWS)

    async def _records(self, query: Any) -> list[EventRecord]:
        return [record_of(row) for row in await self.database.run(lambda connection: connection.execute(query).all())]

    async def mark(self, execution_id: str, known: EventMark, *, tenant: str) -> EventMark:
        """Return the mark of the events up to the last one of a mark, as they are stored now."""
        sums = (func.count(), func.sum(events.c.seq), func.sum(events.c.now_us % _TIMES), func.max(events.c.seq))
        query = select(*sums).where(events_of(tenant, execution_id), events.c.seq <= known.last_seq)
        row = await self.database.run(lambda connection: connection.execute(query).one())
        # PostgreSQL gives sums as decimals
        return EventMark(*(int(value or 0) for value in row))

    async def bodies(self, execution_id: str, seqs: Collection[int], *, tenant: str) -> dict[int, dict[str, Any]]:
        """Return the bodies of events by their numbers; those that are not there are left out."""
        wanted, found = sorted(seqs), {}
        for start in range(0, len(wanted), MOST_ROWS):
            part = events.c.seq.in_(wanted[start : start + MOST_ROWS])
            for record in await self._records(select(events).where(events_of(tenant, execution_id), part)):
                found[record.seq] = json.loads(record.body)
        return found

    async def sizes(self, execution_id: str, seqs: Collection[int], *, tenant: str) -> dict[int, int]:
        """Return how long the bodies of events are, in characters."""
        wanted = sorted(seqs)
        found: dict[int, int] = {}
        for start in range(0, len(wanted), MOST_ROWS):
            part = events.c.seq.in_(wanted[start : start + MOST_ROWS])
            query = select(events.c.seq, func.length(events.c.body)).where(events_of(tenant, execution_id), part)
            found |= await self.database.run(partial(_pairs, query))
        return found

    async def ids_like(self, prefix: str, *, tenant: str, limit: int) -> list[FoundId]:
        """Return executions whose ids begin with a text, in order of their ids."""
        columns = (executions.c.id, executions.c.status, executions.c.task_name, executions.c.created_us)
        # a range and not LIKE, so that both databases answer from the primary key
        query = select(*columns).where(
            executions.c.tenant == tenant, executions.c.id >= prefix, executions.c.id < f"{prefix}g"
        )
        rows = await self.database.run(
            lambda connection: connection.execute(query.order_by(executions.c.id).limit(limit)).all()
        )
        found = [FoundId(row.id, ExecutionStatus(row.status), row.task_name, row.created_us) for row in rows]
        # some collations overlook the hyphens of an id
        return [item for item in found if item.id.startswith(prefix)]


def _pairs(query: Select[Any], connection: Connection) -> dict[int, int]:
    return {row[0]: row[1] for row in connection.execute(query)}
