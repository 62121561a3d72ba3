"""Routes of what belongs to a stored task: versions, aliases, and applying many tasks at once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from engine.control.applying import TaskFile, apply_tasks
from engine.control.definitions import task_view
from engine.control.versions import alias_view
from engine.edge.http.bodies import read_model, read_text
from engine.edge.http.callers import MAY_DEFINE, MAY_READ, actor_of
from engine.edge.http.clients import dialect_of
from engine.edge.http.paging import MOST_OFFSET, Page, read_page
from engine.edge.http.services import In, Tenant

router = APIRouter()

Paged = Annotated[Page, Depends(read_page)]


class AliasBody(BaseModel):
    """Where an alias shall point to.

    Attributes:
        version: A version, `latest`, or another alias.
        expect: The version it must point to now; 0 = it must not exist; left out = whatever it is.
    """

    version: int | str = "latest"
    expect: int | None = Field(default=None, ge=0, lt=2**31)


class ApplyFile(BaseModel):
    """A task file: its name for messages, and its YAML or JSON text."""

    file: str = Field(min_length=1, max_length=500)
    source: str


class ApplyBody(BaseModel):
    """Task files that are created or updated together.

    Attributes:
        tasks: The files.
        set: Name of the set that they are the whole of.
        alias: Alias that shall point to every version that results.
        prune: Remove what was applied as a member of this set before and is no longer in it.
        dry_run: Only say what would happen.
    """

    tasks: list[ApplyFile] = Field(max_length=1_000)
    set: str = Field(default="", max_length=255)
    alias: str = Field(default="", max_length=64)
    prune: bool = False
    dry_run: bool = False


@router.post("/tasks/apply", dependencies=[MAY_DEFINE])
async def apply(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Create or update many tasks, all of them or none: {changes, dry_run}."""
    body = await read_model(request, ApplyBody)
    changes = await apply_tasks(
        services.definitions,
        [TaskFile(item.file, item.source) for item in body.tasks],
        tenant=tenant,
        applied_set=body.set,
        alias=body.alias,
        prune=body.prune,
        dry_run=body.dry_run,
        dialect=dialect_of(request),
        actor=actor_of(request),
    )
    aliases = [body.alias] if body.alias else []
    told = [change.to_json(() if change.verb == "removed" else aliases) for change in changes]
    return {"changes": told, "dry_run": body.dry_run}


@router.get("/aliases")
async def list_all_aliases(services: In, tenant: Tenant) -> dict[str, Any]:
    """List the aliases of all tasks."""
    found = await services.definitions.versions.list_aliases(tenant=tenant)
    return {"items": [alias_view(item) for item in found]}


@router.get("/tasks/{task_id}/versions")
async def list_versions(
    task_id: str,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
) -> dict[str, Any]:
    """List a task's versions, the newest first."""
    versions = services.definitions.versions
    return {"items": await versions.list_versions(task_id, tenant=tenant, limit=limit, offset=offset)}


@router.get("/tasks/{task_id}/versions/{version}")
async def get_version(task_id: str, version: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return one version (a number, `latest` or an alias) whole: {task, source, plan}."""
    owner = await services.definitions.versions.resolve(task_id, tenant=tenant)
    task = await services.definitions.versions.resolve(f"{owner.id}@{version}", tenant=tenant)
    return {"task": task_view(task), "source": task.source, "plan": task.plan}


@router.get("/tasks/{task_id}/diff")
async def compare_versions(
    task_id: str, services: In, tenant: Tenant, older: Annotated[str, Query(alias="from", max_length=64)] = ""
) -> dict[str, Any]:
    """Compare a version (`NAME@3`; without one the latest) with an older one, by default the one before."""
    return (await services.definitions.compare(task_id, tenant=tenant, older=older)).to_json()


@router.post("/tasks/{task_id}/diff", dependencies=[MAY_READ])
async def compare_text(
    task_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    older: Annotated[str, Query(alias="from", max_length=64)] = "",
    file: Annotated[str, Query(max_length=500)] = "body",
) -> dict[str, Any]:
    """Compare a text that is not stored with a version of a task, by default the latest."""
    source = await read_text(request)
    compared = await services.definitions.compare(
        task_id, tenant=tenant, older=older, source=source, file=file, dialect=dialect_of(request)
    )
    return compared.to_json()


@router.get("/tasks/{task_id}/aliases")
async def list_aliases(task_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """List a task's aliases by name."""
    found = await services.definitions.versions.list_aliases(tenant=tenant, reference=task_id)
    return {"items": [alias_view(item) for item in found]}


@router.put("/tasks/{task_id}/aliases/{alias}", dependencies=[MAY_DEFINE])
async def set_alias(task_id: str, alias: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Let an alias point to a version."""
    body = await read_model(request, AliasBody)
    facts = await services.definitions.versions.set_alias(
        task_id, alias, tenant=tenant, version=body.version, expect=body.expect
    )
    return alias_view(facts)


@router.delete("/tasks/{task_id}/aliases/{alias}", status_code=204, dependencies=[MAY_DEFINE])
async def delete_alias(task_id: str, alias: str, services: In, tenant: Tenant) -> Response:
    """Delete an alias; the version stays."""
    await services.definitions.versions.delete_alias(task_id, alias, tenant=tenant)
    return Response(status_code=204)
