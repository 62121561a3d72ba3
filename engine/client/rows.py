"""Types of what the lists of the client yield: the JSON of the API as it is, so that editors and mypy know its keys.

An API of a later version may send more members than these.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from engine.core.values import Json


class UsageCounts(TypedDict):
    """What calls added up to; `cost` is decimal text, None = no price is known."""

    llm_calls: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: str | None
    unpriced_calls: int


class UsageRow(UsageCounts):
    """One line of `usage`: the model, backend, task, day, agent or label, and what its calls used."""

    key: str | None
    name: NotRequired[str]
    calls: int
    failed_calls: int


class Counts(TypedDict):
    """How many executions there are; a status that none has is left out."""

    total: int
    by_status: dict[str, int]


class Checked(TypedDict):
    """What a check of a task found; each finding is {code, severity, message, hint, file, line, column, path}."""

    ok: bool
    diagnostics: list[dict[str, Any]]
    name: str


class LinkMade(TypedDict):
    """A link by which somebody answers a wait; whoever has it may use it."""

    url: str
    execution_id: str
    wait_id: str
    actor: str
    expires_at: str


class EventTaken(TypedDict):
    """An event on its way to an execution."""

    id: str
    execution_id: str


class MessageTaken(TypedDict):
    """What becomes of a message: started, queued, joined, interrupting, rolling_back or kept.

    `path` is the step that took it, `turn` the turn that it begins, counted from 0, if that is known.
    """

    execution_id: str
    message_id: str
    name: str
    disposition: str
    path: str | None
    turn: int | None


class EventRow(TypedDict):
    """An event of an execution."""

    id: str
    seq: int
    type: str
    at: str
    run_id: str
    is_transition: bool
    body: dict[str, Any]


class Place(TypedDict):
    """Where a transition happened."""

    workflow: str
    step: int
    scope_id: str


class TransitionRow(TypedDict):
    """A transition of an execution."""

    id: str
    execution_id: str
    type: str
    output: Json
    current: Place
    next: Place | None
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    step_label: str | None


class Shown(TypedDict):
    """A value and the number of the event that holds it; `truncated` if only its beginning is shown."""

    seq: int
    value: Json
    truncated: NotRequired[bool]


class StepRow(TypedDict):
    """A step that was visited."""

    path: str
    depth: int
    kind: str | None
    label: str | None
    name: str | None
    state: Literal["pending", "running", "waiting", "retrying", "done", "failed", "cancelled", "skipped"]
    began_at: str | None
    ended_at: str | None
    took_s: float | None
    tries: int
    rounds: dict[str, Any] | None
    input: Shown | None
    output: Shown | None
    error: dict[str, Any] | None
    caught: bool
    recorded: bool
    log: str | None
    waits_for: list[str]
    retry_at: str | None
    child_ids: list[str]
    usage: UsageCounts


class StepWhole(StepRow):
    """A visit of a step with everything that belongs to it."""

    own_usage: UsageCounts
    attempts: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    block_count: int


class StepVisits(TypedDict):
    """The visits of a step; a step of more visits than one answer holds has a `next_cursor`."""

    path: str
    visits: int
    items: list[StepWhole]
    next_cursor: str | None


class AttemptRow(TypedDict):
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
    started_seq: int | None
    ended_seq: int | None
    failed_seq: int | None


class HistoryRow(TypedDict):
    """Something that happened, in words (`what`) and data."""

    at: str
    seq: int
    type: str
    what: str
    path: str | None
    data: Json
    truncated: NotRequired[bool]
