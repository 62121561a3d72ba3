"""What starts, steers and ends an execution's workflow: parameters, signals, result, attributes. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.core.kinds import ExecutionStatus
from engine.core.plan.grant import OPEN, Grant
from engine.core.values import Json

TASK_QUEUE = "everstep"

SIGNAL_ANSWER = "everstep.answer"
SIGNAL_EVENT = "everstep.event"
SIGNAL_CANCEL_REASON = "everstep.cancel_reason"

ATTRIBUTE_TENANT = "EverstepTenant"
ATTRIBUTE_TASK = "EverstepTask"
ATTRIBUTE_AGENT = "EverstepAgent"
ATTRIBUTE_STATUS = "EverstepStatus"
ATTRIBUTE_LABELS = "EverstepLabels"
SEARCH_ATTRIBUTES: dict[str, str] = {
    ATTRIBUTE_TENANT: "Keyword",
    ATTRIBUTE_TASK: "Keyword",
    ATTRIBUTE_AGENT: "Keyword",
    ATTRIBUTE_STATUS: "Keyword",
    ATTRIBUTE_LABELS: "KeywordList",
}
"""Name and Temporal type of every search attribute the engine sets."""

SINK_EXTERN = "everstep.sink"
"""Name of the extern function through which a workflow hands its events to the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a child execution comes from, and what it takes over.

    Attributes:
        execution_id: The execution that started it.
        path: Path of the step that did.
        depth: Number of executions above it.
        keys: What the idempotency keys of its calls are made of in place of its id: an attempt that repeats it makes
            the same calls again.
        agent_id: Its agent, may be empty.
        grant: What those above it permit it to touch at most.
    """

    execution_id: str
    path: str
    depth: int
    keys: str
    agent_id: str = ""
    grant: Grant = OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionParams:
    """Input of an execution's workflow.

    Attributes:
        execution_id: Id of the execution (= workflow id).
        tenant: Tenant id.
        plan: The plan as JSON; empty = it is that of the task's version, which the execution asks for itself.
        input: The input, already checked against the plan's schema.
        task_id: Id of the task.
        task_version: Version of the task.
        metadata: The caller's metadata.
        carried: State of the interpreter when a run continues an earlier one, else None.
        continue_after_events: Continue as new after so many history events, not when Temporal suggests it (tests).
        origin: Where it comes from, if another execution started it.
        labels: Words by which to find it.
        actor: Who started it; empty = nobody was asked for a name.
        created_us: When it was asked for, Unix microseconds; 0 = when it began.
        trace: W3C traceparent of what started it; all its spans belong to that trace. Empty = no trace.
    """

    execution_id: str
    tenant: str
    plan: dict[str, Any]
    input: Json
    task_id: str = ""
    task_version: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)
    carried: dict[str, Any] | None = None
    continue_after_events: int | None = None
    origin: Origin | None = None
    labels: list[str] = field(default_factory=list)
    actor: str = ""
    created_us: int = 0
    trace: str = ""


def attributes_of(*, tenant: str, task: str, agent_id: str) -> dict[str, str]:
    """Return the search attributes with which every execution starts, by name; all of them are keywords."""
    found = {ATTRIBUTE_TENANT: tenant, ATTRIBUTE_TASK: task, ATTRIBUTE_STATUS: ExecutionStatus.RUNNING.value}
    return found | ({ATTRIBUTE_AGENT: agent_id} if agent_id else {})


def memo_of(*, tenant: str, task_id: str, task_version: int) -> dict[str, str | int]:
    """Return what Temporal keeps beside an execution for people to read."""
    return {"tenant": tenant, "task_id": task_id, "task_version": task_version}


SUMMARY_BYTES = 400
"""Temporal's limit for the summary that its own UI shows."""


def summary_of(text: str) -> str:
    """Cut a text to what Temporal takes as a summary."""
    return text.encode()[:SUMMARY_BYTES].decode(errors="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSignal:
    """An answer to a wait.

    Attributes:
        key: The caller's key; a repeated key gets the first outcome again.
        value: The answer.
        wait_id: Id of the wait; empty = the oldest open one.
        actor: Who answered.
    """

    key: str
    value: Json
    wait_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSignal:
    """Something that happened outside.

    Attributes:
        id: Id of the event; one that came before is taken once only.
        name: Its name.
        key: What tells events of one name apart, such as an order number.
        value: What is told about it.
        actor: Who sent it.
    """

    id: str
    name: str
    key: Json = None
    value: Json = None
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReasonSignal:
    """Why and by whom an execution is being cancelled; sent just before the cancel itself."""

    reason: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """Result of an execution's workflow.

    Attributes:
        output: The task's output.
        events: Number of events the interpreter emitted over all runs.
        digest: Rolling hash over them; compared with the stored ones.
    """

    output: Json
    events: int
    digest: str
