"""Rows of the projection as they follow from facts: events, waits, and what names an execution."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.core.run.events import EventRecord
from engine.core.run.progress import ANSWERED, STOPPED
from engine.core.run.projection import TRANSITION_TYPES, Wait
from engine.core.run.tracing import read_traceparent
from engine.core.values import Json, canonical_json, compact_json
from engine.store.texts import plain, plain_id

_EVENT_INFO = {"event", "key"}
ENDED_OVER = 0
"""`closed_seq` of a wait that no event ended: Temporal says that its execution is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What is known of an execution from its start on, and never changes.

    Attributes:
        task_id: Its task.
        task_name: Name of the task.
        task_version: Version of the task.
        agent_id: Its agent, may be empty.
        input: The input.
        metadata: The caller's metadata.
        labels: Words by which to find it.
        actor: Who started it.
        trace: W3C traceparent of what started it; empty = no trace.
        parent_id: The execution that started it, may be empty.
        parent_path: Path of the step that did.
        forked_from: The execution whose recorded steps it began with, may be empty.
        fork_kind: `retry` or `fork`, if it did.
        fork_path: Path of its first step, if it did.
        created_us: When it was asked for.
    """

    task_id: str
    task_name: str
    task_version: int = 1
    agent_id: str = ""
    input: Json = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    actor: str = ""
    trace: str = ""
    parent_id: str = ""
    parent_path: str = ""
    forked_from: str = ""
    fork_kind: str = ""
    fork_path: str = ""
    created_us: int

    def row(self) -> dict[str, Any]:
        """Return the columns of `executions` that it fills."""
        trace = read_traceparent(self.trace)
        return {
            "task_id": plain(self.task_id, 64),
            "task_name": plain(self.task_name, 255),
            "task_version": self.task_version,
            "agent_id": plain(self.agent_id, 64),
            "input": compact_json(self.input),
            "metadata": compact_json(dict(self.metadata)),
            "labels": compact_json(list(self.labels)),
            "actor": plain(self.actor, 255),
            "trace_id": "" if trace is None else trace.trace_id,
            "parent_id": plain(self.parent_id, 64),
            "parent_path": plain(self.parent_path),
            "forked_from": plain(self.forked_from, 64),
            "fork_kind": plain(self.fork_kind, 16),
            "fork_path": plain(self.fork_path),
            "created_us": self.created_us,
        }


NAMED_COLUMNS = tuple(Named(task_id="", task_name="", created_us=0).row())


def named_of(init: Mapping[str, Any], created_us: int) -> Named:
    """Read what names an execution from the body of its `init` event."""
    version, parent, forked = init.get("version"), init.get("parent") or {}, init.get("forked") or {}
    labels = init.get("labels")
    return Named(
        task_id=str(init.get("task_id") or ""),
        task_name=str(init.get("task") or ""),
        task_version=version if isinstance(version, int) else 1,
        agent_id=str(init.get("agent_id") or ""),
        input=init.get("input"),
        metadata=init.get("metadata") or {},
        labels=tuple(str(label) for label in labels) if isinstance(labels, list) else (),
        actor=str(init.get("actor") or ""),
        trace=str(init.get("trace") or ""),
        parent_id=str(parent.get("execution_id") or ""),
        parent_path=str(parent.get("path") or ""),
        forked_from=str(forked.get("execution_id") or ""),
        fork_kind=str(forked.get("kind") or ""),
        fork_path=str(forked.get("path") or ""),
        created_us=created_us,
    )


def event_row(tenant: str, record: EventRecord) -> dict[str, Any]:
    """Return the row of an event."""
    return {
        "tenant": tenant,
        "execution_id": record.execution_id,
        "run_id": record.run_id,
        "seq": record.seq,
        "now_us": record.now_us,
        "type": record.type,
        "is_transition": record.type in TRANSITION_TYPES,
        "body": record.body,
    }


def wait_row(tenant: str, execution_id: str, wait: Wait, closed_us: int | None) -> dict[str, Any]:
    """Return the row of a wait.

    Args:
        tenant: Tenant of its execution.
        execution_id: The execution.
        wait: What the events tell.
        closed_us: When the execution ended, as Temporal told; what was still open then was stopped. None = it has not.
    """
    ends_now = closed_us is not None and wait.closed_seq is None
    has_answer = wait.outcome == ANSWERED or wait.answer is not None
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "wait_id": plain_id(wait.wait_id),
        "path": plain(wait.path),
        "label": plain(wait.label, 255),
        "info": compact_json(wait.info),
        "schema": compact_json(wait.schema),
        "deadline_us": wait.deadline_us,
        "opened_seq": wait.opened_seq,
        "opened_us": wait.opened_us,
        "closed_seq": ENDED_OVER if ends_now else wait.closed_seq,
        "closed_us": closed_us if ends_now else wait.closed_us,
        "outcome": STOPPED if ends_now else wait.outcome,
        "actor": plain(wait.actor, 255),
        "answer": compact_json(wait.answer) if has_answer else None,
        "event_hash": _event_hash_of(wait.info),
    }


def event_hash(name: str, key: Json) -> str:
    """Return the hash by which waits for an event are found."""
    if isinstance(key, float) and key.is_integer():
        key = int(key)  # equal for the interpreter
    return hashlib.blake2b(canonical_json([name, key]).encode(), digest_size=16).hexdigest()


def _event_hash_of(info: Json) -> str:
    # what a wait for an event tells of itself; another wait may tell the same, and takes no events all the same
    if not isinstance(info, dict) or info.keys() != _EVENT_INFO or not isinstance(info["event"], str):
        return ""
    return event_hash(info["event"], info["key"])
