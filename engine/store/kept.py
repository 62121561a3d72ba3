"""Keeps replies of models and outputs of tools for equal calls, for as long as their steps say."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, func, select

from engine.store.bulk import replacing
from engine.store.database import Database
from engine.store.schema_kept import kept_replies

MOST_CHARS = 1_000_000
"""Longer outcomes are not kept."""
MOST_IN_ALL = 500_000_000
"""Characters of all that is kept together; what was kept first goes first."""
SWEPT_AT_ONCE = 500

_KEEP = replacing(kept_replies)


class KeptStore:
    """Reads and writes what is kept.

    Args:
        database: The open store.
        most_in_all: Characters of all that is kept together.
    """

    def __init__(self, database: Database, *, most_in_all: int = MOST_IN_ALL) -> None:
        self._database = database
        self._most_in_all = most_in_all

    async def find(self, tenant: str, call: str, *, now_us: int) -> Any:
        """Return what is kept for a call; None = nothing is, or not any more.

        Args:
            tenant: Its tenant.
            call: The hash of the call.
            now_us: Unix microseconds.
        """
        mine = kept_replies.c.tenant == tenant, kept_replies.c.id == call, kept_replies.c.until_us > now_us
        query = select(kept_replies.c.body).where(*mine)
        body = await self._database.run(lambda connection: connection.execute(query).scalar_one_or_none())
        return None if body is None else json.loads(body)

    async def keep(self, tenant: str, call: str, body: Any, *, execution_id: str, ttl_s: float, now_us: int) -> bool:
        """Keep the outcome of a call, instead of what was kept for it before.

        Args:
            tenant: Its tenant.
            call: The hash of the call.
            body: The outcome as JSON.
            execution_id: The execution that made the call; what is kept goes with it when it is purged.
            ttl_s: For how long, in seconds.
            now_us: Unix microseconds.

        Returns:
            Whether it is kept; what is too long is not.
        """
        # escaped, since models send halves of characters that no database takes
        text = json.dumps(body, separators=(",", ":"))
        if len(text) > MOST_CHARS:
            return False
        row = {
            "tenant": tenant,
            "id": call,
            "execution_id": execution_id,
            "body": text,
            "chars": len(text),
            "at_us": now_us,
            "until_us": now_us + round(ttl_s * 1e6),
        }
        await self._database.run(lambda connection: _KEEP.run(connection, [row]), write=True)
        return True

    async def sweep(self, *, now_us: int) -> int:
        """Forget what is over, and the oldest of what is more than all may hold together.

        Args:
            now_us: Unix microseconds.

        Returns:
            How many were forgotten; there may be more.
        """
        return await self._database.run(lambda connection: self._sweep(connection, now_us), write=True)

    def _sweep(self, connection: Connection, now_us: int) -> int:
        over = select(kept_replies.c.tenant, kept_replies.c.id).where(kept_replies.c.until_us <= now_us)
        gone = [tuple(row) for row in connection.execute(over.limit(SWEPT_AT_ONCE))]
        total = int(connection.execute(select(func.coalesce(func.sum(kept_replies.c.chars), 0))).scalar_one())
        if total > self._most_in_all:
            query = select(kept_replies.c.tenant, kept_replies.c.id, kept_replies.c.chars)
            for row in connection.execute(query.order_by(kept_replies.c.at_us).limit(SWEPT_AT_ONCE)):
                if total <= self._most_in_all:
                    break
                total -= row.chars
                gone.append((row.tenant, row.id))
        for tenant, call in gone:
            connection.execute(delete(kept_replies).where(kept_replies.c.tenant == tenant, kept_replies.c.id == call))
        return len(set(gone))
