"""Routes of secrets: set them, list what is known of them, remove them; no answer holds a value."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, SecretStr

from engine.core.run.projection import iso_time
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_ADMIN, actor_of
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import Answer, Paged
from engine.edge.native.shapes import Body
from engine.store.secrets import SealedSecret

router = APIRouter(tags=["secrets"])


class SecretBody(Body):
    """A secret's value.

    Attributes:
        value: What tasks send where they say `secrets.NAME`.
        description: What it is for; left out = what was said before.
    """

    value: SecretStr = Field(description="What tasks send where they say `secrets.NAME`; no answer ever holds it.")
    description: str | None = None


class SecretView(Answer):
    """A secret, but for its value."""

    name: str
    description: str
    key_id: str = Field(description="Which key of the key ring encrypted it.")
    created_at: str
    updated_at: str
    updated_by: str


class Secrets(Paged):
    """A page of secrets."""

    items: list[SecretView]


class Resealed(Answer):
    """How many secrets were encrypted anew."""

    resealed: int


def secret_view(secret: SealedSecret) -> dict[str, Any]:
    """Return what may be known of a secret."""
    return {
        "name": secret.name,
        "description": secret.description,
        "key_id": secret.key_id,
        "created_at": iso_time(secret.created_us),
        "updated_at": iso_time(secret.updated_us),
        "updated_by": secret.updated_by,
    }


@router.get("/secrets")
async def list_secrets(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")] = None,
) -> dict[str, Any]:
    """List secrets by name, without their values."""
    place = read_cursor(request, cursor, kinds=(str,))
    after = "" if place is None else str(place[0])
    found = await services.secrets.list_secrets(tenant=tenant, limit=limit + 1, after=after)
    shown = found[:limit]
    ended = (shown[-1].name,) if len(found) > limit else None
    return {"items": [secret_view(each) for each in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/secrets/{name}")
async def get_secret(name: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return what is known of a secret, without its value."""
    return secret_view(await services.secrets.get(name, tenant=tenant))


@router.put("/secrets/{name}", dependencies=[MAY_ADMIN])
async def set_secret(name: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Set a secret, in the place of the one of that name; calls that begin from now on have the new value."""
    body = await read_model(request, SecretBody)
    value = body.value.get_secret_value()
    made = await services.secrets.set(name, value, tenant=tenant, description=body.description, actor=actor_of(request))
    return secret_view(made)


@router.delete("/secrets/{name}", status_code=204, dependencies=[MAY_ADMIN])
async def remove_secret(name: str, services: In, tenant: Tenant) -> Response:
    """Remove a secret; calls that name it fail from now on with `secret.missing`."""
    await services.secrets.remove(name, tenant=tenant)
    return Response(status_code=204)


@router.post("/secrets/reseal", dependencies=[MAY_ADMIN])
async def reseal_secrets(services: In, tenant: Tenant) -> dict[str, Any]:
    """Encrypt all secrets with the first key of the key ring, so that an older key may go."""
    return {"resealed": await services.secrets.reseal(tenant=tenant)}


SECRET_DOCS: Final[Docs] = {
    ("GET", "/api/secrets"): Doc(answer=Secrets, errors=(400, 422)),
    ("GET", "/api/secrets/{name}"): Doc(answer=SecretView, errors=(400, 404, 422)),
    ("PUT", "/api/secrets/{name}"): Doc(
        answer=SecretView,
        errors=(400, 409, 413, 415, 422),
        body=SecretBody,
        example={"value": "…", "description": "token of the CRM"},
    ),
    ("DELETE", "/api/secrets/{name}"): Doc(ok=(204,), errors=(400, 404, 422)),
    ("POST", "/api/secrets/reseal"): Doc(answer=Resealed, errors=(400, 409, 413, 415, 422)),
}
_SECRET: Final[dict[str, Json]] = {
    "name": "crm_token",
    "description": "token of the CRM",
    "key_id": "2026-11",
    "created_at": "2026-11-20T09:30:00Z",
    "updated_at": "2026-11-20T09:30:00Z",
    "updated_by": "ada",
}
SECRET_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    SecretView: _SECRET,
    Secrets: {"items": [_SECRET], "next_cursor": None},
    Resealed: {"resealed": 3},
}
