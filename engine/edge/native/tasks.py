"""Routes of tasks: by themselves, and below their agents; both write versions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from engine.control.definitions import Created
from engine.control.tasks import Author, TaskEdits
from engine.control.versions import Removed
from engine.core.run.times import iso_time
from engine.edge.http.bodies import read_json, read_text, source_name
from engine.edge.http.callers import MAY_DEFINE, MAY_READ, actor_of
from engine.edge.http.clients import dialect_of, listed
from engine.edge.http.paging import Page, read_page
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native import versions
from engine.edge.native.task_answers import task_answer

router = APIRouter(tags=["definitions"])
router.include_router(versions.router)

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
File = Annotated[str, Query(max_length=500, description="name of the source in diagnostics")]


def _author(request: Request, tenant: str, agent: str | None, file: str) -> Author:
    return Author(
        tenant=tenant,
        agent=agent,
        file=source_name(request, file),
        dialect=dialect_of(request),
        actor=actor_of(request),
    )


def _written(request: Request, made: Created) -> dict[str, Any]:
    # Julep's clients expect `jobs`, the work that a change leaves behind: none
    return {**task_answer(request, made.task), "warnings": made.warnings, "jobs": []}


def _removed(removed: Removed) -> dict[str, Any]:
    moment = iso_time(removed.deleted_us)
    return {"id": removed.task.id, "name": removed.task.name, "deleted_at": moment, "jobs": []}


async def _changes(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        found = {"type": "dict_type", "loc": ("body",), "msg": "a patch is an object", "input": None}
        raise RequestValidationError([found])
    return body


# --- below an agent ------------------------------------------------------------------------------------------------


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
    response.status_code = 201 if made.changed else 200
    return _written(request, made)


@router.get("/agents/{agent_id}/tasks")
async def list_agent_tasks(
    agent_id: str, request: Request, services: In, tenant: Tenant, page: Paged
) -> dict[str, Any]:
    """List an agent's tasks, the oldest first."""
    agent = await services.definitions.definitions.get_agent(agent_id, tenant=tenant)
    return await _list_tasks(request, services, tenant, page, agent_id=agent.id, name=None)


@router.post("/agents/{agent_id}/tasks/{task_id}", status_code=201, dependencies=[MAY_DEFINE])
async def put_agent_task(
    agent_id: str, task_id: str, request: Request, services: In, tenant: Tenant, file: File = "body"
) -> dict[str, Any]:
    """Create a task of an agent under this id, or make a new version of the one that has it."""
    source = await read_text(request)
    author = _author(request, tenant, agent_id, file)
    return _written(request, await TaskEdits(services.definitions).put(task_id, source, author))


@router.get("/agents/{agent_id}/tasks/{task_id}")
async def get_agent_task(
    agent_id: str, task_id: str, request: Request, services: In, tenant: Tenant, version: int | None = None
) -> dict[str, Any]:
    """Return a task of an agent by id or name, by default its latest version."""
    edits = TaskEdits(services.definitions)
    return task_answer(request, await edits.find(task_id, tenant=tenant, agent=agent_id, version=version))


@router.put("/agents/{agent_id}/tasks/{task_id}", dependencies=[MAY_DEFINE])
async def update_agent_task(
    agent_id: str, task_id: str, request: Request, services: In, tenant: Tenant, file: File = "body"
) -> dict[str, Any]:
    """Make a new version of a task of an agent unless the text says nothing new; running executions keep theirs."""
    source = await read_text(request)
    author = _author(request, tenant, agent_id, file)
    return _written(request, await TaskEdits(services.definitions).replace(task_id, source, author))


@router.patch("/agents/{agent_id}/tasks/{task_id}", dependencies=[MAY_DEFINE])
async def patch_agent_task(
    agent_id: str, task_id: str, request: Request, services: In, tenant: Tenant
) -> dict[str, Any]:
    """Make a new version of a task of an agent with the given members replaced."""
    author = _author(request, tenant, agent_id, "body")
    return _written(request, await TaskEdits(services.definitions).patch(task_id, await _changes(request), author))


@router.delete("/agents/{agent_id}/tasks/{task_id}", status_code=202, dependencies=[MAY_DEFINE])
async def delete_agent_task(agent_id: str, task_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Remove a task of an agent with its versions and aliases; its executions go on."""
    return _removed(await TaskEdits(services.definitions).remove(task_id, tenant=tenant, agent=agent_id))


# --- by themselves -------------------------------------------------------------------------------------------------


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
    response.status_code = 201 if made.changed else 200
    return _written(request, made)


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
async def list_tasks(
    request: Request, services: In, tenant: Tenant, page: Paged, name: str | None = None
) -> dict[str, Any]:
    """List tasks in their latest versions, the oldest first."""
    return await _list_tasks(request, services, tenant, page, agent_id=None, name=name)


@router.get("/tasks/{task_id}")
async def get_task(
    task_id: str, request: Request, services: In, tenant: Tenant, version: int | None = None
) -> dict[str, Any]:
    """Return a task by id or name, by default its latest version; `NAME@3` and `NAME@ALIAS` name another."""
    return task_answer(request, await services.definitions.versions.resolve(task_id, tenant=tenant, version=version))


@router.put("/tasks/{task_id}", dependencies=[MAY_DEFINE])
async def update_task(
    task_id: str, request: Request, services: In, tenant: Tenant, file: File = "body"
) -> dict[str, Any]:
    """Make a new version of a task unless the text says nothing new; running executions keep theirs."""
    source = await read_text(request)
    author = _author(request, tenant, None, file)
    return _written(request, await TaskEdits(services.definitions).replace(task_id, source, author))


@router.patch("/tasks/{task_id}", dependencies=[MAY_DEFINE])
async def patch_task(task_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Make a new version of a task with the given members replaced; null takes one out."""
    author = _author(request, tenant, None, "body")
    return _written(request, await TaskEdits(services.definitions).patch(task_id, await _changes(request), author))


@router.delete("/tasks/{task_id}", status_code=202, dependencies=[MAY_DEFINE])
async def delete_task(task_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Remove a task with its versions and aliases; its executions go on: {id, name, deleted_at, jobs}."""
    return _removed(await TaskEdits(services.definitions).remove(task_id, tenant=tenant, agent=None))


async def _list_tasks(
    request: Request, services: Services, tenant: str, page: Page, *, agent_id: str | None, name: str | None
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
    return listed(request, [task_answer(request, task) for task in found])
