"""Routes of agents: create, replace, change, list, delete; and the models that they may ask."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field

from engine.control.agents import AgentFields, agent_view
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_DEFINE, actor_of
from engine.edge.http.clients import listed
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import IdPrefix, Page, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.shapes import Body, CanonicalName, Name

router = APIRouter(tags=["agents"])

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class AgentPatch(Body):
    """What changes of an agent; null takes a member away.

    Attributes:
        name: Its name.
        model: Default model of its prompts; empty = the backend's default.
        instructions: System message for prompts that have none; a text or a list of texts.
        about: What it is for.
        canonical_name: Unique name for programs, which can stand wherever its id can.
        default_settings: Default sampling settings.
        default_system_template: First message of its sessions, a template.
        project: Id or canonical name of the project that it belongs to.
        metadata: Anything.
    """

    name: Name = ""
    model: str | None = Field(default=None, max_length=255)
    instructions: str | list[str] | None = None
    about: str | None = None
    canonical_name: CanonicalName | None = None
    default_settings: dict[str, Any] | None = None
    default_system_template: str | None = None
    project: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def fields(self) -> AgentFields:
        """What the caller said."""
        return cast(AgentFields, self.model_dump(exclude_unset=True))


class AgentBody(AgentPatch):
    """A whole agent."""

    name: Name = Field()


@router.post("/agents", status_code=201, dependencies=[MAY_DEFINE])
async def create_agent(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Create an agent."""
    body = await read_model(request, AgentBody)
    made = await services.agents.create(body.fields, tenant=tenant, request_key=key, actor=actor_of(request))
    return {**agent_view(made), "jobs": []}


@router.get("/agents")
async def list_agents(
    request: Request, services: In, tenant: Tenant, page: Paged, id_prefix: IdPrefix = ""
) -> dict[str, Any]:
    """List agents, the oldest first."""
    found = await services.agents.store.page(tenant=tenant, id_prefix=id_prefix, **page.arguments("asc"))
    return listed(request, [agent_view(agent) for agent in found])


@router.get("/agents/models")
async def list_agent_models(services: In) -> dict[str, Any]:
    """List the models that agents may ask, by name."""
    sights = await services.models.sights()
    return {"models": [{"id": model} for model in sorted({sight.model for sight in sights})]}


@router.get("/agents/{agent_id}")
async def get_agent(agent_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return an agent by its id or canonical name."""
    return agent_view(await services.agents.store.get(agent_id, tenant=tenant))


@router.post("/agents/{agent_id}", status_code=201, dependencies=[MAY_DEFINE])
async def create_or_update_agent(agent_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace an agent, or create it with this id, which must be a UUID then."""
    body = await read_model(request, AgentBody)
    made = await services.agents.put(agent_id, body.fields, tenant=tenant, actor=actor_of(request))
    return {**agent_view(made), "jobs": []}


@router.put("/agents/{agent_id}", dependencies=[MAY_DEFINE])
async def reset_agent(agent_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace an agent; what is left out is as if it was never said."""
    body = await read_model(request, AgentBody)
    changed = await services.agents.reset(agent_id, body.fields, tenant=tenant)
    return {**agent_view(changed), "jobs": []}


@router.patch("/agents/{agent_id}", dependencies=[MAY_DEFINE])
async def update_agent(agent_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change what is given; members of `metadata` and `default_settings` that are not given stay."""
    body = await read_model(request, AgentPatch)
    changed = await services.agents.patch(agent_id, body.fields, tenant=tenant)
    return {**agent_view(changed), "jobs": []}


@router.delete("/agents/{agent_id}", status_code=202, dependencies=[MAY_DEFINE])
async def delete_agent(agent_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete an agent with its tasks, tools and documents, and the sessions in which no other agent takes part.

    Executions of its tasks go on.
    """
    return await services.agents.delete(agent_id, tenant=tenant)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class AgentView(Answer):
    """An agent: what prompts of its tasks share."""

    id: str
    name: str
    canonical_name: str | None
    about: str
    model: str
    instructions: str | list[str]
    default_settings: dict[str, Json]
    default_system_template: str | None
    project: str | None
    metadata: dict[str, Json]
    created_at: str
    updated_at: str


class AgentChanged(AgentView):
    """An agent after it was created or changed."""

    jobs: list[str] = Field(description="Always empty; the Julep client of 2024 asks for it.")


class Agents(Answer):
    """A page of agents."""

    items: list[AgentView]


class ModelName(Answer):
    """A model."""

    id: str


class AgentModels(Answer):
    """The models that agents may ask."""

    models: list[ModelName]


_BODY: Final = (400, 404, 409, 413, 415, 422)
_WHOLE: Final[Json] = {"name": "helper", "model": "gpt-4o-mini", "instructions": "Answer in one sentence."}

AGENT_DOCS: Final[Docs] = {
    ("POST", "/api/agents"): Doc(answer=AgentChanged, ok=(201,), errors=_BODY, body=AgentBody, example=_WHOLE),
    ("GET", "/api/agents"): Doc(answer=Agents, errors=(400, 422)),
    ("GET", "/api/agents/models"): Doc(answer=AgentModels),
    ("GET", "/api/agents/{agent_id}"): Doc(answer=AgentView, errors=(404, 422)),
    ("POST", "/api/agents/{agent_id}"): Doc(
        answer=AgentChanged, ok=(201,), errors=_BODY, body=AgentBody, example=_WHOLE
    ),
    ("PUT", "/api/agents/{agent_id}"): Doc(answer=AgentChanged, errors=_BODY, body=AgentBody, example=_WHOLE),
    ("PATCH", "/api/agents/{agent_id}"): Doc(
        answer=AgentChanged, errors=_BODY, body=AgentPatch, example={"model": "gpt-4o", "metadata": {"reviewed": True}}
    ),
    ("DELETE", "/api/agents/{agent_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 409, 422)),
}

_AGENT: Final[dict[str, Json]] = {
    "id": "0a51f6c2-7f0b-4c68-8a38-5b6f1d2e3c4d",
    "name": "helper",
    "canonical_name": None,
    "about": "",
    "model": "gpt-4o-mini",
    "instructions": "Answer in one sentence.",
    "default_settings": {},
    "default_system_template": None,
    "project": None,
    "metadata": {},
    "created_at": MOMENT,
    "updated_at": MOMENT,
}

AGENT_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    AgentView: _AGENT,
    AgentChanged: {**_AGENT, "jobs": []},
    Agents: {"items": [_AGENT]},
    ModelName: {"id": "gpt-4o-mini"},
    AgentModels: {"models": [{"id": "gpt-4o-mini"}]},
}
