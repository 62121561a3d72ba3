"""Routes of webhooks: register, show, change, remove; their deliveries, and sending one again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from engine.control.webhooks import delivery_view, webhook_view
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.idempotency import remember_instead
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.shapes import ActorName, Body, Word

router = APIRouter(tags=["webhooks"])

Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
Url = Annotated[str, Field(min_length=1, max_length=2_000)]
Statuses = Annotated[list[Word], Field(max_length=20)]
Tasks = Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(max_length=100)]
Labels = Annotated[list[Word], Field(max_length=20)]
Secret = Annotated[str, Field(max_length=200)]


class WebhookBody(Body):
    """A new webhook.

    Attributes:
        url: Where messages are posted.
        statuses: Of which statuses it is told; left out = of ends, and of executions that wait for an answer.
        tasks: Only of executions of these tasks, by id or name.
        labels: Only of executions with all of these labels.
        root_only: Only of executions that no execution started.
        secret: What messages are signed with, `whsec_` and base64; left out = one is made.
        note: What it is for.
        active: Whether it is told anything.
        actor: Who registers it.
    """

    url: Url
    statuses: Statuses = Field(default_factory=list)
    tasks: Tasks = Field(default_factory=list)
    labels: Labels = Field(default_factory=list)
    root_only: bool = False
    secret: Secret = ""
    note: str = Field(default="", max_length=2_000)
    active: bool = True
    actor: ActorName = ""


class WebhookChange(Body):
    """What changes of a webhook.

    Attributes:
        url: Where messages are posted.
        statuses: Of which statuses it is told.
        tasks: Only of executions of these tasks.
        labels: Only of executions with all of these labels.
        root_only: Only of executions that no execution started.
        secret: What messages are signed with.
        note: What it is for.
        active: Whether it is told anything.
    """

    url: Url | None = None
    statuses: Statuses | None = None
    tasks: Tasks | None = None
    labels: Labels | None = None
    root_only: bool | None = None
    secret: Secret | None = None
    note: str | None = Field(default=None, max_length=2_000)
    active: bool | None = None


@router.post("/webhooks", status_code=201, dependencies=[MAY_RUN])
async def create_webhook(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Register a webhook. `secret` of the answer is shown this once; a repetition of the request has null there."""
    body = await read_model(request, WebhookBody)
    facts = await services.doors.webhooks.create(
        tenant=tenant,
        **body.model_dump(exclude={"actor"}),
        actor=actor_of(request, body.actor),
        request_key=key,
    )
    remember_instead(request, {**webhook_view(facts), "secret": None})
    return {**webhook_view(facts), "secret": facts.secret}


@router.get("/webhooks")
async def list_webhooks(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
    execution_id: Annotated[str, Query(max_length=255, description="those of one execution")] = "",
) -> dict[str, Any]:
    """List webhooks, the oldest first; those of single executions only if one is named."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    store = services.doors.webhooks.store
    found = await store.page(tenant=tenant, limit=limit + 1, after=after, execution_id=execution_id)
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [webhook_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/webhooks/{webhook_id}")
async def get_webhook(webhook_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a webhook, and how many deliveries it has in each state."""
    facts = await services.doors.webhooks.get(webhook_id, tenant=tenant)
    counts = await services.doors.webhooks.store.counts(webhook_id, tenant=tenant)
    return {**webhook_view(facts), "deliveries": counts}


@router.patch("/webhooks/{webhook_id}", dependencies=[MAY_RUN])
async def change_webhook(webhook_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change members of a webhook; those left out stay as they are."""
    body = await read_model(request, WebhookChange)
    changes = body.model_dump(exclude_none=True)
    return webhook_view(await services.doors.webhooks.change(webhook_id, tenant=tenant, changes=changes))


@router.post("/webhooks/{webhook_id}/secret", dependencies=[MAY_RUN])
async def renew_secret(webhook_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Give a webhook another secret, which is shown this once; all that is sent from now on is signed with it."""
    facts = await services.doors.webhooks.new_secret(webhook_id, tenant=tenant)
    remember_instead(request, {**webhook_view(facts), "secret": None})
    return {**webhook_view(facts), "secret": facts.secret}


@router.delete("/webhooks/{webhook_id}", status_code=204, dependencies=[MAY_RUN])
async def delete_webhook(webhook_id: str, services: In, tenant: Tenant) -> Response:
    """Remove a webhook with its deliveries."""
    await services.doors.webhooks.remove(webhook_id, tenant=tenant)
    return Response(status_code=204)


@router.get("/webhooks/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Cursor = None,
    state: Annotated[Literal["pending", "sending", "delivered", "failed"] | None, Query()] = None,
    execution_id: Annotated[str | None, Query(max_length=255)] = None,
) -> dict[str, Any]:
    """List what a webhook was told, the latest first, with attempts and last answer."""
    await services.doors.webhooks.get(webhook_id, tenant=tenant)
    place = read_cursor(request, cursor, kinds=(int, str))
    found = await services.doors.webhooks.store.deliveries(
        webhook_id,
        tenant=tenant,
        limit=limit + 1,
        after=None if place is None else (int(place[0]), str(place[1])),
        state=state,
        execution_id=execution_id,
    )
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [delivery_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/webhooks/{webhook_id}/deliveries/{delivery_id}")
async def get_delivery(webhook_id: str, delivery_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a delivery."""
    return delivery_view(await services.doors.webhooks.delivery(webhook_id, delivery_id, tenant=tenant))


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", status_code=202, dependencies=[MAY_RUN])
async def resend_delivery(webhook_id: str, delivery_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Send a delivery that has ended again, under its id."""
    return delivery_view(await services.doors.webhooks.resend(webhook_id, delivery_id, tenant=tenant))
