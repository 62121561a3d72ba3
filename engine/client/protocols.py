"""What all clients can do, as types: a service that names one of these takes the real client and the one of tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, Unpack

from engine.author.task import Task
from engine.client.asking import Filters, Stream, Time, UsageBy
from engine.client.door_protocols import AsyncDoorsProtocol, DoorsProtocol
from engine.client.registry_protocols import AsyncRegistryProtocol, RegistryProtocol
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


class EverstepClient(DoorsProtocol, RegistryProtocol, Protocol):
    """A client for ordinary code: `Client`, or `MemoryClient` in tests; `Client` says what each method does."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """See `Client.close`."""
        ...

    def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """See `Client.apply`."""
        ...

    def validate(self, source: Path | Task, *, name: str = "") -> Checked:
        """See `Client.validate`."""
        ...

    def task(self, reference: str) -> TaskVersion:
        """See `Client.task`."""
        ...

    def tasks(self) -> Iterator[TaskVersion]:
        """See `Client.tasks`."""
        ...

    def start(
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
        ...

    def run(
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
        ...

    def wait(self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False) -> Execution:
        """See `Client.wait`."""
        ...

    def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        ...

    def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        ...

    def send_event(
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
        ...

    def send_message(
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
        ...

    def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        ...

    def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """See `Client.pause`."""
        ...

    def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.continue_`."""
        ...

    def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_breaks`."""
        ...

    def set_deadline(
        self, execution_id: str, wait_id: str, deadline: Deadline, *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_deadline`."""
        ...

    def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.terminate`."""
        ...

    def retry(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.retry`."""
        ...

    def fork(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.fork`."""
        ...

    def link(
        self,
        execution_id: str,
        wait_id: str,
        *,
        actor: str,
        expires_in: dt.timedelta | float | str = "7d",
        values: Sequence[Json] | None = None,
    ) -> LinkMade:
        """See `Client.link`."""
        ...

    def executions(self, **filters: Unpack[Filters]) -> Iterator[Execution]:
        """See `Client.executions`."""
        ...

    def counts(self, **filters: Unpack[Filters]) -> Counts:
        """See `Client.counts`."""
        ...

    def transitions(self, execution_id: str) -> Iterator[TransitionRow]:
        """See `Client.transitions`."""
        ...

    def events(self, execution_id: str) -> Iterator[EventRow]:
        """See `Client.events`."""
        ...

    def steps(self, execution_id: str, *, full: bool = False) -> Iterator[StepRow]:
        """See `Client.steps`."""
        ...

    def step(self, execution_id: str, path: str) -> StepVisits:
        """See `Client.step`."""
        ...

    def attempts(self, execution_id: str) -> Iterator[AttemptRow]:
        """See `Client.attempts`."""
        ...

    def history(self, execution_id: str) -> Iterator[HistoryRow]:
        """See `Client.history`."""
        ...

    def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """See `Client.usage`."""
        ...

    def stream(self, execution_id: str, what: Stream = "transitions", *, last_id: str = "") -> Iterator[StreamEvent]:
        """See `Client.stream`."""
        ...


class AsyncEverstepClient(AsyncDoorsProtocol, AsyncRegistryProtocol, Protocol):
    """A client for asyncio: `AsyncClient`, or `AsyncMemoryClient` in tests; `Client` says what each method does."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def close(self) -> None:
        """See `Client.close`."""
        ...

    async def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """See `Client.apply`."""
        ...

    async def validate(self, source: Path | Task, *, name: str = "") -> Checked:
        """See `Client.validate`."""
        ...

    async def task(self, reference: str) -> TaskVersion:
        """See `Client.task`."""
        ...

    def tasks(self) -> AsyncIterator[TaskVersion]:
        """See `Client.tasks`."""
        ...

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
        ...

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
        ...

    async def wait(
        self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False
    ) -> Execution:
        """See `Client.wait`."""
        ...

    async def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        ...

    async def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        ...

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
        ...

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
        ...

    async def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        ...

    async def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """See `Client.pause`."""
        ...

    async def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.continue_`."""
        ...

    async def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_breaks`."""
        ...

    async def set_deadline(
        self, execution_id: str, wait_id: str, deadline: Deadline, *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_deadline`."""
        ...

    async def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.terminate`."""
        ...

    async def retry(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.retry`."""
        ...

    async def fork(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.fork`."""
        ...

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
        ...

    def executions(self, **filters: Unpack[Filters]) -> AsyncIterator[Execution]:
        """See `Client.executions`."""
        ...

    async def counts(self, **filters: Unpack[Filters]) -> Counts:
        """See `Client.counts`."""
        ...

    def transitions(self, execution_id: str) -> AsyncIterator[TransitionRow]:
        """See `Client.transitions`."""
        ...

    def events(self, execution_id: str) -> AsyncIterator[EventRow]:
        """See `Client.events`."""
        ...

    def steps(self, execution_id: str, *, full: bool = False) -> AsyncIterator[StepRow]:
        """See `Client.steps`."""
        ...

    async def step(self, execution_id: str, path: str) -> StepVisits:
        """See `Client.step`."""
        ...

    def attempts(self, execution_id: str) -> AsyncIterator[AttemptRow]:
        """See `Client.attempts`."""
        ...

    def history(self, execution_id: str) -> AsyncIterator[HistoryRow]:
        """See `Client.history`."""
        ...

    async def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """See `Client.usage`."""
        ...

    def stream(
        self, execution_id: str, what: Stream = "transitions", *, last_id: str = ""
    ) -> AsyncIterator[StreamEvent]:
        """See `Client.stream`."""
        ...
