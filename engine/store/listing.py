"""Lists of executions: filtered, sorted, page by page, counted; through indexes alone, rows only for what is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import Connection, Label, Row, Select, and_, func, literal, select

from engine.core.run.projection import ExecutionFacts
from engine.store import budget
from engine.store.database import Database
from engine.store.filters import (
    ALWAYS,
    TAG_INDEX,
    ExecutionFilter,
    TagTerm,
    column_conditions,
    equal_columns,
    has_tag,
    in_span,
    narrowed,
    tag_condition,
    tag_terms,
    tags_are_enough,
)
from engine.store.metadata import contains
from engine.store.reading import facts_of
from engine.store.schema import execution_tags, executions
from engine.store.walking import Order, Ordered, walk

Key = tuple[int | None, str]
"""Where a row stands in a list: what is sorted by, and the id."""

SORTS: Mapping[str, str] = {
    "created_at": "created_us",
    "updated_at": "updated_us",
    "closed_at": "closed_us",
    "cost": "cost_nano",
    "total_tokens": "total_tokens",
}
"""What lists can be sorted by, and the column of it."""

IN_CHUNK = 500
"""Most ids in one IN list."""

FEW = 2_000
"""Executions that a list may look up one by one; a look through the index of all is dearer than that."""

SOME = 20_000
"""The same for executions with a tag, whose index leads into that of all without the rows between."""

MANY = 200_000
"""Up to here sets are counted to find the smallest of several large ones."""

_OWN_INDEX = {
    "updated_at": "ix_executions_tenant_updated_us_id_created_us",
    "closed_at": "ix_executions_tenant_closed_us_id_created_us",
    "cost": "ix_executions_tenant_cost_nano_id_created_us",
    "total_tokens": "ix_executions_tenant_total_tokens_id_created_us",
}
_EQUAL_INDEX = {
    "task_id": "ix_executions_tenant_task_id_created_us",
    "agent_id": "ix_executions_tenant_agent_id_created_us",
    "error_code": "ix_executions_tenant_error_code_created_us",
    "status": "ix_executions_tenant_status_created_us",
    "parent_id": "ix_executions_tenant_parent_id",
}
_LISTING = "ix_executions_listing"
_STUCK = "ix_executions_stuck"
_LONG = (executions.c.input, executions.c.output, executions.c.error, executions.c.metadata)
_LENGTH: Label[int] = reduce(add, (func.coalesce(func.length(column), 0) for column in _LONG)).label("length")
"""How long what may be long in a row is, in characters."""


class ExecutionPage(NamedTuple):
    """One page of a list.

    Attributes:
        items: The executions, in order.
        after: Where the next page begins; None = this is the last one.
    """

    items: list[ExecutionFacts]
    after: Key | None


class Counts(NamedTuple):
    """How many executions pass a filter.

    Attributes:
        total: All of them.
        by_status: By status; statuses that none has are left out.
    """

    total: int
    by_status: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a search begins: a set of executions that an index has in order of their creation.

    Attributes:
        rows: The set: columns `tenant`, `created_us`, `execution_id`.
        index: The index it is read by.
        term: The tag that they have; None = the set is of another kind.
    """

    source: Any
    condition: Any
    identity: Any
    index: str
    term: TagTerm | None


class ExecutionLists:
    """Lists of executions.

    PostgreSQL plans the queries by what it knows of the data. SQLite knows nothing of it unless ANALYZE ran, and then
    only averages; so it is told which index to use: the smallest set that one of the filter's indexes gives, or the
    index that holds everything lists ask for. Where both would have to be sorted, an index that is in order is walked
    through first: of a common filter a page is full soon, and if it is not, that is seen soon.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(
        self,
        wanted: ExecutionFilter,
        *,
        tenant: str,
        limit: int = 100,
        offset: int = 0,
        after: Key | None = None,
        sort_by: str = "created_at",
        descending: bool = True,
    ) -> ExecutionPage:
        """Return one page of executions, by default the newest first.

        A list goes on behind the row that `after` names, so executions that come meanwhile move nothing. In the
        order of something that changes (`updated_at`, `cost`) an execution that changes moves in the list.

        Args:
            wanted: Which executions.
            tenant: Tenant id.
            limit: Most to return; fewer come where inputs and outputs are long, and `after` tells whether there are
                more.
            offset: How many to leave out first.
            after: Where the page before ended.
            sort_by: One of SORTS; executions without it (not ended, cost unknown) count as lowest, ties go by id.
            descending: Highest first.
        """

        def read(connection: Connection) -> ExecutionPage:
            search = _Search(connection, wanted, tenant, sqlite=self.database.is_sqlite)
            return _fill(connection, search, Order(sort_by, descending), limit=limit, offset=offset, after=after)

        return await self.database.run(read)

    async def count(self, wanted: ExecutionFilter, *, tenant: str) -> Counts:
        """Return how many executions pass a filter, in all and by status."""

        def read(connection: Connection) -> Counts:
            search = _Search(connection, wanted, tenant, sqlite=self.database.is_sqlite)
            found = search.counts() if tags_are_enough(wanted) else search.counts_one_by_one()
            return Counts(sum(found.values()), found)

        return await self.database.run(read)


class _Search:
    """One filter on its way to SQL."""

    def __init__(self, connection: Connection, wanted: ExecutionFilter, tenant: str, *, sqlite: bool) -> None:
        self.connection = connection
        self.wanted = wanted
        self.tenant = tenant
        self.sqlite = sqlite
        self.terms = [narrowed(connection, tenant, term) if sqlite else term for term in tag_terms(wanted)]
        self.conditions = column_conditions(wanted)

    def ordered(self, order: Order) -> Ordered:
        """Return the search for keys and ids in an order."""
        in_order = order.sort_by == "created_at"
        start = self._start(in_order=in_order)
        key, identity = executions.c[SORTS[order.sort_by]], executions.c.id
        if start is not None and in_order:
            key, identity = start.source.c.created_us, start.identity
        query = self._from(start, select(key.label("key"), executions.c.id), order.sort_by)
        return Ordered(query, key, identity, order.descending)

    def walked(self, order: Order) -> Ordered | None:
        """Return all that an index in the list's order has, each with whether it passes; None = nothing to gain."""
        start = self._in_order(order.sort_by)
        if start is None:
            return None
        key, created = start.source.c[SORTS[order.sort_by]], start.source.c.created_us
        passing = select(literal(1)).select_from(executions).where(
            executions.c.tenant == self.tenant,
            executions.c.created_us == created,
            executions.c.id == start.identity,
            *column_conditions(replace(self.wanted, created=ALWAYS)),
            *(has_tag(self.tenant, term) for term in self.terms if term != start.term),
        )  # fmt: skip
        found = passing.with_hint(executions, f"INDEXED BY {_LISTING}", "sqlite").exists()
        # not asked inside: SQLite would search for the span instead of the row
        passes = and_(found, *in_span(created, self.wanted.created))
        query = select(key.label("key"), start.identity.label("id"), passes.label("passes")).where(start.condition)
        query = query.with_hint(start.source, f"INDEXED BY {start.index}", "sqlite")
        return Ordered(query, key, start.identity, order.descending)

    def counts(self) -> dict[str, int]:
        """Return how many there are of each status."""
        query = self._from(self._start(in_order=False), select(executions.c.status, func.count().label("n")), "")
        rows = self.connection.execute(query.group_by(executions.c.status))
        return {row.status: row.n for row in rows}

    def counts_one_by_one(self) -> dict[str, int]:
        """Return the same where the metadata itself must be looked at."""
        start = self._start(in_order=False)
        ids = [row.id for row in self.connection.execute(self._from(start, select(executions.c.id), "")).all()]
        found: dict[str, int] = {}
        columns = (executions.c.id, executions.c.status, executions.c.metadata)
        for part in _chunks(ids):
            for row in _rows_of(self.connection, columns, self.tenant, part):
                if self.passes(row):
                    found[row.status] = found.get(row.status, 0) + 1
        return found

    def passes(self, row: Row[*tuple[Any, ...]]) -> bool:
        """Whether the metadata of a row contains what it must."""
        return contains(json.loads(row._mapping["metadata"]), self.wanted.metadata)

    def _from(self, start: _Start | None, query: Select[Any], sort_by: str) -> Select[Any]:
        """Complete a query: where it begins, all conditions, and the indexes for SQLite."""
        terms = [term for term in self.terms if start is None or term != start.term]
        query = query.where(*self.conditions)
        if start is None:
            query = query.where(*(has_tag(self.tenant, term) for term in terms))
            query = query.where(executions.c.tenant == self.tenant)
            if self.wanted.stuck:
                query = query.where(executions.c.stuck.is_not(None))
            return query.with_hint(executions, f"INDEXED BY {self._index(sort_by)}", "sqlite")
        # asked of the start's rows, before the executions of those are looked up
        place = start.source.c.created_us, start.identity
        query = query.where(*(has_tag(self.tenant, term, *place) for term in terms))
        # no constant tenant here: then SQLite can enter the listing index from the start's rows alone
        query = query.where(
            executions.c.tenant == start.source.c.tenant,
            executions.c.created_us == start.source.c.created_us,
            executions.c.id == start.identity,
            start.condition,
        )
        query = query.with_hint(start.source, f"INDEXED BY {start.index}", "sqlite")
        return query.with_hint(executions, f"INDEXED BY {_LISTING}", "sqlite")

    def _index(self, sort_by: str) -> str:
        """Return the index that SQLite shall go through where no smaller set is begun from."""
        if self.wanted.stuck:
            return _STUCK
        if not self.conditions and not self.terms:
            return _OWN_INDEX.get(sort_by, _LISTING) if sort_by else _EQUAL_INDEX["status"]
        equal = self._one_equal()
        return _EQUAL_INDEX[equal] if sort_by == "created_at" and equal is not None else _LISTING

    def _one_equal(self) -> str | None:
        """Return the column that is all that is asked for, if its own index has the list in order."""
        equal = [name for name, _ in equal_columns(self.wanted)]
        # the index of children is not in the order of their creation
        alone = len(equal) == len(self.conditions) == 1 and not self.terms and equal != ["parent_id"]
        return equal[0] if alone else None

    def _in_order(self, sort_by: str) -> _Start | None:
        """Return what to walk through; None = the filter's own index is in order, or there is none to walk through."""
        if not self.sqlite or self.wanted.stuck or not (self.conditions or self.terms):
            return None
        rows = executions.alias("start")
        own = rows.c.tenant == self.tenant
        if sort_by != "created_at":
            return _Start(rows, own, rows.c.id, _OWN_INDEX[sort_by], None)
        single = [term for term in self.terms if len(term.values) == 1]
        if self.conditions or len(single) == len(self.terms) == 1:
            return None
        return self._tagged(single[0]) if single else _Start(rows, own, rows.c.id, _LISTING, None)

    def _start(self, *, in_order: bool) -> _Start | None:
        """Return the smallest set to begin from; None = the index of all, or PostgreSQL's own choice."""
        if not self.sqlite or (in_order and self._one_equal() is not None):
            return None
        starts = self._starts()
        if in_order and len(starts) == 1 and not self.conditions:
            return starts[0]  # nothing else is asked for, and it is in the list's order already
        if self.terms and not self.conditions:
            # asking each execution for its tags is the dearest of all
            return self._smallest(starts)
        sizes = [self._size(start, _bound(start)) for start in starts]
        small = [number for number, start in enumerate(starts) if sizes[number] < _bound(start)]
        if small:
            return starts[min(small, key=lambda number: sizes[number])]
        return None

    def _smallest(self, starts: Sequence[_Start]) -> _Start:
        smallest, size = starts[0], MANY
        if len(starts) > 1:
            for start in starts:
                # none is counted further than needed to see that it is not the smallest
                counted = self._size(start, size)
                if counted < size:
                    smallest, size = start, counted
        return smallest

    def _starts(self) -> list[_Start]:
        starts = [self._tagged(term) for term in self.terms]
        rows = executions.alias("start")
        own = rows.c.tenant == self.tenant
        for name, value in equal_columns(self.wanted):
            starts.append(_Start(rows, own & (rows.c[name] == value), rows.c.id, _EQUAL_INDEX[name], None))
        if self.wanted.stuck:
            # the index of all does not tell it, so no other set is begun from
            starts = [_Start(rows, own & rows.c.stuck.is_not(None), rows.c.id, _STUCK, None)]
        return starts

    def _tagged(self, term: TagTerm) -> _Start:
        tags = execution_tags.alias("start")
        return _Start(tags, tag_condition(tags, self.tenant, term), tags.c.execution_id, TAG_INDEX, term)

    def _size(self, start: _Start, most: int) -> int:
        rows = select(start.source.c.created_us).where(start.condition).limit(most)
        rows = rows.with_hint(start.source, f"INDEXED BY {start.index}", "sqlite")
        return self.connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one()


def _bound(start: _Start) -> int:
    return FEW if start.term is None else SOME


def _rows_of(
    connection: Connection, columns: Sequence[Any], tenant: str, ids: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    query = select(*columns).where(executions.c.tenant == tenant, executions.c.id.in_(ids))
    place = {identity: number for number, identity in enumerate(ids)}
    return sorted(connection.execute(query).all(), key=lambda row: place[row.id])


def _fill(
    connection: Connection, search: _Search, order: Order, *, limit: int, offset: int, after: Key | None
) -> ExecutionPage:
    """Read keys until a page is full, and the rows of as many of those as a page can hold."""
    if tags_are_enough(search.wanted):
        keys = _keys(connection, search, order, limit=limit, offset=offset, after=after)
    else:
        keys = _passing(connection, search, search.ordered(order), after, offset + limit + 1)[offset:]

    def lengths(some: Sequence[Key]) -> list[int]:
        rows = _rows_of(connection, (executions.c.id, _LENGTH), search.tenant, [key[1] for key in some])
        known = {row.id: row.length for row in rows}
        return [known.get(key[1], 0) for key in some]

    shown = keys[: budget.within(keys[:limit], lengths)]
    columns, parts = list(executions.c), _chunks([key[1] for key in shown])
    found = [facts_of(row) for part in parts for row in _rows_of(connection, columns, search.tenant, part)]
    return ExecutionPage(found, shown[-1] if len(keys) > len(shown) else None)


def _keys(
    connection: Connection, search: _Search, order: Order, *, limit: int, offset: int, after: Key | None
) -> list[Key]:
    """Return the keys of one row more than a page has."""
    walked = search.walked(order)
    found = walk(connection, walked.behind(after), offset + limit + 1) if walked is not None else None
    if found is not None:
        return found[offset:]
    rows = connection.execute(search.ordered(order).behind(after).limit(limit + 1).offset(offset)).all()
    return [(row.key, row.id) for row in rows]


def _passing(connection: Connection, search: _Search, ordered: Ordered, after: Key | None, most: int) -> list[Key]:
    """Return the first keys of rows whose metadata, which must be looked at itself, contains what it must."""
    found: list[Key] = []
    while len(found) < most:
        keys = connection.execute(ordered.behind(after).limit(IN_CHUNK)).all()
        looked = _rows_of(connection, (executions.c.id, executions.c.metadata), search.tenant, [key.id for key in keys])
        passing = {row.id for row in looked if search.passes(row)}
        found += [(key.key, key.id) for key in keys if key.id in passing]
        if len(keys) < IN_CHUNK:
            break
        after = (keys[-1].key, keys[-1].id)
    return found[:most]


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[begin : begin + IN_CHUNK] for begin in range(0, len(ids), IN_CHUNK)]
