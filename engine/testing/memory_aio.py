"""The client in memory for asyncio: the methods of `engine.client.AsyncClient`, made by a `MemoryClient`."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from engine.author.task import Task
from engine.client.asking import Filters, Stream, Time, UsageBy
from engine.client.requests import TaskSource
from engine.client.rows import (
    AttemptRow,
    Checked,
    Counts,
    EventRow,
    EventTaken,
    HistoryRow,
    LinkMade,
    MessageTaken,
    StepRow,
    StepVisits,
    TransitionRow,
    UsageRow,
)
from engine.client.startoptions import StartOptions
from engine.client.steering import Deadline, ForkOptions
from engine.client.views import Execution, TaskVersion
from engine.client.wire import StreamEvent
from engine.core.values import Json
from engine.testing.memory import MemoryClient, Scripted
from engine.testing.memory_doors import AsyncMemoryDoors
from engine.testing.replies import Source
from engine.tooling.definition import Tool

T = TypeVar("T")


class AsyncMemoryClient(AsyncMemoryDoors):
    """Runs tasks in this process for asyncio code; see `MemoryClient`, whose methods it has.

    Args:
        replies: See `MemoryClient`.
        tools: See `MemoryClient`.
        run_tools: See `MemoryClient`.
        sources: See `MemoryClient`.
        project: See `MemoryClient`.

    Attributes:
        memory: The client that does the work; both show the same executions.
    """

    def __init__(
        self,
        *,
        replies: Scripted = (),
        tools: Sequence[Tool[..., Any]] = (),
        run_tools: Sequence[str] = (),
        sources: Sequence[Source] = (),
        project: Path | None = None,
    ) -> None:
        self.memory = MemoryClient(replies=replies, tools=tools, run_tools=run_tools, sources=sources, project=project)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        self.memory.close()

    async def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """See `Client.apply`."""
        return self.memory.apply(source, name=name, key=key)

    async def validate(self, source: Path | Task, *, name: str = "") -> Checked:
        """See `Client.validate`."""
        return self.memory.validate(source, name=name)

    async def task(self, reference: str) -> TaskVersion:
        """See `Client.task`."""
        return self.memory.task(reference)

    def tasks(self) -> AsyncIterator[TaskVersion]:
        """See `Client.tasks`."""
        return _each(self.memory.tasks())

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
        return self.memory.start(
            task,
            input,
            key=key,
            execution_id=execution_id,
            labels=labels,
            metadata=metadata,
            options=options,
        )

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
        return self.memory.run(
            task, input, timeout_s=timeout_s, key=key, labels=labels, metadata=metadata, options=options
        )

    async def wait(
        self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False
    ) -> Execution:
        """See `Client.wait`."""
        return self.memory.wait(execution_id, timeout_s=timeout_s, until_waiting=until_waiting)

    async def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        return self.memory.get(execution_id)

    async def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        return self.memory.answer(execution_id, value, wait_id=wait_id, key=key, actor=actor)

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
        return self.memory.send_event(execution_id, name, value, key=key, event_id=event_id, actor=actor)

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
        return self.memory.send_message(execution_id, value, name=name, busy=busy, message_id=message_id, actor=actor)

    async def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        return self.memory.cancel(execution_id, reason=reason, actor=actor)

    async def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """See `Client.pause`."""
        return self.memory.pause(execution_id, reason=reason, key=key, actor=actor)

    async def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.continue_`."""
        return self.memory.continue_(execution_id, break_at=break_at, key=key, actor=actor)

    async def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_breaks`."""
        return self.memory.set_breaks(execution_id, break_at, key=key, actor=actor)

    async def set_deadline(
        self, execution_id: str, wait_id: str, deadline: Deadline, *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_deadline`."""
        return self.memory.set_deadline(execution_id, wait_id, deadline, key=key, actor=actor)

    async def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.terminate`."""
        return self.memory.terminate(execution_id, reason=reason, actor=actor)

    async def retry(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.retry`."""
        return self.memory.retry(execution_id, key=key, actor=actor, **options)

    async def fork(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.fork`."""
        return self.memory.fork(execution_id, key=key, actor=actor, **options)

    async def link(
        self,
        execution_id: str,
        wait_id: str,
        *,
        actor: str,
        expires_in: dt.timedelta | float | str = "7d",
        values: Sequence[Json] | None = None,
    ) -> LinkMade:
        """See `Client.link`."""
        return self.memory.link(execution_id, wait_id, actor=actor, expires_in=expires_in, values=values)

    def executions(self, **filters: Unpack[Filters]) -> AsyncIterator[Execution]:
        """See `Client.executions`."""
        return _each(self.memory.executions(**filters))

    async def counts(self, **filters: Unpack[Filters]) -> Counts:
        """See `Client.counts`."""
        return self.memory.counts(**filters)

    def transitions(self, execution_id: str) -> AsyncIterator[TransitionRow]:
        """See `Client.transitions`."""
        return _each(self.memory.transitions(execution_id))

    def events(self, execution_id: str) -> AsyncIterator[EventRow]:
        """See `Client.events`."""
        return _each(self.memory.events(execution_id))

    def steps(self, execution_id: str, *, full: bool = False) -> AsyncIterator[StepRow]:
        """See `Client.steps`."""
        return _each(self.memory.steps(execution_id, full=full))

    async def step(self, execution_id: str, path: str) -> StepVisits:
        """See `Client.step`."""
        return self.memory.step(execution_id, path)

    def attempts(self, execution_id: str) -> AsyncIterator[AttemptRow]:
        """See `Client.attempts`."""
        return _each(self.memory.attempts(execution_id))

    def history(self, execution_id: str) -> AsyncIterator[HistoryRow]:
        """See `Client.history`."""
        return _each(self.memory.history(execution_id))

    async def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """See `Client.usage`."""
        return self.memory.usage(by, since=since, until=until, label=label)

    def stream(
        self, execution_id: str, what: Stream = "transitions", *, last_id: str = ""
    ) -> AsyncIterator[StreamEvent]:
        """See `Client.stream`."""
        return _each(self.memory.stream(execution_id, what, last_id=last_id))

    async def expire(self, execution_id: str, *, wait_id: str = "") -> Execution:
        """See `MemoryClient.expire`."""
        return self.memory.expire(execution_id, wait_id=wait_id)

    def calls(self, execution_id: str) -> list[dict[str, Json]]:
        """See `MemoryClient.calls`."""
        return self.memory.calls(execution_id)


async def _each(items: Iterator[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
