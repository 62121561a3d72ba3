"""The client of the API for asyncio; the same methods as `Client`, which says what each of them does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from engine.author.task import Task
from engine.client import requests
from engine.client.aio_doors import AsyncDoors
from engine.client.asking import Filters, Stream, Time, UsageBy
from engine.client.connection import READ_TIMEOUT_S, Connection, is_worth_another
from engine.client.following import Followed, Patience
from engine.client.registry import AsyncRegistry
from engine.client.requests import Request, TaskSource
from engine.client.rows import (
    AttemptRow,
    Checked,
    Counts,
    EventRow,
    EventTaken,
    HistoryRow,
    MessageTaken,
    StepRow,
    StepVisits,
    TransitionRow,
    UsageRow,
)
from engine.client.startoptions import StartOptions
from engine.client.steering import AsyncSteering
from engine.client.views import Execution, ExecutionTimeout, Page, TaskVersion
from engine.client.wire import SseParser, StreamEvent
from engine.core.errors import Unavailable
from engine.core.values import Json

T = TypeVar("T")
PAGE = 200


class AsyncClient(AsyncSteering, AsyncDoors, AsyncRegistry):
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

    async def validate(self, source: Path | Task, *, name: str = "") -> Checked:
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
        options: StartOptions | None = None,
    ) -> Execution:
        """See `Client.start`."""
        reference = task if isinstance(task, str) else (await self.apply(task)).reference
        made = requests.start(
            reference,
            input,
            key=key,
            execution_id=execution_id,
            labels=labels,
            metadata=metadata,
            options=options,
        )
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
        options: StartOptions | None = None,
    ) -> Json:
        """See `Client.run`."""
        started = await self.start(task, input, key=key, labels=labels, metadata=metadata, options=options)
        return (await self.wait(started.id, timeout_s=timeout_s)).result()

    async def wait(
        self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False
    ) -> Execution:
        """See `Client.wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        execution = await self.get(execution_id)
        while not (execution.is_closed or (until_waiting and execution.waits)):
            if deadline is not None and time.monotonic() >= deadline:
                raise ExecutionTimeout(
                    f"execution {execution_id} did not end within {timeout_s:g} s; it goes on",
                    code="client.timeout",
                    hint="wait for it again, or give it more time",
                )
            await self._until_change(execution, deadline)
            execution = await self._get_again(execution_id, deadline)
        return execution

    async def _until_change(self, execution: Execution, deadline: float | None) -> None:
        """See `Client._until_change`."""
        async for event in self._follow(execution.id, Followed("status", deadline=deadline)):
            body = event.data
            if body.get("status") != execution.status.value or body.get("waits") != list(execution.raw["waits"]):
                return

    async def _get_again(self, execution_id: str, deadline: float | None) -> Execution:
        """See `Client._get_again`."""
        patience = Patience()
        while True:
            try:
                return await self.get(execution_id)
            except Unavailable:
                if patience.is_over() or (deadline is not None and time.monotonic() >= deadline):
                    raise
            await asyncio.sleep(patience.pause_s())

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
    ) -> EventTaken:
        """See `Client.send_event`."""
        made = requests.send_event(execution_id, name, value, key=key, event_id=event_id, actor=actor)
        return await self._send(made)

    async def send_message(
        self,
        execution_id: str,
        value: Json = None,
        *,
        name: str = "message",
        busy: str = "",
        message_id: str | None = None,
        actor: str = "",
    ) -> MessageTaken:
        """See `Client.send_message`."""
        made = requests.send_message(execution_id, value, name=name, busy=busy, message_id=message_id, actor=actor)
        return await self._send(made)

    async def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        return await self._send(requests.cancel(execution_id, reason=reason, actor=actor))

    # --- looking ---------------------------------------------------------------------------------------------------

    def executions(self, **filters: Unpack[Filters]) -> AsyncIterator[Execution]:
        """See `Client.executions`."""
        return self._all(lambda cursor: requests.list_executions(filters, cursor))

    async def counts(self, **filters: Unpack[Filters]) -> Counts:
        """See `Client.counts`."""
        return await self._send(requests.count_executions(filters))

    def transitions(self, execution_id: str) -> AsyncIterator[TransitionRow]:
        """See `Client.transitions`."""
        return self._all_of(execution_id, "transitions", direction="asc")

    def events(self, execution_id: str) -> AsyncIterator[EventRow]:
        """See `Client.events`."""
        return self._all_of(execution_id, "events")

    def steps(self, execution_id: str, *, full: bool = False) -> AsyncIterator[StepRow]:
        """See `Client.steps`."""
        return self._all_of(execution_id, "steps", full="true" if full else None)

    async def step(self, execution_id: str, path: str) -> StepVisits:
        """See `Client.step`."""
        return await self._send(requests.get_step(execution_id, path))

    def attempts(self, execution_id: str) -> AsyncIterator[AttemptRow]:
        """See `Client.attempts`."""
        return self._all_of(execution_id, "attempts")

    def history(self, execution_id: str) -> AsyncIterator[HistoryRow]:
        """See `Client.history`."""
        return self._all_of(execution_id, "history")

    async def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """See `Client.usage`."""
        return await self._send(requests.usage(by=by, since=since, until=until, label=label))

    # --- streams ---------------------------------------------------------------------------------------------------

    def stream(
        self, execution_id: str, what: Stream = "transitions", *, last_id: str = ""
    ) -> AsyncIterator[StreamEvent]:
        """See `Client.stream`."""
        return self._follow(execution_id, Followed(what, last_id))

    async def _follow(self, execution_id: str, followed: Followed) -> AsyncIterator[StreamEvent]:
        path = requests.stream_path(execution_id, followed.what)
        while True:
            try:
                options = self._connection.stream_arguments(followed.last_id, followed.deadline)
                async with self._http.stream("GET", path, **options) as response:
                    if response.is_error:
                        await response.aread()
                    self._connection.check(response)
                    followed.connected()
                    parser = SseParser(followed.last_id)
                    async for line in response.aiter_lines():
                        event = parser.feed(line)
                        if event is not None and followed.take(event):
                            yield event
                # an API that is stopped ends its streams as one does whose execution has ended
                if followed.has_ended or (followed.gave_nothing and (await self.get(execution_id)).is_closed):
                    return
            except (httpx.TransportError, Unavailable) as error:
                if not followed.is_late and followed.patience.is_over():
                    raise self._connection.unreachable(error) from error
            if followed.is_late:
                return
            await asyncio.sleep(followed.pause_s())

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

    def _all_of(self, execution_id: str, what: str, **more: Any) -> AsyncIterator[Any]:
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
