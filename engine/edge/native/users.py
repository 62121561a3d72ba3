"""Routes of users: create, replace, change, list, delete."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field

from engine.control.users import UserFields, user_view
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.clients import listed
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import IdPrefix, Page, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.shapes import Body

router = APIRouter(tags=["users"])

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class UserBody(Body):
    """A user, or what changes of one; null takes a member away.

    Attributes:
        name: Its name.
        about: Who it is.
        project: Id or canonical name of the project that it belongs to.
        metadata: Anything.
    """

    name: str | None = Field(default=None, max_length=255)
    about: str | None = None
    project: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def fields(self) -> UserFields:
        """What the caller said."""
        return cast(UserFields, self.model_dump(exclude_unset=True))


@router.post("/users", status_code=201, dependencies=[MAY_RUN])
async def create_user(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Create a user."""
    body = await read_model(request, UserBody)
    made = await services.users.create(body.fields, tenant=tenant, request_key=key, actor=actor_of(request))
    return {**user_view(made), "jobs": []}


@router.get("/users")
async def list_users(
    request: Request, services: In, tenant: Tenant, page: Paged, id_prefix: IdPrefix = ""
) -> dict[str, Any]:
    """List users, the oldest first."""
    found = await services.users.store.page(tenant=tenant, id_prefix=id_prefix, **page.arguments("asc"))
    return listed(request, [user_view(user) for user in found])


@router.get("/users/{user_id}")
async def get_user(user_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a user."""
    return user_view(await services.users.store.get(user_id, tenant=tenant))


@router.post("/users/{user_id}", status_code=201, dependencies=[MAY_RUN])
async def create_or_update_user(user_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace a user, or create it with this id, which must be a UUID then."""
    body = await read_model(request, UserBody)
    made = await services.users.put(user_id, body.fields, tenant=tenant, actor=actor_of(request))
    return {**user_view(made), "jobs": []}


@router.put("/users/{user_id}", dependencies=[MAY_RUN])
async def reset_user(user_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace a user; what is left out is as if it was never said."""
    body = await read_model(request, UserBody)
    return {**user_view(await services.users.reset(user_id, body.fields, tenant=tenant)), "jobs": []}


@router.patch("/users/{user_id}", dependencies=[MAY_RUN])
async def update_user(user_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change what is given; members of `metadata` that are not given stay."""
    body = await read_model(request, UserBody)
    return {**user_view(await services.users.patch(user_id, body.fields, tenant=tenant)), "jobs": []}


@router.delete("/users/{user_id}", status_code=202, dependencies=[MAY_RUN])
async def delete_user(user_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a user with its documents; sessions in which it took part go on without it."""
    return await services.users.delete(user_id, tenant=tenant)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class UserView(Answer):
    """A user: somebody with whom agents talk."""

    id: str
    name: str
    about: str
    project: str | None
    metadata: dict[str, Json]
    created_at: str
    updated_at: str


class UserChanged(UserView):
    """A user after it was created or changed."""

    jobs: list[str] = Field(description="Always empty; the Julep client of 2024 asks for it.")


class Users(Answer):
    """A page of users."""

    items: list[UserView]


_BODY: Final = (400, 404, 409, 413, 415, 422)
_WHOLE: Final[Json] = {"name": "Ada", "about": "Likes short answers.", "metadata": {"plan": "free"}}

USER_DOCS: Final[Docs] = {
    ("POST", "/api/users"): Doc(answer=UserChanged, ok=(201,), errors=_BODY, body=UserBody, example=_WHOLE),
    ("GET", "/api/users"): Doc(answer=Users, errors=(400, 422)),
    ("GET", "/api/users/{user_id}"): Doc(answer=UserView, errors=(404, 422)),
    ("POST", "/api/users/{user_id}"): Doc(answer=UserChanged, ok=(201,), errors=_BODY, body=UserBody, example=_WHOLE),
    ("PUT", "/api/users/{user_id}"): Doc(answer=UserChanged, errors=_BODY, body=UserBody, example=_WHOLE),
    ("PATCH", "/api/users/{user_id}"): Doc(
        answer=UserChanged, errors=_BODY, body=UserBody, example={"metadata": {"plan": "paid"}}
    ),
    ("DELETE", "/api/users/{user_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 409, 422)),
}

_USER: Final[dict[str, Json]] = {
    "id": "6c1f0a8e-3b52-4e0e-9d5c-2f7b1a9e4d10",
    "name": "Ada",
    "about": "Likes short answers.",
    "project": None,
    "metadata": {"plan": "free"},
    "created_at": MOMENT,
    "updated_at": MOMENT,
}

USER_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    UserView: _USER,
    UserChanged: {**_USER, "jobs": []},
    Users: {"items": [_USER]},
}
