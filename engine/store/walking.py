"""Lists in an order, and walks through an index that has it already: each row is looked at until a page is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select

from engine.store.filters import beyond

WALK = 4_000
"""Most rows that a walk looks at: each costs two or three searches of an index, and there is a way without walks."""

PART = 250
"""Rows after which a walk looks whether it gets on."""


class Order(NamedTuple):
    """The order of a list: one of `engine.store.listing.SORTS`, and whether the highest comes first."""

    sort_by: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Ordered:
    """A search in an order.

    Attributes:
        query: Keys as `key`, ids as `id`, in no order yet.
        key: What is sorted by.
        identity: The column with the id.
        descending: Whether the highest comes first.
    """

    query: Select[Any]
    key: Any
    identity: Any
    descending: bool

    def behind(self, after: tuple[int | None, str] | None) -> Select[Any]:
        """Return the query in its order, from behind a row on."""
        query = self.query
        if after is not None:
            query = query.where(beyond(self.key, self.identity, after, descending=self.descending))
        order = [each.desc() if self.descending else each.asc() for each in (self.key, self.identity)]
        if self.key.nullable:
            order[0] = order[0].nulls_last() if self.descending else order[0].nulls_first()
        return query.order_by(*order)


def walk(connection: Connection, query: Select[Any], needed: int) -> list[tuple[int | None, str]] | None:
    """Return the first rows that pass, if they do not lie too far from each other.

    Args:
        connection: Where to ask; a driver that steps through the rows reads no more than are looked at.
        query: All rows in the list's order: `key`, `id`, and `passes`.
        needed: How many are wanted.

    Returns:
        Their keys and ids, fewer only if there are no more; None = another way is shorter.
    """
    if needed > WALK:
        return None
    found: list[tuple[int | None, str]] = []
    seen = 0
    with connection.execute(query.limit(WALK)) as rows:
        for part in rows.partitions(PART):
            seen += len(part)
            found += [(row.key, row.id) for row in part if row.passes]
            if len(found) >= needed:
                return found[:needed]
            # at this rate it would not be full at the end; what passes may also all lie at the other end of the order
            if len(part) == PART and len(found) * WALK < needed * seen:
                return None
    return found if seen < WALK else None
