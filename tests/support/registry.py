"""A worker that follows the registry and looks after backends, in the test's loop; and an Ollama server to fetch at."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.llm import ChatActivities
from activities.pulling import PullActivities
from activities.reconciling import BackendKeeper, ReconcileActivities
from activities.registry import RegistryFollower
from activities.tools.runner import ToolActivities
from engine.control.connect import TemporalConnection
from engine.control.live import LiveEvents
from engine.control.models import ModelService
from engine.control.registry import open_registry
from engine.core.contracts.doors import doors_queue
from engine.settings import Project
from engine.store.limits import LimitStore
from engine.store.pulls import PullStore
from engine.tooling import ToolCatalog
from tests.compat.apiserver import settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from worker import KEEPING_WORKFLOWS, build_worker

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Coroutine[Any, Any, dict[str, Any]]]
TOTAL = 1_000


@dataclass
class RegistryLab:
    """A laboratory whose backends stand in the registry.

    Attributes:
        models: The use cases.
        follower: Lets the worker use what is declared now.
        chat: The worker's model activity.
    """

    models: ModelService
    follower: RegistryFollower
    chat: ChatActivities


@contextlib.asynccontextmanager
async def registry_worker(
    lab: Lab, project: Project | None = None, *, keeps: bool = True
) -> AsyncIterator[RegistryLab]:
    """Run a worker for the length of the block.

    Args:
        lab: Store, client and task queue.
        project: What everstep.toml says.
        keeps: Whether it looks after backends.
    """
    database, known = lab.store.database, project or Project()
    registry, states = open_registry(database, known)
    pulls = PullStore(database)
    temporal = TemporalConnection(settings_for(lab.folder, task_queue=lab.queue), lab.client)
    models = ModelService(registry, states, pulls, temporal, task_queue=lab.queue)
    chat = ChatActivities.of(known, limits=LimitStore(database))
    follower = RegistryFollower(registry, states, chat.use)
    await follower.look()
    keeper = BackendKeeper(registry, states, pulls, lab.client, task_queue=lab.queue)
    looks, pulling = ReconcileActivities(keeper), PullActivities(keeper)
    tools, live = ToolActivities(ToolCatalog.of(), lab.http), LiveEvents(lab.store, lambda _: None)
    flusher, following = asyncio.create_task(live.run()), asyncio.create_task(follower.run())
    beside = Worker(
        lab.client,
        task_queue=doors_queue(lab.queue),
        workflows=KEEPING_WORKFLOWS,
        activities=[looks.check, looks.prune, pulling.pull],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    try:
        worker = build_worker(lab.client, task_queue=lab.queue, sink=live.sink, chat=chat, tools=tools)
        async with worker, beside if keeps else contextlib.nullcontext():
            yield RegistryLab(models, follower, chat)
    finally:
        following.cancel()
        live.stop()
        await flusher
        await chat.aclose()
        await keeper.aclose()
        await tools.aclose()


async def until(look: Callable[[], Awaitable[Any]], *, every_s: float = 0.02) -> Any:
    """Look again and again until something is there, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await look()):  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(every_s)
    return found


@dataclass
class SlowOllama:
    """An Ollama server whose fetches go on only when a test lets them.

    Attributes:
        models: What it has.
        going: While it is cleared, a fetch that has got half of it stands still.
        failures: So many fetches break off in the middle.
        pulls: The models that it was asked to fetch, each time.
        deleted: Those that it was asked to delete.
        under_way: Fetches whose connection is open.
        most_under_way: The most at one time.
    """

    models: list[str] = field(default_factory=list)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    pulls: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        assert scope["type"] == "http"
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = json.loads(body) if body else {}
        match scope["path"]:
            case "/api/tags":
                await _json(send, 200, {"models": [{"name": name} for name in self.models]})
            case "/api/show":
                await self._show(send, asked["model"])
            case "/api/pull":
                await self._pull(receive, send, asked["model"])
            case "/api/delete":
                self.deleted.append(asked["model"])
                self.models.remove(asked["model"])
                await _json(send, 200, {})
            case _:
                await _json(send, 404, {"error": "not found"})

    async def _show(self, send: Send, model: str) -> None:
        if model not in self.models:
            await _json(send, 404, {"error": f"model '{model}' not found"})
            return
        told = {
            "details": {"parameter_size": "8.2B", "quantization_level": "Q4_K_M"},
            "capabilities": ["completion", "tools"],
            "model_info": {"general.architecture": "q", "q.context_length": 32768},
        }
        await _json(send, 200, told)

    async def _pull(self, receive: Receive, send: Send, model: str) -> None:
        self.pulls.append(model)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            part = {"status": "pulling abc", "digest": "sha256:abc", "total": TOTAL}
            await _line(send, {**part, "completed": TOTAL // 2})
            if self.failures:
                self.failures -= 1
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            gone, going = asyncio.create_task(receive()), asyncio.create_task(self.going.wait())
            await asyncio.wait({gone, going}, return_when=asyncio.FIRST_COMPLETED)
            is_gone = gone.done()
            gone.cancel()
            going.cancel()
            if is_gone:
                return
            await _line(send, {**part, "completed": TOTAL})
            await _line(send, {"status": "success"})
            self.models.append(model)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.under_way -= 1


async def _line(send: Send, told: dict[str, Any]) -> None:
    await send({"type": "http.response.body", "body": json.dumps(told).encode() + b"\n", "more_body": True})


async def _json(send: Send, status: int, told: dict[str, Any]) -> None:
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
