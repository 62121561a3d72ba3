"""Requests that have a key: reserved when they begin, with the answer once there is one, forgotten after a day."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from engine.store.database import Database
from engine.store.schema import idempotency

KEPT_US = 24 * 3_600 * 1_000_000
OURS = "retry:"
"""Begins keys that we gave to requests without one; who sent them repeats them within minutes, or never."""
OURS_KEPT_US = 3_600 * 1_000_000
LAPSE_US = 8 * 1_000_000
"""How long a reservation holds that nobody renews: its process is gone."""
CLEAN_US = 600 * 1_000_000
CLEAN_MOST = 1_000
_HALF = 32


class Standing(Enum):
    """How a request stands to an earlier one with its key."""

    FIRST = "first"
    ANSWERED = "answered"
    UNDER_WAY = "under way"
    ANOTHER = "another"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the store says to a request with a key.

    Attributes:
        standing: How it stands to an earlier request.
        reserved_us: Of the first one, the mark by which its answer is stored.
        status: Of an answered one, the HTTP status.
        body: Of an answered one, the body.
    """

    standing: Standing
    reserved_us: int = 0
    status: int = 0
    body: str = ""


def of_execution(fingerprint: str, execution_id: str) -> str:
    """Return the fingerprint of a request on an execution: its second half tells which, so that a purge finds it."""
    return fingerprint[:_HALF] + _mark_of(execution_id)


def about_executions(ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a row belongs to a request on one of some executions."""
    return func.substr(idempotency.c.fingerprint, _HALF + 1).in_([_mark_of(one) for one in ids])


def _mark_of(execution_id: str) -> str:
    return hashlib.sha256(execution_id.encode()).hexdigest()[:_HALF]


def _row_of(tenant: str, key: str) -> ColumnElement[bool]:
    return and_(idempotency.c.tenant == tenant, idempotency.c.key == key)


class IdempotencyStore:
    """Keys of requests, of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert
        self._cleaned_us = 0

    async def reserve(self, tenant: str, key: str, fingerprint: str, *, now_us: int) -> Reservation:
        """Reserve a key for a request, or say what became of the request that has it.

        Args:
            tenant: Tenant of the caller.
            key: The caller's key.
            fingerprint: Hash of what is asked.
            now_us: Present time, Unix microseconds.
        """

        def work(connection: Connection) -> Reservation:
            self._clean(connection, now_us)
            row = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "created_us": now_us}
            inserted = connection.execute(self._insert(idempotency).values(row).on_conflict_do_nothing())
            if inserted.rowcount == 1:
                return Reservation(Standing.FIRST, now_us)
            return self._stand(connection, tenant, key, fingerprint, now_us)

        return await self.database.run(work, write=True)

    def _stand(self, connection: Connection, tenant: str, key: str, fingerprint: str, now_us: int) -> Reservation:
        mine = _row_of(tenant, key)
        found = connection.execute(select(idempotency).where(mine)).one_or_none()
        if found is None:
            return Reservation(Standing.UNDER_WAY)  # it was given back a moment ago: the caller tries again
        age = now_us - found.created_us
        if age < KEPT_US and found.fingerprint != fingerprint:
            return Reservation(Standing.ANOTHER)
        if age < KEPT_US and found.status is not None:
            return Reservation(Standing.ANSWERED, status=found.status, body=found.body or "")
        if age < LAPSE_US:
            return Reservation(Standing.UNDER_WAY)
        taken = connection.execute(
            update(idempotency)
            .where(mine, idempotency.c.created_us == found.created_us)
            .values(fingerprint=fingerprint, created_us=now_us, status=None, body=None)
        )
        return Reservation(Standing.FIRST, now_us) if taken.rowcount == 1 else Reservation(Standing.UNDER_WAY)

    async def answer(self, tenant: str, key: str, reserved_us: int, *, status: int, body: str) -> None:
        """Store the answer of the request that reserved the key; one whose reservation lapsed stores nothing."""
        mine = and_(_row_of(tenant, key), idempotency.c.created_us == reserved_us)
        statement = update(idempotency).where(mine).values(status=status, body=body)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def renew(self, tenant: str, key: str, reserved_us: int, *, now_us: int) -> int:
        """Hold a reservation from now on; returns its new mark, or the old one if it has lapsed and is another's."""
        mine = and_(_row_of(tenant, key), idempotency.c.created_us == reserved_us, idempotency.c.status.is_(None))
        statement = update(idempotency).where(mine).values(created_us=now_us)
        renewed = await self.database.run(lambda connection: connection.execute(statement).rowcount, write=True)
        return now_us if renewed else reserved_us

    async def release(self, tenant: str, key: str, reserved_us: int) -> None:
        """Give a reservation back, so that the same request may be made again."""
        mine = and_(_row_of(tenant, key), idempotency.c.created_us == reserved_us, idempotency.c.status.is_(None))
        await self.database.run(lambda connection: connection.execute(delete(idempotency).where(mine)), write=True)

    def _clean(self, connection: Connection, now_us: int) -> None:
        if now_us - self._cleaned_us < CLEAN_US:
            return
        self._cleaned_us = now_us
        lapsed = idempotency.c.created_us < now_us - KEPT_US
        ours = idempotency.c.key.startswith(OURS) & (idempotency.c.created_us < now_us - OURS_KEPT_US)
        old = select(idempotency.c.tenant, idempotency.c.key).where(lapsed | ours)
        for tenant, key in connection.execute(old.limit(CLEAN_MOST)).all():
            connection.execute(delete(idempotency).where(_row_of(tenant, key)))
