"""From events to views: what an execution is waiting for, its transitions, and their JSON shapes. Workflow-safe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from engine.core.ids import scope_id
from engine.core.kinds import EventType, ExecutionStatus, StepKind
from engine.core.run.events import EventRecord, body_of
from engine.core.run.times import iso_time as iso_time
from engine.core.run.usage import UsageSums
from engine.core.values import Json

CANCELLED_TEXT = "Workflow Cancelled"

TERMINAL_EVENTS = frozenset({EventType.FINISH.value, EventType.ERROR.value, EventType.CANCELLED.value})
TRANSITION_TYPES = frozenset(item.value for item in EventType if item.is_transition)

_SEQ_BITS = 62


# --- ids and times -------------------------------------------------------------------------------------------------


def _uuid_text(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def transition_id(execution_id: str, seq: int) -> str:
    """Return the id of an event: a UUID (version 8) made of a hash of the execution's id and the sequence number.

    The number stands in the id itself, so that `seq_of_transition` finds the event without an index.
    """
    head = int.from_bytes(hashlib.blake2b(execution_id.encode(), digest_size=8).digest(), "big") >> 4
    high, low = head >> 12, head & 0xFFF
    return _uuid_text((high << 80) | (8 << 76) | (low << 64) | (0b10 << _SEQ_BITS) | seq)


def seq_of_transition(execution_id: str, text: str) -> int | None:
    """Return the sequence number inside a transition id, or None if it is no id of this execution."""
    try:
        seq = int(text.replace("-", ""), 16) & ((1 << _SEQ_BITS) - 1)
    except ValueError:
        return None
    return seq if transition_id(execution_id, seq) == text.lower() else None


# --- which events count --------------------------------------------------------------------------------------------


class Stamp(NamedTuple):
    """Where an event stands in its run: sequence number and time of its workflow task in microseconds."""

    seq: int
    now_us: int


def merge_run(stored: Iterable[Stamp], arrived: Iterable[EventRecord]) -> tuple[list[EventRecord], list[int]]:
    """Apply the drop rule to one run: an event falls when one with a lower or equal number has a later time.

    Args:
        stored: Stamps of the run's valid rows, in any order.
        arrived: New events of the same run, in any order; repeated ones are ignored.

    Returns:
        The events to insert, in order of their numbers, and the numbers of the stored rows to delete.
    """
    known = set(stored)
    fresh: dict[Stamp, EventRecord] = {}
    for record in arrived:
        fresh.setdefault(Stamp(record.seq, record.now_us), record)
    latest = -1
    keep: list[EventRecord] = []
    drop: list[int] = []
    # the later of two with the same number comes first, so that one sweep sees every event that can make another fall
    for stamp in sorted(known | fresh.keys(), key=lambda item: (item.seq, -item.now_us)):
        valid = stamp.now_us >= latest
        latest = max(latest, stamp.now_us)
        if stamp in known:
            if not valid:
                drop.append(stamp.seq)
        elif valid:
            keep.append(fresh[stamp])
    return keep, drop


# --- what the events say about the execution -----------------------------------------------------------------------


@dataclass(slots=True)
class Wait:
    """A place where an execution waits, or waited, for an answer.

    Attributes:
        wait_id: Its id.
        path: Step path.
        label: The step's label, may be empty.
        info: What the person who answers is told.
        schema: JSON Schema of the answer; None = anything.
        deadline_us: Unix microseconds at which it gives up; None = never.
        opened_seq: Number of the event that opened it; the order among open waits.
        opened_us: When it was opened, Unix microseconds.
        closed_seq: Number of the event that ended it; None while it is open, 0 = the end of the execution did.
        closed_us: When it ended.
        outcome: `answered`, `expired` (its default was taken, or there was none), `stopped`; empty = it is open.
        actor: Who answered.
        answer: The answer, or the default.
    """

    wait_id: str
    path: str
    label: str
    info: Json
    schema: Json
    deadline_us: int | None
    opened_seq: int
    opened_us: int
    closed_seq: int | None = None
    closed_us: int | None = None
    outcome: str = ""
    actor: str = ""
    answer: Json = None

    def to_json(self) -> dict[str, Any]:
        """Return {id, path, label, info, schema, deadline, opened_at}; of a closed one also how it ended.

        That is {closed_at, outcome, actor, answer}.
        """
        view = {
            "id": self.wait_id,
            "path": self.path,
            "label": self.label or None,
            "info": self.info,
            "schema": self.schema,
            "deadline": None if self.deadline_us is None else iso_time(self.deadline_us),
            "opened_at": iso_time(self.opened_us),
        }
        if self.closed_seq is not None:
            view |= {
                "closed_at": None if self.closed_us is None else iso_time(self.closed_us),
                "outcome": self.outcome,
                "actor": self.actor or None,
                "answer": self.answer,
            }
        return view


LISTENING = frozenset({"messages", "busy"})
"""Members of what a wait for a message tells, by which it is known."""


def is_listening(info: Json) -> TypeGuard[dict[str, Json]]:
    """Return whether a wait is one of a step that listens: it takes messages, not answers."""
    return isinstance(info, dict) and info.keys() == LISTENING


# --- views ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFacts:
    """What the store knows of an execution; times in Unix microseconds.

    Attributes:
        id: Execution id.
        tenant: Tenant id.
        task_id: Its task.
        task_name: Name of the task when it was started.
        task_version: Version of the task when it was started.
        agent_id: Its agent, may be empty.
        status: Present status.
        input: The input.
        output: The output, once it succeeded.
        error: {code, message, …}, once it failed or was cancelled.
        metadata: The caller's metadata.
        created_us: When it was created.
        updated_us: When something last happened.
        closed_us: When it ended.
        transition_count: Number of transitions.
        last_seq: Highest event number.
        terminal_seen: Whether the events hold a terminal one.
        settled: Whether the status is final and came from Temporal.
        verified: Whether the stored events equal those of the workflow; None = not compared.
        parent_id: The execution that started it; empty if no execution did.
        parent_path: Path of the step that did.
        forked_from: The execution whose recorded steps it began with; empty = it began at its beginning.
        fork_kind: `retry` or `fork`, if it did.
        fork_path: Path of its first step, if it did.
        labels: Words by which to find it.
        actor: Who started it; empty = nobody was asked for a name.
        trace_id: The trace that it belongs to; empty = none.
        usage: What its events say that it used.
        stuck: Why it does not go on although it should: {code, message, hint, since_us}; None = nothing is wrong.
        gone_us: When Temporal was found to have it no longer.
    """

    id: str
    tenant: str
    task_id: str
    task_name: str
    task_version: int
    agent_id: str
    status: ExecutionStatus
    input: Json
    output: Json
    error: dict[str, Any] | None
    metadata: dict[str, Any]
    created_us: int
    updated_us: int
    closed_us: int | None
    transition_count: int
    last_seq: int
    terminal_seen: bool
    settled: bool
    verified: bool | None
    parent_id: str = ""
    parent_path: str = ""
    forked_from: str = ""
    fork_kind: str = ""
    fork_path: str = ""
    labels: list[str] = field(default_factory=list)
    actor: str = ""
    trace_id: str = ""
    usage: UsageSums = field(default_factory=UsageSums)
    stuck: dict[str, Any] | None = None
    gone_us: int | None = None


def execution_view(facts: ExecutionFacts, waits: Iterable[Wait] = ()) -> dict[str, Any]:
    """Return an execution as JSON: Julep's fields and, beyond them, task_name, agent_id, parent, waits and more."""
    return {
        "id": facts.id,
        "task_id": facts.task_id,
        "task_name": facts.task_name,
        "task_version": facts.task_version,
        "agent_id": facts.agent_id or None,
        "parent_id": facts.parent_id or None,
        "parent_path": facts.parent_path or None,
        "forked": _forked_view(facts),
        "status": facts.status.value,
        "input": facts.input,
        "output": facts.output,
        "error": facts.error,
        "metadata": facts.metadata,
        "labels": facts.labels,
        "actor": facts.actor or None,
        "trace_id": facts.trace_id or None,
        "usage": facts.usage.to_json(),
        "stuck": _stuck_view(facts.stuck),
        "created_at": iso_time(facts.created_us),
        "updated_at": iso_time(facts.updated_us),
        "closed_at": None if facts.closed_us is None else iso_time(facts.closed_us),
        "transition_count": facts.transition_count,
        "last_seq": facts.last_seq,
        "verified": facts.verified,
        "gone_at": None if facts.gone_us is None else iso_time(facts.gone_us),
        "waits": [wait.to_json() for wait in waits],
    }


def pause_view(records: Iterable[EventRecord]) -> dict[str, Any] | None:
    """Return since when and why an execution stands still, as JSON.

    Args:
        records: What became of the wishes of operators, in order.

    Returns:
        {since, at, reason, actor, breaks}; None if it does not stand still.
    """
    pause: dict[str, Any] | None = None
    breaks: list[str] = []
    for record in records:
        body = body_of(record)
        if body.get("repeated"):
            continue
        if isinstance(body.get("breaks"), list):
            breaks = [str(name) for name in body["breaks"]]
        if record.type == EventType.EXECUTION_CONTINUED:
            pause = None
        elif record.type == EventType.EXECUTION_PAUSED and not body.get("already"):
            told = {"at": body.get("at"), "reason": str(body.get("reason") or ""), "actor": body.get("actor") or None}
            pause = {"since": iso_time(record.now_us), **told}
    return None if pause is None else {**pause, "breaks": breaks}


def _forked_view(facts: ExecutionFacts) -> dict[str, str] | None:
    if not facts.forked_from:
        return None
    return {"kind": facts.fork_kind, "execution_id": facts.forked_from, "path": facts.fork_path}


def _stuck_view(stuck: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return why an execution does not go on, with the time as text."""
    if stuck is None:
        return None
    since_us = stuck.get("since_us")
    shown = {name: value for name, value in stuck.items() if name != "since_us"}
    return {**shown, "since": iso_time(since_us) if isinstance(since_us, int) else None}


def event_view(record: EventRecord) -> dict[str, Any]:
    """Return an event as JSON: {id, seq, type, at, run_id, is_transition, body}."""
    return {
        "id": transition_id(record.execution_id, record.seq),
        "seq": record.seq,
        "type": record.type,
        "at": iso_time(record.now_us),
        "run_id": record.run_id,
        "is_transition": record.type in TRANSITION_TYPES,
        "body": body_of(record),
    }


LabelOf = Callable[[str], str]
"""Knows the label of the step at a path; empty = it has none."""


def no_label(path: str) -> str:
    """Know no labels, where nothing but the events is at hand."""
    del path
    return ""


def transition_view(record: EventRecord, label_of: LabelOf = no_label) -> dict[str, Any]:
    """Return a transition as JSON.

    Args:
        record: An event whose type is a transition's.
        label_of: Knows the label of the step that failed, of which an error tells only the path.

    Returns:
        {id, execution_id, type, output, current {workflow, step, scope_id}, next (same or null), created_at,
        updated_at, metadata, step_label}.
    """
    body = body_of(record)
    at = iso_time(record.now_us)
    current, following = _places(record.execution_id, record.type, body)
    label = label_of(_failed_path(body)) if record.type == EventType.ERROR else body.get("label")
    return {
        "id": transition_id(record.execution_id, record.seq),
        "execution_id": record.execution_id,
        "type": record.type,
        "output": _output(record.type, body),
        "current": current,
        "next": following,
        "created_at": at,
        "updated_at": at,
        "metadata": _metadata(record, body),
        "step_label": label or None,
    }


def scope_of(execution_id: str, body: Mapping[str, Any]) -> str:
    """Return the id of the scope of a transition; one that names none ends the execution, and so that of its steps.

    Args:
        execution_id: The execution.
        body: The event's body.
    """
    return str(body.get("scope") or scope_id(execution_id, "main"))


def _places(execution_id: str, kind: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    workflow, step = _workflow_and_step(kind, body)
    scope = scope_of(execution_id, body)
    current = {"workflow": workflow, "step": step, "scope_id": scope}
    if kind in (EventType.INIT, EventType.INIT_BRANCH):
        return current, dict(current)
    following = body.get("next")
    if kind == EventType.STEP and isinstance(following, int):
        return current, {"workflow": workflow, "step": following, "scope_id": scope}
    return current, None


def _workflow_and_step(kind: str, body: Mapping[str, Any]) -> tuple[str, int]:
    index = body.get("index")
    if "workflow" in body:
        return str(body["workflow"]), index if isinstance(index, int) else 0
    if kind == EventType.ERROR:
        first, _, rest = _failed_path(body).partition(".")
        number = rest.partition(".")[0]
        return first or "main", int(number) if number.isdigit() else 0
    return "main", 0


def _failed_path(body: Mapping[str, Any]) -> str:
    """Return the path of the step that an error tells, such as `main.3.then.0`."""
    return str((body.get("error") or {}).get("step") or "")


def _output(kind: str, body: Mapping[str, Any]) -> Json:
    if kind in (EventType.INIT, EventType.INIT_BRANCH):
        return body.get("input")
    if kind == EventType.WAIT:
        return body.get("info")
    if kind == EventType.ERROR:
        return body.get("error")
    if kind == EventType.CANCELLED:
        return CANCELLED_TEXT
    return body.get("output")


def _metadata(record: EventRecord, body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"seq": record.seq}
    if record.type in (EventType.WAIT, EventType.RESUME):
        found["step_type"] = StepKind.WAIT_FOR_INPUT.value
    elif body.get("kind"):
        found["step_type"] = body["kind"]
    for name in ("path", "attempts", "log", "wait_id", "schema", "construct", "reason", "actor", "child_id"):
        if body.get(name) not in (None, ""):
            found[name] = body[name]
    return found
