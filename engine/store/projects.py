"""Projects in the store: groups that agents, users and files name by a canonical name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from engine.core.errors import Conflict, NotFound
from engine.core.values import compact_json
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.resources import ResourceStore, put_row
from engine.store.schema import agents
from engine.store.schema_files import files
from engine.store.schema_resources import projects, users
from engine.store.texts import plain

MEMBERS = (agents, files, users)
"""Tables whose rows name a project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """A project as it is stored; times in Unix microseconds.

    Attributes:
        id: Project id.
        tenant: Its tenant.
        name: Its name.
        canonical_name: Unique name, by which others name it.
        metadata: The caller's metadata.
        created_us: When it was created.
        updated_us: When it was last changed.
        actor: Who made it; empty = nobody was asked for a name.
    """

    id: str
    tenant: str
    name: str
    canonical_name: str
    metadata: dict[str, Any] = field(default_factory=dict)
    created_us: int
    updated_us: int
    actor: str = ""


Change = Callable[[ProjectFacts | None], ProjectFacts]
"""Makes the next state of a project of its present one; None = there is none of that id or name."""


def known_project(connection: Connection, reference: str | None, tenant: str) -> str | None:
    """Return the canonical name of a project that something shall belong to.

    Args:
        connection: The transaction.
        reference: Its id or canonical name; None = no project.
        tenant: The tenant.

    Raises:
        NotFound: `project.not_found`.
    """
    if reference is None:
        return None
    found = _find(connection, reference, tenant)
    if found is None:
        raise no_project(reference)
    return found.canonical_name


def no_project(reference: str) -> NotFound:
    """Return the error for a project that is not there."""
    return NotFound(
        f"there is no project {reference}", code="project.not_found", hint="`GET /api/projects` lists those there are"
    )


class ProjectStore(ResourceStore[ProjectFacts]):
    """Projects of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database, table=projects, find=_find, facts_of=_project_of, missing=no_project)

    async def write(self, reference: str, change: Change, *, tenant: str) -> ProjectFacts:
        """Change a project, or add one, in one transaction; what belongs to it follows when its canonical name changes.

        Args:
            reference: Its id or canonical name.
            change: What it shall be.
            tenant: Its tenant.

        Raises:
            Conflict: `project.exists` if another one has the canonical name.
            EngineError: What `change` raises.
        """

        def work(connection: Connection) -> ProjectFacts:
            lock_definitions(connection, tenant)
            present = _find(connection, reference, tenant)
            wanted = change(present)
            try:
                _put(connection, present, wanted)
            except IntegrityError as error:
                raise Conflict(
                    f"there is already a project {wanted.canonical_name!r}",
                    code="project.exists",
                    hint="give it another `canonical_name`",
                ) from error
            return wanted

        return await self.database.run(work, write=True)

    async def remove(self, reference: str, *, tenant: str) -> ProjectFacts:
        """Remove a project; what belonged to it belongs to none then.

        Raises:
            NotFound: `project.not_found`.
        """

        def work(connection: Connection) -> ProjectFacts:
            lock_definitions(connection, tenant)
            present = _find(connection, reference, tenant)
            if present is None:
                raise no_project(reference)
            _rename(connection, present, None)
            connection.execute(delete(projects).where(projects.c.tenant == tenant, projects.c.id == present.id))
            return present

        return await self.database.run(work, write=True)


def _find(connection: Connection, reference: str, tenant: str) -> ProjectFacts | None:
    named = or_(projects.c.id == reference, projects.c.canonical_name == reference)
    row = connection.execute(select(projects).where(projects.c.tenant == tenant, named)).one_or_none()
    return None if row is None else _project_of(row)


def _put(connection: Connection, present: ProjectFacts | None, wanted: ProjectFacts) -> None:
    put_row(connection, projects, present, wanted, _values(wanted))
    if present is not None and wanted.canonical_name != present.canonical_name:
        _rename(connection, present, wanted.canonical_name)


def _rename(connection: Connection, project: ProjectFacts, name: str | None) -> None:
    for table in MEMBERS:
        mine = (table.c.tenant == project.tenant, table.c.project == project.canonical_name)
        connection.execute(update(table).where(*mine).values(project=name))


def _values(project: ProjectFacts) -> dict[str, Any]:
    return {
        "name": plain(project.name, 255),
        "canonical_name": project.canonical_name,
        "metadata": compact_json(project.metadata),
        "created_us": project.created_us,
        "updated_us": project.updated_us,
        "actor": plain(project.actor, 255),
    }


def _project_of(row: Row[*tuple[Any, ...]]) -> ProjectFacts:
    return ProjectFacts(**{**row._mapping, "metadata": json.loads(row._mapping["metadata"])})
