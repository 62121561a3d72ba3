"""Routes of events from outside: send one, look what it did; hooks by which others send them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from engine.control.definitions import now_us
from engine.control.hooks import HookRequest, Kind, hook_view
from engine.control.triggers import check_event_id, inbound_view
from engine.core.errors import InvalidInput, NotFound
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_DEFINE, MAY_RUN, actor_of
from engine.edge.http.idempotency import remember_instead
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.shapes import ActorName, Body, Name, Word
from engine.store.hooks import InboundEvent

router = APIRouter(tags=["events"])
public = APIRouter(tags=["events"])
"""What others call without credentials of ours: the hook's own key or signature says who they are."""

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
MOST_HOOK_BYTES = 1024 * 1024


class OutsideEvent(Body):
    """Something that happened.

    Attributes:
        name: Its name.
        key: What tells events of one name apart.
        value: What is told about it.
        id: Its id; an event is taken once. Left out = the Idempotency-Key, or a new one.
        execution_id: The one execution that it is for, which keeps it until it waits for it; left out = whoever waits
            for it now, and the tasks that it triggers.
        actor: Who sends it.
    """

    name: Name
    key: Json = None
    value: Json = None
    id: str | None = Field(default=None, min_length=1, max_length=255)
    execution_id: str | None = Field(default=None, min_length=1, max_length=64)
    actor: ActorName = ""


class HookBody(Body):
    """A new hook.

    Attributes:
        name: What it is for.
        event: Name of the events that come by it.
        key: Expression over the body `_` that gives an event its key, such as `_.order.id`.
        only_if: Expression that must hold of the body; others are ignored.
        kind: How callers are known: `key` = by a key that they send, `github` = by X-Hub-Signature-256, `standard` = as
            Standard Webhooks.
        secret: For signatures, the secret that the caller has; left out = one is made.
        actor: Who makes it.
    """

    name: Word
    event: Name
    key: str = Field(default="", max_length=2_000)
    only_if: str = Field(default="", max_length=2_000)
    kind: Kind = "key"
    secret: str = Field(default="", max_length=200)
    actor: ActorName = ""


class HookChange(Body):
    """What changes of a hook.

    Attributes:
        active: Whether it takes anything.
    """

    active: bool


@router.post("/events", dependencies=[MAY_RUN])
async def send_outside_event(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Tell all who wait for an event of it, and start the tasks that it triggers; answers what it did."""
    body = await read_model(request, OutsideEvent)
    event = InboundEvent(
        tenant=tenant,
        id=check_event_id(body.id or key or str(uuid.uuid4())),
        name=body.name,
        key=body.key,
        value=body.value,
        execution_id=body.execution_id or "",
        actor=actor_of(request, body.actor),
        received_us=now_us(),
    )
    taken, repeated = await services.doors.events.take(event)
    return inbound_view(taken, repeated=repeated)


@router.get("/events")
async def list_outside_events(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
    name: Annotated[str | None, Query(max_length=255)] = None,
) -> dict[str, Any]:
    """List events from outside, the latest first, with what they did; they are kept for 30 days."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    found = await services.doors.events.store.events(tenant=tenant, limit=limit + 1, after=after, name=name)
    shown = found[:limit]
    ended = (shown[-1].received_us, shown[-1].id) if len(found) > limit else None
    return {"items": [inbound_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/events/{event_id:path}")
async def get_outside_event(event_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return an event from outside with what it did."""
    found = await services.doors.events.store.find_event(event_id, tenant=tenant)
    if found is None:
        raise NotFound(f"there is no event {event_id}", code="event.not_found")
    return inbound_view(found)


@router.post("/hooks", status_code=201, dependencies=[MAY_DEFINE])
async def create_hook(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Make a hook. `secret` of the answer is shown this once; a repetition of the request has null there."""
    body = await read_model(request, HookBody)
    made = await services.doors.hooks.create(
        tenant=tenant,
        name=body.name,
        event=body.event,
        kind=body.kind,
        key_of=body.key,
        only_if=body.only_if,
        secret=body.secret,
        actor=actor_of(request, body.actor),
        request_key=key,
    )
    remember_instead(request, {**hook_view(made.facts), "secret": None})
    return {**hook_view(made.facts), "secret": made.secret}


@router.get("/hooks")
async def list_hooks(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List hooks, the oldest first."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    found = await services.doors.events.store.page(tenant=tenant, limit=limit + 1, after=after)
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [hook_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/hooks/{hook_id}")
async def get_hook(hook_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a hook."""
    return hook_view(await services.doors.hooks.get(hook_id, tenant=tenant))


@router.patch("/hooks/{hook_id}", dependencies=[MAY_DEFINE])
async def change_hook(hook_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let a hook take nothing for now, or take events again."""
    body = await read_model(request, HookChange)
    return hook_view(await services.doors.hooks.set_active(hook_id, body.active, tenant=tenant))


@router.delete("/hooks/{hook_id}", status_code=204, dependencies=[MAY_DEFINE])
async def delete_hook(hook_id: str, services: In, tenant: Tenant) -> Response:
    """Remove a hook."""
    await services.doors.hooks.remove(hook_id, tenant=tenant)
    return Response(status_code=204)


@public.post("/hooks/{hook_id}")
async def call_hook(hook_id: str, request: Request, services: In) -> dict[str, Any]:
    """Take a body as an event; the hook's key or signature says who sends it. Delivery ids make it once."""
    asked = HookRequest(
        body=await _bounded(request),
        headers={name.lower(): value for name, value in request.headers.items()},
        query=dict(request.query_params),
        content_type=request.headers.get("content-type", "").partition(";")[0].strip().lower(),
    )
    event, repeated = await services.doors.hooks.receive(hook_id, asked)
    if event is None:
        return {"event_id": None, "repeated": False, "delivered": 0, "started": 0}
    told = inbound_view(event)
    return {
        "event_id": event.id,
        "repeated": repeated,
        "delivered": sum(item["outcome"] == "sent" for item in told["delivered"]),
        "started": sum(item["outcome"] == "started" for item in told["started"]),
    }


async def _bounded(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_HOOK_BYTES:
            raise InvalidInput(f"the body is larger than {MOST_HOOK_BYTES // 2**20} MB", code="request.too_large")
        parts.append(part)
    return b"".join(parts)
