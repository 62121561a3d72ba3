"""Workers for what goes out and comes in, in the test's own loop, and a receiver of webhooks with faults."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from activities.lookups import LookupActivities
from activities.webhooks import WebhookActivities
from engine.control.connect import TemporalConnection
from engine.control.dispatcher import Dispatcher, limits_of
from engine.control.doors import Doors, open_doors
from engine.control.executions import ExecutionService
from engine.control.settling import settle_from_temporal
from engine.control.starting import StartService
from engine.core.contracts.doors import WebhookParams
from engine.settings import HttpConfig
from engine.store.changes import Changes
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from tests.compat.apiserver import settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S, rest_since
from tests.support.postgres import store_url
from worker import build_doors_worker

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])
FAST = WebhookParams(tenant="", delivery_id="", first_pause_s=0.05, most_pause_s=0.2, give_up_s=20.0)


@contextlib.asynccontextmanager
async def doors_worker(
    lab: Lab,
    *,
    config: HttpConfig = LOOPBACK,
    tries: WebhookParams = FAST,
    timeout_s: float = 2.0,
    works: bool = True,
    lookups: LookupActivities | None = None,
) -> AsyncIterator[Doors]:
    """Run the worker beside executions for the length of the block, and what settles ends.

    Args:
        lab: Store, client and task queue.
        config: Private addresses that webhooks may have.
        tries: How often deliveries are tried.
        timeout_s: How long a receiver may take.
        works: Whether it is a worker; if not, it only sends on what is noted in the store.
        lookups: Searches documents for the API.
    """
    settings = settings_for(lab.folder, task_queue=lab.queue)
    # a store of its own, so that the watch hears of the others' writes
    database = await open_database(store_url(lab.folder / "lab.db"))
    store, changes = ProjectionStore(database), Changes(database)
    temporal = TemporalConnection(settings, lab.client)
    definitions = lab.definitions
    dispatcher = Dispatcher(store, temporal.client, task_queue=lab.queue, limits=limits_of(settings))
    starter = StartService(store, definitions, temporal, task_queue=lab.queue, on_entered=dispatcher.wake)
    executions = ExecutionService(store, temporal, changes)
    executions.queue = starter.admission
    doors = open_doors(
        database,
        temporal,
        changes,
        definitions=definitions,
        executions=executions,
        starter=starter,
        task_queue=lab.queue,
        tries=tries,
    )
    posts = WebhookActivities(doors.webhooks.store, store, config, timeout_s=timeout_s)
    stopping = asyncio.Event()
    dispatcher.start()
    keeping = asyncio.create_task(doors.keep(changes, stopping))
    try:
        # two workers of one client cannot have the same queue
        worker = build_doors_worker(lab.client, doors, posts, task_queue=lab.queue, lookups=lookups) if works else None
        async with worker or contextlib.nullcontext():
            yield doors
    finally:
        stopping.set()
        # first: a watch that nobody needs any more ends in its own time
        await changes.close()
        await keeping
        await dispatcher.stop()
        await posts.aclose()
        await database.close()


@contextlib.asynccontextmanager
async def settled(lab: Lab) -> AsyncIterator[None]:
    """Store the ends of executions while the block runs, as workers do."""
    stopping = asyncio.Event()

    async def settle() -> None:
        while not stopping.is_set():
            for item in await lab.store.unsettled(limit=100):
                await settle_from_temporal(lab.client, lab.store, item.id)
            await asyncio.sleep(0.05)

    running = asyncio.create_task(settle())
    try:
        yield
    finally:
        stopping.set()
        await running


@dataclass
class Message:
    """What a receiver got.

    Attributes:
        headers: Headers in lower case.
        raw: The body, byte for byte.
        at: When, on the monotonic clock.
    """

    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    def is_signed(self, secret: str) -> bool:
        """Check the signature as the specification of Standard Webhooks says it, not as our code does."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = b".".join((self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.raw))
        wanted = base64.standard_b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        return f"v1,{wanted}" in self.headers["webhook-signature"].split()


@dataclass
class HookReceiver:
    """ASGI app that takes webhooks; `answers` says how, one after the other, the last one for ever.

    An answer is a status, or a coroutine function of (send, body) that answers by itself.
    """

    answers: list[Any] = field(default_factory=lambda: [204])
    messages: list[Message] = field(default_factory=list)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.messages.append(Message(headers, body, time.monotonic()))
        answer = self.answers[min(len(self.messages) - 1, len(self.answers) - 1)]
        if callable(answer):
            await answer(send)
            return
        await reply(send, answer)


async def reply(send: Any, status: int, body: bytes = b"ok", headers: dict[str, str] | None = None) -> None:
    """Answer with a status and a body."""
    told = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": b"" if status == 204 else body})


async def eventually(look: Callable[[], Awaitable[Any]], what: str, *, within_s: float = PATIENCE_S) -> Any:
    """Look again and again until there is something."""
    deadline = time.monotonic() + within_s
    while (began := time.monotonic()) < deadline:
        found = await look()
        if found:
            return found
        await rest_since(began)
    raise AssertionError(f"it never came: {what}")
