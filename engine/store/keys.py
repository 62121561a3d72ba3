"""API keys in the store: what is known of each, and the hash of its text; the text itself is kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, tuple_, update

from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema import api_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """An API key as it is stored; times in Unix microseconds.

    Attributes:
        tenant: The tenant it opens.
        id: Its id, which stands in its text.
        name: Who or what uses it; records show it as actor.
        hash: SHA-256 of its text, in hex.
        scopes: What it permits.
        created_us: When it was made.
        created_by: Who made it.
        expires_us: When it ceases to open; None = never.
        revoked_us: When it was revoked; None = it was not.
        last_used_us: When it was last used, a minute more or less; None = never.
    """

    tenant: str
    id: str
    name: str
    hash: str
    scopes: tuple[str, ...]
    created_us: int
    created_by: str = ""
    expires_us: int | None = None
    revoked_us: int | None = None
    last_used_us: int | None = None


def _facts_of(row: Row[*tuple[Any, ...]]) -> KeyFacts:
    return KeyFacts(
        tenant=row.tenant,
        id=row.id,
        name=row.name,
        hash=row.hash,
        scopes=tuple(row.scopes.split()),
        created_us=row.created_us,
        created_by=row.created_by,
        expires_us=row.expires_us,
        revoked_us=row.revoked_us,
        last_used_us=row.last_used_us,
    )


def _one_of(tenant: str, key_id: str) -> ColumnElement[bool]:
    return and_(api_keys.c.tenant == tenant, api_keys.c.id == key_id)


class KeyStore:
    """API keys of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, key: KeyFacts, *, replace_after_us: int | None = None) -> bool:
        """Store a key.

        Args:
            key: The key.
            replace_after_us: One of the same tenant and id is replaced if it was made after this time, and was neither
                used nor revoked; None = never.

        Returns:
            Whether it was stored; if not, the id is taken.
        """
        row = {
            "name": key.name,
            "hash": key.hash,
            "scopes": " ".join(key.scopes),
            "created_us": key.created_us,
            "created_by": key.created_by,
            "expires_us": key.expires_us,
            "revoked_us": key.revoked_us,
            "last_used_us": key.last_used_us,
        }

        def write(connection: Connection) -> bool:
            lock_row(connection, api_keys.name, key.id)
            mine = _one_of(key.tenant, key.id)
            if connection.execute(select(api_keys.c.id).where(mine)).one_or_none() is None:
                connection.execute(insert(api_keys).values(tenant=key.tenant, id=key.id, **row))
                return True
            if replace_after_us is None:
                return False
            replaced = connection.execute(
                update(api_keys)
                .where(mine, api_keys.c.created_us > replace_after_us)
                .where(api_keys.c.last_used_us.is_(None), api_keys.c.revoked_us.is_(None))
                .values(row)
            )
            return replaced.rowcount == 1

        return await self.database.run(write, write=True)

    async def find(self, key_id: str) -> KeyFacts | None:
        """Return a key of any tenant, or None: whoever sends one names no tenant."""
        query = select(api_keys).where(api_keys.c.id == key_id)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _facts_of(row)

    async def list_keys(self, *, tenant: str, limit: int, after: tuple[int, str] | None = None) -> Sequence[KeyFacts]:
        """Return one page of a tenant's keys, the oldest first.

        Args:
            tenant: Tenant id.
            limit: Most to return.
            after: Creation time and id of the last one of the page before.
        """
        query = select(api_keys).where(api_keys.c.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(api_keys.c.created_us, api_keys.c.id) > tuple_(*after))
        query = query.order_by(api_keys.c.created_us, api_keys.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def revoke(self, key_id: str, *, tenant: str, now_us: int) -> KeyFacts | None:
        """Revoke a key, unless it is revoked already; None if the tenant has no such key."""

        def write(connection: Connection) -> KeyFacts | None:
            mine = _one_of(tenant, key_id)
            connection.execute(update(api_keys).where(mine, api_keys.c.revoked_us.is_(None)).values(revoked_us=now_us))
            row = connection.execute(select(api_keys).where(mine)).one_or_none()
            return None if row is None else _facts_of(row)

        return await self.database.run(write, write=True)

    async def touch(self, key_id: str, *, tenant: str, now_us: int) -> None:
        """Write that a key was used."""
        statement = update(api_keys).where(_one_of(tenant, key_id)).values(last_used_us=now_us)
        await self.database.run(lambda connection: connection.execute(statement), write=True)
