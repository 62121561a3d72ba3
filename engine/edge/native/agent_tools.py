"""Routes of the tools of agents: create, replace, change, list, delete."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Request
from pydantic import Field, model_validator

from engine.control.agenttools import agent_tool_view
from engine.core.errors import InvalidInput
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_DEFINE, actor_of
from engine.edge.http.clients import listed
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import Page, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.shapes import Body

router = APIRouter(tags=["agent tools"])

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
ToolType = Literal[
    "function", "integration", "system", "api_call", "computer_20241022", "text_editor_20241022", "bash_20241022"
]
Definition = dict[str, Any] | None
_OF_AGENTS: Final = frozenset({"about", "model", "instructions", "default_settings"})


class AgentToolPatch(Body):
    """What changes of a tool.

    Attributes:
        name: What tasks and models call it; an identifier of at most 40 characters.
        type: What it is; its definition stands under the key of the same name.
        description: For models.
        function: A function that the client runs: {parameters}.
        integration: A service: {provider, method, setup, arguments}.
        system: An operation on what this server keeps: {resource, operation, subresource, resource_id, arguments}.
        api_call: An HTTP request: {method, url, headers, params, json, …}.
        computer_20241022: The screen, mouse and keyboard of a computer, which the client moves.
        text_editor_20241022: An editor that the client has.
        bash_20241022: A shell that the client has.
    """

    name: str | None = Field(default=None, max_length=255)
    type: ToolType | None = None
    description: str | None = None
    function: Definition = None
    integration: Definition = None
    system: Definition = None
    api_call: Definition = None
    computer_20241022: Definition = None
    text_editor_20241022: Definition = None
    bash_20241022: Definition = None

    @model_validator(mode="before")
    @classmethod
    def refuse_agents(cls, given: Any) -> Any:
        """Refuse the body of an agent, which the Julep client of 2024 sends when it creates a tool.

        Raises:
            InvalidInput: `agent_tool.agent_body`.
        """
        if isinstance(given, dict) and "type" not in given and _OF_AGENTS & given.keys():
            raise InvalidInput(
                "this is the body of an agent, not that of a tool",
                code="agent_tool.agent_body",
                hint="send `name`, `type` and what its type needs, such as `type: function` and `function: {…}`",
            )
        return given

    @property
    def fields(self) -> dict[str, Any]:
        """What the caller said."""
        return self.model_dump(exclude_unset=True)


class AgentToolBody(AgentToolPatch):
    """A whole tool."""

    name: str = Field(max_length=255)
    type: ToolType = Field()


@router.post("/agents/{agent_id}/tools", status_code=201, dependencies=[MAY_DEFINE])
async def create_agent_tool(
    agent_id: str, request: Request, services: In, tenant: Tenant, key: Key = ""
) -> dict[str, Any]:
    """Give an agent a tool, for its sessions and for those of its tasks that inherit its tools."""
    body = await read_model(request, AgentToolBody)
    made = await services.agent_tools.create(
        agent_id, body.fields, tenant=tenant, request_key=key, actor=actor_of(request)
    )
    return {**agent_tool_view(made), "jobs": []}


@router.get("/agents/{agent_id}/tools")
async def list_agent_tools(
    agent_id: str, request: Request, services: In, tenant: Tenant, page: Paged
) -> dict[str, Any]:
    """List the tools of an agent, the oldest first."""
    asked = page.arguments("asc")
    # tools have no metadata
    del asked["metadata"]
    found = await services.agent_tools.store.page(agent_id, tenant=tenant, **asked)
    return listed(request, [agent_tool_view(tool) for tool in found])


@router.get("/agents/{agent_id}/tools/{tool_id}")
async def get_agent_tool(agent_id: str, tool_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a tool of an agent."""
    return agent_tool_view(await services.agent_tools.store.get(agent_id, tool_id, tenant=tenant))


@router.put("/agents/{agent_id}/tools/{tool_id}", dependencies=[MAY_DEFINE])
async def reset_agent_tool(
    agent_id: str, tool_id: str, request: Request, services: In, tenant: Tenant
) -> dict[str, Any]:
    """Replace a tool of an agent."""
    body = await read_model(request, AgentToolBody)
    changed = await services.agent_tools.reset(agent_id, tool_id, body.fields, tenant=tenant)
    return {**agent_tool_view(changed), "jobs": []}


@router.patch("/agents/{agent_id}/tools/{tool_id}", dependencies=[MAY_DEFINE])
async def update_agent_tool(
    agent_id: str, tool_id: str, request: Request, services: In, tenant: Tenant
) -> dict[str, Any]:
    """Change what is given; members of its definition that are not given stay, unless its type changes."""
    body = await read_model(request, AgentToolPatch)
    changed = await services.agent_tools.patch(agent_id, tool_id, body.fields, tenant=tenant)
    return {**agent_tool_view(changed), "jobs": []}


@router.delete("/agents/{agent_id}/tools/{tool_id}", dependencies=[MAY_DEFINE])
async def delete_agent_tool(agent_id: str, tool_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Take a tool away from an agent."""
    return await services.agent_tools.delete(agent_id, tool_id, tenant=tenant)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class AgentToolView(Answer):
    """A tool of an agent; only the definition of its own type is not null."""

    id: str
    agent_id: str
    name: str
    type: ToolType
    description: str
    background: bool = Field(description="Always false; the Julep client of 2024 asks for it.")
    function: dict[str, Json] | None
    integration: dict[str, Json] | None
    system: dict[str, Json] | None
    api_call: dict[str, Json] | None
    computer_20241022: dict[str, Json] | None
    text_editor_20241022: dict[str, Json] | None
    bash_20241022: dict[str, Json] | None
    created_at: str
    updated_at: str


class AgentToolChanged(AgentToolView):
    """A tool after it was created or changed."""

    jobs: list[str] = Field(description="Always empty; the Julep client of 2024 asks for it.")


class AgentToolPage(Answer):
    """A page of tools."""

    items: list[AgentToolView]


_BODY: Final = (400, 404, 409, 413, 415, 422)
_PARAMETERS: Final[Json] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_WHOLE: Final[Json] = {
    "name": "weather",
    "type": "function",
    "description": "Tells the weather of a city.",
    "function": {"parameters": _PARAMETERS},
}
_ONE: Final = "/api/agents/{agent_id}/tools/{tool_id}"

AGENT_TOOL_DOCS: Final[Docs] = {
    ("POST", "/api/agents/{agent_id}/tools"): Doc(
        answer=AgentToolChanged, ok=(201,), errors=_BODY, body=AgentToolBody, example=_WHOLE
    ),
    ("GET", "/api/agents/{agent_id}/tools"): Doc(answer=AgentToolPage, errors=(400, 404, 422)),
    ("GET", _ONE): Doc(answer=AgentToolView, errors=(404, 422)),
    ("PUT", _ONE): Doc(answer=AgentToolChanged, errors=_BODY, body=AgentToolBody, example=_WHOLE),
    ("PATCH", _ONE): Doc(
        answer=AgentToolChanged, errors=_BODY, body=AgentToolPatch, example={"description": "Tells how warm it is."}
    ),
    ("DELETE", _ONE): Doc(answer=Deleted, errors=(404, 409, 422)),
}

_TOOL: Final[dict[str, Json]] = {
    "id": "91f5b0c7-2d64-4c0b-a9b5-7d3e8f6a1c25",
    "agent_id": "0a51f6c2-7f0b-4c68-8a38-5b6f1d2e3c4d",
    "name": "weather",
    "type": "function",
    "description": "Tells the weather of a city.",
    "background": False,
    "function": {"parameters": _PARAMETERS},
    "integration": None,
    "system": None,
    "api_call": None,
    "computer_20241022": None,
    "text_editor_20241022": None,
    "bash_20241022": None,
    "created_at": MOMENT,
    "updated_at": MOMENT,
}

AGENT_TOOL_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    AgentToolView: _TOOL,
    AgentToolChanged: {**_TOOL, "jobs": []},
    AgentToolPage: {"items": [_TOOL]},
}
