"""Pages of an execution's events and transitions, in both directions, that go on where the last one ended."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, or_, select, tuple_

from engine.core.run.events import EventRecord, body_of
from engine.store.database import Database
from engine.store.reading import ROW_ORDER, events_of, record_of
from engine.store.schema import events

EventKey = tuple[int, int, str]
"""Where an event stands: its number, its time, its run; the number alone unless two runs claim the same one."""

SCOPE_CHUNK = 500
"""Events that are looked through at a time for those of one scope, which stands in their bodies alone."""


class EventPage(NamedTuple):
    """One page of events.

    Attributes:
        items: The events, in order.
        after: Where the next page begins; None = there are no more now.
    """

    items: list[EventRecord]
    after: EventKey | None


def key_of(record: EventRecord) -> EventKey:
    """Return where an event stands."""
    return (record.seq, record.now_us, record.run_id)


class EventPages:
    """Pages of events.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self,
        execution_id: str,
        *,
        tenant: str,
        limit: int = 100,
        offset: int = 0,
        after: EventKey | None = None,
        after_seq: int = 0,
        transitions_only: bool = False,
        scope_id: str | None = None,
        descending: bool = False,
    ) -> EventPage:
        """Return one page of an execution's events in order of their numbers.

        Events that come meanwhile have higher numbers than all before: they stand at the end of the ascending order,
        and before the first page of the descending one.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            limit: Most to return.
            offset: How many to leave out first.
            after: Where the page before ended.
            after_seq: Only events with a higher number.
            transitions_only: Only events that callers see as transitions.
            scope_id: Only events of this scope.
            descending: Latest first.
        """
        query = select(events).where(events_of(tenant, execution_id))
        if after_seq:
            query = query.where(events.c.seq > after_seq)
        if transitions_only:
            query = query.where(events.c.is_transition)
        query = query.order_by(*[key.desc() if descending else key.asc() for key in ROW_ORDER])

        def read(connection: Connection) -> EventPage:
            if scope_id is None:
                rows = connection.execute(_behind(query, after, descending).limit(limit + 1).offset(offset)).all()
                return _cut([record_of(row) for row in rows], limit)
            found = _of_scope(connection, query, scope_id, after, descending=descending, most=offset + limit + 1)
            return _cut(found[offset:], limit)

        return await self.database.run(read)


def _cut(records: list[EventRecord], limit: int) -> EventPage:
    shown = records[:limit]
    return EventPage(shown, key_of(shown[-1]) if len(records) > limit and shown else None)


def _behind(query: Select[Any], after: EventKey | None, descending: bool) -> Select[Any]:
    if after is None:
        return query
    seq, now_us, run_id = after
    rest = tuple_(events.c.now_us, events.c.run_id)
    if descending:
        bound, further = events.c.seq <= seq, or_(events.c.seq != seq, rest < tuple_(now_us, run_id))
    else:
        bound, further = events.c.seq >= seq, or_(events.c.seq != seq, rest > tuple_(now_us, run_id))
    return query.where(and_(bound, further))


def _of_scope(
    connection: Connection, query: Select[Any], scope_id: str, after: EventKey | None, *, descending: bool, most: int
) -> list[EventRecord]:
    found: list[EventRecord] = []
    while len(found) < most:
        rows = connection.execute(_behind(query, after, descending).limit(SCOPE_CHUNK)).all()
        records = [record_of(row) for row in rows]
        # an event without a scope is one of the execution as a whole, whose id is its scope's (transition_view)
        found += [item for item in records if str(body_of(item).get("scope") or item.execution_id) == scope_id]
        if len(records) < SCOPE_CHUNK:
            break
        after = key_of(records[-1])
    return found[:most]
