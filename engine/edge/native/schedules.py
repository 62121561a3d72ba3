"""Routes of schedules: make, show, change, pause, resume, run now, backfill, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field, StringConstraints

from engine.control.scheduleviews import ScheduleSight, schedule_view
from engine.control.scheduling import IntervalBody, Overlap
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In, Services, Tenant
from engine.edge.http.times import Moment
from engine.edge.native.shapes import ActorName, Body, Word
from engine.store.schedules import ScheduleFacts

router = APIRouter(tags=["schedules"])

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
Reference = Annotated[str, Field(min_length=1, max_length=400)]
Named = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^/\x00-\x1f\x7f]+$")]
"""Names stand in paths."""
Note = Annotated[str, Field(max_length=2_000)]
_OWN = ("name", "task", "paused", "note", "actor")


class ScheduleParts(Body):
    """When a schedule starts its task, and how.

    Attributes:
        cron: Crons of five fields, such as `30 8 * * mon-fri`.
        intervals: Even intervals, such as {every: 15m, offset: 5m}.
        timezone: Time zone of the crons, such as Europe/Berlin.
        start_at: Nothing is started before.
        end_at: Nothing is started after.
        jitter: Each start is put off by a random time up to this one, such as 30s.
        overlap: What happens when the execution before it has not ended.
        catch_up: Starts that were missed, since Temporal was away, are made up for within this time; 1h if left out.
        pause_on_failure: Whether the schedule pauses when an execution fails.
        limit: How many starts there are in all.
        input: The input; texts with `$ ` are computed, with `now()` = the time for which the start was meant.
        labels: Labels of the executions.
        metadata: Metadata of the executions.
    """

    cron: list[str] | None = None
    intervals: list[IntervalBody] | None = None
    timezone: str | None = None
    start_at: Moment | None = None
    end_at: Moment | None = None
    jitter: str | None = None
    overlap: Overlap | None = None
    catch_up: str | None = None
    pause_on_failure: bool | None = None
    limit: int | None = None
    input: Json = None
    labels: list[Word] | None = None
    metadata: dict[str, Any] | None = None

    def parts(self) -> dict[str, Any]:
        """Return what was given of them."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude=set(_OWN))
        # what may be null is null; everything else that is null was left out
        nullable = ("start_at", "end_at", "jitter", "catch_up", "limit", "input")
        return {name: value for name, value in given.items() if value is not None or name in nullable}


class ScheduleNew(ScheduleParts):
    """A new schedule; see `ScheduleParts` for its times.

    Attributes:
        name: What people call it; unique.
        task: The task that it starts: id or name, perhaps with `@VERSION` or `@ALIAS`; without one, the version that is
            the newest when it fires.
        paused: Whether it starts nothing for now.
        note: What it is for.
        actor: Who makes it.
    """

    name: Named
    task: Reference
    paused: bool = False
    note: Note = ""
    actor: ActorName = ""


class ScheduleChange(ScheduleParts):
    """What changes of a schedule; see `ScheduleParts` for its times.

    Attributes:
        name: What people call it.
        task: The task that it starts.
        note: What it is for.
    """

    name: Named | None = None
    task: Reference | None = None
    note: Note | None = None


class NoteBody(Body):
    """Why a schedule is paused, or goes on.

    Attributes:
        note: Why.
    """

    note: Note = ""


class RunBody(Body):
    """That a schedule runs now.

    Attributes:
        overlap: What happens if an execution has not ended; left out = what the schedule says.
    """

    overlap: Overlap | None = None


class BackfillBody(Body):
    """What a schedule has missed.

    Attributes:
        start_at: From this time on.
        end_at: Up to this time, which has passed.
        overlap: What happens if an execution has not ended; left out = what the schedule says.
    """

    start_at: Moment
    end_at: Moment
    overlap: Overlap | None = None


async def _shown(services: Services, facts: ScheduleFacts) -> dict[str, Any]:
    return schedule_view(await services.doors.schedules.see(facts.id, tenant=facts.tenant))


@router.post("/schedules", status_code=201, dependencies=[MAY_RUN])
async def create_schedule(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Make a schedule, which starts a task at times."""
    body = await read_model(request, ScheduleNew)
    facts = await services.doors.schedules.create(
        body.name,
        body.task,
        body.parts(),
        tenant=tenant,
        paused=body.paused,
        note=body.note,
        actor=actor_of(request, body.actor),
        request_key=key,
    )
    return await _shown(services, facts)


@router.get("/schedules")
async def list_schedules(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List schedules by name, those that tasks name in `dispatch.cron` included."""
    schedules = services.doors.schedules
    await schedules.follow_tasks()
    place = read_cursor(request, cursor, kinds=(str,))
    found = await schedules.store.page(tenant=tenant, limit=limit + 1, after=None if place is None else place[0])
    shown = found[:limit]
    after = (shown[-1].name,) if len(found) > limit else None
    sights: list[ScheduleSight] = await schedules.see_all(shown)
    return {
        "items": [schedule_view(sight, whole=False) for sight in sights],
        "next_cursor": write_cursor(request, after),
    }


@router.get("/schedules/{schedule_id}")
async def get_schedule(schedule_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a schedule (id or name) with its next times and what came of its last runs."""
    await services.doors.schedules.follow_tasks()
    return schedule_view(await services.doors.schedules.see(schedule_id, tenant=tenant))


@router.patch("/schedules/{schedule_id}", dependencies=[MAY_RUN])
async def change_schedule(schedule_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change members of a schedule; those left out stay as they are, null takes one away."""
    body = await read_model(request, ScheduleChange)
    own = {name: getattr(body, name) for name in ("name", "task", "note") if getattr(body, name) is not None}
    facts = await services.doors.schedules.change(schedule_id, {**body.parts(), **own}, tenant=tenant)
    return await _shown(services, facts)


@router.delete("/schedules/{schedule_id}", status_code=204, dependencies=[MAY_RUN])
async def delete_schedule(schedule_id: str, services: In, tenant: Tenant) -> Response:
    """Remove a schedule; its executions go on."""
    await services.doors.schedules.remove(schedule_id, tenant=tenant)
    return Response(status_code=204)


@router.post("/schedules/{schedule_id}/pause", dependencies=[MAY_RUN])
async def pause_schedule(schedule_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let a schedule start nothing until it is resumed."""
    body = await read_model(request, NoteBody)
    facts = await services.doors.schedules.set_paused(schedule_id, True, tenant=tenant, note=body.note)
    return await _shown(services, facts)


@router.post("/schedules/{schedule_id}/resume", dependencies=[MAY_RUN])
async def resume_schedule(schedule_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let a paused schedule start its task again; what it missed meanwhile is not made up for."""
    body = await read_model(request, NoteBody)
    facts = await services.doors.schedules.set_paused(schedule_id, False, tenant=tenant, note=body.note)
    return await _shown(services, facts)


@router.post("/schedules/{schedule_id}/run", status_code=202, dependencies=[MAY_RUN])
async def run_schedule(schedule_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Start the task of a schedule now, paused or not."""
    body = await read_model(request, RunBody)
    facts = await services.doors.schedules.run_now(schedule_id, tenant=tenant, overlap=body.overlap)
    return await _shown(services, facts)


@router.post("/schedules/{schedule_id}/backfill", status_code=202, dependencies=[MAY_RUN])
async def backfill_schedule(schedule_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Start what was missed between two times; what was started for one of them is not started again."""
    body = await read_model(request, BackfillBody)
    facts = await services.doors.schedules.backfill(
        schedule_id, body.start_at, body.end_at, tenant=tenant, overlap=body.overlap
    )
    return await _shown(services, facts)
