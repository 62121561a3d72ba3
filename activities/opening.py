"""Puts the activities of a worker's executions together: calls of models and tools, searches, steps that run tasks."""

from __future__ import annotations

from dataclasses import dataclass

from activities.children import ChildActivities
from activities.embedding import Embedder
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from activities.registry import secrets_of
from activities.tools.runner import ToolActivities
from engine.broker.publishing import TokenPublisher
from engine.control.secrets import SecretReader
from engine.control.usecases import Grounds
from engine.obs.telemetry import Telemetry
from engine.store.conversations import ConversationStore
from engine.store.docs import DocStore
from engine.store.kept import KeptStore
from engine.store.limits import LimitStore
from engine.store.spending import SpendingStore
from engine.tooling.catalog import ToolCatalog


@dataclass(frozen=True, slots=True)
class Effects:
    """The activities that executions ask for.

    Attributes:
        chat: Calls of models.
        tools: Calls of tools.
        lookups: Vectors and searches.
        children: Steps that run another task.
    """

    chat: ChatActivities
    tools: ToolActivities
    lookups: LookupActivities
    children: ChildActivities

    async def aclose(self) -> None:
        """Close what they hold open."""
        await self.chat.aclose()
        self.lookups.close()
        await self.tools.aclose()


def open_effects(grounds: Grounds, catalog: ToolCatalog, telemetry: Telemetry, tokens: TokenPublisher) -> Effects:
    """Put the activities together.

    Args:
        grounds: What the worker stands on.
        catalog: The operator's tools.
        telemetry: Where spans and metrics go.
        tokens: Takes what models write, as it comes.
    """
    settings, database, project = grounds.settings, grounds.database, grounds.project
    kept = KeptStore(database)
    chat = ChatActivities.of(
        project,
        limits=LimitStore(database),
        spending=SpendingStore(database),
        kept=kept,
        conversations=ConversationStore(database),
        telemetry=telemetry,
        tokens=tokens,
        read_secret=secrets_of(settings, database),
    )
    lookups = LookupActivities(Embedder(chat), DocStore(database), telemetry=telemetry)
    tools = ToolActivities(
        catalog,
        project.http,
        config=project.tools,
        kept=kept,
        secrets=SecretReader.of(settings, database),
        system=lambda: grounds.system_tools(lookups.find),
        telemetry=telemetry,
        folder=project.folder,
        data_dir=settings.data_dir,
    )
    return Effects(chat, tools, lookups, ChildActivities(grounds.children, telemetry=telemetry))
