"""Files in the store: whole and as they were sent, with size and hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from engine.core.errors import NotFound
from engine.store.database import Database
from engine.store.projects import known_project
from engine.store.schema_files import files
from engine.store.texts import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file, but for its content.

    Attributes:
        id: Its id.
        tenant: Whose it is.
        name: What it is called.
        description: What it is for.
        mime_type: Of what kind it is; None = nobody said so.
        project: Canonical name of its project; None = it belongs to none.
        size: How many bytes it has.
        hash: Their SHA-256, hexadecimal.
        created_us: When it was stored, Unix microseconds.
        actor: Who stored it.
    """

    id: str
    tenant: str
    name: str
    description: str = ""
    mime_type: str | None = None
    project: str | None = None
    size: int
    hash: str
    created_us: int
    actor: str = ""


_FACTS = tuple(files.c[name] for name in FileFacts.__dataclass_fields__)


def no_file(file_id: str) -> NotFound:
    """Return the error for a file that is not there."""
    return NotFound(f"there is no file {file_id}", code="file.not_found")


class FileStore:
    """Files of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, facts: FileFacts, content: bytes) -> FileFacts:
        """Store a file, or return the one that was stored before under its id.

        Args:
            facts: What is known of it; `project` may be the id of one.
            content: Its bytes.

        Raises:
            NotFound: `project.not_found`.
        """

        def work(connection: Connection) -> FileFacts:
            known = _find(connection, facts.id, facts.tenant)
            if known is not None:
                return known
            project = known_project(connection, facts.project, facts.tenant)
            texts = {"name": plain(facts.name, 255), "description": plain(facts.description), "project": project}
            row = {name: getattr(facts, name) for name in FileFacts.__dataclass_fields__}
            connection.execute(insert(files).values(**{**row, **texts, "content": content}))
            found = _find(connection, facts.id, facts.tenant)
            assert found is not None
            return found

        return await self.database.run(work, write=True)

    async def get(self, file_id: str, *, tenant: str) -> tuple[FileFacts, bytes]:
        """Return a file and its bytes.

        Raises:
            NotFound: `file.not_found`.
        """
        found = await self.contents([file_id], tenant=tenant)
        if not found:
            raise no_file(file_id)
        return found[0]

    async def page(self, *, tenant: str, limit: int, offset: int, descending: bool) -> list[FileFacts]:
        """Return files by the time at which they were stored, without their bytes."""
        order = [column.desc() if descending else column.asc() for column in (files.c.created_us, files.c.id)]
        query = select(*_FACTS).where(files.c.tenant == tenant).order_by(*order).limit(limit).offset(offset)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_file_of(row) for row in rows]

    async def contents(self, ids: Sequence[str], *, tenant: str) -> list[tuple[FileFacts, bytes]]:
        """Return files with their bytes in the order of their ids here, without those that there are not."""
        query = select(*_FACTS, files.c.content).where(files.c.tenant == tenant, files.c.id.in_(ids))
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        found = {row.id: (_file_of(row), row.content) for row in rows}
        return [found[file_id] for file_id in ids if file_id in found]

    async def remove(self, file_id: str, *, tenant: str) -> None:
        """Delete a file.

        Raises:
            NotFound: `file.not_found`.
        """
        statement = delete(files).where(files.c.tenant == tenant, files.c.id == file_id)
        if not await self.database.run(lambda connection: connection.execute(statement).rowcount, write=True):
            raise no_file(file_id)


def _find(connection: Connection, file_id: str, tenant: str) -> FileFacts | None:
    row = connection.execute(select(*_FACTS).where(files.c.tenant == tenant, files.c.id == file_id)).one_or_none()
    return None if row is None else _file_of(row)


def _file_of(row: Row[*tuple[Any, ...]]) -> FileFacts:
    return FileFacts(**{name: getattr(row, name) for name in FileFacts.__dataclass_fields__})
