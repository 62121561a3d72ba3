"""Routes of secrets: set them, list what is known of them, remove them; no answer holds a value."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field, SecretStr

from engine.control.definitions import now_us
from engine.control.resources import deleted_view
from engine.core.run.projection import iso_time
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_ADMIN, actor_of
from engine.edge.http.clients import is_stainless
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import MOST_OFFSET, read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import Answer, Deleted, Paged
from engine.edge.native.shapes import Body
from engine.store.secrets import SealedSecret

router = APIRouter(tags=["secrets"])

HIDDEN: Final = "ENCRYPTED"
"""What answers have in the place of a value."""


class SecretBody(Body):
    """A secret's value, and what it is called from now on.

    Attributes:
        value: What tasks send where they say `secrets.NAME`.
        name: Its name; left out = that of the path.
        description: What it is for; left out = what was said before.
        metadata: What else is known of it; left out = what was said before.
    """

    value: SecretStr = Field(description="What tasks send where they say `secrets.NAME`; no answer ever holds it.")
    name: str | None = None
    description: str | None = None
    metadata: dict[str, Json] | None = None


class NewSecretBody(SecretBody):
    """A new secret."""

    name: str = Field(description="What tasks call it.")


class SecretView(Answer):
    """A secret, but for its value."""

    id: str = Field(description="Stays when the secret gets another name; stands wherever its name can.")
    name: str
    value: str = Field(description="Always ENCRYPTED.")
    description: str
    metadata: dict[str, Json]
    key_id: str = Field(description="Which key of the key ring encrypted it.")
    created_at: str
    updated_at: str
    updated_by: str


class SecretCreated(SecretView):
    """A secret that was set for the first time."""

    jobs: list[str]


class Secrets(Paged):
    """A page of secrets."""

    items: list[SecretView]


class Resealed(Answer):
    """How many secrets were encrypted anew."""

    resealed: int


def secret_view(secret: SealedSecret) -> dict[str, Any]:
    """Return what may be known of a secret."""
    return {
        "id": secret.id,
        "name": secret.name,
        "value": HIDDEN,
        "description": secret.description,
        "metadata": secret.metadata,
        "key_id": secret.key_id,
        "created_at": iso_time(secret.created_us),
        "updated_at": iso_time(secret.updated_us),
        "updated_by": secret.updated_by,
    }


@router.post("/secrets", status_code=201, dependencies=[MAY_ADMIN])
async def create_secret(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Set a secret that is not there yet."""
    body = await read_model(request, NewSecretBody)
    made = await services.secrets.set(
        body.name,
        body.value.get_secret_value(),
        tenant=tenant,
        description=body.description,
        metadata=body.metadata,
        is_new=True,
        actor=actor_of(request),
    )
    return {**secret_view(made), "jobs": []}


@router.get("/secrets", response_model=None)
async def list_secrets(
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")] = None,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
) -> dict[str, Any] | list[dict[str, Any]]:
    """List secrets by name, without their values; Julep's SDK gets an array."""
    place = read_cursor(request, cursor, kinds=(str,))
    after = "" if place is None else str(place[0])
    found = await services.secrets.list_secrets(tenant=tenant, limit=limit + 1, after=after, offset=offset)
    shown = found[:limit]
    if is_stainless(request.headers):
        return [secret_view(each) for each in shown]
    ended = (shown[-1].name,) if len(found) > limit else None
    return {"items": [secret_view(each) for each in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/secrets/{name}")
async def get_secret(name: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return what is known of a secret by its name or id, without its value."""
    return secret_view(await services.secrets.get(name, tenant=tenant))


@router.put("/secrets/{name}", dependencies=[MAY_ADMIN])
async def set_secret(name: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Set a secret, in the place of the one of that name or id; calls that begin from now on have the new value.

    A secret that is not there yet is made, unless the path has an id, or another name than the body.
    """
    body = await read_model(request, SecretBody)
    before = name
    if "-" in name or body.name not in (None, name):
        before = (await services.secrets.get(name, tenant=tenant)).name
    made = await services.secrets.set(
        body.name or before,
        body.value.get_secret_value(),
        tenant=tenant,
        description=body.description,
        metadata=body.metadata,
        before=before,
        actor=actor_of(request),
    )
    return secret_view(made)


@router.delete("/secrets/{name}", status_code=202, dependencies=[MAY_ADMIN])
async def remove_secret(name: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Remove a secret by its name or id; calls that name it fail from now on with `secret.missing`."""
    moment = now_us()
    gone = await services.secrets.remove(name, tenant=tenant)
    return deleted_view(gone.id, moment)


@router.post("/secrets/reseal", dependencies=[MAY_ADMIN])
async def reseal_secrets(services: In, tenant: Tenant) -> dict[str, Any]:
    """Encrypt all secrets with the first key of the key ring, so that an older key may go."""
    return {"resealed": await services.secrets.reseal(tenant=tenant)}


SECRET_DOCS: Final[Docs] = {
    ("POST", "/api/secrets"): Doc(
        answer=SecretCreated,
        ok=(201,),
        errors=(400, 409, 413, 415, 422),
        body=NewSecretBody,
        example={"name": "crm_token", "value": "…", "description": "token of the CRM"},
    ),
    ("GET", "/api/secrets"): Doc(answer=Secrets, errors=(400, 422)),
    ("GET", "/api/secrets/{name}"): Doc(answer=SecretView, errors=(400, 404, 422)),
    ("PUT", "/api/secrets/{name}"): Doc(
        answer=SecretView,
        errors=(400, 404, 409, 413, 415, 422),
        body=SecretBody,
        example={"value": "…", "description": "token of the CRM"},
    ),
    ("DELETE", "/api/secrets/{name}"): Doc(answer=Deleted, ok=(202,), errors=(400, 404, 422)),
    ("POST", "/api/secrets/reseal"): Doc(answer=Resealed, errors=(400, 409, 413, 415, 422)),
}
_SECRET: Final[dict[str, Json]] = {
    "id": "4e0f7a9c-8d3b-4b52-9c1e-6f2a7d5b3c10",
    "name": "crm_token",
    "value": "ENCRYPTED",
    "description": "token of the CRM",
    "metadata": {},
    "key_id": "2026-11",
    "created_at": "2026-11-20T09:30:00Z",
    "updated_at": "2026-11-20T09:30:00Z",
    "updated_by": "ada",
}
SECRET_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    SecretView: _SECRET,
    SecretCreated: {**_SECRET, "jobs": []},
    Secrets: {"items": [_SECRET], "next_cursor": None},
    Resealed: {"resealed": 3},
}
