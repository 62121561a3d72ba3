"""Puts the use cases of a worker together when it first needs them: those of its loops and those behind activities.

All of them are imported late: the compiler behind them costs a tenth of a second, and a worker is to be ready soon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.control.connect import TemporalConnection
from engine.control.dispatcher import limits_of
from engine.control.registry import open_registry
from engine.store.changes import Changes
from engine.store.projection import ProjectionStore

if TYPE_CHECKING:
    from temporalio.client import Client

    from engine.control.children import ChildService
    from engine.control.definitions import DefinitionService
    from engine.control.executions import ExecutionService
    from engine.control.sessions.opening import Sessions
    from engine.control.starting import StartService
    from engine.control.systemdocs import Find
    from engine.control.systemtools import SystemTools
    from engine.core.plan.ir import ToolContract
    from engine.settings import Project, Settings
    from engine.store.database import Database


@dataclass(frozen=True, slots=True)
class UseCases:
    """Use cases over one store and one connection to Temporal.

    Attributes:
        temporal: The connection.
        store: The projection.
        definitions: Use cases on tasks.
        executions: Use cases on running executions.
        starter: Starts executions.
        sessions: Use cases on sessions.
    """

    temporal: TemporalConnection
    store: ProjectionStore
    definitions: DefinitionService
    executions: ExecutionService
    starter: StartService
    sessions: Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What the use cases of a worker stand on.

    Attributes:
        settings: Settings of the process.
        client: A connected client.
        database: The open store.
        project: The operator's project.
        contracts: Contracts of the operator's tools by name, as they are now.
        on_entered: Called when a start waits to be let in.
    """

    settings: Settings
    client: Client
    database: Database
    project: Project
    contracts: Mapping[str, ToolContract]
    on_entered: Callable[[], None]

    def open(self, changes: Changes) -> UseCases:
        """Put the use cases together.

        Args:
            changes: Watch over the store.
        """
        from engine.control.executions import ExecutionService
        from engine.control.starting import StartService

        queue, limits = self.settings.task_queue, limits_of(self.settings)
        temporal, store = TemporalConnection(self.settings, self.client), ProjectionStore(self.database)
        definitions = self._definitions()
        starter = StartService(
            store, definitions, temporal, task_queue=queue, limits=limits, on_entered=self.on_entered
        )
        executions = ExecutionService(store, temporal, changes)
        executions.queue = starter.admission
        sessions = self._sessions(temporal, changes, executions, starter)
        return UseCases(temporal, store, definitions, executions, starter, sessions)

    def children(self) -> ChildService:
        """Return what answers when a step runs another task."""
        from engine.control.children import ChildService

        return ChildService(self._definitions())

    def system_tools(self, find: Find) -> SystemTools:
        """Return what does the operations of system tools.

        Args:
            find: Searches documents.
        """
        from engine.control.systemtools import SystemTools

        opened = self.open(Changes(self.database))
        return SystemTools(opened.definitions, opened.starter, opened.store, opened.sessions, find)

    def _definitions(self) -> DefinitionService:
        from engine.control.definitions import DefinitionService
        from engine.store.definitions import Definitions

        return DefinitionService(Definitions(self.database), self.contracts)

    def _sessions(
        self, temporal: TemporalConnection, changes: Changes, executions: ExecutionService, starter: StartService
    ) -> Sessions:
        from engine.control.documents import DocumentService
        from engine.control.models import ModelService
        from engine.control.sessions.opening import open_sessions
        from engine.store.docs import DocStore
        from engine.store.pulls import PullStore

        queue, (registry, states) = self.settings.task_queue, open_registry(self.database, self.project)
        return open_sessions(
            self.database,
            changes,
            documents=DocumentService(DocStore(self.database), temporal, task_queue=queue),
            executions=executions,
            starter=starter,
            models=ModelService(registry, states, PullStore(self.database), temporal, task_queue=queue),
            contracts=self.contracts,
        )
