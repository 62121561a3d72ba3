"""Routes of agents and tasks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from engine.control.definitions import Created, agent_view, task_view
from engine.edge.http.bodies import read_model, read_text, source_name
from engine.edge.http.callers import MAY_DEFINE, MAY_READ, actor_of
from engine.edge.http.clients import dialect_of
from engine.edge.http.paging import Page, read_page
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native import versions
from engine.edge.native.shapes import AgentBody

router = APIRouter(tags=["definitions"])
router.include_router(versions.router)

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
File = Annotated[str, Query(max_length=500, description="name of the source in diagnostics")]


def _created(made: Created, response: Response) -> dict[str, Any]:
    response.status_code = 201 if made.changed else 200
    return {**task_view(made.task), "warnings": made.warnings}


@router.post("/agents", status_code=201, dependencies=[MAY_DEFINE])
async def create_agent(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Create an agent."""
    body = await read_model(request, AgentBody)
    made = await services.definitions.create_agent(
        tenant=tenant, request_key=key, actor=actor_of(request), **body.model_dump()
    )
    return agent_view(made)


@router.get("/agents")
async def list_agents(services: In, tenant: Tenant, page: Paged) -> dict[str, Any]:
    """List agents, the oldest first."""
    found = await services.definitions.definitions.list_agents(
        tenant=tenant,
        metadata=page.metadata,
        limit=page.limit,
        offset=page.offset,
        sort_by=page.sort_by,
        descending=page.descending("asc"),
    )
    return {"items": [agent_view(agent) for agent in found]}


@router.get("/agents/{agent_id}")
async def get_agent(agent_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return an agent."""
    return agent_view(await services.definitions.definitions.get_agent(agent_id, tenant=tenant))


@router.post("/agents/{agent_id}/tasks", status_code=201, dependencies=[MAY_DEFINE])
async def create_agent_task(
    agent_id: str,
    request: Request,
    response: Response,
    services: In,
    tenant: Tenant,
    file: File = "body",
    by_name: bool = False,
    to_run: bool = False,
    key: Key = "",
) -> dict[str, Any]:
    """Create a task of an agent from its YAML or JSON text; with `to_run`, only if it can be run."""
    source = await read_text(request)
    made = await services.definitions.create_task(
        source,
        tenant=tenant,
        file=source_name(request, file),
        agent_id=agent_id,
        by_name=by_name,
        dialect=dialect_of(request),
        to_run=to_run,
        request_key=key,
        actor=actor_of(request),
    )
    return _created(made, response)


@router.get("/agents/{agent_id}/tasks")
async def list_agent_tasks(agent_id: str, services: In, tenant: Tenant, page: Paged) -> dict[str, Any]:
    """List an agent's tasks, the oldest first."""
    await services.definitions.definitions.get_agent(agent_id, tenant=tenant)
    return await _list_tasks(services, tenant, page, agent_id=agent_id, name=None)


@router.post("/tasks", status_code=201, dependencies=[MAY_DEFINE])
async def create_task(
    request: Request,
    response: Response,
    services: In,
    tenant: Tenant,
    file: File = "body",
    by_name: bool = False,
    to_run: bool = False,
    key: Key = "",
) -> dict[str, Any]:
    """Create a task from its YAML or JSON text.

    With `by_name` it becomes a new version of the task of that name; with `to_run` nothing is stored if this engine
    could only make its plan.
    """
    source = await read_text(request)
    made = await services.definitions.create_task(
        source,
        tenant=tenant,
        file=source_name(request, file),
        by_name=by_name,
        dialect=dialect_of(request),
        to_run=to_run,
        request_key=key,
        actor=actor_of(request),
    )
    return _created(made, response)


@router.post("/tasks/validate", dependencies=[MAY_READ])
async def validate_task(
    request: Request, services: In, tenant: Tenant, file: File = "body", agent_id: str = ""
) -> dict[str, Any]:
    """Check a task and store nothing: {ok, diagnostics, name}."""
    source = await read_text(request)
    checked = await services.definitions.check_task(
        source, tenant=tenant, file=source_name(request, file), agent_id=agent_id, dialect=dialect_of(request)
    )
    return {"ok": checked.ok, "diagnostics": checked.diagnostics, "name": checked.name}


@router.get("/tasks")
async def list_tasks(services: In, tenant: Tenant, page: Paged, name: str | None = None) -> dict[str, Any]:
    """List tasks in their latest versions, the oldest first."""
    return await _list_tasks(services, tenant, page, agent_id=None, name=name)


@router.get("/tasks/{task_id}")
async def get_task(task_id: str, services: In, tenant: Tenant, version: int | None = None) -> dict[str, Any]:
    """Return a task by id or name, by default its latest version; `NAME@3` and `NAME@ALIAS` name another."""
    return task_view(await services.definitions.versions.resolve(task_id, tenant=tenant, version=version))


@router.put("/tasks/{task_id}", dependencies=[MAY_DEFINE])
async def update_task(
    task_id: str, request: Request, services: In, tenant: Tenant, file: File = "body"
) -> dict[str, Any]:
    """Make a new version of a task unless the text says nothing new; running executions keep theirs."""
    source = await read_text(request)
    made = await services.definitions.update_task(
        task_id,
        source,
        tenant=tenant,
        file=source_name(request, file),
        dialect=dialect_of(request),
        actor=actor_of(request),
    )
    return {**task_view(made.task), "warnings": made.warnings}


async def _list_tasks(
    services: Services, tenant: str, page: Page, *, agent_id: str | None, name: str | None
) -> dict[str, Any]:
    found = await services.definitions.definitions.list_tasks(
        tenant=tenant,
        agent_id=agent_id,
        name=name,
        metadata=page.metadata,
        limit=page.limit,
        offset=page.offset,
        sort_by=page.sort_by,
        descending=page.descending("asc"),
    )
    return {"items": [task_view(task) for task in found]}
