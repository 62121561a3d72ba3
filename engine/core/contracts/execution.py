"""What starts, steers and ends an execution's workflow: parameters, signals, result, attributes. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
class ExecutionParams:
    """Input of an execution's workflow.

    Attributes:
        execution_id: Id of the execution (= workflow id).
        tenant: Tenant id.
        plan: The plan as JSON.
        input: The input, already checked against the plan's schema.
        task_id: Id of the task.
        task_version: Version of the task.
        metadata: The caller's metadata.
        carried: State of the interpreter when a run continues an earlier one, else None.
        continue_after_events: Continue as new after so many history events, not when Temporal suggests it (tests).
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
