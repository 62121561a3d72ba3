"""Shapes of answers about executions and their story, for the OpenAPI document; views make the answers themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.core.values import Json
from engine.edge.native.answers import Answer, Paged

EXECUTION_ID = "0b0e6f4e-2c55-4a68-9df5-3a1b2c3d4e5f"

# --- executions ------------------------------------------------------------------------------------------------------


class WaitView(Answer):
    """An open wait."""

    id: str = Field(description="`wait_id` of an answer.")
    path: str
    label: str | None
    info: Json = Field(description="What whoever answers is told.")
    # a JSON Schema, or null
    schema_: Json = Field(default=None, alias="schema")
    deadline: str | None
    opened_at: str


class StuckView(Answer):
    """Why an execution does not go on."""

    code: str
    message: str
    since: str | None


class UsageView(Answer):
    """What calls of models and tools added up to."""

    llm_calls: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = Field(description="Those of the prompts that came from the providers' caches.")
    cache_write_tokens: int = Field(description="Those of the prompts that the providers wrote to their caches.")
    reasoning_tokens: int = Field(description="Those of the completions that models thought with.")
    cost: str | None = Field(description="Dollars of the calls whose price is known; null = none is.")
    unpriced_calls: int


class QueuedView(Answer):
    """Why an execution waits to be let in."""

    reason: Literal[
        "delayed",
        "debounce",
        "collect",
        "turn",
        "singleton",
        "key",
        "task",
        "tenant",
        "installation",
        "starting",
    ]
    message: str
    until: str | None = Field(description="Until when it waits in any case.")
    place: int | None = Field(description="Its place among those that take turns with it, from 1.")
    waiting: int | None = Field(description="How many these are.")
    gathered: int | None = Field(description="How many starts became this one, if others may join it.")


class ForkedView(Answer):
    """Whose recorded steps an execution began with."""

    kind: Literal["retry", "fork"]
    execution_id: str
    path: str = Field(description="Path of the step that was the first to run.")


class PauseView(Answer):
    """Why an execution stands still."""

    since: str
    at: str | None = Field(description="Path of the step before which it stopped by itself; null = it was told to.")
    reason: str
    actor: str | None
    breaks: list[str] = Field(description="Paths and labels of the steps before which it will pause again.")


class ExecutionView(Answer):
    """An execution."""

    id: str
    task_id: str
    task_name: str
    task_version: int
    agent_id: str | None
    parent_id: str | None
    parent_path: str | None
    forked: ForkedView | None = Field(description="The execution that it was forked from.")
    status: Literal["queued", "starting", "running", "awaiting_input", "paused", "succeeded", "failed", "cancelled"]
    paused: PauseView | None = Field(default=None, description="Why it stands still; only where one execution is read.")
    input: Json
    output: Json
    error: dict[str, Json] | None = Field(
        description="{code, message, step, attempts, details}; for Julep's clients the message, and this in"
        " `error_details`."
    )
    labels: list[str]
    metadata: dict[str, Json]
    created_at: str
    updated_at: str
    closed_at: str | None
    transition_count: int
    last_seq: int
    verified: bool | None = Field(description="Whether what is stored equals the workflow's own count; null = not yet.")
    actor: str | None = Field(description="Who started it.")
    trace_id: str | None
    stuck: StuckView | None = Field(description="Why it does not go on although it should.")
    gone_at: str | None = Field(description="When Temporal was found to have it no longer.")
    queued: QueuedView | None = Field(
        default=None, description="Why it waits to be let in; only where one execution is read or started."
    )
    waits: list[WaitView]
    usage: UsageView


class Resumed(Answer):
    """An execution whose wait was answered by a task token alone."""

    id: str
    status: str
    created_at: str
    updated_at: str
    jobs: list[str] = Field(description="The execution itself; the Julep client of 2024 asks for it.")


class TransitionPlace(Answer):
    """Where a transition happened."""

    workflow: str
    step: int
    scope_id: str


class TransitionView(Answer):
    """A transition of an execution, as Julep's clients read it."""

    id: str
    execution_id: str
    type: Literal["init", "init_branch", "step", "wait", "resume", "finish_branch", "finish", "error", "cancelled"]
    output: Json
    current: TransitionPlace
    next: TransitionPlace | None
    created_at: str
    updated_at: str
    metadata: dict[str, Json]
    step_label: str | None


class EventView(Answer):
    """An event of an execution, those for operators included."""

    id: str
    seq: int
    type: str
    at: str
    run_id: str
    is_transition: bool
    body: dict[str, Json]


class LinkMade(Answer):
    """A link by which somebody answers a wait; whoever has it may use it."""

    url: str
    execution_id: str
    wait_id: str
    actor: str = Field(description="In whose name it answers.")
    expires_at: str


class LinkView(Answer):
    """What a link asks, and how it was answered."""

    execution_id: str
    task_name: str
    wait_id: str
    label: str | None
    info: Json
    # a JSON Schema, or null
    schema_: Json = Field(default=None, alias="schema")
    values: list[Json] | None = Field(description="What may be answered; null = whatever fits the schema.")
    actor: str
    expires_at: str
    open: bool
    answer: Json = Field(description="What was answered by this link.")
    answered_by: str | None
    outcome: str | None


class EventTaken(Answer):
    """An event on its way to an execution."""

    id: str
    execution_id: str


class MessageTaken(Answer):
    """What becomes of a message."""

    execution_id: str
    message_id: str
    name: str = Field(description="Name of the inbox.")
    disposition: Literal["started", "queued", "joined", "interrupting", "rolling_back", "kept"] = Field(
        description="It begins a turn, waits for its own or for one with others, stops the turn that runs, or is kept"
        " for a step that is still to come."
    )
    path: str | None = Field(description="The step that took it.")
    turn: int | None = Field(description="The turn that it begins, counted from 0, if that is known.")


# --- lists -----------------------------------------------------------------------------------------------------------


class Executions(Paged):
    """A page of executions."""

    items: list[ExecutionView]


class Transitions(Paged):
    """A page of transitions."""

    items: list[TransitionView]


class Events(Paged):
    """A page of events."""

    items: list[EventView]


class Counts(Answer):
    """How many executions there are."""

    total: int
    by_status: dict[str, int]


class FoundExecution(Answer):
    """An execution whose id begins as was asked."""

    id: str
    created_at: str


class FoundExecutions(Answer):
    """Executions whose ids begin as was asked, at most ten."""

    items: list[FoundExecution]


# --- the story -------------------------------------------------------------------------------------------------------


class Shown(Answer):
    """A value, and the number of the event that holds it."""

    seq: int
    value: Json
    truncated: bool = Field(default=False, description="Whether only its beginning is shown.")


class StepRow(Answer):
    """A step that was visited."""

    path: str
    depth: int
    kind: str | None
    label: str | None
    state: Literal["pending", "running", "waiting", "retrying", "done", "failed", "cancelled", "skipped"]
    began_at: str | None
    ended_at: str | None
    took_s: float | None
    tries: int
    input: Shown | None
    output: Shown | None
    error: dict[str, Json] | None
    child_ids: list[str]
    usage: UsageView


class Steps(Paged):
    """A page of the steps of an execution."""

    execution: dict[str, Json]
    items: list[StepRow]


class AttemptAtStep(Answer):
    """An attempt, or one repair round of it."""

    attempt: int
    round: int
    outcome: str
    request: Shown | None
    reply: Shown | None
    model: str | None
    cost: str | None
    error: dict[str, Json] | None
    pause_s: float | None
    deliveries: int = Field(description="More than one after a lost worker.")
    cached: bool = Field(description="Nothing was called: the outcome was kept from an equal call.")


class StepView(StepRow):
    """A step whole."""

    attempts: list[AttemptAtStep]
    waits: list[dict[str, Json]]
    blocks: list[dict[str, Json]]


class StepVisits(Paged):
    """The visits of a step."""

    path: str
    visits: int
    items: list[StepView]


class AttemptView(Answer):
    """An attempt at a call, or a failed one at a block."""

    id: str
    path: str
    label: str | None
    kind: str
    name: str | None
    attempt: int
    outcome: Literal["running", "ok", "failed", "cancelled"]
    error_code: str | None
    started_at: str | None
    ended_at: str | None
    took_s: float | None
    retry_in_s: float | None
    deliveries: int
    model: str | None
    backend: str | None
    usage: dict[str, int | None] | None
    cost: str | None
    child_id: str | None


class Attempts(Paged):
    """A page of attempts."""

    items: list[AttemptView]


class Happening(Answer):
    """Something that happened in an execution, in words and data."""

    at: str
    seq: int | None = Field(description="Number of its event; null = no event tells it, the end came from outside.")
    type: str
    what: str
    path: str | None
    data: Json


class History(Paged):
    """A page of what happened."""

    items: list[Happening]


class RawEvent(Answer):
    """An event of Temporal's own history."""

    event_id: int
    type: str
    at: str


class RawHistory(Answer):
    """A page of Temporal's own history, the newest event first."""

    run_id: str
    items: list[RawEvent]
    next_page_token: str | None
    previous_run_id: str | None


class UsageRow(Answer):
    """What one model, task, day … used."""

    key: str | None
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: str | None
    unpriced_calls: int


class UsageReport(Answer):
    """Calls, tokens and cost, summed up."""

    by: str
    items: list[UsageRow]
    total: dict[str, Json]
    truncated: bool


class Overview(Answer):
    """What goes on now."""

    at: str
    counts: Counts
    stuck: int
    open: list[dict[str, Json]]
    processes: list[dict[str, Json]] | None = Field(description="Null for tenants other than the operator's.")
