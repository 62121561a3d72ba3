"""Routes of executions: start, list, read, answer, cancel, transitions and events."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from engine.control.versions import LATEST
from engine.control.webhooks import WebhookForStart, WebhookWish
from engine.core.contracts.execution import EventSignal
from engine.core.errors import InputRejected, InvalidInput, NotFound
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.projection import (
    TRANSITION_TYPES,
    ExecutionFacts,
    execution_view,
    pause_view,
    seq_of_transition,
)
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of, caller_of
from engine.edge.http.idempotency import REPLAYED
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native.julep_views import execution_for, reader_of, transition_views
from engine.edge.native.shapes import ChangeBody, EventBody, StartBody
from engine.edge.native.startoptions import options_of

router = APIRouter(tags=["executions"])

MAY_WAIT = (ExecutionStatus.AWAITING_INPUT, ExecutionStatus.PAUSED)
"""Executions that may have open waits."""

Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]

ADMISSION_HEADER = "Everstep-Admission"
"""What became of a start that is not made at once: queued, joined (to an execution that waits), skipped."""
AGE_HEADER = "Everstep-Data-Age"
WHY_HEADER = "Everstep-Data-Age-Reason"
"""Seconds since the store last heard of an execution whose end Temporal could not be asked about."""


async def _views(services: Services, tenant: str, found: list[ExecutionFacts]) -> list[dict[str, Any]]:
    waiting = [facts.id for facts in found if facts.status in MAY_WAIT]
    waits = await services.store.open_waits(waiting, tenant=tenant)
    return [execution_view(facts, waits.get(facts.id, [])) for facts in found]


async def view_of(services: Services, facts: ExecutionFacts) -> dict[str, Any]:
    """Return an execution as JSON, with its open waits."""
    return (await _views(services, facts.tenant, [facts]))[0]


@router.post("/tasks/{task_id}/executions", status_code=201, dependencies=[MAY_RUN])
async def start_execution(
    task_id: str, request: Request, response: Response, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Start an execution of a task (id or name, `@VERSION` or `@ALIAS` behind); a key gives the same one again."""
    body = await read_model(request, StartBody)
    task = await services.definitions.versions.resolve(task_id, tenant=tenant)
    told = _webhook_of(services, body, tenant, actor_of(request, body.actor))
    started = await services.starter.start(
        task,
        body.input,
        execution_id=body.id,
        idempotency_key=key,
        metadata=body.metadata,
        labels=body.labels,
        actor=actor_of(request, body.actor),
        options=options_of(
            delay=body.delay,
            start_at=body.start_at,
            deadline=body.deadline,
            priority=body.priority,
            break_at=body.break_at,
        ),
        pinned=task_id not in (task.id, task.name) and not task_id.endswith(f"@{LATEST}"),
        before=None if told is None else told.register,
    )
    if not started.created:
        response.status_code = 200
    if started.entry is not None:
        response.headers[ADMISSION_HEADER] = started.entry.value
    elif not started.created:
        response.headers[REPLAYED] = "true"
    view = await view_of(services, started.facts)
    if told is not None:
        view["webhook"] = await told.shown(started.facts.id)
    if started.entry is not None:
        # a start that was made at once costs no look at those that wait
        view = await _with_queued(services, started.facts, view)
    return execution_for(reader_of(request), view, changed=True)


def _webhook_of(services: Services, body: StartBody, tenant: str, actor: str) -> WebhookForStart | None:
    if body.webhook is None:
        return None
    wish = WebhookWish(body.webhook.url, body.webhook.statuses, body.webhook.secret)
    return WebhookForStart(services.doors.webhooks, wish, tenant=tenant, actor=actor)


async def _with_pause(services: Services, facts: ExecutionFacts) -> dict[str, Any]:
    """Return an execution as JSON; of a paused one also since when and why."""
    view = await view_of(services, facts)
    if facts.status is not ExecutionStatus.PAUSED:
        return {**view, "paused": None}
    return {**view, "paused": pause_view(await services.store.control_events(facts.id, tenant=facts.tenant))}


async def _with_queued(services: Services, facts: ExecutionFacts, view: dict[str, Any]) -> dict[str, Any]:
    """Add why an execution waits to be let in."""
    if facts.status is not ExecutionStatus.QUEUED:
        return view
    return {**view, "queued": await services.starter.admission.queued(facts.id, tenant=facts.tenant)}


@router.get("/executions/{execution_id}")
async def get_execution(
    execution_id: str, request: Request, response: Response, services: In, tenant: Tenant
) -> dict[str, Any]:
    """Return an execution."""
    fresh = await services.executions.read(execution_id, tenant=tenant)
    if fresh.stale_s is not None:
        response.headers[AGE_HEADER] = f"{fresh.stale_s:.3f}"
        response.headers[WHY_HEADER] = fresh.reason
    view = await _with_queued(services, fresh.facts, await _with_pause(services, fresh.facts))
    return execution_for(reader_of(request), view)


@router.put("/executions/{execution_id}", dependencies=[MAY_RUN])
async def change_execution(
    execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Answer a wait ({status: running, input}) or cancel ({status: cancelled, reason})."""
    body = await read_model(request, ChangeBody)
    facts = await change(execution_id, body, request, services, key)
    return execution_for(reader_of(request), await view_of(services, facts), changed=True)


async def change(
    execution_id: str, body: ChangeBody, request: Request, services: Services, key: str | None
) -> ExecutionFacts:
    """Answer a wait of an execution or cancel it, as a body says.

    Raises:
        InvalidInput: `input.rejected`, for Julep's clients, whose name for it is a bad request.
        RequestError: What `ExecutionService` says.
        InputRejected: As `ExecutionService.answer`.
    """
    tenant, actor = caller_of(request).tenant, actor_of(request, body.actor)
    if body.status == "cancelled":
        return await services.executions.cancel(execution_id, tenant=tenant, reason=body.reason or "", actor=actor)
    ours = reader_of(request) == "ours"
    try:
        return await services.executions.answer(
            execution_id,
            body.input,
            tenant=tenant,
            key=body.key or key,
            wait_id=body.wait_id,
            actor=actor,
            # Julep's clients name no wait, and mean the one that their list of transitions begins with
            several="refuse" if ours else "newest",
        )
    except InputRejected as error:
        if ours:
            raise
        raise InvalidInput(error.message, code=error.code, hint=error.hint, details=error.details) from error


@router.post("/executions/{execution_id}/events", status_code=202, dependencies=[MAY_RUN])
async def send_event(
    execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Send an event to an execution ({name, key?, value?, id?, actor?}); an id that came before is not taken again."""
    body = await read_model(request, EventBody)
    event = EventSignal(
        id=body.id or key or str(uuid.uuid4()),
        name=body.name,
        key=body.key,
        value=body.value,
        actor=actor_of(request, body.actor),
    )
    await services.executions.send_event(execution_id, event, tenant=tenant)
    return {"id": event.id, "execution_id": execution_id}


@router.get("/executions/{execution_id}/transitions/{transition_id}")
async def get_transition(
    execution_id: str, transition_id: str, request: Request, services: In, tenant: Tenant
) -> dict[str, Any]:
    """Return a transition."""
    facts = await services.store.get_execution(execution_id, tenant=tenant)
    seq = seq_of_transition(execution_id, transition_id)
    found = None if seq is None else await services.store.find_event(execution_id, seq, tenant=tenant)
    if found is None or found.type not in TRANSITION_TYPES:
        raise NotFound(f"execution {execution_id} has no transition {transition_id}", code="transition.not_found")
    failing = facts if found.type == EventType.ERROR else None
    return (await transition_views(request, services, failing)).view(found)
