"""Routes of streams: an execution's status, its transitions and its events as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from engine.core.run.events import EventRecord
from engine.core.run.projection import TRANSITION_TYPES, event_view, execution_view, transition_view
from engine.edge.http.services import Services, services_of, tenant_of
from engine.edge.http.sse import EventStream, Message, last_event_id

router = APIRouter(tags=["streams"])

In = Annotated[Services, Depends(services_of)]
Tenant = Annotated[str, Depends(tenant_of)]


@router.get("/executions/{execution_id}/status.stream", response_class=EventStream)
async def stream_status(execution_id: str, services: In, tenant: Tenant) -> EventStream:
    """Send the execution at once and at every change of its status; ends after a terminal one."""
    await services.store.get_execution(execution_id, tenant=tenant)
    return EventStream(_statuses(services, execution_id, tenant))


@router.get("/executions/{execution_id}/transitions.stream", response_class=EventStream)
async def stream_transitions(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send transitions from the first, or after Last-Event-ID; ends when the execution has ended and all are sent."""
    await services.store.get_execution(execution_id, tenant=tenant)
    after = last_event_id(request, "next_page_token", "after_seq")
    return EventStream(_records(services, execution_id, tenant, after, _transition_only))


@router.get("/executions/{execution_id}/events.stream", response_class=EventStream)
async def stream_events(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send all events from the first, or after Last-Event-ID; ends when the execution has ended and all are sent."""
    await services.store.get_execution(execution_id, tenant=tenant)
    after = last_event_id(request, "after_seq")
    return EventStream(_records(services, execution_id, tenant, after, event_view))


async def _statuses(services: Services, execution_id: str, tenant: str) -> AsyncIterator[list[Message]]:
    async for change in services.follower.status(execution_id, tenant=tenant):
        if change is None:
            yield []
            continue
        # Julep's client types this stream as whole executions, its documents as events: this is both
        data = {**execution_view(change.facts, change.waits), "execution_id": change.facts.id}
        yield [Message(change.facts.last_seq, data)]


async def _records(
    services: Services,
    execution_id: str,
    tenant: str,
    after: int,
    view: Callable[[EventRecord], dict[str, Any] | None],
) -> AsyncIterator[list[Message]]:
    async for batch in services.follower.events(execution_id, tenant=tenant, after_seq=after):
        shown = [(record.seq, view(record)) for record in batch]
        yield [Message(seq, data) for seq, data in shown if data is not None]


def _transition_only(record: EventRecord) -> dict[str, Any] | None:
    return transition_view(record) if record.type in TRANSITION_TYPES else None
