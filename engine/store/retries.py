"""Keys of requests that came without one: remembered for a while, so that a repetition finds that of its first try."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from engine.store.bulk import replacing
from engine.store.database import Database
from engine.store.idempotency import OURS_KEPT_US
from engine.store.schema_retries import blind_retries

KEPT_US = OURS_KEPT_US
"""How long a key is kept from the last try that came, as long as none was answered."""
ANSWERED_US = 180 * 1_000_000
"""How long once one was: the SDK waits two minutes for an answer that was lost, and tries for less than one more. Who
asks for the same later wants another one, though its first try may have met nobody."""
CLEAN_US = 600 * 1_000_000
CLEAN_MOST = 1_000

_REMEMBER = replacing(blind_retries)


class RetryStore:
    """Keys of requests of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert
        self._cleaned_us = 0

    async def begin(self, tenant: str, fingerprint: str, key: str, *, now_us: int) -> None:
        """Remember the key of a request that is made for the first time, in place of that of an equal one before.

        Args:
            tenant: Tenant of the caller.
            fingerprint: Hash of what is asked, and by whom.
            key: The new key.
            now_us: Unix microseconds.
        """

        def work(connection: Connection) -> None:
            self._clean(connection, now_us)
            _REMEMBER.run(connection, [_row(tenant, fingerprint, key, now_us)])

        await self._database.run(work, write=True)

    async def again(self, tenant: str, fingerprint: str, key: str, *, now_us: int) -> str:
        """Return the key of the latest first try of a request that is repeated.

        Args:
            tenant: Tenant of the caller.
            fingerprint: Hash of what is asked, and by whom.
            key: The key if nothing of a first try is known, which is then remembered.
            now_us: Unix microseconds.
        """
        mine = _is(tenant, fingerprint)

        def work(connection: Connection) -> str:
            connection.execute(delete(blind_retries).where(mine, blind_retries.c.at_us <= now_us - KEPT_US))
            row = _row(tenant, fingerprint, key, now_us)
            # two repetitions at once must find one key
            connection.execute(self._insert(blind_retries).values(row).on_conflict_do_nothing())
            connection.execute(update(blind_retries).where(mine).values(at_us=now_us))
            return str(connection.execute(select(blind_retries.c.key).where(mine)).scalar_one())

        return await self._database.run(work, write=True)

    async def answered(self, tenant: str, fingerprint: str, key: str, *, now_us: int) -> None:
        """Forget a key soon, since a try of its request was answered; not that of an equal request that came later."""
        mine = and_(_is(tenant, fingerprint), blind_retries.c.key == key)
        change = update(blind_retries).where(mine).values(at_us=now_us - KEPT_US + ANSWERED_US)
        await self._database.run(lambda connection: connection.execute(change), write=True)

    def _clean(self, connection: Connection, now_us: int) -> None:
        if now_us - self._cleaned_us < CLEAN_US:
            return
        self._cleaned_us = now_us
        names = blind_retries.c.tenant, blind_retries.c.fingerprint
        old = select(*names).where(blind_retries.c.at_us <= now_us - KEPT_US).limit(CLEAN_MOST)
        for tenant, fingerprint in connection.execute(old).all():
            connection.execute(delete(blind_retries).where(_is(tenant, fingerprint)))


def _is(tenant: str, fingerprint: str) -> ColumnElement[bool]:
    return and_(blind_retries.c.tenant == tenant, blind_retries.c.fingerprint == fingerprint)


def _row(tenant: str, fingerprint: str, key: str, now_us: int) -> dict[str, str | int]:
    return {"tenant": tenant, "fingerprint": fingerprint, "key": key, "at_us": now_us}
