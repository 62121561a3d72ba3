"""Routes of jobs over many executions: try out, begin, watch, pause, continue, abort."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from engine.control.bulk import MOST_RATE, USUAL_RATE, Action, item_view, job_view, trial_view
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of, caller_of, check_scope
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.shapes import ActorName, Body

router = APIRouter(tags=["bulk"])

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class BulkBody(Body):
    """A job over many executions.

    Attributes:
        action: What is done to each.
        filter: To which executions: `ids`, or what lists can filter by, such as {task, status, label, error_code,
            created_after}; all that is given must hold; `all: true` for all of them.
        options: How: `reason` of cancel, terminate, pause; `definition` (own, newest, a version) and `at` of retry and
            fork; `value`, `wait_id`, `oldest` of answer. No view of the job shows the value.
        rate: How many a second at most.
        dry_run: Whether to say only to which executions it would be done.
        actor: Who wants it.
    """

    action: Action
    filter: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)
    rate: int = Field(default=USUAL_RATE, ge=1, le=MOST_RATE)
    dry_run: bool = False
    actor: ActorName = ""


@router.post("/bulk", status_code=202, dependencies=[MAY_RUN])
async def begin_bulk(
    request: Request, response: Response, services: In, tenant: Tenant, key: Key = ""
) -> dict[str, Any]:
    """Begin to do something to many executions; with `dry_run`, say only to which. `purge` needs the scope admin."""
    body = await read_model(request, BulkBody)
    if body.action == "purge":
        check_scope(caller_of(request), "admin")
    if body.dry_run:
        trial = await services.doors.bulk.trial(body.action, body.filter, body.options, tenant=tenant)
        response.status_code = 200
        return trial_view(body.action, trial)
    job = await services.doors.bulk.create(
        body.action,
        body.filter,
        body.options,
        tenant=tenant,
        rate=body.rate,
        actor=actor_of(request, body.actor),
        request_key=key,
    )
    return job_view(job)


@router.get("/bulk")
async def list_bulk(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List jobs, the latest first."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    found = await services.doors.bulk.store.page(tenant=tenant, limit=limit + 1, after=after)
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [job_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/bulk/{job_id}")
async def get_bulk(job_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a job with its progress."""
    return job_view(await services.doors.bulk.store.get(job_id, tenant=tenant))


@router.get("/bulk/{job_id}/items")
async def list_bulk_items(
    job_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
    outcome: Annotated[Literal["done", "refused", "failed", "left"] | None, Query()] = None,
) -> dict[str, Any]:
    """List what came of each execution of a job, in the order in which they are worked on."""
    store = services.doors.bulk.store
    await store.get(job_id, tenant=tenant)
    place = read_cursor(request, cursor, kinds=(int,))
    found = await store.items(
        job_id,
        tenant=tenant,
        limit=limit + 1,
        after=None if place is None else int(place[0]),
        outcome="" if outcome == "left" else outcome,
    )
    shown = found[:limit]
    ended = (shown[-1].place,) if len(found) > limit else None
    return {"items": [item_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.post("/bulk/{job_id}/pause", dependencies=[MAY_RUN])
async def pause_bulk(job_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let a job rest until it is continued."""
    return job_view(await services.doors.bulk.change(job_id, "pause", tenant=tenant))


@router.post("/bulk/{job_id}/continue", dependencies=[MAY_RUN])
async def continue_bulk(job_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let a paused job go on."""
    return job_view(await services.doors.bulk.change(job_id, "continue", tenant=tenant))


@router.post("/bulk/{job_id}/abort", dependencies=[MAY_RUN])
async def abort_bulk(job_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """End a job; what was done stays done."""
    return job_view(await services.doors.bulk.change(job_id, "abort", tenant=tenant))
