"""Routes of API keys: make one, which shows it once, list those of a tenant, and revoke them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import AfterValidator, Field

from engine.control.keys import check_tenant
from engine.core.errors import NotAllowed
from engine.core.run.projection import iso_time
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_ADMIN, CallerScope, actor_of, caller_of
from engine.edge.http.idempotency import remember_instead
from engine.edge.http.paging import read_cursor, write_cursor
from engine.edge.http.services import In
from engine.edge.http.times import Moment, to_us
from engine.edge.native.shapes import Body, Word
from engine.store.keys import KeyFacts

router = APIRouter(tags=["keys"], dependencies=[MAY_ADMIN])

OfTenant = Annotated[str | None, Query(alias="tenant", max_length=64, description="for the root key: another tenant")]
_LAST_YEAR = 9000
"""Times beyond it cannot be written everywhere."""


def _writable(moment: dt.datetime) -> dt.datetime:
    if moment.year > _LAST_YEAR:
        raise ValueError(f"a time after the year {_LAST_YEAR}; leave it out for a key that never expires")
    return moment


Expiry = Annotated[Moment, AfterValidator(_writable)]


class KeyBody(Body):
    """A new key.

    Attributes:
        name: Who or what will use it; records show it as actor.
        scopes: What it permits: read, run, define, admin; each includes those before it.
        tenant: The tenant it opens; another than the caller's only for the root key.
        expires_at: When it ceases to open; left out = never.
    """

    name: Word
    scopes: list[CallerScope] = Field(default=["read"], min_length=1, max_length=4)
    tenant: str | None = None
    expires_at: Expiry | None = None


def key_view(key: KeyFacts) -> dict[str, Any]:
    """Return what may be known of a key: all but its text."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": iso_time(key.created_us),
        "created_by": key.created_by,
        "expires_at": None if key.expires_us is None else iso_time(key.expires_us),
        "revoked_at": None if key.revoked_us is None else iso_time(key.revoked_us),
        "last_used_at": None if key.last_used_us is None else iso_time(key.last_used_us),
    }


@router.post("/keys", status_code=201)
async def create_key(
    request: Request,
    services: In,
    request_key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)] = None,
) -> dict[str, Any]:
    """Make a key. `key` of the answer is shown this once; a repetition with the same Idempotency-Key has null there."""
    body = await read_model(request, KeyBody)
    tenant = _tenant_for(request, body.tenant)
    expires_us = None if body.expires_at is None else to_us(body.expires_at)
    made = await services.keys.create(
        tenant=tenant,
        name=body.name,
        scopes=list(dict.fromkeys(body.scopes)),
        expires_us=expires_us,
        actor=actor_of(request),
        request_key=request_key or "",
    )
    remember_instead(request, {**key_view(made.facts), "key": None})
    return {**key_view(made.facts), "key": made.text}


@router.get("/keys")
async def list_keys(
    request: Request,
    services: In,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")] = None,
    tenant: OfTenant = None,
) -> dict[str, Any]:
    """List a tenant's keys, the oldest first, revoked ones included."""
    place = read_cursor(request, cursor, kinds=(int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    found = await services.keys.list_keys(tenant=_tenant_for(request, tenant), limit=limit + 1, after=after)
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [key_view(key) for key in shown], "next_cursor": write_cursor(request, ended)}


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: str, request: Request, services: In, tenant: OfTenant = None) -> dict[str, Any]:
    """Revoke a key: at once for requests that this process serves, within five seconds for those of others."""
    return key_view(await services.keys.revoke(key_id, tenant=_tenant_for(request, tenant)))


def _tenant_for(request: Request, named: str | None) -> str:
    caller = caller_of(request)
    if named is None or named == caller.tenant:
        return caller.tenant
    check_tenant(named)
    if not caller.root:
        raise NotAllowed(
            f"this key has nothing to do with the keys of the tenant '{named}'",
            code="auth.tenant",
            hint="only the key of EVERSTEP_API_KEY may name another tenant",
        )
    return named
