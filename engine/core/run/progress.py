"""From events to facts: one fold gives an execution's status, waits, attempts and sums. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.attempts import ATTEMPT_EVENTS, AttemptFacts, apply_attempt
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import TERMINAL_EVENTS, TRANSITION_TYPES, Wait
from engine.core.run.tags import BACKEND, MODEL
from engine.core.run.usage import UsageSums, is_reply

ANSWERED, EXPIRED, STOPPED = "answered", "expired", "stopped"
"""How waits end."""

_ENDS_A_PLACE = frozenset(
    {EventType.STEP.value, EventType.FINISH_BRANCH.value, EventType.BRANCH_FAILED.value, EventType.ATTEMPT_FAILED.value}
)
"""Events after which no wait at their path, or inside it, can be open any more."""

_ALWAYS_READ = ATTEMPT_EVENTS | {
    EventType.INIT.value,
    EventType.WAIT.value,
    EventType.RESUME.value,
    EventType.CANCELLED.value,
    EventType.EXECUTION_PAUSED.value,
    EventType.EXECUTION_CONTINUED.value,
}
_READ_WHEN_WAITING = _ENDS_A_PLACE | TERMINAL_EVENTS | {EventType.DEADLINE_CHANGED.value}
"""Bodies of other events are not parsed at all: most are steps, and only the end of a wait could stand in them."""

_EXPIRED_CODE = "wait.expired"


@dataclass(slots=True)
class Progress:
    """What the events so far say; fold it over them in order of their numbers.

    Attributes:
        last_seq: Highest number seen.
        last_us: Latest time seen, Unix microseconds.
        last_run_id: Run of the last event.
        transitions: Number of transitions.
        waits: Waits by id: all that were opened during the fold, and those it began with.
        changed: Ids of waits that were opened or closed, or got another deadline, during the fold.
        attempts: Attempts by id, all that events of the fold are about; of one that began before it, only what
            those events tell.
        begun: Ids of those whose `effect.started` was seen during the fold.
        finished: Ids of those whose `effect.finished` was.
        usage: Sums over the attempts.
        served: Kind (`MODEL`, `BACKEND`) and name of all that answered during the fold.
        init: Body of the `init` event, if it was seen during the fold.
        first_us: Time of that event, or of the first event of all.
        cancelled: Body of the `cancelled` event, if it was seen during the fold.
        ended: Whether a terminal event was seen.
        paused: Whether it stands still.
    """

    last_seq: int = 0
    last_us: int = 0
    last_run_id: str = ""
    transitions: int = 0
    waits: dict[str, Wait] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    attempts: dict[str, AttemptFacts] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    usage: UsageSums = field(default_factory=UsageSums)
    served: dict[tuple[str, str], None] = field(default_factory=dict)
    init: dict[str, Any] | None = None
    first_us: int = 0
    cancelled: dict[str, Any] | None = None
    ended: bool = False
    paused: bool = False

    def apply(self, record: EventRecord, body: dict[str, Any] | None = None) -> None:
        """Take one more event.

        Args:
            record: The event.
            body: Its body, if it has been parsed already.
        """
        if record.seq > self.last_seq:
            self.last_seq = record.seq
        if record.now_us > self.last_us:
            self.last_us = record.now_us
        self.last_run_id = record.run_id
        self.first_us = self.first_us or record.now_us
        kind = record.type
        if kind in TRANSITION_TYPES:
            self.transitions += 1
        if kind in _ALWAYS_READ or (self.waits and kind in _READ_WHEN_WAITING):
            self._read(record, kind, body_of(record) if body is None else body)
        if kind in TERMINAL_EVENTS:
            self.ended = True

    def _read(self, record: EventRecord, kind: str, body: dict[str, Any]) -> None:
        if kind in ATTEMPT_EVENTS:
            self._attempt(record, kind, body)
        elif kind == EventType.INIT:
            self.init, self.first_us = body, record.now_us
        elif kind == EventType.WAIT:
            self._open(record, body)
        elif kind == EventType.RESUME:
            self._resume(record, body)
        elif kind in (EventType.EXECUTION_PAUSED, EventType.EXECUTION_CONTINUED):
            if not body.get("repeated"):
                self.paused = kind == EventType.EXECUTION_PAUSED
        elif kind == EventType.DEADLINE_CHANGED:
            self._move_deadline(body)
        elif kind in TERMINAL_EVENTS:
            if kind == EventType.CANCELLED:
                self.cancelled = body
            for wait in self.open_waits:
                self._close(wait, record, _why(wait, body))
        if kind in _ENDS_A_PLACE and self.waits:
            self._leave(record, body)

    # --- waits -----------------------------------------------------------------------------------------------------

    def _open(self, record: EventRecord, body: Mapping[str, Any]) -> None:
        wait_id = str(body.get("wait_id", ""))
        self.changed.add(wait_id)
        self.waits[wait_id] = Wait(
            wait_id=wait_id,
            path=str(body.get("path", "")),
            label=str(body.get("label") or ""),
            info=body.get("info"),
            schema=body.get("schema"),
            deadline_us=body.get("deadline_us"),
            opened_seq=record.seq,
            opened_us=record.now_us,
        )

    def _resume(self, record: EventRecord, body: Mapping[str, Any]) -> None:
        wait = self.waits.get(str(body.get("wait_id", "")))
        if wait is not None and wait.closed_seq is None:
            self._close(wait, record, EXPIRED if body.get("expired") else ANSWERED)
            wait.actor, wait.answer = str(body.get("actor") or ""), body.get("output")

    def _move_deadline(self, body: Mapping[str, Any]) -> None:
        wait = self.waits.get(str(body.get("wait_id", "")))
        if wait is not None and wait.closed_seq is None and not body.get("repeated"):
            wait.deadline_us = body.get("deadline_us")
            self.changed.add(wait.wait_id)

    def _leave(self, record: EventRecord, body: Mapping[str, Any]) -> None:
        path = str(body.get("path", ""))
        for wait in self.open_waits:
            if path and (wait.path == path or wait.path.startswith(f"{path}.")):
                self._close(wait, record, _why(wait, body))

    def _close(self, wait: Wait, record: EventRecord, outcome: str) -> None:
        if wait.closed_seq is None:
            wait.closed_seq, wait.closed_us, wait.outcome = record.seq, record.now_us, outcome
            self.changed.add(wait.wait_id)

    @property
    def open_waits(self) -> list[Wait]:
        """Waits without an answer, the oldest first."""
        if not self.waits:
            return []
        found = [wait for wait in self.waits.values() if wait.closed_seq is None]
        return sorted(found, key=lambda wait: wait.opened_seq)

    # --- attempts --------------------------------------------------------------------------------------------------

    def _attempt(self, record: EventRecord, kind: str, body: Mapping[str, Any]) -> None:
        facts = apply_attempt(self.attempts, record, body)
        if is_reply(kind, body):
            # as `usage.apply` does, from what has been read of the body
            self.usage.add_reply(facts.tokens, facts.cost_nano)
        else:
            self.usage.apply(kind, body)
        if kind == EventType.EFFECT_STARTED:
            self.begun.add(facts.effect_id)
        elif kind == EventType.EFFECT_FINISHED:
            self.finished.add(facts.effect_id)
            if facts.model:
                self.served[MODEL, facts.model] = None
            if facts.backend:
                self.served[BACKEND, facts.backend] = None

    # --- status ----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> ExecutionStatus:
        """The status that the events suggest; never a terminal one, which only Temporal may tell."""
        if self.paused and not self.ended:
            return ExecutionStatus.PAUSED
        if self.open_waits:
            return ExecutionStatus.AWAITING_INPUT
        if self.last_seq == 0:
            return ExecutionStatus.QUEUED
        # a first step that takes long is at work from the event of its call on
        return ExecutionStatus.STARTING if self.last_seq <= 1 and not self.ended else ExecutionStatus.RUNNING

    @property
    def created_us(self) -> int:
        """When the execution was asked for, as its `init` tells; else when its first event happened."""
        asked = (self.init or {}).get("created_us")
        return asked if isinstance(asked, int) and asked > 0 else self.first_us


def _why(wait: Wait, body: Mapping[str, Any]) -> str:
    """Say why an event ended a wait that got no answer: it was out of time itself, or something around it ended."""
    error = body.get("error")
    if not isinstance(error, Mapping) or error.get("code") != _EXPIRED_CODE:
        return STOPPED
    return EXPIRED if error.get("step", body.get("path")) == wait.path else STOPPED
