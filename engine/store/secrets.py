"""Secrets in the store, as they are encrypted: this module sees no value."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from engine.core.values import canonical_json
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema_secrets import secrets

Outcome = Literal["stored", "taken", "full"]


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
        id: What stays when it gets another name.
        metadata: What else is known of it.
    """

    tenant: str
    name: str
    key_id: str
    sealed: str
    description: str = ""
    created_us: int = 0
    updated_us: int = 0
    updated_by: str = ""
    id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def _secret_of(row: Row[*tuple[Any, ...]]) -> SealedSecret:
    return SealedSecret(**{**row._mapping, "metadata": json.loads(row.metadata)})


def _row_of(secret: SealedSecret) -> dict[str, Any]:
    row = {column.name: getattr(secret, column.name) for column in secrets.columns}
    return {**row, "id": secret.id or str(uuid.uuid4()), "metadata": canonical_json(secret.metadata)}


def _one_of(tenant: str, name: str) -> ColumnElement[bool]:
    return and_(secrets.c.tenant == tenant, secrets.c.name == name)


def _is_there(connection: Connection, tenant: str, name: str) -> bool:
    return connection.execute(select(secrets.c.name).where(_one_of(tenant, name))).one_or_none() is not None


class SecretStore:
    """Secrets of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(
        self,
        secret: SealedSecret,
        *,
        before: str = "",
        is_new: bool = False,
        keep: Collection[str] = (),
        most: int | None = None,
    ) -> Outcome:
        """Store a secret in the place of the one of that name.

        Args:
            secret: The secret; one that replaces another keeps its id and its time of creation.
            before: Name of the one that it replaces, if that is another name.
            is_new: Whether it must replace none.
            keep: Those of `description` and `metadata` that stay as they are.
            most: Most secrets of the tenant; None = any number.

        Returns:
            Whether it was stored, another one has the name already, or the tenant has `most` others.
        """
        values = _row_of(secret)
        replaced = {name: value for name, value in values.items() if name not in {*keep, "id", "created_us"}}

        def write(connection: Connection) -> Outcome:
            lock_row(connection, secrets.name, secret.tenant)
            taken = _is_there(connection, secret.tenant, secret.name)
            if taken and (is_new or before not in ("", secret.name)):
                return "taken"
            known = before or secret.name
            if taken or _is_there(connection, secret.tenant, known):
                connection.execute(update(secrets).where(_one_of(secret.tenant, known)).values(replaced))
                return "stored"
            if most is not None:
                others = select(secrets.c.name).where(secrets.c.tenant == secret.tenant).limit(most)
                if len(connection.execute(others).all()) >= most:
                    return "full"
            connection.execute(insert(secrets).values(values))
            return "stored"

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

    async def find_by_id(self, secret_id: str, *, tenant: str) -> SealedSecret | None:
        """Return a secret of the tenant; None = it has none of that id."""
        query = select(secrets).where(secrets.c.tenant == tenant, secrets.c.id == secret_id)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _secret_of(row)

    async def list_secrets(
        self, *, tenant: str, limit: int, after: str = "", offset: int = 0
    ) -> Sequence[SealedSecret]:
        """Return one page of a tenant's secrets by name; `after` = name of the last one before."""
        query = select(secrets).where(secrets.c.tenant == tenant, secrets.c.name > after)
        query = query.order_by(secrets.c.name).limit(limit).offset(offset)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_secret_of(row) for row in rows]

    async def remove(self, name: str, *, tenant: str) -> bool:
        """Remove a secret; False if there is none of that name."""
        statement = delete(secrets).where(_one_of(tenant, name))
        return await self.database.run(lambda connection: connection.execute(statement).rowcount == 1, write=True)
