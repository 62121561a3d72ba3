"""Pages of an execution's events and transitions, in both directions, that go on where the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, func, or_, select, tuple_

from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import scope_of
from engine.store import budget
from engine.store.database import Database
from engine.store.reading import ROW_ORDER, events_of, record_of
from engine.store.schema import events

EventKey = tuple[int, int, str]
"""Where an event stands: its number, its time, its run; the number alone unless two runs claim the same one."""

MOST_AT_ONCE = 500
"""Numbers in one list of a query."""
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
    """Pages of events; one whose bodies are long has fewer events than were asked for (`engine.store.budget`).

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
            limit: Most to return; fewer come where bodies are long, and `after` tells whether there are more.
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
                return _page(connection, query, after, limit, offset, descending=descending)
            return _page_of_scope(connection, query, scope_id, after, limit, offset, descending=descending)

        return await self.database.run(read)


def _page(
    connection: Connection, query: Select[Any], after: EventKey | None, limit: int, offset: int, *, descending: bool
) -> EventPage:
    """Read keys until a page is full, and the events of as many of those as a page can hold."""
    place = query.with_only_columns(*ROW_ORDER)
    rows = connection.execute(_behind(place, after, descending).limit(limit + 1).offset(offset)).all()
    keys: list[EventKey] = [(row.seq, row.now_us, row.run_id) for row in rows]

    def lengths(some: Sequence[EventKey]) -> list[int]:
        sized = query.with_only_columns(*ROW_ORDER, func.length(events.c.body).label("length"))
        found = connection.execute(_among(sized, some))
        known = {(row.seq, row.now_us, row.run_id): row.length for row in found}
        return [known.get(key, 0) for key in some]

    shown = keys[: budget.within(keys[:limit], lengths)]
    found: dict[EventKey, EventRecord] = {}
    for begin in range(0, len(shown), MOST_AT_ONCE):
        for row in connection.execute(_among(query, shown[begin : begin + MOST_AT_ONCE])):
            record = record_of(row)
            found[key_of(record)] = record
    # one that a repair has replaced meanwhile is not there
    items = [found[key] for key in shown if key in found]
    return EventPage(items, shown[-1] if len(keys) > len(shown) else None)


def _among(query: Select[Any], keys: Sequence[EventKey]) -> Select[Any]:
    return query.where(events.c.seq.in_([seq for seq, _, _ in keys]))


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


def _page_of_scope(
    connection: Connection,
    query: Select[Any],
    scope_id: str,
    after: EventKey | None,
    limit: int,
    offset: int,
    *,
    descending: bool,
) -> EventPage:
    """Look through pages for the events of one scope."""
    found: list[EventRecord] = []
    room = budget.PAGE_CHARS
    while True:
        page = _page(connection, query, after, SCOPE_CHUNK, 0, descending=descending)
        for record in page.items:
            if scope_of(record.execution_id, body_of(record)) != scope_id:
                continue
            if offset:
                offset -= 1
                continue
            room -= len(record.body)
            if found and (len(found) == limit or room < 0):
                return EventPage(found, key_of(found[-1]))
            found.append(record)
        if page.after is None:
            return EventPage(found, None)
        after = page.after
