"""A client without a server: the methods of `engine.client.Client`, for tests of code that uses one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.author.task import Task
from engine.client.requests import TaskSource
from engine.client.views import Execution, TaskVersion
from engine.client.wire import StreamEvent
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.plan.ir import Plan
from engine.core.run.effects import Call
from engine.core.run.projection import iso_time
from engine.core.values import Json
from engine.dryrun import START_US, Answered, run_in_memory
from engine.testing.replies import RealTools, Replies, Script, Source
from engine.testing.running import Answers, TaskRun, catalog_for, check_input, compile_any, tell_run
from engine.tooling import Tool, ToolCatalog

Scripted = Mapping[str, Json] | Sequence[Json] | Callable[[Call], Answered | None]
"""Replies by name, for all calls in order, or a function of the call; see `run_task`."""


@dataclass(slots=True)
class _Made:
    """An execution in memory: what it began with, what it was told since, and how it stands after all of it."""

    id: str
    task: TaskVersion
    plan: Plan
    input: Json
    labels: Sequence[str]
    metadata: Mapping[str, Any]
    script: Source
    told: list[dict[str, Json]] = field(default_factory=list)
    answered: dict[str, Answered] = field(default_factory=dict)
    run: TaskRun = field(default_factory=lambda: TaskRun("waiting"))

    def remembered(self, call: Call) -> Answered | None:
        """Answer a call that was made before."""
        return self.answered.get(call.id)

    def keeping(self, source: Source) -> Source:
        """Return a source whose answers are kept."""

        def ask(call: Call) -> Answered | None:
            answer = source(call)
            if answer is not None:
                self.answered[call.id] = answer
            return answer

        return ask


class MemoryClient:
    """Runs tasks in this process: no server, no model, no waiting.

        def test_the_service_greets():
            with MemoryClient(replies={"ask": "Hello Ada!"}) as client:
                assert GreetingService(client).greet("Ada") == "Hello Ada!"

    An execution runs as far as it can when it is started, and on when it is answered; a sleep takes no time. Its calls
    are made once, however often it is answered.

    Args:
        replies: Replies to prompts and tools, as for `run_task`.
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
        catalog = catalog_for(Path("task"), project)
        self._catalog = ToolCatalog({**catalog.tools, **{tool.name: tool for tool in tools}})
        self._run_tools = run_tools
        self._sources: list[Source] = list(sources)
        self._plans: dict[str, list[Plan]] = {}
        self._made: dict[str, _Made] = {}
        self._keys: dict[str, str] = {}

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
        plan = compile_any(source, self._catalog.contracts(), name=name)
        versions = self._plans.setdefault(plan.task, [])
        if not versions or versions[-1] != plan:
            versions.append(plan)
        return _version(plan.task, len(versions))

    def task(self, reference: str) -> TaskVersion:
        """See `Client.task`; there are no aliases here."""
        name, _, version = reference.partition("@")
        versions = self._plans.get(name)
        if not versions:
            raise NotFound(f"there is no task '{name}'", code="task.not_found", hint="apply it first")
        if version and not (version.isdecimal() and 0 < int(version) <= len(versions)):
            raise NotFound(f"the task '{name}' has no version {version}", code="task.version_not_found")
        return _version(name, int(version) if version else len(versions))

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
    ) -> Execution:
        """See `Client.start`; a second task of the same key is not compared with the first."""
        if key is not None and key in self._keys:
            return self.get(self._keys[key])
        version = self.task(task) if isinstance(task, str) else self.apply(task)
        plan = self._plans[version.name][version.version - 1]
        given = {} if input is None else input
        script: Source = self.replies if callable(self.replies) else Script(self.replies)
        made = _Made(execution_id or str(uuid.uuid4()), version, plan, given, labels, dict(metadata or {}), script)
        if made.id in self._made:
            raise Conflict(f"there is already an execution {made.id}", code="execution.exists")
        self._go_on(made)
        self._made[made.id] = made
        if key is not None:
            self._keys[key] = made.id
        return _view(made)

    def run(
        self,
        task: TaskSource,
        input: Json = None,
        *,
        timeout_s: float | None = None,
        key: str | None = None,
        labels: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Json:
        """See `Client.run`; one that waits for an answer is a TimeoutError at once."""
        started = self.start(task, input, key=key, labels=labels, metadata=metadata)
        return self.wait(started.id, timeout_s=timeout_s).result()

    def wait(self, execution_id: str, *, timeout_s: float | None = None, until_waiting: bool = False) -> Execution:
        """See `Client.wait`."""
        del timeout_s
        execution = self.get(execution_id)
        if not execution.is_closed and not until_waiting:
            places = ", ".join(wait.label or wait.path for wait in execution.waits)
            raise TimeoutError(f"execution {execution_id} waits for an answer at {places}")
        return execution

    def get(self, execution_id: str) -> Execution:
        """See `Client.get`."""
        return _view(self._find(execution_id))

    def executions(self) -> Iterator[Execution]:
        """Yield all executions, the newest first."""
        return iter([_view(made) for made in reversed(self._made.values())])

    # --- steering --------------------------------------------------------------------------------------------------

    def answer(
        self, execution_id: str, value: Json, *, wait_id: str = "", key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.answer`."""
        del key, actor
        made = self._find(execution_id)
        waits = [str(wait["wait_id"]) for wait in made.run.waits]
        if not waits or (wait_id and wait_id not in waits):
            raise Conflict(f"execution {execution_id} does not wait for an answer", code="answer.not_waiting")
        if len(waits) > 1 and not wait_id:
            raise Conflict(f"execution {execution_id} has {len(waits)} open waits", code="answer.ambiguous")
        before = list(made.told)
        made.told.append({"wait_id": wait_id or waits[0], "value": {"$answer": value}})
        self._go_on(made)
        if made.run.problems:
            problem = made.run.problems[0]
            made.told = before
            self._go_on(made)
            raise InvalidInput(problem, code="input.rejected")
        return _view(made)

    def cancel(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.cancel`; it stops where it waits."""
        del actor
        made = self._find(execution_id)
        if made.run.status != "waiting":
            raise Conflict(f"execution {execution_id} has ended", code="execution.closed")
        made.told.append({"wait_id": str(made.run.waits[0]["wait_id"]), "value": {"$cancel": reason}})
        self._go_on(made)
        return _view(made)

    # --- looking ---------------------------------------------------------------------------------------------------

    def events(self, execution_id: str) -> Iterator[dict[str, Any]]:
        """See `Client.events`."""
        return iter([_event(event) for event in self._find(execution_id).run.trace])

    def transitions(self, execution_id: str) -> Iterator[dict[str, Any]]:
        """See `Client.transitions`; events that are transitions, as `events` shows them."""
        return iter([event for event in self.events(execution_id) if EventType(event["type"]).is_transition])

    def stream(self, execution_id: str, what: str = "transitions", *, last_id: str = "") -> Iterator[StreamEvent]:
        """See `Client.stream`: `transitions` and `events`, and it ends where the execution stands."""
        told = self.events(execution_id) if what == "events" else self.transitions(execution_id)
        after = int(last_id or 0)
        return iter([StreamEvent(str(event["seq"]), event) for event in told if event["seq"] > after])

    def calls(self, execution_id: str) -> list[dict[str, Json]]:
        """Return what an execution called: {path, label, kind, name, attempt, request, reply, error}."""
        return self._find(execution_id).run.calls

    # --- the engine ------------------------------------------------------------------------------------------------

    def _find(self, execution_id: str) -> _Made:
        made = self._made.get(execution_id)
        if made is None:
            raise NotFound(f"there is no execution {execution_id}", code="execution.not_found")
        return made

    def _go_on(self, made: _Made) -> None:
        """Run an execution from its beginning with all it was told; calls that were made come from memory."""
        check_input(made.plan, made.input)
        handler = Replies([made.remembered, *self._sources_of(made)])
        ran = run_in_memory(made.plan, made.input, handler, answerer=Answers(_by_wait(made.told)))
        made.run = tell_run(ran)
        made.run.calls = [call.to_json() for call in handler.calls]
        made.run.problems += handler.unanswered
        if handler.unanswered:
            raise AssertionError(made.run.summary())

    def _sources_of(self, made: _Made) -> list[Source]:
        sources: list[Source] = [made.script, RealTools(self._catalog, self._run_tools)]
        sources += self._sources
        return [made.keeping(source) for source in sources]


def _by_wait(told: Sequence[Json]) -> dict[str, Json]:
    answers: dict[str, list[Json]] = {}
    for item in told:
        answers.setdefault(item["wait_id"], []).append(item["value"])
    return dict(answers)


def _version(name: str, version: int) -> TaskVersion:
    return TaskVersion(name, name, version, {"id": name, "name": name, "version": version})


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in event.items() if key not in ("seq", "type", "at")}
    at = iso_time(START_US + round(event["at"] * 1e6))
    return {"seq": event["seq"], "type": event["type"], "at": at, "body": body}


def _view(made: _Made) -> Execution:
    run = made.run
    closed = run.status in ("succeeded", "failed", "cancelled")
    waits = [
        {"id": wait["wait_id"], "path": wait.get("path") or wait["wait_id"], **wait} for wait in run.waits if not closed
    ]
    usage = _usage(run)
    return Execution.of(
        {
            "id": made.id,
            "task_id": made.task.id,
            "task_name": made.task.name,
            "task_version": made.task.version,
            "status": run.status if closed else ExecutionStatus.AWAITING_INPUT.value,
            "input": made.input,
            "output": run.output,
            "error": run.error,
            "labels": list(made.labels),
            "metadata": dict(made.metadata),
            "waits": waits,
            "usage": usage,
            "created_at": iso_time(START_US),
            "closed_at": iso_time(START_US + round(run.seconds * 1e6)) if closed else None,
        }
    )


def _usage(run: TaskRun) -> dict[str, Any]:
    found = {"llm_calls": 0, "tool_calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for event in run.trace:
        if event["type"] != EventType.EFFECT_FINISHED.value:
            continue
        if event.get("kind") == "tool_call":
            found["tool_calls"] += 1
        elif event.get("kind") == "prompt":
            found["llm_calls"] += 1
            for name, count in (event.get("usage") or {}).items():
                if name in found:
                    found[name] += int(count)
    return {**found, "cost": None, "unpriced_calls": found["llm_calls"]}
