"""A client without a server: the methods of `engine.client.Client`, for tests of code that uses one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

from engine.author.task import Task
from engine.client.asking import Filters, Stream, Time, UsageBy, check_stream
from engine.client.requests import TaskSource, with_source
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
from engine.client.views import Execution, ExecutionTimeout, TaskVersion
from engine.client.wire import StreamEvent
from engine.core.contracts.execution import EventSignal, MessageSignal
from engine.core.diagnostics import did_you_mean
from engine.core.errors import Conflict, DefinitionError, InvalidInput, NotFound
from engine.core.kinds import ExecutionStatus
from engine.core.plan.ir import Plan
from engine.core.run.attempts import attempt_view
from engine.core.run.effects import Call
from engine.core.run.projection import TRANSITION_TYPES, event_view
from engine.core.run.story_views import step_row, step_view
from engine.core.run.story_words import entries
from engine.core.values import Json
from engine.dryrun.effects import Answered
from engine.testing import memory_lists
from engine.testing.memory_doors import MemoryDoors
from engine.testing.memory_run import Asked, MemoryExecution
from engine.testing.memory_steering import MemorySteering
from engine.testing.replies import RealTools, Replies, Script, Source
from engine.testing.running import catalog_for, check_input, compile_any
from engine.tooling.definition import Tool

Scripted = Mapping[str, Json] | Sequence[Json] | Callable[[Call], Answered | None]
"""Replies by name, for all calls in order, or a function of the call; see `run_task`."""

STEP_CHARS = 500
HISTORY_CHARS = 2_000
"""What lists keep of long values, as those of the API do."""


class MemoryClient(MemorySteering, MemoryDoors):
    """Runs tasks in this process: no server, no model, no waiting.

        def test_the_service_greets():
            with MemoryClient(replies={"ask": "Hello Ada!"}) as client:
                assert GreetingService(client).greet("Ada") == "Hello Ada!"

    An execution runs as far as it can when it is started, and on when it is answered, told of an event or cancelled.
    Sleeps and pauses take no time; what waits for an answer stays open until it is answered, or `expire` lets its
    deadline pass. The times of all executions begin with 2026.

    Schedules, webhooks, hooks, `emit` and `bulk` need a server: `client.not_in_memory`.

    Args:
        replies: Replies to prompts and tools, as for `run_task`; each execution begins with them anew.
        tools: Python tools that tasks may name, beside those of the project's everstep.toml.
        run_tools: Tools that really run although they read or write.
        sources: What answers calls that the replies leave open (recordings).
        project: The everstep.toml that counts; None = the one in this folder.
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
        self.replies = replies
        self._catalog = catalog_for(Path("task"), project).with_tools(tools)
        self._run_tools = run_tools
        self._sources: list[Source] = list(sources)
        self._plans: dict[str, list[Plan]] = {}
        self._made: dict[str, MemoryExecution] = {}
        self._keys: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""

    # --- tasks -----------------------------------------------------------------------------------------------------

    def apply(self, source: Path | Task, *, name: str = "", key: str | None = None) -> TaskVersion:
        """See `Client.apply`."""
        del key
        try:
            plan = compile_any(source, self._catalog.contracts(), name=name)
        except DefinitionError as error:
            raise with_source(error, error.file, error.source) from None
        versions = self._plans.setdefault(plan.task, [])
        if not versions or versions[-1] != plan:
            versions.append(plan)
        return _version(plan.task, len(versions))

    def validate(self, source: Path | Task, *, name: str = "") -> Checked:
        """See `Client.validate`."""
        try:
            plan = compile_any(source, self._catalog.contracts(), name=name)
        except DefinitionError as error:
            file = source.name if isinstance(source, Path) else error.file
            return {"ok": False, "diagnostics": [item.to_json(file) for item in error.diagnostics], "name": ""}
        return {"ok": True, "diagnostics": [], "name": plan.task}

    def task(self, reference: str) -> TaskVersion:
        """See `Client.task`; there are no aliases here."""
        name, _, version = reference.partition("@")
        versions = self._plans.get(name)
        if not versions:
            hint = did_you_mean(name, self._plans) or "apply it first"
            raise NotFound(f"there is no task '{name}'", code="task.not_found", hint=hint)
        if version in ("", "latest"):
            return _version(name, len(versions))
        if not (version.isdecimal() and 0 < int(version) <= len(versions)):
            raise NotFound(f"the task '{name}' has no version {version}", code="task.version_not_found")
        return _version(name, int(version))

    def tasks(self) -> Iterator[TaskVersion]:
        """See `Client.tasks`."""
        return iter([_version(name, len(versions)) for name, versions in self._plans.items()])

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
        """See `Client.start`; it runs as far as it can before this returns, and takes no delay, deadline or break."""
        (options or StartOptions()).refuse_in_memory()
        version = self.task(task) if isinstance(task, str) else self.apply(task)
        plan = self._plans[version.name][version.version - 1]
        asked = Asked(
            execution_id=_checked_id(execution_id),
            task=version.name,
            version=version.version,
            input={} if input is None else input,
            labels=tuple(dict.fromkeys(labels)),
            metadata=dict(metadata or {}),
        )
        check_input(plan, asked.input)
        if key is not None and (version.name, key) in self._keys:
            known = self._find(self._keys[version.name, key])
            _check_same(known.asked, asked, key, pinned=not isinstance(task, str) or "@" in task)
            return _shown(known)
        if asked.execution_id in self._made:
            raise Conflict(f"there is already an execution {asked.execution_id}", code="execution.exists")
        made = MemoryExecution(asked, plan, Replies(self._sources_now()))
        made.start()
        self._made[asked.execution_id] = made
        if key is not None:
            self._keys[version.name, key] = asked.execution_id
        return _shown(made)

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
        """See `Client.run`; one that waits for an answer is an ExecutionTimeout at once."""
        started = self.start(task, input, key=key, labels=labels, metadata=metadata, options=options)
        return self.wait(started.id, timeout_s=timeout_s).result()

    def wait(self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False) -> Execution:
        """See `Client.wait`; one that waits for an answer is an ExecutionTimeout at once."""
        del timeout_s
        execution = self.get(execution_id)
        if not execution.is_closed and not until_waiting:
            places = ", ".join(wait.label or wait.path for wait in execution.waits)
            raise ExecutionTimeout(
                f"execution {execution_id} waits at {places}",
                code="client.timeout",
                hint="answer it, or let its deadline pass with `expire`",
            )
        return execution

    def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        return _shown(self._find(execution_id))

    # --- steering --------------------------------------------------------------------------------------------------

    def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        made = self._find(execution_id)
        made.answer(value, wait_id, key, actor)
        return _shown(made)

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
        event = EventSignal(id=event_id or str(uuid.uuid4()), name=name, key=key, value=value, actor=actor)
        self._find(execution_id).take_event(event)
        return {"id": event.id, "execution_id": execution_id}

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
        message = MessageSignal(id=message_id or str(uuid.uuid4()), name=name, value=value, busy=busy, actor=actor)
        taken: Any = self._find(execution_id).take_message(message)
        return cast(MessageTaken, {**taken, "execution_id": execution_id})

    def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`."""
        made = self._find(execution_id)
        if made.status is not ExecutionStatus.CANCELLED:
            made.cancel(reason, actor)
        return _shown(made)

    def expire(self, execution_id: str, *, wait_id: str = "") -> Execution:
        """Let a deadline pass that an open wait has, or the time limit of a step around it; only in memory.

        Args:
            execution_id: The execution.
            wait_id: Which wait; empty = the one whose time is up first.

        Raises:
            Conflict: `answer.not_waiting` if no open wait has a deadline, `execution.closed`.
        """
        made = self._find(execution_id)
        made.expire(wait_id)
        return _shown(made)

    # --- looking ---------------------------------------------------------------------------------------------------

    def executions(self, **filters: Unpack[Filters]) -> Iterator[Execution]:
        """See `Client.executions`; filters for agents, parents, actors and stuck ones are refused."""
        return iter([_shown(made) for made in memory_lists.chosen(self._made.values(), filters)])

    def counts(self, **filters: Unpack[Filters]) -> Counts:
        """See `Client.counts`."""
        return memory_lists.counts(memory_lists.chosen(self._made.values(), filters))

    def transitions(self, execution_id: str) -> Iterator[TransitionRow]:
        """See `Client.transitions`."""
        made = self._find(execution_id)
        records = [record for record in made.records() if record.type in TRANSITION_TYPES]
        return iter([cast(TransitionRow, made.transition(record)) for record in records])

    def events(self, execution_id: str) -> Iterator[EventRow]:
        """See `Client.events`."""
        return iter([cast(EventRow, event_view(record)) for record in self._find(execution_id).records()])

    def steps(self, execution_id: str, *, full: bool = False) -> Iterator[StepRow]:
        """See `Client.steps`."""
        story = self._find(execution_id).story(None if full else STEP_CHARS)
        totals = story.totals()
        return iter([cast(StepRow, step_row(step, totals[step.path])) for step in story.walk()])

    def step(self, execution_id: str, path: str) -> StepVisits:
        """See `Client.step`."""
        # they load the store, which few tests need
        from engine.control.folding import FoldedStory
        from engine.control.stories import steps_at

        story = self._find(execution_id).story(None)
        totals = story.totals()
        visits = steps_at(FoldedStory(story, tuple(story.walk()), totals), path)
        items: Any = [step_view(step, totals[step.path]) for step in visits]
        return {"path": path, "visits": len(visits), "items": items, "next_cursor": None}

    def attempts(self, execution_id: str) -> Iterator[AttemptRow]:
        """See `Client.attempts`."""
        return iter([cast(AttemptRow, attempt_view(facts)) for facts in self._find(execution_id).attempts()])

    def history(self, execution_id: str) -> Iterator[HistoryRow]:
        """See `Client.history`."""
        told = entries(self._find(execution_id).records(), limit_chars=HISTORY_CHARS)
        return iter([cast(HistoryRow, entry) for entry in told])

    def usage(
        self, by: UsageBy = "model", *, since: Time | None = None, until: Time | None = None, label: str | None = None
    ) -> list[UsageRow]:
        """See `Client.usage`."""
        return memory_lists.usage_rows(self._made.values(), by, since, until, label)

    def calls(self, execution_id: str) -> list[dict[str, Json]]:
        """Return what an execution called: {path, label, kind, name, attempt, request, reply, error}."""
        return [call.to_json() for call in self._find(execution_id).handler.calls]

    # --- streams ---------------------------------------------------------------------------------------------------

    def stream(self, execution_id: str, what: Stream = "transitions", *, last_id: str = "") -> Iterator[StreamEvent]:
        """See `Client.stream`; it ends where the execution stands, and `tokens` tells whole messages only."""
        check_stream(what)
        made = self._find(execution_id)
        after = int(last_id) if last_id.isdecimal() else 0
        found: list[StreamEvent] = []
        if what == "status":
            view = {**made.view(), "execution_id": execution_id}
            return iter([StreamEvent(str(view["last_seq"]), view)])
        if what == "tokens":
            found = [StreamEvent(str(seq), data, kind) for seq, kind, data in made.messages() if seq > after]
            if made.finished is not None:
                end = {"execution_id": execution_id, "status": made.status.value}
                found.append(StreamEvent(found[-1].id if found else last_id, end, "end"))
            return iter(found)
        for record in made.records():
            if record.seq > after and (what == "events" or record.type in TRANSITION_TYPES):
                view = event_view(record) if what == "events" else made.transition(record)
                found.append(StreamEvent(str(record.seq), view))
        return iter(found)

    # --- the engine ------------------------------------------------------------------------------------------------

    def _find(self, execution_id: str) -> MemoryExecution:
        made = self._made.get(execution_id)
        if made is None:
            raise NotFound(f"there is no execution {execution_id}", code="execution.not_found")
        return made

    def _sources_now(self) -> list[Source]:
        script: Source = self.replies if callable(self.replies) else Script(self.replies)
        return [script, RealTools(self._catalog, self._run_tools), *self._sources]


def _version(name: str, version: int) -> TaskVersion:
    return TaskVersion(name, name, version, {"id": name, "name": name, "version": version})


def _shown(made: MemoryExecution) -> Execution:
    return Execution.of(made.view())


def _checked_id(execution_id: str | None) -> str:
    try:
        return str(uuid.uuid4() if execution_id is None else uuid.UUID(execution_id))
    except ValueError:
        raise InvalidInput(f"'{execution_id}' is no UUID", code="execution.bad_id") from None


def _check_same(known: Asked, asked: Asked, key: str, *, pinned: bool) -> None:
    """Refuse a request whose key has started an execution by another request."""
    differs = {
        "another input": known.input != asked.input,
        "other metadata": known.metadata != asked.metadata,
        "other labels": set(known.labels) != set(asked.labels),
        "another version of the task": pinned and known.version != asked.version,
    }
    other = [what for what, is_so in differs.items() if is_so]
    if other:
        raise Conflict(
            f"the idempotency key {key!r} was used with {' and '.join(other)} before (execution {known.execution_id})",
            code="idempotency.key_reused",
            hint="use a new key for a new execution",
        )
