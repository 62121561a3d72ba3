"""Secrets in the store, as they are encrypted: this module sees no value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema_secrets import secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A secret as it is stored; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        name: Its name.
        key_id: Which key encrypted it.
        sealed: Nonce and ciphertext in base64.
        description: What it is for.
        created_us: When its name was first set.
        updated_us: When its value was set.
        updated_by: Who set it.
    """

    tenant: str
    name: str
    key_id: str
    sealed: str
    description: str = ""
    created_us: int = 0
    updated_us: int = 0
    updated_by: str = ""


def _secret_of(row: Row[*tuple[Any, ...]]) -> SealedSecret:
    return SealedSecret(**row._mapping)


def _one_of(tenant: str, name: str) -> ColumnElement[bool]:
    return and_(secrets.c.tenant == tenant, secrets.c.name == name)


class SecretStore:
    """Secrets of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, secret: SealedSecret, *, keep_description: bool = False, most: int | None = None) -> bool:
        """Store a secret in the place of the one of that name.

        Args:
            secret: The secret; one that replaces another keeps its time of creation.
            keep_description: Whether the description that is there stays.
            most: Most secrets of the tenant; None = any number.

        Returns:
            Whether it was stored; if not, the tenant has `most` others.
        """
        values = {
            "key_id": secret.key_id,
            "sealed": secret.sealed,
            "updated_us": secret.updated_us,
            "updated_by": secret.updated_by,
        }

        def write(connection: Connection) -> bool:
            lock_row(connection, secrets.name, secret.tenant)
            mine = _one_of(secret.tenant, secret.name)
            if connection.execute(select(secrets.c.name).where(mine)).one_or_none() is not None:
                more = {} if keep_description else {"description": secret.description}
                connection.execute(update(secrets).where(mine).values(**values, **more))
                return True
            if most is not None:
                others = select(secrets.c.name).where(secrets.c.tenant == secret.tenant).limit(most)
                if len(connection.execute(others).all()) >= most:
                    return False
            made = {"tenant": secret.tenant, "name": secret.name, "created_us": secret.created_us}
            connection.execute(insert(secrets).values(**made, **values, description=secret.description))
            return True

        return await self.database.run(write, write=True)

    async def replace_sealed(self, secret: SealedSecret, *, instead_of: str) -> bool:
        """Store another encryption of the same value, unless somebody set another value meanwhile."""
        mine = and_(_one_of(secret.tenant, secret.name), secrets.c.sealed == instead_of)
        statement = update(secrets).where(mine).values(key_id=secret.key_id, sealed=secret.sealed)
        return await self.database.run(lambda connection: connection.execute(statement).rowcount == 1, write=True)

    async def find(self, names: Collection[str], *, tenant: str) -> dict[str, SealedSecret]:
        """Return those of these secrets that the tenant has, by name."""
        query = select(secrets).where(secrets.c.tenant == tenant, secrets.c.name.in_(names))
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return {row.name: _secret_of(row) for row in rows}

    async def list_secrets(self, *, tenant: str, limit: int, after: str = "") -> Sequence[SealedSecret]:
        """Return one page of a tenant's secrets by name; `after` = name of the last one before."""
        query = select(secrets).where(secrets.c.tenant == tenant, secrets.c.name > after)
        query = query.order_by(secrets.c.name).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_secret_of(row) for row in rows]

    async def remove(self, name: str, *, tenant: str) -> bool:
        """Remove a secret; False if there is none of that name."""
        statement = delete(secrets).where(_one_of(tenant, name))
        return await self.database.run(lambda connection: connection.execute(statement).rowcount == 1, write=True)
