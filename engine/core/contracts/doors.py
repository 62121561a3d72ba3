"""What the workflows beside executions are given: webhooks, scheduled starts, jobs over many. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.core.values import Json

DOORS_SUFFIX = "-doors"
"""What the task queue of these workflows ends in: a slow receiver of webhooks holds up no execution's calls."""

WEBHOOK_WORKFLOW = "everstep.webhook"
SCHEDULED_WORKFLOW = "everstep.scheduled"
BULK_WORKFLOW = "everstep.bulk"

POST_ACTIVITY = "webhook.post"
GIVE_UP_ACTIVITY = "webhook.give_up"
START_ACTIVITY = "schedule.start"
ENDED_ACTIVITY = "schedule.ended"
STOP_ACTIVITY = "schedule.stop"
COLLECT_ACTIVITY = "bulk.collect"
WORK_ACTIVITY = "bulk.work"

SIGNAL_ENDED = "everstep.ended"
SIGNAL_BULK = "everstep.bulk_changed"

SCHEDULED_START = "TemporalScheduledStartTime"
"""Search attribute that Temporal gives to what a schedule starts: the time for which it was meant."""


def doors_queue(task_queue: str) -> str:
    """Return the task queue of the workflows beside executions."""
    return f"{task_queue}{DOORS_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookParams:
    """A delivery to be made.

    Attributes:
        tenant: Its tenant.
        delivery_id: The delivery.
        round: How often it was asked for again.
        first_pause_s: Pause after the first attempt that failed; each is three times as long as the one before.
        most_pause_s: Longest pause.
        give_up_s: Time after which it is given up.
        most_attempts: Number of attempts after which it is given up; 0 = as many as fit into the time.
    """

    tenant: str
    delivery_id: str
    round: int = 0
    first_pause_s: float = 5.0
    most_pause_s: float = 3_600.0
    give_up_s: float = 86_400.0
    most_attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledParams:
    """What a schedule starts.

    Attributes:
        tenant: Its tenant.
        schedule_id: The schedule.
    """

    tenant: str
    schedule_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStart:
    """One run of a schedule.

    Attributes:
        tenant: Its tenant.
        schedule_id: The schedule.
        nominal_us: The time for which it was meant, Unix microseconds.
        workflow_id: The workflow that wants to know the end of the execution.
    """

    tenant: str
    schedule_id: str
    nominal_us: int
    workflow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledEnd:
    """How the execution of a scheduled run stands.

    Attributes:
        execution_id: The execution; empty = none was started.
        status: Its status; empty = nothing is known of it.
        error: {code, message} of one that failed.
    """

    execution_id: str
    status: str = ""
    ended: bool = False
    error: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkParams:
    """A job over many executions.

    Attributes:
        tenant: Its tenant.
        job_id: The job.
    """

    tenant: str
    job_id: str


def failure_of(details: Any) -> dict[str, Any]:
    """Return {code, message} out of the details of an activity's failure."""
    body = dict(details[0]) if details and isinstance(details[0], dict) else {}
    return {"code": str(body.get("code") or "engine"), "message": str(body.get("message") or "")}
