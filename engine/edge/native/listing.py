"""Routes of lists: executions, how many there are, their transitions and events page by page, and what they used."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from engine.core.errors import InvalidInput
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.projection import event_view, execution_view
from engine.core.run.times import iso_time
from engine.edge.http.clients import is_fern, listed
from engine.edge.http.paging import MOST_OFFSET, Cursor, read_cursor, refuse_unknown_queries, write_cursor
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native.julep_views import execution_for, legacy_transition, reader_of, transition_views
from engine.edge.native.listfilters import (
    Direction,
    ListPage,
    Time,
    read_any_filter,
    read_filter,
    read_list_page,
    span_of,
)
from engine.store.event_pages import EventKey, EventPage, EventPages
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists
from engine.store.usage import UsageBy, UsageReader

router = APIRouter(tags=["lists"], dependencies=[Depends(refuse_unknown_queries)])

Wanted = Annotated[ExecutionFilter, Depends(read_filter)]
AnyWanted = Annotated[ExecutionFilter, Depends(read_any_filter)]
Paged = Annotated[ListPage, Depends(read_list_page)]
Offset = Annotated[int, Query(ge=0, le=MOST_OFFSET)]


@router.get("/executions")
async def list_executions(
    request: Request, services: In, tenant: Tenant, wanted: AnyWanted, page: Paged
) -> dict[str, Any]:
    """List executions, by default the newest first; everything that is asked for must hold."""
    return await _executions(request, services, tenant, wanted, page)


@router.get("/executions/counts")
async def count_executions(services: In, tenant: Tenant, wanted: AnyWanted) -> dict[str, Any]:
    """Count executions, in all and by status; statuses that none has are left out."""
    return await _counts(services, tenant, wanted)


@router.get("/tasks/{task_id}/executions")
async def list_task_executions(
    task_id: str, request: Request, services: In, tenant: Tenant, wanted: Wanted, page: Paged
) -> dict[str, Any]:
    """List a task's executions, by default the newest first."""
    of_task = await _of_task(services, tenant, task_id, wanted)
    return await _executions(request, services, tenant, of_task, page)


@router.get("/tasks/{task_id}/executions/counts")
async def count_task_executions(task_id: str, services: In, tenant: Tenant, wanted: Wanted) -> dict[str, Any]:
    """Count a task's executions, in all and by status."""
    return await _counts(services, tenant, await _of_task(services, tenant, task_id, wanted))


@router.get("/executions/{execution_id}/transitions")
async def list_transitions(
    execution_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    offset: Offset = 0,
    cursor: Cursor = None,
    direction: Direction = "desc",
    sort_by: Annotated[str, Query(pattern="^(created_at|updated_at)$", description="transitions never change")] = (
        "created_at"
    ),
    scope_id: Annotated[str | None, Query(max_length=255, description="only those of this scope")] = None,
) -> dict[str, Any]:
    """List an execution's transitions, the latest first."""
    del sort_by  # Julep's clients send it; both are the order of the numbers
    facts = await services.store.get_execution(execution_id, tenant=tenant)
    page = await EventPages(services.database).page(
        execution_id,
        tenant=tenant,
        limit=limit,
        offset=offset,
        after=_event_key(request, cursor),
        transitions_only=True,
        scope_id=scope_id,
        descending=direction == "desc",
    )
    has_error = any(record.type == EventType.ERROR for record in page.items)
    views = await transition_views(request, services, facts if has_error else None)
    body: dict[str, Any] = {"items": [views.view(record) for record in page.items], "next_cursor": _next(request, page)}
    if not is_fern(request.headers):
        return body
    return {**body, "results": [{"transitions": [legacy_transition(view) for view in body["items"]]}]}


@router.get("/executions/{execution_id}/events")
async def list_events(
    execution_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    after_seq: Annotated[int, Query(ge=0, le=2**62, description="only events with a higher number")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    cursor: Cursor = None,
    direction: Direction = "asc",
) -> dict[str, Any]:
    """List all events of an execution in order, those for operators included."""
    await services.store.get_execution(execution_id, tenant=tenant)
    page = await EventPages(services.database).page(
        execution_id,
        tenant=tenant,
        limit=limit,
        after=_event_key(request, cursor),
        after_seq=after_seq,
        descending=direction == "desc",
    )
    return {"items": [event_view(record) for record in page.items], "next_cursor": _next(request, page)}


@router.get("/usage")
async def report_usage(
    services: In,
    tenant: Tenant,
    by: Annotated[UsageBy, Query(description="what makes the lines; days are those of UTC")] = "model",
    since: Annotated[Time, Query(alias="from", description="when the calls began, RFC 3339")] = None,
    until: Annotated[Time, Query(alias="to", description="not included")] = None,
    label: Annotated[str | None, Query(max_length=255, description="only executions with this label")] = None,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
) -> dict[str, Any]:
    """Sum up calls, tokens and cost; calls of unknown price are counted, and never cost nothing."""
    span = span_of(since, until)
    if span.since_us is not None and span.until_us is not None and span.until_us <= span.since_us:
        raise InvalidInput("the span ends before it begins", code="request.invalid", hint="`from` is the earlier time")
    report = await UsageReader(services.database).report(by, tenant=tenant, span=span, limit=limit, label=label)
    items = []
    for item in report.items:
        named = {"name": item.name} if item.name is not None else {}
        items.append({"key": item.key, **named, **item.sums.to_json()})
    return {
        "by": by,
        "from": None if span.since_us is None else iso_time(span.since_us),
        "to": None if span.until_us is None else iso_time(span.until_us),
        "items": items,
        "total": report.total.to_json(),
        "truncated": report.truncated,
    }


async def _of_task(services: Services, tenant: str, task_id: str, wanted: ExecutionFilter) -> ExecutionFilter:
    task = await services.definitions.versions.resolve(task_id, tenant=tenant)
    return dataclasses.replace(wanted, task_id=task.id)


async def _executions(
    request: Request, services: Services, tenant: str, wanted: ExecutionFilter, page: ListPage
) -> dict[str, Any]:
    found = await ExecutionLists(services.database).page(
        wanted,
        tenant=tenant,
        limit=page.limit,
        offset=page.offset,
        after=page.after,
        sort_by=page.sort_by,
        descending=page.descending,
    )
    may_wait = (ExecutionStatus.AWAITING_INPUT, ExecutionStatus.PAUSED)
    waiting = [facts.id for facts in found.items if facts.status in may_wait]
    waits = await services.store.open_waits(waiting, tenant=tenant)
    reader = reader_of(request)
    items = [execution_for(reader, execution_view(facts, waits.get(facts.id, []))) for facts in found.items]
    return listed(request, items, next_cursor=write_cursor(request, found.after))


async def _counts(services: Services, tenant: str, wanted: ExecutionFilter) -> dict[str, Any]:
    counts = await ExecutionLists(services.database).count(wanted, tenant=tenant)
    return {"total": counts.total, "by_status": counts.by_status}


def _event_key(request: Request, cursor: str | None) -> EventKey | None:
    place = read_cursor(request, cursor, kinds=(int, int, str))
    return None if place is None else (place[0], place[1], place[2])


def _next(request: Request, page: EventPage) -> str | None:
    return write_cursor(request, page.after)
