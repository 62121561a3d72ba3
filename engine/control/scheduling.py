"""What a schedule says, read and checked, and the shape in which Temporal has it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)

from engine.core.contracts.doors import SCHEDULED_WORKFLOW, ScheduledParams, doors_queue
from engine.core.contracts.execution import summary_of
from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.spec.cron import cron_problems
from engine.core.values import Json, duration_seconds
from engine.store.schedules import ScheduleFacts

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
OVERLAPS: Mapping[str, ScheduleOverlapPolicy] = {
    "skip": ScheduleOverlapPolicy.SKIP,
    "buffer_one": ScheduleOverlapPolicy.BUFFER_ONE,
    "buffer_all": ScheduleOverlapPolicy.BUFFER_ALL,
    "cancel_other": ScheduleOverlapPolicy.CANCEL_OTHER,
    "terminate_other": ScheduleOverlapPolicy.TERMINATE_OTHER,
    "allow_all": ScheduleOverlapPolicy.ALLOW_ALL,
}
USUAL_CATCH_UP_S = 3_600.0
LEAST_CATCH_UP_S = 10.0
LEAST_INTERVAL_S = 1.0
MOST_S = 10 * 365 * 86_400.0
MOST_TIMES = 100
MOST_LABELS = 20
MOST_LABEL_CHARS = 100


class IntervalBody(BaseModel):
    """An even interval: `every` 10m, from the beginning of 1970 plus `offset`."""

    model_config = ConfigDict(extra="forbid")

    every: str
    offset: str | None = None

    @field_validator("every", "offset")
    @classmethod
    def _length(cls, text: str | None) -> str | None:
        return None if text is None else _checked_length(text)


class ScheduleBody(BaseModel):
    """When a schedule starts its task, and how.

    Attributes:
        cron: Crons of five fields.
        intervals: Even intervals.
        timezone: Time zone of the crons.
        start_at: Nothing is started before.
        end_at: Nothing is started after.
        jitter: Each start is put off by a random time up to this one.
        overlap: What happens when the execution before it has not ended.
        catch_up: Starts that were missed, since Temporal was away, are made up for within this time.
        pause_on_failure: Whether the schedule pauses when an execution fails.
        limit: How many starts there are in all; None = any number.
        input: The input; texts with `$ ` are computed, with `now()` = the time for which the start was meant.
        labels: Labels of the executions.
        metadata: Metadata of the executions.
    """

    model_config = ConfigDict(extra="forbid")

    cron: list[str] = Field(default_factory=list, max_length=MOST_TIMES)
    intervals: list[IntervalBody] = Field(default_factory=list, max_length=MOST_TIMES)
    timezone: str = "UTC"
    start_at: dt.datetime | None = None
    end_at: dt.datetime | None = None
    jitter: str | None = None
    overlap: Overlap = "skip"
    catch_up: str | None = None
    pause_on_failure: bool = False
    limit: int | None = Field(default=None, ge=1, le=1_000_000)
    input: Json = Field(default_factory=dict)
    labels: list[str] = Field(default_factory=list, max_length=MOST_LABELS)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("cron")
    @classmethod
    def _crons(cls, crons: list[str]) -> list[str]:
        for text in crons:
            problems = cron_problems(text)
            if problems:
                hint = f"; {problems[0].hint}" if problems[0].hint else ""
                raise ValueError(f"'{text[:60]}': {problems[0].message}{hint}")
        return crons

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        known = available_timezones()
        if known and name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"there is no time zone '{name[:60]}'; {near or 'write a name such as Europe/Berlin'}")
        return name

    @field_validator("start_at", "end_at")
    @classmethod
    def _moment(cls, moment: dt.datetime | None) -> dt.datetime | None:
        if moment is not None and moment.tzinfo is None:
            raise ValueError("the time has no zone; write 2027-01-31T12:00:00Z")
        return moment

    @field_validator("jitter", "catch_up")
    @classmethod
    def _length(cls, text: str | None) -> str | None:
        return None if text is None else _checked_length(text)

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: list[str]) -> list[str]:
        for label in labels:
            if not 0 < len(label.strip()) <= len(label) <= MOST_LABEL_CHARS or not label.isprintable():
                raise ValueError(f"a label has 1 to {MOST_LABEL_CHARS} characters that can be shown")
        return list(dict.fromkeys(labels))

    @model_validator(mode="after")
    def _whole(self) -> ScheduleBody:
        if not self.cron and not self.intervals:
            raise ValueError("it never comes: give `cron` or `intervals`")
        if self.start_at is not None and self.end_at is not None and self.end_at <= self.start_at:
            raise ValueError("it ends before it begins")
        if self.catch_up is not None and _seconds(self.catch_up) < LEAST_CATCH_UP_S:
            raise ValueError(f"`catch_up` is at least {LEAST_CATCH_UP_S:g} s")
        for interval in self.intervals:
            if interval.offset is not None and _seconds(interval.offset) >= _seconds(interval.every):
                raise ValueError(f"the offset {interval.offset} is not shorter than its interval")
        return self


def _seconds(text: str) -> float:
    return duration_seconds(text) or 0.0


def _checked_length(text: str) -> str:
    seconds = duration_seconds(text)
    if seconds is None or not LEAST_INTERVAL_S <= seconds <= MOST_S:
        raise ValueError(f"'{text[:60]}' is no length of time from 1s on, such as 30s, 5m, 2h")
    return text


def read_body(given: Mapping[str, Any]) -> ScheduleBody:
    """Read what a schedule says.

    Raises:
        InvalidInput: `schedule.invalid` with what is wrong.
    """
    try:
        return ScheduleBody.model_validate(dict(given))
    except ValidationError as error:
        told = [_problem(item) for item in error.errors(include_url=False, include_context=False)]
        raise InvalidInput(
            f"the schedule is not right: {'; '.join(told)}", code="schedule.invalid", details={"problems": told}
        ) from error


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    said = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def body_json(body: ScheduleBody) -> dict[str, Any]:
    """Return what is stored of a schedule."""
    return body.model_dump(mode="json", exclude_defaults=True)


# --- Temporal's side -------------------------------------------------------------------------------------------------


def temporal_id(tenant: str, schedule_id: str) -> str:
    """Return the id of a schedule in Temporal."""
    return f"everstep:{tenant}:{schedule_id}"


def temporal_schedule(facts: ScheduleFacts, *, task_queue: str, remaining: int | None) -> Schedule:
    """Return a schedule as Temporal has it.

    Args:
        facts: What it shall be.
        task_queue: Task queue of the executions.
        remaining: How many starts are left; None = any number.
    """
    body = read_body(facts.body)
    catch_up = USUAL_CATCH_UP_S if body.catch_up is None else _seconds(body.catch_up)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SCHEDULED_WORKFLOW,
            ScheduledParams(tenant=facts.tenant, schedule_id=facts.id),
            # Temporal puts the time for which it is meant behind it
            id=f"scheduled-{facts.tenant}-{facts.id}",
            task_queue=doors_queue(task_queue),
            static_summary=summary_of(f"{facts.name}: {facts.task}"),
        ),
        spec=ScheduleSpec(
            cron_expressions=body.cron,
            intervals=[
                ScheduleIntervalSpec(
                    every=dt.timedelta(seconds=_seconds(item.every)),
                    offset=None if item.offset is None else dt.timedelta(seconds=_seconds(item.offset)),
                )
                for item in body.intervals
            ],
            start_at=body.start_at,
            end_at=body.end_at,
            jitter=None if body.jitter is None else dt.timedelta(seconds=_seconds(body.jitter)),
            time_zone_name=body.timezone,
        ),
        policy=SchedulePolicy(
            overlap=OVERLAPS[body.overlap],
            catchup_window=dt.timedelta(seconds=catch_up),
            pause_on_failure=body.pause_on_failure,
        ),
        state=ScheduleState(
            note=facts.note or None,
            paused=facts.paused,
            limited_actions=remaining is not None,
            remaining_actions=remaining or 0,
        ),
    )
