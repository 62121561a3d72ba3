"""What the routes work with: the use cases over one store and one connection to Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client

from engine.broker.choosing import choose_transport
from engine.broker.rooms import TokenRooms
from engine.broker.transport import Role
from engine.control.agents import AgentService
from engine.control.agenttools import AgentToolService
from engine.control.budgeting import BudgetService
from engine.control.connect import TemporalConnection
from engine.control.controlling import ControlService
from engine.control.definitions import DefinitionService
from engine.control.dispatcher import Dispatcher, limits_of
from engine.control.documents import DocumentService
from engine.control.doors import Doors, open_doors
from engine.control.executions import ANSWER_TIMEOUT_S, ExecutionService
from engine.control.files import FileService
from engine.control.following import Follower
from engine.control.forking import ForkService
from engine.control.jobstatus import JobReader
from engine.control.keys import KeyService
from engine.control.links import LinkService, read_signing_key
from engine.control.messaging import MessageService
from engine.control.models import ModelService
from engine.control.projects import ProjectService
from engine.control.registry import ProjectFile, RegistryService
from engine.control.secrets import SecretKeys, SecretService
from engine.control.sessions.opening import Sessions, open_sessions
from engine.control.starting import StartService
from engine.control.stories import StoryService
from engine.control.tasktokens import TaskTokenService
from engine.control.users import UserService
from engine.core.plan.ir import ToolContract
from engine.edge.http.callers import tenant_of
from engine.edge.http.freshness import Freshness
from engine.edge.http.tokens import token_text
from engine.settings import Settings
from engine.store.agent_tools import AgentTools
from engine.store.agents import AgentStore
from engine.store.backend_states import BackendStateStore
from engine.store.blobs import BlobStore
from engine.store.changes import Changes
from engine.store.database import Database, open_database
from engine.store.definitions import Definitions
from engine.store.docs import DocStore
from engine.store.files import FileStore
from engine.store.jobs import JobStore
from engine.store.keys import KeyStore
from engine.store.overview import OverviewReader
from engine.store.projection import ProjectionStore
from engine.store.projects import ProjectStore
from engine.store.pulls import PullStore
from engine.store.registry import RegistryStore
from engine.store.secrets import SecretStore
from engine.store.spending import SpendingStore
from engine.store.users import UserStore

__all__ = ["In", "Services", "Tenant", "open_services", "services_of", "tenant_of"]


@dataclass(frozen=True, slots=True)
class Services:
    """Use cases and their foundations, built once per process and handed to the app.

    Attributes:
        settings: Settings of the process.
        database: The open store.
        changes: Watch over the store.
        store: The projection.
        temporal: The connection to Temporal.
        definitions: Use cases on tasks.
        agents: Use cases on agents.
        agent_tools: Use cases on the tools of agents.
        users: Use cases on users.
        projects: Use cases on projects.
        executions: Use cases on running executions.
        starter: The use case that starts them.
        follower: Streams.
        keys: Use cases on API keys.
        freshness: How old the projection is.
        stories: Tells what happened in executions.
        overviews: Reads what goes on now.
        dispatcher: Lets starts in that wait.
        controls: Use cases that steer running executions.
        forks: The use cases that make executions of others.
        links: Answers by signed links.
        task_tokens: Answers by the tokens of waits.
        messages: Messages to steps that listen.
        doors: Schedules, webhooks, events from outside, jobs over many executions.
        models: Backends, groups, and the models of backends.
        secrets: Use cases on secrets.
        documents: Use cases on documents.
        files: Use cases on files.
        jobs: Tells how jobs stand.
        budgets: Tells of budgets.
        sessions: Use cases on sessions and what is said in them.
        rooms: Where the texts of model calls arrive.
    """

    settings: Settings
    database: Database
    changes: Changes
    store: ProjectionStore
    temporal: TemporalConnection
    definitions: DefinitionService
    agents: AgentService
    agent_tools: AgentToolService
    users: UserService
    projects: ProjectService
    executions: ExecutionService
    starter: StartService
    follower: Follower
    keys: KeyService
    freshness: Freshness
    stories: StoryService
    overviews: OverviewReader
    dispatcher: Dispatcher
    controls: ControlService
    forks: ForkService
    links: LinkService
    task_tokens: TaskTokenService
    messages: MessageService
    doors: Doors
    models: ModelService
    secrets: SecretService
    documents: DocumentService
    files: FileService
    jobs: JobReader
    budgets: BudgetService
    sessions: Sessions
    rooms: TokenRooms


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    contracts: Mapping[str, ToolContract],
    client: Client | None = None,
    temporal_address: str | None = None,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
) -> AsyncIterator[Services]:
    """Open the store and build the use cases; Temporal is connected when it is first needed.

    Args:
        settings: Settings of the process.
        contracts: Contracts of the operator's tools by name.
        client: A client that is connected already (tests).
        temporal_address: The server's host:port, instead of what TEMPORAL_ADDRESS and profiles say.
        answer_timeout_s: How long an answer waits for a worker to take it, in seconds.
    """
    database = await open_database(settings.store_url)
    changes = Changes(database)
    try:
        store = ProjectionStore(database)
        temporal = TemporalConnection(settings, client, address=temporal_address, holders=BlobStore(database))
        definitions = DefinitionService(Definitions(database), contracts)
        executions = ExecutionService(store, temporal, changes, answer_timeout_s=answer_timeout_s)
        task_queue, limits = settings.task_queue, limits_of(settings)
        dispatcher = Dispatcher(store, temporal.client, task_queue=task_queue, limits=limits)
        starter = StartService(
            store, definitions, temporal, task_queue=task_queue, limits=limits, on_entered=dispatcher.wake
        )
        executions.queue = starter.admission
        transport = choose_transport(Role.API, data_dir=settings.data_dir, store_url=settings.store_url)
        rooms = TokenRooms(transport, token_text)
        follower = Follower(executions, changes, rooms)
        keys = KeyService(KeyStore(database))
        documents = DocumentService(DocStore(database), temporal, task_queue=task_queue, timeout_s=answer_timeout_s)
        models = ModelService(
            RegistryService(RegistryStore(database), ProjectFile(settings.project_file)),
            BackendStateStore(database),
            PullStore(database),
            temporal,
            task_queue=task_queue,
        )
        sessions = open_sessions(
            database,
            changes,
            documents=documents,
            executions=executions,
            starter=starter,
            models=models,
            contracts=contracts,
        )
        signing_key = partial(read_signing_key, settings.signing_key, settings.data_dir)
        try:
            yield Services(
                settings,
                database,
                changes,
                store,
                temporal,
                definitions,
                AgentService(AgentStore(database)),
                AgentToolService(AgentTools(database)),
                UserService(UserStore(database)),
                ProjectService(ProjectStore(database)),
                executions,
                starter,
                follower,
                keys,
                Freshness(database, temporal),
                StoryService(store, Definitions(database)),
                OverviewReader(database),
                dispatcher=dispatcher,
                controls=ControlService(executions, temporal, changes, timeout_s=answer_timeout_s),
                forks=ForkService(executions, definitions, starter, temporal),
                links=LinkService(executions, signing_key),
                task_tokens=TaskTokenService(executions, signing_key),
                messages=MessageService(executions, changes, timeout_s=answer_timeout_s),
                doors=open_doors(
                    database,
                    temporal,
                    changes,
                    definitions=definitions,
                    executions=executions,
                    starter=starter,
                    task_queue=task_queue,
                ),
                models=models,
                secrets=SecretService(SecretStore(database), SecretKeys.of(settings)),
                documents=documents,
                files=FileService(FileStore(database)),
                jobs=JobReader(store, DocStore(database), PullStore(database), JobStore(database)),
                budgets=BudgetService(SpendingStore(database), ProjectFile(settings.project_file)),
                sessions=sessions,
                rooms=rooms,
            )
        finally:
            # streams end when they hear that the watch is closed; their tasks must be over before the store is closed
            await changes.close()
            await sessions.turns.close()
            await follower.close()
            await rooms.close()
            await keys.close()
    finally:
        await changes.close()
        await database.close()


async def services_of(request: Request) -> Services:
    """Return the services of the app that serves a request."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


In = Annotated[Services, Depends(services_of)]
"""What a route works with, as a parameter of it."""
Tenant = Annotated[str, Depends(tenant_of)]
"""Whose things a route reads or changes."""
