"""The client of the API for ordinary code; `AsyncClient` has the same methods for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from engine.author.task import Task
from engine.client import requests
from engine.client.asking import Filters, Stream, Time, UsageBy
from engine.client.connection import READ_TIMEOUT_S, Connection, is_worth_another
from engine.client.doors import Doors
from engine.client.following import Followed, Patience
from engine.client.registry import Registry
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
from engine.client.steering import Steering
from engine.client.views import Execution, ExecutionTimeout, Page, TaskVersion
from engine.client.wire import StreamEvent, parse_stream
from engine.core.errors import Unavailable
from engine.core.values import Json

T = TypeVar("T")
PAGE = 200


class Client(Steering, Doors, Registry):
    """Talks to an Everstep API.

        with Client() as client:
            print(client.run(Path("greet.yaml"), {"name": "Ada"}))

    Every method raises `EngineError`, with a stable `code`: InvalidInput, NotFound, Conflict, NotAllowed, Unavailable,
    ExecutionTimeout, or DefinitionError with the diagnostics of a task.

    Args:
        address: Address of the API; None = EVERSTEP_ADDRESS, else `http://127.0.0.1:8700`.
        api_key: Key to send; None = EVERSTEP_API_KEY, else none.
        timeout_s: Longest wait for an answer in seconds.
        tries: How often a request is sent at most when the API cannot be reached; one that starts something carries
            an Idempotency-Key, so that it is done once however often it is sent.
        transport: What sends the requests, instead of a socket (tests).
    """

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        tries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection.of(address, api_key, timeout_s, tries)
        self._http = httpx.Client(**self._connection.options(), transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- tasks -----------------------------------------------------------------------------------------------------

    def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """Store a task: a new one, or a new version of the task of that name if it says something new.

        Args:
            source: A task file (YAML, JSON; a Python file is run here) or a `Task`.
            name: Name of a `Task` that has none of its own.
            key: Idempotency key; None = a new one.

        Raises:
            DefinitionError: The task is wrong; `render()` shows the places.
        """
        return self._send(requests.apply_task(source, name=name, key=key))

    def validate(self, source: Path | Task, *, name: str = "") -> Checked:
        """Check a task and store nothing: {ok, diagnostics, name}."""
        return self._send(requests.validate_task(source, name=name))

    def task(self, reference: str) -> TaskVersion:
        """Return a task by name or id; `NAME@3` and `NAME@ALIAS` mean another version than the latest.

        Raises:
            NotFound: `task.not_found`, `task.version_not_found`, `alias.not_found`.
        """
        return self._send(requests.get_task(reference))

    def tasks(self) -> Iterator[TaskVersion]:
        """Yield all tasks in their latest versions, the oldest first."""
        offset = 0
        while page := self._send(requests.list_tasks(limit=PAGE, offset=offset)):
            yield from page
            offset += len(page)

    # --- running ---------------------------------------------------------------------------------------------------

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
        """Start an execution and return at once.

        Args:
            task: A task of the server by name or id, a file, or a `Task`; the last two are applied first.
            input: The input; None = {}.
            key: Idempotency key: the same key, task and input give the same execution. None = a new one.
            execution_id: Id of the execution, a UUID; None = a new one.
            labels: Words by which to find it.
            metadata: Data of your own.
            options: When it begins, until when it must have ended, how urgent it is, where it pauses.

        Returns:
            The execution; where the task's rules join or drop starts, it may be one that was there before.

        Raises:
            InvalidInput: `input.invalid`, `input.requirement`, `start.bad_option`, `break.unknown_step`.
            Conflict: `idempotency.key_reused`, `execution.exists`.
        """
        reference = task if isinstance(task, str) else self.apply(task).reference
        made = requests.start(
            reference,
            input,
            key=key,
            execution_id=execution_id,
            labels=labels,
            metadata=metadata,
            options=options,
        )
        return self._send(made)

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
        """Start an execution, wait for its end and return its output.

        Args:
            task: As for `start`.
            input: The input.
            timeout_s: Longest wait in seconds; the execution goes on after it. None = no limit.
            key: As for `start`; with the same key again, `run` takes up waiting for the same execution.
            labels: As for `start`.
            metadata: As for `start`.
            options: As for `start`.

        Raises:
            ExecutionFailed: It failed or was cancelled.
            ExecutionTimeout: It did not end in time; also a `TimeoutError`.
        """
        started = self.start(task, input, key=key, labels=labels, metadata=metadata, options=options)
        return self.wait(started.id, timeout_s=timeout_s).result()

    def wait(self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False) -> Execution:
        """Return an execution once it has ended.

        Args:
            execution_id: The execution.
            timeout_s: Longest wait in seconds; None = no limit.
            until_waiting: Return as well as soon as it waits for an answer.

        Raises:
            ExecutionTimeout: It did not end in time; it goes on. Also a `TimeoutError`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        execution = self.get(execution_id)
        while not (execution.is_closed or (until_waiting and execution.waits)):
            if deadline is not None and time.monotonic() >= deadline:
                raise ExecutionTimeout(
                    f"execution {execution_id} did not end within {timeout_s:g} s; it goes on",
                    code="client.timeout",
                    hint="wait for it again, or give it more time",
                )
            self._until_change(execution, deadline)
            execution = self._get_again(execution_id, deadline)
        return execution

    def _until_change(self, execution: Execution, deadline: float | None) -> None:
        """Return when the status or the waits are others, when the stream ends, or at the deadline."""
        for event in self._follow(execution.id, Followed("status", deadline=deadline)):
            body = event.data
            if body.get("status") != execution.status.value or body.get("waits") != list(execution.raw["waits"]):
                return

    def _get_again(self, execution_id: str, deadline: float | None) -> Execution:
        """Return an execution that was there before, from an API that may be restarted meanwhile."""
        patience = Patience()
        while True:
            try:
                return self.get(execution_id)
            except Unavailable:
                if patience.is_over() or (deadline is not None and time.monotonic() >= deadline):
                    raise
            time.sleep(patience.pause_s())

    def get(self, execution_id: str) -> Execution:
        """Return an execution.

        Raises:
            NotFound: `execution.not_found`.
        """
        return self._send(requests.get_execution(execution_id))

    # --- steering --------------------------------------------------------------------------------------------------

    def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """Answer a wait.

        Args:
            execution_id: The execution.
            value: The answer; must fit the schema of the wait.
            wait_id: Which wait; may be left out if one is open.
            key: With the same key again, the first outcome comes again. None = a new one.
            actor: Who answers.

        Raises:
            InvalidInput: `input.rejected`: it does not fit; nothing has changed.
            Conflict: `answer.not_waiting`, `answer.ambiguous`, `answer.closed`.
            Unavailable: `answer.pending`: no worker has taken it yet; repeating it with the same key is safe.
        """
        return self._send(requests.answer(execution_id, value, wait_id=wait_id, key=key, actor=actor))

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
        """Send an event for a `wait_for_event` step that waits, or will: {id, execution_id}.

        Args:
            execution_id: The execution.
            name: Name of the event.
            value: What is told about it.
            key: What tells events of one name apart.
            event_id: An event is taken once by its id; None = a new one.
            actor: Who sends it.
        """
        made = requests.send_event(execution_id, name, value, key=key, event_id=event_id, actor=actor)
        return self._send(made)

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
        """Send a message to a step that listens, and learn what becomes of it.

        Args:
            execution_id: The execution.
            value: The message.
            name: Name of the inbox.
            busy: What becomes of it if a turn runs, where the step permits it: reject, enqueue, join, interrupt or
                rollback; empty = as the step says.
            message_id: A message is taken once by its id; None = a new one.
            actor: Who sends it.

        Returns:
            {execution_id, message_id, name, disposition, path, turn}.

        Raises:
            InvalidInput: `input.rejected`: it does not fit the schema of the step.
            Conflict: `inbox.busy`, `inbox.full`, `execution.closed`.
            Unavailable: `message.pending`: no worker has taken it yet; repeating it with the same id is safe.
        """
        made = requests.send_message(execution_id, value, name=name, busy=busy, message_id=message_id, actor=actor)
        return self._send(made)

    def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """Ask an execution to stop; it ends after its `finally` steps.

        Raises:
            Conflict: `execution.closed`.
        """
        return self._send(requests.cancel(execution_id, reason=reason, actor=actor))

    # --- looking ---------------------------------------------------------------------------------------------------

    def executions(self, **filters: Unpack[Filters]) -> Iterator[Execution]:
        """Yield executions, by default the newest first, however many there are.

        Args:
            filters: See `Filters`.
        """
        return self._all(lambda cursor: requests.list_executions(filters, cursor))

    def counts(self, **filters: Unpack[Filters]) -> Counts:
        """Return how many executions stand where: {total, by_status}; filters as for `executions`."""
        return self._send(requests.count_executions(filters))

    def transitions(self, execution_id: str) -> Iterator[TransitionRow]:
        """Yield the transitions of an execution, the first one first."""
        return self._all_of(execution_id, "transitions", direction="asc")

    def events(self, execution_id: str) -> Iterator[EventRow]:
        """Yield all events of an execution, the first one first."""
        return self._all_of(execution_id, "events")

    def steps(self, execution_id: str, *, full: bool = False) -> Iterator[StepRow]:
        """Yield the steps in order: state, input, output, attempts, waits; long values are cut unless `full`."""
        return self._all_of(execution_id, "steps", full="true" if full else None)

    def step(self, execution_id: str, path: str) -> StepVisits:
        """Return the visits of a step, whole: {path, visits, items: [{input, output, attempts, waits, …}]}.

        Args:
            execution_id: The execution.
            path: Its path, `main.3.do[17].0`; without counters (`main.3.do.0`) or by label, all its visits.
        """
        return self._send(requests.get_step(execution_id, path))

    def attempts(self, execution_id: str) -> Iterator[AttemptRow]:
        """Yield the attempts at calls: model or tool, tokens, cost, errors and pauses."""
        return self._all_of(execution_id, "attempts")

    def history(self, execution_id: str) -> Iterator[HistoryRow]:
        """Yield the whole story of an execution in order, in words and data."""
        return self._all_of(execution_id, "history")

    def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """Return calls, tokens and cost, summed up.

        Args:
            by: What makes the lines.
            since: When the calls began, at the earliest.
            until: Not included.
            label: Only executions with this label.
        """
        return self._send(requests.usage(by=by, since=since, until=until, label=label))

    # --- streams ---------------------------------------------------------------------------------------------------

    def stream(self, execution_id: str, what: Stream = "transitions", *, last_id: str = "") -> Iterator[StreamEvent]:
        """Yield what happens in an execution until it has ended; a stream that breaks is taken up where it was.

        Args:
            execution_id: The execution.
            what: `transitions`, `events`, `status`, or `tokens` (what models write, as they write it).
            last_id: Id of the last event that is known already.

        Raises:
            NotFound: `execution.not_found`.
            Unavailable: The API could not be reached for half a minute.
        """
        return self._follow(execution_id, Followed(what, last_id))

    def _follow(self, execution_id: str, followed: Followed) -> Iterator[StreamEvent]:
        path = requests.stream_path(execution_id, followed.what)
        while True:
            try:
                options = self._connection.stream_arguments(followed.last_id, followed.deadline)
                with self._http.stream("GET", path, **options) as response:
                    if response.is_error:
                        response.read()
                    self._connection.check(response)
                    followed.connected()
                    for event in parse_stream(response.iter_lines()):
                        if followed.take(event):
                            yield event
                # an API that is stopped ends its streams as one does whose execution has ended
                if followed.has_ended or (followed.gave_nothing and (self.get(execution_id)).is_closed):
                    return
            except (httpx.TransportError, Unavailable) as error:
                if not followed.is_late and followed.patience.is_over():
                    raise self._connection.unreachable(error) from error
            if followed.is_late:
                return
            time.sleep(followed.pause_s())

    # --- sending ---------------------------------------------------------------------------------------------------

    def _all(self, ask: Callable[[str | None], Request[Page[T]]]) -> Iterator[T]:
        cursor: str | None = None
        while True:
            page = self._send(ask(cursor))
            yield from page.items
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    def _all_of(self, execution_id: str, what: str, **more: Any) -> Iterator[Any]:
        return self._all(lambda cursor: requests.list_of(execution_id, what, limit=PAGE, cursor=cursor, **more))

    def _send(self, request: Request[T]) -> T:
        pauses = self._connection.pauses(request)
        while True:
            pause_s = next(pauses, None)
            try:
                response = self._http.request(request.method, request.path, **self._connection.arguments(request))
            except httpx.TransportError as error:
                if pause_s is None:
                    raise self._connection.unreachable(error) from error
            else:
                if pause_s is None or not is_worth_another(response):
                    self._connection.check(response, request)
                    return request.read(response)
            time.sleep(pause_s)
