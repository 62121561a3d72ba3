"""Counts what model calls use of limits and budgets: reserved before a call, settled after it, for all workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from engine.store.database import Database
from engine.store.locks import lock_rows
from engine.store.schema_spending import spending, spending_reserved

TABLE = "spending"
HELD_US = 15_000_000
"""How long something is reserved without a sign of life of the worker that did it."""
MOST_SHOWN = 1_000
"""Pots of one budget that are shown."""
KEPT_US = 400 * 86_400_000_000
"""How long periods that are over are kept, for those who look back."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Money, in thousand-millionths of a dollar, and tokens."""

    cost_nano: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pot:
    """Something that calls use up.

    Attributes:
        tenant: Its tenant; empty = it is shared by all.
        key: What it is called, unique in its tenant.
        budget: Name of the budget; empty = the limits of an execution.
        execution_id: The execution that it belongs to; empty = it is not of one alone.
        since_us: Begin of its period; 0 = it has none.
        cost_nano: Most that may be spent; None = anything.
        tokens: Most tokens that may be used; None = any number.
        known: What was used at least, whatever is stored.
    """

    tenant: str
    key: str
    budget: str = ""
    execution_id: str = ""
    since_us: int = 0
    cost_nano: int | None = None
    tokens: int | None = None
    known: Amount = Amount()


@dataclass(frozen=True, slots=True)
class Refused:
    """A pot has not enough left for a call, whatever becomes of others."""

    pot: Pot
    used: Amount
    is_cost: bool


@dataclass(frozen=True, slots=True)
class MustWait:
    """A pot may have enough left when others have told what they used."""

    pot: Pot


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a pot.

    Attributes:
        tenant: Its tenant; empty = shared by all.
        key: What it is called.
        since_us: Begin of its period.
        used: Of calls that ended.
        reserved: For calls under way.
        calls: How many ended.
    """

    tenant: str
    key: str
    since_us: int
    used: Amount
    reserved: Amount
    calls: int


class SpendingStore:
    """Reads and writes what is used up.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(
        self, pots: Sequence[Pot], call_id: str, *, execution_id: str, least: Amount, most: Amount, now_us: int
    ) -> Refused | MustWait | None:
        """Reserve of all pots what a call may use, or of none of them.

        Only one call may go into what is left of a pot beyond its `most`: that is by how much calls that are under way
        together can exceed it.

        Args:
            pots: What it uses up.
            call_id: The call; what it reserved before is void.
            execution_id: The execution that makes it.
            least: What it is certain to use.
            most: What it may use.
            now_us: Unix microseconds.

        Returns:
            Why nothing was reserved; None = it was.
        """

        def work(connection: Connection) -> Refused | MustWait | None:
            lock_rows(connection, TABLE, [f"{pot.tenant}/{pot.key}" for pot in pots])
            void = (spending_reserved.c.call_id == call_id) | (spending_reserved.c.until_us <= now_us)
            for pot in pots:
                connection.execute(delete(spending_reserved).where(_reserved_of(pot), void))
            found = [_look(connection, pot, least, most) for pot in pots]
            for kind in (Refused, MustWait):
                for answer in found:
                    if isinstance(answer, kind):
                        return answer
            rows = [
                {
                    "tenant": pot.tenant,
                    "pot": pot.key,
                    "call_id": call_id,
                    "execution_id": execution_id,
                    "cost_nano": most.cost_nano,
                    "tokens": most.tokens,
                    "until_us": now_us + HELD_US,
                }
                for pot in pots
            ]
            connection.execute(insert(spending_reserved), rows)
            return None

        return await self._database.run(work, write=True)

    async def settle(self, pots: Sequence[Pot], call_id: str, used: Amount | None) -> None:
        """End a call: what it reserved is free, and what it used is counted.

        Args:
            pots: As in `reserve`.
            call_id: The call.
            used: What it used; None = it was not answered.
        """

        def work(connection: Connection) -> None:
            lock_rows(connection, TABLE, [f"{pot.tenant}/{pot.key}" for pot in pots])
            for pot in pots:
                mine = spending_reserved.c.call_id == call_id
                connection.execute(delete(spending_reserved).where(_reserved_of(pot), mine))
                if used is not None:
                    _add(connection, pot, used)

        await self._database.run(work, write=True)

    async def hold(self, call_ids: Iterable[str], *, now_us: int) -> None:
        """Keep what is reserved for calls that are under way."""
        ids = list(call_ids)
        if ids:
            mine = spending_reserved.c.call_id.in_(ids)
            held = update(spending_reserved).where(mine).values(until_us=now_us + HELD_US)
            await self._database.run(lambda connection: connection.execute(held), write=True)

    async def spent(self, budget: str, *, since_us: int, now_us: int, tenant: str | None = None) -> list[Spent]:
        """Return what was used of a budget in the period that began at a time, and is reserved in it.

        Args:
            budget: Its name.
            since_us: Begin of the period.
            now_us: Unix microseconds.
            tenant: Only what is of this tenant alone; None = all.
        """

        def work(connection: Connection) -> list[Spent]:
            rows = spending.c.budget == budget, spending.c.since_us == since_us
            query = select(spending).where(*rows).order_by(spending.c.tenant, spending.c.pot)
            if tenant is not None:
                query = query.where(spending.c.tenant == tenant)
            found = connection.execute(query.limit(MOST_SHOWN)).all()
            # a pot of which only calls under way take has no row yet, and is shown when the first of them has ended
            return [
                Spent(
                    row.tenant,
                    row.pot,
                    row.since_us,
                    Amount(row.cost_nano, row.tokens),
                    _sum_reserved(connection, row.tenant, row.pot, now_us),
                    row.calls,
                )
                for row in found
            ]

        return await self._database.run(work)


def _reserved_of(pot: Pot) -> ColumnElement[bool]:
    return (spending_reserved.c.tenant == pot.tenant) & (spending_reserved.c.pot == pot.key)


def _sum_reserved(connection: Connection, tenant: str, key: str, now_us: int) -> Amount:
    mine = (spending_reserved.c.tenant == tenant) & (spending_reserved.c.pot == key)
    counts = spending_reserved.c.cost_nano, spending_reserved.c.tokens
    sums = [func.coalesce(func.sum(count), 0) for count in counts]
    row = connection.execute(select(*sums).where(mine, spending_reserved.c.until_us > now_us)).one()
    return Amount(int(row[0]), int(row[1]))


def _look(connection: Connection, pot: Pot, least: Amount, most: Amount) -> Refused | MustWait | None:
    """Say whether a pot, whose void reservations are gone, has enough left."""
    mine = (spending.c.tenant == pot.tenant) & (spending.c.pot == pot.key)
    row = connection.execute(select(spending.c.cost_nano, spending.c.tokens).where(mine)).one_or_none()
    used = Amount(
        max(pot.known.cost_nano, 0 if row is None else row.cost_nano),
        max(pot.known.tokens, 0 if row is None else row.tokens),
    )
    reserved = _sum_reserved(connection, pot.tenant, pot.key, 0)
    waits = False
    for is_cost, limit in ((True, pot.cost_nano), (False, pot.tokens)):
        if limit is None:
            continue
        spent, taken = (used.cost_nano, reserved.cost_nano) if is_cost else (used.tokens, reserved.tokens)
        needs, may = (least.cost_nano, most.cost_nano) if is_cost else (least.tokens, most.tokens)
        if spent >= limit or spent + needs > limit:
            return Refused(pot, used, is_cost)
        waits = waits or (taken > 0 and spent + taken + may > limit)
    return MustWait(pot) if waits else None


def _add(connection: Connection, pot: Pot, used: Amount) -> None:
    mine = (spending.c.tenant == pot.tenant) & (spending.c.pot == pot.key)
    more = {
        "cost_nano": spending.c.cost_nano + used.cost_nano,
        "tokens": spending.c.tokens + used.tokens,
        "calls": spending.c.calls + 1,
    }
    if connection.execute(update(spending).where(mine).values(more)).rowcount:
        return
    if pot.since_us:
        old = (spending.c.budget == pot.budget) & (spending.c.since_us < pot.since_us - KEPT_US)
        connection.execute(delete(spending).where(old, spending.c.execution_id == ""))
        # of workers that were lost, for calls that nobody made again
        connection.execute(delete(spending_reserved).where(spending_reserved.c.until_us < pot.since_us))
    row = {
        "tenant": pot.tenant,
        "pot": pot.key,
        "budget": pot.budget,
        "execution_id": pot.execution_id,
        "since_us": pot.since_us,
        "cost_nano": used.cost_nano,
        "tokens": used.tokens,
        "calls": 1,
    }
    connection.execute(insert(spending).values(row))
