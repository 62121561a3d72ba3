"""Shapes of the native API's answers, for its OpenAPI document; the views of the engine make the answers themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.core.values import Json

EXECUTION_ID = "0b0e6f4e-2c55-4a68-9df5-3a1b2c3d4e5f"
TASK_ID = "5d1c8b52-1f5e-4b8e-8d5e-6a7b8c9d0e1f"
MOMENT = "2026-11-22T08:00:00.125000Z"


class Answer(BaseModel):
    """An answer; later versions may add members."""

    model_config = ConfigDict(extra="allow")


def _examples(*examples: dict[str, Json]) -> ConfigDict:
    return ConfigDict(extra="allow", json_schema_extra={"examples": list(examples)})


# --- definitions ---------------------------------------------------------------------------------------------------


class AgentView(Answer):
    """An agent: what prompts of its tasks share."""

    id: str
    name: str
    canonical_name: str | None
    about: str
    model: str
    instructions: str | list[str]
    default_settings: dict[str, Json] | None
    metadata: dict[str, Json]
    created_at: str
    updated_at: str


class Finding(Answer):
    """What the compiler says about a place of a task."""

    code: str = Field(description="E… for errors, W… for warnings; docs/diagnostics.md lists all.")
    severity: Literal["error", "warning"]
    message: str
    hint: str
    file: str
    line: int
    column: int
    path: str


class TaskView(Answer):
    """A version of a task: what its author wrote, and id, version and times."""

    model_config = _examples(
        {
            "id": TASK_ID,
            "name": "greet",
            "version": 1,
            "agent_id": None,
            "description": "",
            "canonical_name": None,
            "input_schema": None,
            "metadata": {},
            "main": [{"prompt": "Say hello to {{ _.name }}"}],
            "plan_hash": "5f0c",
            "created_at": MOMENT,
            "updated_at": MOMENT,
        }
    )

    id: str
    name: str
    version: int
    agent_id: str | None
    description: str
    canonical_name: str | None
    input_schema: Json
    metadata: dict[str, Json]
    plan_hash: str
    created_at: str
    updated_at: str
    warnings: list[Finding] = Field(default=[], description="Of a task just stored.")


class CheckedView(Answer):
    """What a check of a task found."""

    ok: bool
    name: str
    diagnostics: list[Finding]


class VersionRow(Answer):
    """A version in the list of a task's versions."""

    id: str
    name: str
    version: int
    latest: bool
    aliases: list[str]
    plan_hash: str
    description: str
    created_at: str


class VersionView(Answer):
    """A version whole."""

    task: TaskView
    source: str = Field(description="The text as its author sent it.")
    plan: dict[str, Json] = Field(description="What the compiler made of it.")


class RemovedTask(Answer):
    """A task that was removed."""

    id: str
    name: str
    deleted_at: str
    jobs: list[str]


class AliasView(Answer):
    """A name that points to a version of a task."""

    alias: str
    task_id: str
    version: int
    updated_at: str


class AppliedTask(Answer):
    """What happened to one task."""

    change: Literal["created", "updated", "unchanged", "removed"]
    name: str
    id: str
    version: int
    previous_version: int | None
    file: str | None
    plan_hash: str
    aliases: list[str]
    warnings: list[Finding]


class AppliedView(Answer):
    """What happened to the tasks of a set of files."""

    changes: list[AppliedTask]
    dry_run: bool


class DifferenceView(Answer):
    """What a newer version of a task changes, and what it newly permits."""

    changes: list[Json]
    gains: list[Json]
    losses: list[Json]


# --- executions ----------------------------------------------------------------------------------------------------


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
    cost: str | None = Field(description="Dollars of the calls whose price is known; null = none is.")
    unpriced_calls: int


class ExecutionView(Answer):
    """An execution."""

    model_config = _examples(
        {
            "id": EXECUTION_ID,
            "task_id": TASK_ID,
            "task_name": "greet",
            "task_version": 1,
            "agent_id": None,
            "parent_id": None,
            "parent_path": None,
            "status": "succeeded",
            "input": {"name": "Ada"},
            "output": {"said": "Hello Ada!"},
            "error": None,
            "labels": ["vip"],
            "metadata": {"order": 17},
            "created_at": MOMENT,
            "updated_at": MOMENT,
            "closed_at": MOMENT,
            "transition_count": 3,
            "last_seq": 5,
            "verified": True,
            "actor": "webapp",
            "trace_id": None,
            "stuck": None,
            "gone_at": None,
            "waits": [],
            "usage": {
                "llm_calls": 1,
                "tool_calls": 0,
                "prompt_tokens": 12,
                "completion_tokens": 4,
                "total_tokens": 16,
                "cost": "0.000004",
                "unpriced_calls": 0,
            },
        }
    )

    id: str
    task_id: str
    task_name: str
    task_version: int
    agent_id: str | None
    parent_id: str | None
    parent_path: str | None
    status: Literal["queued", "starting", "running", "awaiting_input", "succeeded", "failed", "cancelled"]
    input: Json
    output: Json
    error: dict[str, Json] | None = Field(description="{code, message, step, attempts, details}")
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
    waits: list[WaitView]
    usage: UsageView


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


class EventTaken(Answer):
    """An event on its way to an execution."""

    id: str
    execution_id: str


# --- lists ---------------------------------------------------------------------------------------------------------


class _Paged(Answer):
    next_cursor: str | None = Field(default=None, description="Where the next page begins; null = there is none.")


class Agents(Answer):
    """A page of agents."""

    items: list[AgentView]


class Tasks(Answer):
    """A page of tasks."""

    items: list[TaskView]


class Versions(Answer):
    """A page of versions."""

    items: list[VersionRow]


class Aliases(Answer):
    """Aliases."""

    items: list[AliasView]


class Executions(_Paged):
    """A page of executions."""

    items: list[ExecutionView]


class Transitions(_Paged):
    """A page of transitions."""

    items: list[TransitionView]


class Events(_Paged):
    """A page of events."""

    items: list[EventView]


class Counts(Answer):
    """How many executions there are."""

    model_config = _examples({"total": 3, "by_status": {"succeeded": 2, "failed": 1}})

    total: int
    by_status: dict[str, int]


class FoundExecution(Answer):
    """An execution whose id begins as was asked."""

    id: str
    created_at: str


class FoundExecutions(Answer):
    """Executions whose ids begin as was asked, at most ten."""

    items: list[FoundExecution]


# --- the story -----------------------------------------------------------------------------------------------------


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


class Steps(_Paged):
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


class StepView(StepRow):
    """A step whole."""

    attempts: list[AttemptAtStep]
    waits: list[dict[str, Json]]
    blocks: list[dict[str, Json]]


class StepVisits(_Paged):
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


class Attempts(_Paged):
    """A page of attempts."""

    items: list[AttemptView]


class Happening(Answer):
    """Something that happened in an execution, in words and data."""

    at: str
    seq: int
    type: str
    what: str
    path: str | None
    data: Json


class History(_Paged):
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
    processes: list[dict[str, Json]]


# --- keys ----------------------------------------------------------------------------------------------------------


class KeyView(Answer):
    """An API key, but for its text."""

    id: str
    tenant: str
    name: str
    scopes: list[Literal["read", "run", "define", "admin"]]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewKey(KeyView):
    """A key just made."""

    key: str | None = Field(description="Its text, shown this once; null when the request is repeated.")


class Keys(_Paged):
    """A page of keys."""

    items: list[KeyView]


# --- the service ---------------------------------------------------------------------------------------------------


class Health(Answer):
    """That the process answers."""

    status: str
    version: str


class Part(Answer):
    """Whether a part of the installation answers."""

    ok: bool


class Readiness(Health):
    """Whether new work can be taken."""

    store: Part
    temporal: Part
