"""Routes of projects: create, replace, change, list, delete; others name them by their canonical names."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field

from engine.control.projects import ProjectFields, project_view
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_DEFINE, actor_of
from engine.edge.http.clients import listed
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import IdPrefix, Page, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.shapes import Body, CanonicalName, Name

router = APIRouter(tags=["projects"])

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class ProjectPatch(Body):
    """What changes of a project.

    Attributes:
        name: Its name.
        canonical_name: Unique name, by which agents, users and files name it; left out = one is made of the name.
        metadata: Anything; null empties it.
    """

    name: Name = ""
    canonical_name: CanonicalName | None = None
    metadata: dict[str, Any] | None = None

    @property
    def fields(self) -> ProjectFields:
        """What the caller said."""
        return cast(ProjectFields, self.model_dump(exclude_unset=True))


class ProjectBody(ProjectPatch):
    """A whole project."""

    name: Name = Field()


@router.post("/projects", status_code=201, dependencies=[MAY_DEFINE])
async def create_project(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Create a project."""
    body = await read_model(request, ProjectBody)
    made = await services.projects.create(body.fields, tenant=tenant, request_key=key, actor=actor_of(request))
    return project_view(made)


@router.get("/projects")
async def list_projects(
    request: Request, services: In, tenant: Tenant, page: Paged, id_prefix: IdPrefix = ""
) -> dict[str, Any]:
    """List projects, the oldest first."""
    found = await services.projects.store.page(tenant=tenant, id_prefix=id_prefix, **page.arguments("asc"))
    return listed(request, [project_view(project) for project in found])


@router.get("/projects/{project_id}")
async def get_project(project_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a project by its id or canonical name."""
    return project_view(await services.projects.store.get(project_id, tenant=tenant))


@router.post("/projects/{project_id}", status_code=201, dependencies=[MAY_DEFINE])
async def create_or_update_project(project_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace a project, or create it with this id, which must be a UUID then."""
    body = await read_model(request, ProjectBody)
    return project_view(await services.projects.put(project_id, body.fields, tenant=tenant, actor=actor_of(request)))


@router.put("/projects/{project_id}", dependencies=[MAY_DEFINE])
async def reset_project(project_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace a project; it keeps its canonical name if none is given."""
    body = await read_model(request, ProjectBody)
    return project_view(await services.projects.reset(project_id, body.fields, tenant=tenant))


@router.patch("/projects/{project_id}", dependencies=[MAY_DEFINE])
async def update_project(project_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change what is given; members of `metadata` that are not given stay.

    What belongs to it follows when its canonical name changes.
    """
    body = await read_model(request, ProjectPatch)
    return project_view(await services.projects.patch(project_id, body.fields, tenant=tenant))


@router.delete("/projects/{project_id}", status_code=202, dependencies=[MAY_DEFINE])
async def delete_project(project_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a project; what belonged to it stays, and belongs to none."""
    return await services.projects.delete(project_id, tenant=tenant)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class ProjectView(Answer):
    """A project: a group of agents, users and files."""

    id: str
    name: str
    canonical_name: str
    metadata: dict[str, Json]
    created_at: str
    updated_at: str


class Projects(Answer):
    """A page of projects."""

    items: list[ProjectView]


_BODY: Final = (400, 404, 409, 413, 415, 422)
_WHOLE: Final[Json] = {"name": "Spring sale", "canonical_name": "spring_sale"}

PROJECT_DOCS: Final[Docs] = {
    ("POST", "/api/projects"): Doc(answer=ProjectView, ok=(201,), errors=_BODY, body=ProjectBody, example=_WHOLE),
    ("GET", "/api/projects"): Doc(answer=Projects, errors=(400, 422)),
    ("GET", "/api/projects/{project_id}"): Doc(answer=ProjectView, errors=(404, 422)),
    ("POST", "/api/projects/{project_id}"): Doc(
        answer=ProjectView, ok=(201,), errors=_BODY, body=ProjectBody, example=_WHOLE
    ),
    ("PUT", "/api/projects/{project_id}"): Doc(answer=ProjectView, errors=_BODY, body=ProjectBody, example=_WHOLE),
    ("PATCH", "/api/projects/{project_id}"): Doc(
        answer=ProjectView, errors=_BODY, body=ProjectPatch, example={"metadata": {"over": True}}
    ),
    ("DELETE", "/api/projects/{project_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 409, 422)),
}

_PROJECT: Final[dict[str, Json]] = {
    "id": "c3e8f1d4-5a0b-4a7e-8f2d-1b6c9e0a7d42",
    "name": "Spring sale",
    "canonical_name": "spring_sale",
    "metadata": {},
    "created_at": MOMENT,
    "updated_at": MOMENT,
}

PROJECT_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    ProjectView: _PROJECT,
    Projects: {"items": [_PROJECT]},
}
