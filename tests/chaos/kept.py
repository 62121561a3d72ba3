"""What the store holds of sessions while nobody can be asked, since whoever could answer was killed."""

from __future__ import annotations

from typing import Any

from engine.store.chat_turns import TurnFacts, TurnStore
from engine.store.database import Database
from engine.store.entries import SUMMARIZER, EntryFacts, EntryStore
from engine.store.schema_sessions import chat_turns
from engine.store.summaries import SummaryStore
from tests.support.doors import eventually
from tests.support.lab import TENANT


class Kept:
    """Looks into the store of an installation.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turns(self, session: str) -> list[TurnFacts]:
        """Return the turns of a session in order."""
        mine = chat_turns.select().where(chat_turns.c.session_id == session).order_by(chat_turns.c.number)
        rows = await self._database.run(lambda connection: connection.execute(mine).all())
        found = [await TurnStore(self._database).get(row.id, tenant=TENANT) for row in rows]
        return [turn for turn in found if turn is not None]

    async def quiet(self, session: str) -> None:
        """Return when nothing of a session is under way."""

        async def is_quiet() -> bool:
            summary = await SummaryStore(self._database).find(session, tenant=TENANT)
            return summary is None and not any(turn.is_open for turn in await self.turns(session))

        await eventually(is_quiet, f"the end of all that goes on in the session {session}")

    async def entries(self, session: str) -> list[EntryFacts]:
        """Return what a session keeps, in order."""
        return await EntryStore(self._database).every(session, tenant=TENANT)

    async def said(self, session: str) -> list[tuple[str, Any]]:
        """Return role and content of all that was said in a session, also of what a summary stands for."""
        return [(one.role, one.content) for one in await self.entries(session) if one.source != SUMMARIZER]

    async def summaries(self, session: str) -> int:
        """Return how many summaries were made, and check that one counts and stands for all the others."""
        entries = await self.entries(session)
        made = {one.id for one in entries if one.source == SUMMARIZER}
        assert {one.summary_id for one in entries} - {None} == made, "each stands for something"
        assert sum(one.source == SUMMARIZER and one.summary_id is None for one in entries) == min(len(made), 1)
        return len(made)
