"""Users in the store: the people with whom agents talk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, select

from engine.core.errors import NotFound
from engine.core.values import compact_json
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.projects import known_project
from engine.store.resources import ResourceStore, put_row
from engine.store.schema_resources import users
from engine.store.texts import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFacts:
    """A user as it is stored; times in Unix microseconds.

    Attributes:
        id: User id.
        tenant: Its tenant.
        name: Its name.
        about: Who it is.
        project: Canonical name of the project that it belongs to, or None.
        metadata: The caller's metadata.
        created_us: When it was created.
        updated_us: When it was last changed.
        actor: Who made it; empty = nobody was asked for a name.
    """

    id: str
    tenant: str
    name: str = ""
    about: str = ""
    project: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_us: int
    updated_us: int
    actor: str = ""


Change = Callable[[UserFacts | None], UserFacts]
"""Makes the next state of a user of its present one; None = there is none of that id."""


def no_user(user_id: str) -> NotFound:
    """Return the error for a user that is not there."""
    return NotFound(f"there is no user {user_id}", code="user.not_found")


class UserStore(ResourceStore[UserFacts]):
    """Users of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database, table=users, find=find_user, facts_of=_user_of, missing=no_user)

    async def write(self, user_id: str, change: Change, *, tenant: str) -> UserFacts:
        """Change a user, or add one, in one transaction.

        Args:
            user_id: The user.
            change: What it shall be.
            tenant: Its tenant.

        Returns:
            What it is now.

        Raises:
            NotFound: `project.not_found`.
            EngineError: What `change` raises.
        """

        def work(connection: Connection) -> UserFacts:
            lock_definitions(connection, tenant)
            present = find_user(connection, user_id, tenant)
            wanted = change(present)
            wanted = replace(wanted, project=known_project(connection, wanted.project, tenant))
            put_row(connection, users, present, wanted, _values(wanted))
            return wanted

        return await self.database.run(work, write=True)


def find_user(connection: Connection, user_id: str, tenant: str) -> UserFacts | None:
    """Return a user within a transaction, or None."""
    row = connection.execute(select(users).where(users.c.tenant == tenant, users.c.id == user_id)).one_or_none()
    return None if row is None else _user_of(row)


def _values(user: UserFacts) -> dict[str, Any]:
    return {
        "name": user.name,
        "about": user.about,
        "project": user.project,
        "metadata": compact_json(user.metadata),
        "created_us": user.created_us,
        "updated_us": user.updated_us,
        "actor": plain(user.actor, 255),
    }


def _user_of(row: Row[*tuple[Any, ...]]) -> UserFacts:
    return UserFacts(**{**row._mapping, "metadata": json.loads(row._mapping["metadata"])})
