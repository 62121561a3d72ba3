"""Shapes of answers about schedules, webhooks, events from outside and jobs over many, with an example of each."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from engine.core.values import Json
from engine.edge.native.answers import MOMENT, TASK_ID, Answer, Paged
from engine.edge.native.execution_answers import EXECUTION_ID

_Object = dict[str, Any]
DOOR_ID: Final = "1f6a2b3c-4d5e-4f60-8a71-92b3c4d5e6f7"
MESSAGE_ID: Final = "msg_0f1e2d3c4b5a69788796a5b4c3d2e1f0"


class RunView(Answer):
    """A run of a schedule."""

    at: str
    outcome: Literal["under_way", "started", "refused"]
    execution_id: str | None
    error: dict[str, Json] | None = Field(description="Why it was refused: {code, message}.")


class ScheduleView(Answer):
    """A schedule, with what Temporal says of it; that is null while Temporal does not answer."""

    id: str
    name: str
    task: str
    of_task: str | None = Field(description="The task whose `dispatch.cron` made it.")
    cron: list[str]
    intervals: list[dict[str, Json]]
    timezone: str
    overlap: str
    input: Json
    labels: list[str]
    paused: bool
    note: str
    problem: str | None = Field(description="Why Temporal does not have the last change.")
    applied: bool = Field(description="Whether Temporal has the last change.")
    next_at: list[str]
    starts: int | None
    missed: int | None = Field(description="Starts that lay further back than `catch_up`.")
    skipped: int | None = Field(description="Starts that were left out since an execution had not ended.")
    running: int | None
    left: int | None = Field(description="Starts that are left of `limit`.")
    runs: list[RunView] = Field(default=[], description="The last ones, the latest first; not in lists.")
    created_at: str
    updated_at: str
    actor: str


class Schedules(Paged):
    """A page of schedules."""

    items: list[ScheduleView]


class WebhookView(Answer):
    """A webhook."""

    id: str
    url: str
    statuses: list[str]
    tasks: list[str]
    labels: list[str]
    root_only: bool
    execution_id: str | None
    active: bool
    off_reason: str | None
    note: str
    created_at: str
    updated_at: str
    actor: str


class NewWebhook(WebhookView):
    """A webhook just registered."""

    secret: str | None = Field(description="What messages are signed with, shown this once.")


class CountedWebhook(WebhookView):
    """A webhook, and how many deliveries it has in each state."""

    deliveries: dict[str, int]


class Webhooks(Paged):
    """A page of webhooks."""

    items: list[WebhookView]


class DeliveryView(Answer):
    """Something that a webhook was told, or is to be told."""

    id: str = Field(description="The message's id (webhook-id), the same at every attempt.")
    webhook_id: str
    execution_id: str
    status: str
    at: str = Field(description="When the execution came to the status.")
    state: Literal["pending", "sending", "delivered", "failed"]
    attempts: int
    last_status: int | None
    last_answer: str
    last_error: str | None
    last_attempt_at: str | None
    created_at: str
    ended_at: str | None


class Deliveries(Paged):
    """A page of deliveries."""

    items: list[DeliveryView]


class OutsideEventView(Answer):
    """An event from outside, and what it did."""

    id: str
    name: str
    key: Json
    value: Json
    execution_id: str | None
    hook_id: str | None
    actor: str
    received_at: str
    repeated: bool = Field(description="Whether it came before.")
    delivered: list[dict[str, Json]] = Field(description="To whom it went: {execution_id, outcome, code?, message?}.")
    started: list[dict[str, Json]] = Field(
        description="What it triggered: {task_id, task_name, task_version, outcome, execution_id?, code?, message?}."
    )


class OutsideEvents(Paged):
    """A page of events."""

    items: list[OutsideEventView]


class HookView(Answer):
    """A hook by which events come in."""

    id: str
    name: str
    event: str
    key: str | None
    only_if: str | None
    kind: Literal["key", "github", "standard"]
    active: bool
    path: str = Field(description="Where others post to.")
    taken: int
    refused: int
    last_at: str | None
    created_at: str
    actor: str


class NewHook(HookView):
    """A hook just made."""

    secret: str | None = Field(description="Its key, or the secret of signatures, shown this once.")


class Hooks(Paged):
    """A page of hooks."""

    items: list[HookView]


class HookTaken(Answer):
    """What a body that was posted to a hook did."""

    event_id: str | None = Field(description="null = the hook does not want this body.")
    repeated: bool
    delivered: int = Field(description="How many executions it went to.")
    started: int = Field(description="How many executions it started.")


class JobView(Answer):
    """A job over many executions; with `dry_run` only {dry_run, action, total, by_status, sample}."""

    action: str
    total: int
    id: str | None = None
    state: str | None = Field(default=None, description="collecting, running, paused, done or aborted")
    done: int | None = None
    refused: int | None = None
    failed: int | None = None
    left: int | None = None
    dry_run: bool | None = None
    by_status: dict[str, int] | None = None
    sample: list[dict[str, Json]] | None = None


class Jobs(Paged):
    """A page of jobs."""

    items: list[JobView]


class JobItem(Answer):
    """What came of one execution of a job."""

    execution_id: str
    outcome: Literal["done", "refused", "failed"] | None
    code: str | None
    message: str | None
    new_execution_id: str | None = Field(description="The execution that a retry or fork made.")
    at: str | None


class JobItems(Paged):
    """A page of a job's executions."""

    items: list[JobItem]


# --- examples --------------------------------------------------------------------------------------------------------

_RUN: Final[_Object] = {
    "for": "2026-11-22T08:30:00Z",
    "at": MOMENT,
    "outcome": "started",
    "execution_id": EXECUTION_ID,
    "error": None,
}
_SCHEDULE: Final[_Object] = {
    "id": DOOR_ID,
    "name": "morning",
    "task": "greet",
    "of_task": None,
    "cron": ["30 8 * * mon-fri"],
    "intervals": [],
    "timezone": "Europe/Berlin",
    "start_at": None,
    "end_at": None,
    "jitter": None,
    "overlap": "skip",
    "catch_up": None,
    "pause_on_failure": False,
    "limit": None,
    "input": {"name": "Ada"},
    "labels": ["daily"],
    "metadata": {},
    "paused": False,
    "note": "",
    "problem": None,
    "applied": True,
    "next_at": ["2026-11-23T07:30:00Z"],
    "starts": 1,
    "missed": 0,
    "skipped": 0,
    "running": 0,
    "left": None,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "actor": "webapp",
}
_WEBHOOK: Final[_Object] = {
    "id": DOOR_ID,
    "url": "https://shop.example/hooks/everstep",
    "statuses": ["awaiting_input", "succeeded", "failed", "cancelled"],
    "tasks": ["greet"],
    "labels": [],
    "root_only": False,
    "execution_id": None,
    "active": True,
    "off_reason": None,
    "note": "",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "actor": "webapp",
}
_DELIVERY: Final[_Object] = {
    "id": MESSAGE_ID,
    "webhook_id": DOOR_ID,
    "execution_id": EXECUTION_ID,
    "status": "succeeded",
    "at": MOMENT,
    "state": "delivered",
    "attempts": 1,
    "last_status": 204,
    "last_answer": "",
    "last_error": None,
    "last_attempt_at": MOMENT,
    "created_at": MOMENT,
    "ended_at": MOMENT,
}
_EVENT: Final[_Object] = {
    "id": "order-17-paid",
    "name": "payment.settled",
    "key": "order-17",
    "value": {"amount": 42},
    "execution_id": None,
    "hook_id": None,
    "actor": "webapp",
    "received_at": MOMENT,
    "repeated": False,
    "delivered": [{"execution_id": EXECUTION_ID, "outcome": "sent"}],
    "started": [
        {
            "task_id": TASK_ID,
            "task_name": "greet",
            "task_version": 1,
            "outcome": "started",
            "execution_id": EXECUTION_ID,
        }
    ],
}
_HOOK: Final[_Object] = {
    "id": DOOR_ID,
    "name": "shop",
    "event": "payment.settled",
    "key": "_.order.id",
    "only_if": None,
    "kind": "key",
    "active": True,
    "path": f"/api/hooks/{DOOR_ID}",
    "taken": 3,
    "refused": 0,
    "last_at": MOMENT,
    "created_at": MOMENT,
    "actor": "webapp",
}
_JOB: Final[_Object] = {
    "id": DOOR_ID,
    "action": "retry",
    "filter": {"status": ["failed"], "error_code": "backend.overloaded"},
    "options": {"definition": "newest"},
    "rate": 10,
    "state": "running",
    "total": 120,
    "done": 31,
    "refused": 1,
    "failed": 0,
    "left": 88,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "closed_at": None,
    "actor": "webapp",
}
_ITEM: Final[_Object] = {
    "execution_id": EXECUTION_ID,
    "outcome": "done",
    "code": None,
    "message": None,
    "new_execution_id": DOOR_ID,
    "at": MOMENT,
}


def _page(item: _Object) -> _Object:
    return {"items": [item], "next_cursor": None}


DOOR_EXAMPLES: Final[dict[type[BaseModel], Json]] = {
    ScheduleView: {**_SCHEDULE, "runs": [_RUN]},
    Schedules: _page(_SCHEDULE),
    WebhookView: _WEBHOOK,
    NewWebhook: {**_WEBHOOK, "secret": "whsec_…"},
    CountedWebhook: {**_WEBHOOK, "deliveries": {"delivered": 12, "failed": 1}},
    Webhooks: _page(_WEBHOOK),
    DeliveryView: _DELIVERY,
    Deliveries: _page(_DELIVERY),
    OutsideEventView: _EVENT,
    OutsideEvents: _page(_EVENT),
    HookView: _HOOK,
    NewHook: {**_HOOK, "secret": "hk_…"},
    Hooks: _page(_HOOK),
    HookTaken: {"event_id": f"{DOOR_ID}/72d3162e", "repeated": False, "delivered": 1, "started": 0},
    JobView: _JOB,
    Jobs: _page(_JOB),
    JobItems: _page(_ITEM),
}
