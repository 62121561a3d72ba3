"""What the stores of agents, projects and users share: to find one, to list pages, to add or change a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Row, Table, insert, select, update

from engine.core.errors import NotFound
from engine.store.database import Database
from engine.store.metadata import ordered, page_of


class Named(Protocol):
    """A thing of a tenant as it is stored."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def tenant(self) -> str:
        """Its tenant."""
        ...


FactsT = TypeVar("FactsT", bound=Named)


class ResourceStore(Generic[FactsT]):
    """Things of one kind, of all tenants.

    Args:
        database: The open store.
        table: Their table, with metadata and times.
        find: Returns one by its id or name within a transaction, or None.
        facts_of: Makes one of its row.
        missing: Returns the error for one that is not there.
    """

    def __init__(
        self,
        database: Database,
        *,
        table: Table,
        find: Callable[[Connection, str, str], FactsT | None],
        facts_of: Callable[[Row[*tuple[Any, ...]]], FactsT],
        missing: Callable[[str], NotFound],
    ) -> None:
        self.database = database
        self._table = table
        self._find = find
        self._facts_of = facts_of
        self._missing = missing

    async def get(self, reference: str, *, tenant: str) -> FactsT:
        """Return one by its id, or by its canonical name if it has one.

        Raises:
            NotFound: `<kind>.not_found`.
        """
        found = await self.database.run(lambda connection: self._find(connection, reference, tenant))
        if found is None:
            raise self._missing(reference)
        return found

    async def page(
        self,
        *,
        tenant: str,
        id_prefix: str = "",
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        offset: int = 0,
        sort_by: str = "created_at",
        descending: bool = False,
    ) -> list[FactsT]:
        """Return one page.

        Args:
            tenant: Tenant id.
            id_prefix: How their ids begin.
            metadata: Only those whose metadata contains this object.
            limit: Most to return.
            offset: How many to leave out first.
            sort_by: `created_at` or `updated_at`.
            descending: Newest first.
        """
        begins = self._table.c.id.startswith(id_prefix, autoescape=True)
        mine = select(self._table).where(self._table.c.tenant == tenant, begins)
        query = ordered(mine, self._table, sort_by, descending)
        async with self.database.read() as connection:
            rows = await page_of(connection, query, metadata=metadata, limit=limit, offset=offset)
            return [self._facts_of(row) for row in rows]


def put_row(
    connection: Connection, table: Table, present: Named | None, wanted: Named, values: Mapping[str, Any]
) -> None:
    """Add a row, or change the one that is there.

    Args:
        connection: The transaction.
        table: The table.
        present: What is there; None = nothing is.
        wanted: What shall be there.
        values: Its columns but for tenant and id.
    """
    if present is None:
        connection.execute(insert(table).values(tenant=wanted.tenant, id=wanted.id, **values))
    else:
        one = (table.c.tenant == present.tenant, table.c.id == present.id)
        connection.execute(update(table).where(*one).values(**values))
