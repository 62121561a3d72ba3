"""What starts, steers and ends an execution's workflow: parameters, signals, result, attributes. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.contracts.patches import INTERPRETER
from engine.core.kinds import ExecutionStatus
from engine.core.plan.grant import OPEN, Grant
from engine.core.values import Json

TASK_QUEUE = "everstep"

SIGNAL_ANSWER = "everstep.answer"
SIGNAL_EVENT = "everstep.event"
SIGNAL_CANCEL_REASON = "everstep.cancel_reason"
SIGNAL_CONTROL = "everstep.control"
SIGNAL_MESSAGE = "everstep.message"

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
        tells_keys: Whether its first event tells `keys`, for a retry of it; those of older executions do not.
    """

    execution_id: str
    path: str
    depth: int
    keys: str
    agent_id: str = ""
    grant: Grant = OPEN
    tells_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a step of another execution gave, taken over as it is.

    Attributes:
        output: Its output.
        at_us: Time of the activation in which it ended; `now()` goes on from there.
        input: Its input, for what later steps ask of it; None = that which the step has here.
        state: What it wrote into the state of its list, the steps inside it included.
        labels: {input, output} of labelled steps inside it that are visible behind it.
    """

    output: Json
    at_us: int
    input: Json = None
    state: dict[str, Json] = field(default_factory=dict)
    labels: dict[str, dict[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTurn:
    """A turn of a step that listens, as it began in another execution.

    Attributes:
        input: What it began with.
        messages: Ids of the messages that began it.
        stopped: `interrupt` or `rollback` if another message ended it; then nothing of it is run.
        at_us: Time of the activation in which it was stopped.
        state: What it wrote into the state of its list before it was interrupted.
        labels: {input, output} of labelled steps that had ended inside it by then.
    """

    input: Json
    messages: list[str] = field(default_factory=list)
    stopped: str = ""
    at_us: int = 0
    state: dict[str, Json] = field(default_factory=dict)
    labels: dict[str, dict[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Whose recorded steps an execution begins with.

    Attributes:
        kind: `retry` goes on where another one failed, with the same keys of calls; `fork` is another way.
        execution_id: The other execution.
        path: Path of the step that is the first to run.
        seed: Id of the execution whose `random` and `uuid` it goes on with.
        keys: What idempotency keys of its calls are made of in place of its own id; empty = its own id.
        began_us: When the other execution began: `now()` before the first recorded step.
        recorded: What steps gave, by path (without marks of repeated blocks).
        state: Written into the state of the first step's list just before it runs.
        turns: Turns of steps that listen, by path; one that was not stopped ends by what was recorded inside it.
    """

    kind: Literal["retry", "fork"]
    execution_id: str
    path: str
    seed: str
    keys: str = ""
    began_us: int = 0
    recorded: dict[str, Recorded] = field(default_factory=dict)
    state: dict[str, Json] = field(default_factory=dict)
    turns: dict[str, RecordedTurn] = field(default_factory=dict)


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
        fork: Whose recorded steps it begins with; None = it begins at its beginning.
        breaks: Paths of steps before which it pauses.
        deadline_us: When it is out of time, Unix microseconds, beside the limit of its plan; None = never.
        interpreter: Version of the interpreter that wrote this; an older one does not know all of it.
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
    fork: Fork | None = None
    breaks: list[str] = field(default_factory=list)
    deadline_us: int | None = None
    interpreter: int = INTERPRETER


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
class ControlSignal:
    """What an operator wants of a running execution; the outcome comes back as an event with the same key.

    Attributes:
        kind: `pause`, `continue`, `breaks` (set the steps before which it pauses) or `deadline` (of a wait or sleep).
        key: The caller's key; a repeated one gets the first outcome again.
        actor: Who wants it.
        reason: Why.
        breaks: For `breaks`, and `continue`: paths; None = they stay as they are.
        wait_id: For `deadline`: id of the wait, or path of the sleep.
        deadline_us: For `deadline`: Unix microseconds; None = none (a sleep needs one).
    """

    kind: Literal["pause", "continue", "breaks", "deadline"]
    key: str
    actor: str = ""
    reason: str = ""
    breaks: list[str] | None = None
    wait_id: str = ""
    deadline_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignal:
    """A message to a step that listens; its disposition comes back as `message.taken`.

    Attributes:
        id: Id of the message; one that came before gets the first disposition again.
        name: Name of the inbox.
        value: The message.
        busy: One of `vocabulary.BUSY` in place of what the step says, where that permits it; empty = as the step says.
        actor: Who sent it.
    """

    id: str
    name: str = "message"
    value: Json = None
    busy: str = ""
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
        times: Rolling hash over their times; None = not all of them are known.
    """

    output: Json
    events: int
    digest: str
    times: int | None = None
