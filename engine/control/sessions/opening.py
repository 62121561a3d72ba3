"""Puts the use cases of sessions together, for the API and for workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from engine.control.documents import DocumentService
from engine.control.executions import ExecutionService
from engine.control.models import ModelService
from engine.control.outgoing import keep_going
from engine.control.sessions.contexts import ContextLengths
from engine.control.sessions.prompting import PromptService
from engine.control.sessions.sessions import SessionService
from engine.control.sessions.summarising import SummaryService
from engine.control.sessions.turns import TurnService
from engine.control.starting import StartService
from engine.core.plan.ir import ToolContract
from engine.store.changes import Changes
from engine.store.chat_turns import TurnStore
from engine.store.database import Database
from engine.store.summaries import SummaryStore


@dataclass(frozen=True, slots=True)
class Sessions:
    """Use cases of sessions.

    Attributes:
        service: Keeps sessions and tells what was said.
        turns: Takes what is asked, and answers it.
        prompts: Works out what the model is asked.
        summaries: Has older entries summed up.
    """

    service: SessionService
    turns: TurnService
    prompts: PromptService
    summaries: SummaryService

    async def keep(self, changes: Changes, stopping: asyncio.Event) -> None:
        """Go on with what nobody waits for any more, until told to stop; any number of workers may do it.

        Args:
            changes: Watch over the store.
            stopping: Ends it when it is set.
        """
        await keep_going([self.turns.keep, self.summaries.tick], changes, stopping)


def open_sessions(
    database: Database,
    changes: Changes,
    *,
    documents: DocumentService,
    executions: ExecutionService,
    starter: StartService,
    models: ModelService,
    contracts: Mapping[str, ToolContract],
) -> Sessions:
    """Put the use cases together.

    Args:
        database: The open store.
        changes: Watch over the store.
        documents: Looks documents up.
        executions: Use cases on running executions.
        starter: Starts executions.
        models: Knows how much models take.
        contracts: The operator's tools by name.
    """
    service, summaries = SessionService(database), SummaryService(SummaryStore(database), executions, starter)
    prompts = PromptService(database, documents, ContextLengths(models), summaries, contracts)
    turns = TurnService(service, TurnStore(database), prompts, starter, executions, changes, contracts)
    return Sessions(service, turns, prompts, summaries)
