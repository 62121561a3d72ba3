"""Keeps what agents and models have said to each other, so that a call need carry only what is new in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from engine.store.bulk import replacing
from engine.store.database import Database
from engine.store.schema_conversations import conversations

KEPT_US = 7 * 86_400_000_000
"""How long a conversation is kept that nobody goes on with; then its execution sends it whole once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one call added to a conversation.

    Attributes:
        tenant: Tenant of the execution.
        execution_id: The execution.
        id: The conversation.
        before: Hash of what was said before; empty = nothing was.
        hash: Hash of all that was said now.
        number: Number of messages in all.
        messages: Those that were added, the reply last.
    """

    tenant: str
    execution_id: str
    id: str
    before: str
    hash: str
    number: int
    messages: Sequence[dict[str, Any]]


_KEEP = replacing(conversations)


class ConversationStore:
    """Reads and writes conversations.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(
        self, tenant: str, execution_id: str, conversation_id: str, *, hash: str
    ) -> list[dict[str, Any]] | None:
        """Return what was said up to and with the message that a hash stands for; None = it is not here as a whole."""
        table = conversations.c
        mine = (table.tenant == tenant, table.execution_id == execution_id, table.id == conversation_id)
        query = select(table.hash, table.before, table.messages).where(*mine)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        by_hash = {row.hash: row for row in rows}
        texts: list[str] = []
        at = hash
        while at:
            row = by_hash.pop(at, None)
            if row is None:
                return None
            texts.append(row.messages)
            at = row.before
        return [message for text in reversed(texts) for message in json.loads(text)]

    async def keep(self, said: Said, *, now_us: int) -> None:
        """Keep what a call added."""
        row = {
            "tenant": said.tenant,
            "execution_id": said.execution_id,
            "id": said.id,
            "before": said.before,
            "hash": said.hash,
            "number": said.number,
            # escaped, since models send halves of characters that no database takes
            "messages": json.dumps(said.messages, separators=(",", ":")),
            "at_us": now_us,
        }

        def work(connection: Connection) -> None:
            if not said.before:
                connection.execute(delete(conversations).where(conversations.c.at_us < now_us - KEPT_US))
            _KEEP.run(connection, [row])

        await self._database.run(work, write=True)
