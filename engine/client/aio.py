"""The client of the API for asyncio; the same methods as `Client`, which says what each of them does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from engine.author.task import Task
from engine.client import requests
from engine.client.connection import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    READ_TIMEOUT_S,
    Connection,
    is_worth_another,
)
from engine.client.requests import Filters, Request, TaskSource
from engine.client.views import Execution, Page, TaskVersion
from engine.client.wire import SseParser, StreamEvent
from engine.core.errors import Unavailable
from engine.core.values import Json

T = TypeVar("T")
PAGE = 200
GAVE_UP_S = 30.0
"""How long a stream tries to come back before it raises."""


class AsyncClient:
    """Talks to an Everstep API from asyncio code.

        async with AsyncClient() as client:
            print(await client.run(Path("greet.yaml"), {"name": "Ada"}))

    Args:
        address: See `Client`.
        api_key: See `Client`.
        timeout_s: See `Client`.
        tries: See `Client`.
        transport: What sends the requests, instead of a socket (tests).
    """

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        tries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = Connection.of(address, api_key, timeout_s, tries)
        self._http = httpx.AsyncClient(**self._connection.options(), transport=transport)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- tasks -----------------------------------------------------------------------------------------------------

    async def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """See `Client.apply`."""
        # a file is read, and one in Python is run
        made = await asyncio.to_thread(requests.apply_task, source, name=name, key=key)
        return await self._send(made)

    async def validate(self, source: Path | Task, *, name: str = "") -> dict[str, Any]:
        """See `Client.validate`."""
        made = await asyncio.to_thread(requests.validate_task, source, name=name)
        return await self._send(made)

    async def task(self, reference: str) -> TaskVersion:
        """See `Client.task`."""
        return await self._send(requests.get_task(reference))

    async def tasks(self) -> AsyncIterator[TaskVersion]:
        """See `Client.tasks`."""
        offset = 0
        while page := await self._send(requests.list_tasks(limit=PAGE, offset=offset)):
            for task in page:
                yield task
            offset += len(page)

    # --- running ---------------------------------------------------------------------------------------------------

    async def start(
        self,
        task: TaskSource,
        input: Json = None,
        *,
        key: str | None = None,
        execution_id: str | None = None,
        labels: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Execution:
        """See `Client.start`."""
        reference = task if isinstance(task, str) else (await self.apply(task)).reference
        made = requests.start(reference, input, key=key, execution_id=execution_id, labels=labels, metadata=metadata)
        return await self._send(made)

    async def run(
        self,
        task: TaskSource,
        input: Json = None,
        *,
        timeout_s: float | None = None,
        key: str | None = None,
        labels: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Json:
        """See `Client.run`."""
        started = await self.start(task, input, key=key, labels=labels, metadata=metadata)
        return (await self.wait(started.id, timeout_s=timeout_s)).result()

    async def wait(
        self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False
    ) -> Execution:
        """See `Client.wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            execution = await self.get(execution_id)
            if execution.is_closed or (until_waiting and execution.waits):
                return execution
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"execution {execution_id} did not end within {timeout_s:g} s; it goes on")
            await self._until_change(execution, deadline)

    async def _until_change(self, execution: Execution, deadline: float | None) -> None:
        """See `Client._until_change`."""
        async for event in self._events(requests.stream_path(execution.id, "status"), "", deadline=deadline):
            body = event.data
            if body.get("status") != execution.status.value or body.get("waits") != list(execution.raw["waits"]):
                return

    async def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        return await self._send(requests.get_execution(execution_id))

    # --- steering --------------------------------------------------------------------------------------------------

    async def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        return await self._send(requests.answer(execution_id, value, wait_id=wait_id, key=key, actor=actor))

    async def send_event(
        self,
        execution_id: str,
        name: str,
        value: Json = None,
        *,
        key: Json = None,
        event_id: str | None = None,
        actor: str = "",
    ) -> dict[str, Any]:
        """See `Client.send_event`."""
        made = requests.send_event(execution_id, name, value, key=key, event_id=event_id, actor=actor)
        return await self._send(made)

    async def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        return await self._send(requests.cancel(execution_id, reason=reason, actor=actor))

    # --- looking ---------------------------------------------------------------------------------------------------

    def executions(self, **filters: Unpack[Filters]) -> AsyncIterator[Execution]:
        """See `Client.executions`."""
        return self._all(lambda cursor: requests.list_executions(filters, cursor))

    async def counts(self, **filters: Unpack[Filters]) -> dict[str, Any]:
        """See `Client.counts`."""
        return await self._send(requests.count_executions(filters))

    def transitions(self, execution_id: str) -> AsyncIterator[dict[str, Any]]:
        """See `Client.transitions`."""
        return self._all_of(execution_id, "transitions", direction="asc")

    def events(self, execution_id: str) -> AsyncIterator[dict[str, Any]]:
        """See `Client.events`."""
        return self._all_of(execution_id, "events")

    def steps(self, execution_id: str, *, full: bool = False) -> AsyncIterator[dict[str, Any]]:
        """See `Client.steps`."""
        return self._all_of(execution_id, "steps", full="true" if full else None)

    async def step(self, execution_id: str, path: str) -> dict[str, Any]:
        """See `Client.step`."""
        return await self._send(requests.get_step(execution_id, path))

    def attempts(self, execution_id: str) -> AsyncIterator[dict[str, Any]]:
        """See `Client.attempts`."""
        return self._all_of(execution_id, "attempts")

    def history(self, execution_id: str) -> AsyncIterator[dict[str, Any]]:
        """See `Client.history`."""
        return self._all_of(execution_id, "history")

    async def usage(
        self, by: str = "model", *, since: datetime | str | None = None, until: datetime | str | None = None
    ) -> list[dict[str, Any]]:
        """See `Client.usage`."""
        return await self._send(requests.usage(by=by, since=since, until=until))

    # --- streams ---------------------------------------------------------------------------------------------------

    def stream(self, execution_id: str, what: str = "transitions", *, last_id: str = "") -> AsyncIterator[StreamEvent]:
        """See `Client.stream`."""
        return self._events(requests.stream_path(execution_id, what), last_id)

    async def _events(self, path: str, last_id: str, *, deadline: float | None = None) -> AsyncIterator[StreamEvent]:
        silent_since = time.monotonic()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                options = self._connection.stream_arguments(last_id, deadline)
                async with self._http.stream("GET", path, **options) as response:
                    if response.is_error:
                        await response.aread()
                    self._connection.check(response)
                    parser = SseParser(last_id)
                    async for line in response.aiter_lines():
                        event = parser.feed(line)
                        if event is None:
                            continue
                        last_id, silent_since, pause_s = event.id or last_id, time.monotonic(), FIRST_PAUSE_S
                        yield event
                return
            except (httpx.TransportError, Unavailable) as error:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                if time.monotonic() - silent_since > GAVE_UP_S:
                    raise self._connection.unreachable(error) from error
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _all(self, ask: Callable[[str | None], Request[Page[T]]]) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            page = await self._send(ask(cursor))
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    def _all_of(self, execution_id: str, what: str, **more: Any) -> AsyncIterator[dict[str, Any]]:
        return self._all(lambda cursor: requests.list_of(execution_id, what, limit=PAGE, cursor=cursor, **more))

    async def _send(self, request: Request[T]) -> T:
        pauses = self._connection.pauses(request)
        while True:
            pause_s = next(pauses, None)
            try:
                response = await self._http.request(request.method, request.path, **self._connection.arguments(request))
            except httpx.TransportError as error:
                if pause_s is None:
                    raise self._connection.unreachable(error) from error
            else:
                if pause_s is None or not is_worth_another(response):
                    self._connection.check(response, request)
                    return request.read(response)
            await asyncio.sleep(pause_s)
