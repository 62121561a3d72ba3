"""A laboratory for tests: a store, a worker of ours in the test's loop, a scripted model, short words to use them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.children import ChildActivities
from activities.embedding import Embedder
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from activities.tools.runner import ToolActivities
from engine.control.children import ChildService
from engine.control.compiling import compile_text
from engine.control.connect import TemporalConnection
from engine.control.definitions import DefinitionService
from engine.control.documents import DocumentService
from engine.control.executions import ExecutionService
from engine.control.live import LiveEvents
from engine.control.models import ModelService
from engine.control.payloads import data_converter
from engine.control.registry import open_registry
from engine.control.secrets import SecretKeys, SecretReader, SecretService
from engine.control.sessions.opening import open_sessions
from engine.control.starting import StartService
from engine.control.systemtools import SystemTools
from engine.core.contracts.execution import (
    SIGNAL_ANSWER,
    SIGNAL_CANCEL_REASON,
    SIGNAL_EVENT,
    AnswerSignal,
    CancelReasonSignal,
    EventSignal,
    ExecutionParams,
)
from engine.core.plan.codec import plan_to_json
from engine.core.plan.ir import AgentSnapshot, Plan, ToolContract
from engine.core.run.events import EventRecord, body_of
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, HttpConfig, Price, Project, Settings
from engine.store.changes import Changes
from engine.store.conversations import ConversationStore
from engine.store.database import open_database
from engine.store.definitions import Definitions
from engine.store.docs import DocStore
from engine.store.kept import KeptStore
from engine.store.limits import LimitStore
from engine.store.projection import ProjectionStore
from engine.store.pulls import PullStore
from engine.store.secrets import SecretStore
from engine.store.spending import SpendingStore
from engine.tooling import Tool, ToolCatalog
from tests.support.patience import PATIENCE_S, rest_since
from tests.support.postgres import store_url
from tests.support.servers import serve_app
from worker import build_worker

TENANT = "default"
NO_MODEL = "http://127.0.0.1:1/v1"


def plan_of(text: str, tools: Sequence[Tool[..., Any]] = (), agent: AgentSnapshot | None = None) -> Plan:
    """Compile a task given as YAML."""
    contracts = {tool.contract().name: tool.contract() for tool in tools}
    return compile_text(text, contracts=contracts, agent=agent or AgentSnapshot()).plan


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended: its output, or the body of its error, or cancelled."""

    output: Any = None
    error: dict[str, Any] | None = None
    cancelled: bool = False
    events: int = 0
    digest: str = ""
    times: int | None = None


@dataclass
class Lab:
    """See the module.

    Attributes:
        client: Client of the real server.
        store: A store of the test's own.
        folder: A folder of the test's own.
        queue: A task queue of the test's own.
        tools: Python tools of the worker.
        others: Contracts of its other tools; `project` says how these are reached.
        script: What the model says.
        http: Which private addresses HTTP tools may reach.
        prices: What models cost, by name.
        project: What everstep.toml says; None = that the model is the scripted server.
    """

    client: Client
    store: ProjectionStore
    folder: Path
    queue: str = field(default_factory=lambda: f"lab-{uuid.uuid4().hex[:8]}")
    tools: Sequence[Tool[..., Any]] = ()
    others: Mapping[str, ToolContract] = field(default_factory=dict)
    script: MockScript | None = None
    http: HttpConfig = field(default_factory=lambda: HttpConfig(allow=["127.0.0.1:*"]))
    prices: dict[str, Price] = field(default_factory=dict)
    project: Project | None = None
    mock: Any = None
    llm_url: str = NO_MODEL
    _lookups: Any = None

    @contextlib.asynccontextmanager
    async def worker(self, **more: Any) -> AsyncIterator[LiveEvents]:
        """Run a worker for the length of the block."""
        scripted = BackendConfig(base_url=self.llm_url, default_model="mock", prices=self.prices)
        project = self.project or Project(backends={"mock": scripted}, http=self.http)
        kept = KeptStore(self.store.database)
        spending = SpendingStore(self.store.database)
        talks = ConversationStore(self.store.database)
        shared: dict[str, Any] = {"spending": spending, "kept": kept, "conversations": talks}
        chat = ChatActivities.of(project, limits=LimitStore(self.store.database), **shared)
        catalog = dataclasses.replace(ToolCatalog.of(*self.tools), others=self.others)
        secrets = SecretReader(SecretStore(self.store.database), self.secret_keys)
        places: dict[str, Any] = {"kept": kept, "secrets": secrets, "system": self._system_tools}
        tools = ToolActivities(catalog, self.http, config=project.tools, **places)
        children = ChildActivities(lambda: ChildService(self.definitions))
        lookups = self._lookups = LookupActivities(Embedder(chat), DocStore(self.store.database))
        live = LiveEvents(self.store, _ignore_ended)
        flusher = asyncio.create_task(live.run())
        try:
            options: dict[str, Any] = {"cached_workflows": more.pop("cached_workflows", 1_000), "children": children}
            options["lookups"] = lookups
            async with build_worker(
                self.client, task_queue=self.queue, sink=live.sink, chat=chat, tools=tools, more=more, **options
            ):
                yield live
        finally:
            live.stop()
            await flusher
            await chat.aclose()
            lookups.close()
            await tools.aclose()

    @property
    def secret_keys(self) -> SecretKeys:
        """Keys of the secrets in the store."""
        return SecretKeys((), self.folder)

    async def set_secret(self, name: str, value: str, *, tenant: str = TENANT) -> None:
        """Put a secret into the store."""
        await SecretService(SecretStore(self.store.database), self.secret_keys).set(name, value, tenant=tenant)

    async def embed_documents(self) -> None:
        """Make the vectors of documents that have none; a worker must be running."""
        await self._lookups.embed_due()

    def _system_tools(self) -> SystemTools:
        temporal = TemporalConnection(Settings(data_dir=self.folder), self.client)
        database, definitions, changes = self.store.database, self.definitions, Changes(self.store.database)
        starter = StartService(self.store, definitions, temporal, task_queue=self.queue)
        registry, states = open_registry(database, Project())
        sessions = open_sessions(
            database,
            changes,
            documents=DocumentService(DocStore(database), temporal, task_queue=self.queue),
            executions=ExecutionService(self.store, temporal, changes),
            starter=starter,
            models=ModelService(registry, states, PullStore(database), temporal, task_queue=self.queue),
            contracts=definitions.contracts,
        )
        return SystemTools(definitions, starter, self.store, sessions, self._lookups.find)

    @property
    def definitions(self) -> DefinitionService:
        """Use cases on the tasks of the store, which steps may run as children."""
        contracts = {tool.contract().name: tool.contract() for tool in self.tools}
        return DefinitionService(Definitions(self.store.database), contracts)

    async def start(self, plan: Plan | str, given: Any = None, **options: Any) -> WorkflowHandle[Any, Any]:
        """Start an execution and return its handle."""
        compiled = plan_of(plan, self.tools) if isinstance(plan, str) else plan
        execution_id = str(uuid.uuid4())
        params = ExecutionParams(
            execution_id=execution_id, tenant=TENANT, plan=plan_to_json(compiled), input=given, **options
        )
        return await self.client.start_workflow(compiled.task, params, id=execution_id, task_queue=self.queue)

    async def end_of(self, handle: WorkflowHandle[Any, Any]) -> Ended:
        """Wait for the end of an execution."""
        try:
            result = await handle.result()
        except WorkflowFailureError as error:
            body = getattr(error.cause, "details", None)
            if not body:
                return Ended(cancelled=True)
            details = dict(body[0])
            return Ended(
                error=details, **{key: details[key] for key in ("events", "digest", "times") if key in details}
            )
        return Ended(**result)

    async def run(self, plan: Plan | str, given: Any = None, **options: Any) -> Ended:
        """Start an execution, wait for its end and return it; a worker must be running."""
        return await self.end_of(await self.start(plan, given, **options))

    async def answer(self, handle: WorkflowHandle[Any, Any], value: Any, *, key: str = "", wait_id: str = "") -> None:
        """Send an answer."""
        signal = AnswerSignal(key=key or uuid.uuid4().hex, value=value, wait_id=wait_id, actor="test")
        await handle.signal(SIGNAL_ANSWER, signal)

    async def send(self, handle: WorkflowHandle[Any, Any], name: str, value: Any, *, key: Any = None) -> None:
        """Send an event."""
        await handle.signal(SIGNAL_EVENT, EventSignal(id=uuid.uuid4().hex, name=name, key=key, value=value))

    async def cancel(self, handle: WorkflowHandle[Any, Any], reason: str = "") -> None:
        """Cancel an execution."""
        await handle.signal(SIGNAL_CANCEL_REASON, CancelReasonSignal(reason=reason, actor="test"))
        await handle.cancel()

    async def events(self, handle: WorkflowHandle[Any, Any]) -> list[EventRecord]:
        """Return the stored events of an execution."""
        return await self.store.list_events(handle.id, tenant=TENANT, limit=1_000_000)

    async def until(
        self, handle: WorkflowHandle[Any, Any], event_type: str, *, count: int = 1, path: str = ""
    ) -> dict[str, Any]:
        """Wait until so many events of a type are stored and return the body of the last of them."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            began = time.monotonic()
            found = [body_of(event) for event in await self.events(handle) if event.type == event_type]
            found = [body for body in found if not path or body.get("path") == path]
            if len(found) >= count:
                return found[count - 1]
            await rest_since(began)
        seen = [event.type for event in await self.events(handle)]
        raise AssertionError(f"no {count}. event {event_type} at {path or 'any path'}; seen {seen[-20:]}")


def _ignore_ended(ended: list[str]) -> None:
    """Tests read the end of an execution from Temporal themselves."""


@contextlib.asynccontextmanager
async def open_lab(address: str, folder: Path, **options: Any) -> AsyncIterator[Lab]:
    """Open a laboratory at a Temporal server."""
    client = await Client.connect(address, data_converter=data_converter(folder / "blobs"))
    database = await open_database(store_url(folder / "lab.db"))
    mock = create_app(options.get("script"))
    try:
        async with serve_app(mock) as url:
            yield Lab(client, ProjectionStore(database), folder, mock=mock, llm_url=f"{url}/v1", **options)
    finally:
        await database.close()
