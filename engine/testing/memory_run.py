"""One execution of the client in memory: runs until it waits, is told something, goes on; and how it is shown."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.contracts.execution import AnswerSignal, ControlSignal, EventSignal, Fork, MessageSignal
from engine.core.errors import Conflict, InputRejected, InvalidInput, RunError
from engine.core.kinds import EventType, ExecutionStatus, StepKind
from engine.core.plan.ir import Plan
from engine.core.plan.paths import Places
from engine.core.run.answers import fitting_problems
from engine.core.run.attempts import AttemptFacts
from engine.core.run.dispositions import message_outcome
from engine.core.run.effects import Failed, Ok
from engine.core.run.events import EventRecord, body_of
from engine.core.run.machine import Finished, Machine, Pace
from engine.core.run.progress import Progress
from engine.core.run.projection import ExecutionFacts, Wait, execution_view, is_listening, pause_view, transition_view
from engine.core.run.story import Story
from engine.core.run.walker import Identity
from engine.core.values import Json, compact_json
from engine.dryrun.effects import START_US, MemoryEffects
from engine.dryrun.running import MOST_ACTIVATIONS, all_waits, deliver
from engine.testing.recording import STALE
from engine.testing.replies import Replies

RUN_ID: Final = "memory"
LIMITS: Final = ("attempt", "total", "undo")
"""Purposes of the timers that limit the time of a step, whose path is theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """With what an execution was started.

    Attributes:
        execution_id: Its id.
        task: Name of the task.
        version: Its version.
        input: The input.
        labels: Words by which to find it.
        metadata: The caller's metadata.
        breaks: Steps before which it pauses.
        fork: Whose recorded steps it begins with; None = it begins at its beginning.
    """

    execution_id: str
    task: str
    version: int
    input: Json
    labels: tuple[str, ...]
    metadata: dict[str, Any]
    breaks: tuple[str, ...] = ()
    fork: Fork | None = None


@dataclass(slots=True)
class MemoryExecution:
    """An execution that stands where it waits. Its time is its own: sleeps and pauses pass, deadlines of waits do not.

    Attributes:
        asked: With what it was started.
        plan: What runs.
        handler: Answers its calls.
    """

    asked: Asked
    plan: Plan
    handler: Replies
    effects: MemoryEffects = field(init=False)
    machine: Machine = field(init=False)
    _answered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        asked = self.asked
        self.effects = MemoryEffects(self.handler, START_US, self.handler.refused, holds=self._is_held)
        identity = Identity(
            execution_id=asked.execution_id,
            task_id=asked.task,
            task_version=asked.version,
            metadata=asked.metadata,
            labels=asked.labels,
            fork=asked.fork,
        )
        self.machine = Machine(self.plan, self.effects, identity)

    # --- running ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run as far as it goes by itself.

        Raises:
            AssertionError: The test left a call without a reply, or it has changed since it was recorded.
        """
        self.machine.start(self.asked.input, self.asked.breaks)
        self._go_on()

    def _go_on(self) -> None:
        for _ in range(MOST_ACTIVATIONS):
            if self.machine.run() is Pace.DONE:
                break
            if not self.machine.has_work:
                happened = self.effects.pop()
                if happened is None:
                    break
                deliver(self.machine, self.effects, *happened)
        else:
            raise AssertionError(f"the execution took more than {MOST_ACTIVATIONS} activations")
        stale = [call.error["message"] for call in self.handler.calls if call.error and call.error["code"] == STALE]
        if stale or self.handler.unanswered:
            raise AssertionError("\n".join([*self.handler.unanswered, *stale]))

    def _is_held(self, timer_id: str) -> bool:
        """Whether a timer would end what stands still: a pause, or a wait that somebody may still answer.

        That is its own timer, or one of a step around it.
        """
        purpose, _, path = timer_id.partition(":")
        if purpose == "wait":
            return True
        if purpose not in (*LIMITS, "limit", "finally"):
            return False
        if self.paused:
            return True
        waits = [self._path_of(frame.wait_id) for frame in all_waits(self.machine)]
        if purpose in LIMITS:
            return any(_is_inside(wait, path) for wait in waits)
        return bool(waits)

    def _path_of(self, wait_id: str) -> str:
        return str(self.effects.waits.get(wait_id, {}).get("path") or wait_id)

    # --- steering --------------------------------------------------------------------------------------------------

    def answer(self, value: Json, wait_id: str, key: str | None, actor: str) -> None:
        """Answer a wait and go on; see `Client.answer`."""
        if key is not None and key in self._answered:
            return
        wait = self._wait_for(wait_id)
        problems = fitting_problems(value, wait.schema)
        if problems:
            raise InvalidInput(
                f"the answer does not fit the wait {wait.wait_id!r}: {'; '.join(problems)}", code="input.rejected"
            )
        if is_listening(wait.info):
            raise Conflict(
                f"execution {self.asked.execution_id} listens for messages and asks nothing",
                code="answer.wants_message",
                hint="send it a message with `send_message`",
            )
        final_key = key or str(uuid.uuid4())
        self.machine.answer(AnswerSignal(key=final_key, value=value, wait_id=wait.wait_id, actor=actor))
        self._answered.add(final_key)
        self._go_on()

    def _wait_for(self, wait_id: str) -> Wait:
        waits = self.progress().open_waits
        if wait_id:
            waits = [wait for wait in waits if wait.wait_id == wait_id]
        if not waits or self.finished is not None:
            why = f"no wait {wait_id!r} is open" if wait_id and self.finished is None else f"it is {self.status.value}"
            raise Conflict(
                f"execution {self.asked.execution_id} does not wait for an answer: {why}", code="answer.not_waiting"
            )
        if len(waits) > 1:
            raise Conflict(
                f"execution {self.asked.execution_id} has {len(waits)} open waits",
                code="answer.ambiguous",
                hint="name one (wait_id): " + ", ".join(wait.wait_id for wait in waits[:10]),
            )
        return waits[0]

    def take_event(self, event: EventSignal) -> None:
        """Take an event from outside and go on."""
        self._check_open()
        self.machine.take_event(event)
        self._go_on()

    def take_message(self, message: MessageSignal) -> dict[str, Any]:
        """Take a message, go on, and return what became of it."""
        self._check_open()
        seen = len(self.effects.events)
        self.machine.take_message(message)
        told = next(event.body for event in self.effects.events[seen:] if event.type == EventType.MESSAGE_TAKEN)
        self._go_on()
        try:
            return message_outcome(told)
        except InputRejected as error:
            # as the client raises what the API answers
            raise InvalidInput(error.message, code=error.code, details=error.details) from None

    def control(self, signal: ControlSignal) -> dict[str, Any]:
        """Do what an operator wants, go on, and return the body of the event that tells the outcome."""
        self._check_open()
        seen = len(self.effects.events)
        self.machine.control(signal)
        told = next(event.body for event in self.effects.events[seen:] if event.body.get("key") == signal.key)
        self._go_on()
        return dict(told)

    def terminate(self, reason: str, actor: str) -> None:
        """End at once; nothing of it runs any more."""
        self._check_open()
        error = RunError(reason or "an operator terminated the execution", code="execution.terminated")
        error.details |= {"actor": actor} if actor else {}
        self.machine.result = Finished(Failed(error))

    def cancel(self, reason: str, actor: str) -> None:
        """Stop, and run what must be run before the end."""
        self._check_open()
        self.machine.cancel(reason, actor)
        self._go_on()

    def expire(self, wait_id: str) -> None:
        """Let the next limit of a wait pass, and go on.

        Raises:
            Conflict: `answer.not_waiting` if no open wait has one.
        """
        self._check_open()
        path = self._path_of(wait_id) if wait_id else ""

        def ends_it(timer_id: str) -> bool:
            purpose, _, at = timer_id.partition(":")
            if not self._is_held(timer_id):
                return False
            return not wait_id or at == wait_id or purpose not in ("wait", *LIMITS) or _is_inside(path, at)

        timer_id = self.effects.pass_timer(ends_it)
        if timer_id is None:
            raise Conflict(
                f"execution {self.asked.execution_id} has no open wait with a deadline", code="answer.not_waiting"
            )
        self.machine.timer_fired(timer_id)
        self._go_on()

    def _check_open(self) -> None:
        if self.finished is not None:
            raise Conflict(
                f"execution {self.asked.execution_id} has ended: it is {self.status.value}", code="execution.closed"
            )

    # --- how it stands ---------------------------------------------------------------------------------------------

    @property
    def finished(self) -> Finished | None:
        """How it ended; None = it waits."""
        return self.machine.result

    @property
    def paused(self) -> bool:
        """Whether it stands still because an operator wants it to, or before a break."""
        return self.machine.paused

    @property
    def status(self) -> ExecutionStatus:
        """Where it stands."""
        if self.finished is None:
            return ExecutionStatus.PAUSED if self.paused else ExecutionStatus.AWAITING_INPUT
        outcome = self.finished.outcome
        if isinstance(outcome, Ok):
            return ExecutionStatus.SUCCEEDED
        return ExecutionStatus.FAILED if isinstance(outcome, Failed) else ExecutionStatus.CANCELLED

    def records(self) -> list[EventRecord]:
        """Return its events as a store has them."""
        return [
            EventRecord(self.asked.execution_id, RUN_ID, seen.seq, seen.now_us, seen.type, compact_json(seen.body))
            for seen in self.effects.events
        ]

    def transition(self, record: EventRecord) -> dict[str, Any]:
        """Return one of its transitions as the API shows it."""
        return transition_view(record, Places(self.plan).label_at)

    def progress(self) -> Progress:
        """Return its facts."""
        progress = Progress()
        for record in self.records():
            progress.apply(record)
        return progress

    def attempts(self) -> list[AttemptFacts]:
        """Return its attempts at calls in order."""
        return sorted(self.progress().attempts.values(), key=lambda facts: facts.place)

    def story(self, limit: int | None) -> Story:
        """Return its story, with so many characters of each value."""
        return Story(limit).extend(self.records())

    def facts(self) -> ExecutionFacts:
        """Return what a store would know of it."""
        progress, outcome = self.progress(), None if self.finished is None else self.finished.outcome
        return ExecutionFacts(
            id=self.asked.execution_id,
            tenant="default",
            task_id=self.asked.task,
            task_name=self.asked.task,
            task_version=self.asked.version,
            agent_id="",
            status=self.status,
            input=self.asked.input,
            output=outcome.value if isinstance(outcome, Ok) else None,
            error=self._error(progress),
            metadata=self.asked.metadata,
            created_us=START_US,
            updated_us=progress.last_us,
            closed_us=progress.last_us if self.finished is not None else None,
            transition_count=progress.transitions,
            last_seq=progress.last_seq,
            terminal_seen=progress.ended,
            settled=self.finished is not None,
            verified=True,
            labels=list(self.asked.labels),
            usage=progress.usage,
            forked_from="" if self.asked.fork is None else self.asked.fork.execution_id,
            fork_kind="" if self.asked.fork is None else self.asked.fork.kind,
            fork_path="" if self.asked.fork is None else self.asked.fork.path,
        )

    def _error(self, progress: Progress) -> dict[str, Any] | None:
        if self.status is ExecutionStatus.CANCELLED:
            said = progress.cancelled or {}
            error: dict[str, Any] = {
                "code": "execution.cancelled",
                "message": said.get("reason") or "the execution was cancelled",
            }
            return error | ({"details": {"actor": said["actor"]}} if said.get("actor") else {})
        failed = [event.body for event in self.effects.events if event.type == EventType.ERROR.value]
        if failed:
            return dict(failed[-1]["error"])
        outcome = None if self.finished is None else self.finished.outcome
        return outcome.error.to_json() if isinstance(outcome, Failed) else None

    def view(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        waits = self.progress().open_waits if self.finished is None else []
        view = execution_view(self.facts(), waits)
        return {**view, "paused": pause_view(self.records())} if self.paused and self.finished is None else view

    def messages(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield the ends of its model calls as the stream of tokens tells them: number, kind, data."""
        for record in self.records():
            body = body_of(record)
            if record.type != EventType.EFFECT_FINISHED or body.get("kind") != StepKind.PROMPT:
                continue
            data: dict[str, Any] = {"execution_id": record.execution_id, "seq": record.seq}
            data |= {name: body.get(name) for name in ("path", "effect_id", "attempt", "outcome")}
            if body.get("outcome") != "ok":
                yield record.seq, "failed", {**data, "error": body.get("error")}
                continue
            data |= {name: body.get(name) for name in ("model", "backend", "finish_reason", "usage", "cost")}
            yield record.seq, "message", {**data, "message": body.get("reply")}


def _is_inside(path: str, outer: str) -> bool:
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in ("", ".", "[", "~", "!")


def contains(whole: Json, part: Json) -> bool:
    """Whether a value contains another: objects may have more members, arrays more items."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            name in whole and contains(whole[name], value) for name, value in part.items()
        )
    if isinstance(part, Sequence) and not isinstance(part, str):
        return isinstance(whole, Sequence) and all(any(contains(item, value) for item in whole) for value in part)
    return bool(whole == part)
