"""Use cases on files: store, list, read and delete them; what crosses the API is base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from engine.control.definitions import now_us
from engine.control.request_keys import id_for, key_reused
from engine.control.resources import deleted_view
from engine.core.errors import InvalidInput
from engine.core.run.times import iso_time
from engine.store.files import FileFacts, FileStore

MOST_BYTES = 20 * 2**20
"""Of one file; larger ones belong into a storage of their own, with their address in a task."""
MOST_LISTED_BYTES = 32 * 2**20
"""Of the files of one page, which has their contents: a longer list goes on in the next one."""


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of files with their bytes.

    Attributes:
        files: The files.
        next_offset: Where the next page begins; None = there is none.
    """

    files: list[tuple[FileFacts, bytes]]
    next_offset: int | None


class FileService:
    """Keeps files.

    Args:
        store: Where they are.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def create(
        self,
        name: str,
        content: str,
        *,
        tenant: str,
        description: str = "",
        mime_type: str | None = None,
        project: str | None = None,
        actor: str = "",
        request_key: str = "",
    ) -> tuple[FileFacts, bytes]:
        """Store a file.

        Args:
            name: What it is called.
            content: Its bytes in base64.
            tenant: Tenant id.
            description: What it is for.
            mime_type: Of what kind it is.
            project: Id or canonical name of the project that it belongs to.
            actor: Who stores it.
            request_key: A repetition with the same key stores nothing.

        Raises:
            InvalidInput: `file.not_base64`, `file.too_large`.
            NotFound: `project.not_found`.
            Conflict: `idempotency.key_reused` if another file was stored with the key.
        """
        # of a large file both take so long that others would notice
        data = await asyncio.to_thread(_decoded, content)
        digest = await asyncio.to_thread(hashlib.sha256, data)
        facts = FileFacts(
            id=id_for(tenant, "file", request_key),
            tenant=tenant,
            name=name,
            description=description,
            mime_type=mime_type,
            project=project,
            size=len(data),
            hash=digest.hexdigest(),
            created_us=now_us(),
            actor=actor,
        )
        stored = await self._store.add(facts, data)
        if stored.hash != facts.hash:
            raise key_reused(request_key, stored.id)
        return stored, data

    async def get(self, file_id: str, *, tenant: str) -> tuple[FileFacts, bytes]:
        """Return a file and its bytes.

        Raises:
            NotFound: `file.not_found`.
        """
        return await self._store.get(file_id, tenant=tenant)

    async def page(self, *, tenant: str, limit: int, offset: int, descending: bool = True) -> FilePage:
        """Return files with their bytes; a page ends before they are too many, but has one file at least."""
        found = await self._store.page(tenant=tenant, limit=limit + 1, offset=offset, descending=descending)
        shown: list[str] = []
        size = 0
        for facts in found[:limit]:
            size += facts.size
            if shown and size > MOST_LISTED_BYTES:
                break
            shown.append(facts.id)
        next_offset = offset + len(shown) if len(shown) < len(found) else None
        return FilePage(await self._store.contents(shown, tenant=tenant), next_offset)

    async def remove(self, file_id: str, *, tenant: str) -> dict[str, Any]:
        """Delete a file.

        Returns:
            {id, deleted_at, jobs}.

        Raises:
            NotFound: `file.not_found`.
        """
        moment = now_us()
        await self._store.remove(file_id, tenant=tenant)
        return deleted_view(file_id, moment)


def _decoded(content: str) -> bytes:
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"the content of the file is not base64: {error}",
            code="file.not_base64",
            hint="send base64.b64encode(data).decode() as `content`",
        ) from error
    if len(data) > MOST_BYTES:
        raise InvalidInput(
            f"a file may have {MOST_BYTES // 2**20} MB",
            code="file.too_large",
            hint="keep it in a storage of its own, and give tasks its address",
        )
    return data


def file_view(facts: FileFacts, content: bytes) -> dict[str, Any]:
    """Return a file as it is told: {id, name, content, size, hash, description, mime_type, project, created_at}."""
    return {
        "id": facts.id,
        "name": facts.name,
        "description": facts.description,
        "mime_type": facts.mime_type,
        "project": facts.project,
        "content": base64.b64encode(content).decode("ascii"),
        "size": facts.size,
        "hash": facts.hash,
        "created_at": iso_time(facts.created_us),
        "actor": facts.actor or None,
    }
