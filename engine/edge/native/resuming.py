"""Routes by which Julep's older clients go on with an execution: below its task, and by the token of a wait."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from engine.core.errors import InputRejected, InvalidInput, NotFound
from engine.core.run.projection import ExecutionFacts
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native.executions import Key, change, view_of
from engine.edge.native.julep_views import execution_for, reader_of
from engine.edge.native.shapes import Body, ChangeBody

router = APIRouter(tags=["executions"], dependencies=[MAY_RUN])
public = APIRouter(tags=["executions"])

MOST_TOKEN_CHARS = 2_000
Token = Annotated[str, Query(max_length=MOST_TOKEN_CHARS, description="`task_token` of a `wait` transition")]


class TokenAnswerBody(Body):
    """The answer to the wait of a task token.

    Attributes:
        input: The answer.
        status: What the execution shall be.
    """

    input: Json = None
    status: Literal["running"] = "running"


class ResumeBody(TokenAnswerBody):
    """A task token with the answer to its wait.

    Attributes:
        task_token: The token, from the metadata of the `wait` transition.
    """

    task_token: str = Field(max_length=MOST_TOKEN_CHARS)


@router.put("/tasks/{task_id}/executions")
async def resume_execution(task_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Answer a wait by its task token ({task_token, input}); used twice, the first outcome comes again."""
    body = await read_model(request, ResumeBody)
    task = await services.definitions.versions.resolve(task_id, tenant=tenant)
    return await _answered(
        request, services, body.task_token, body.input, tenant=tenant, task_id=task.id, actor=actor_of(request)
    )


@router.put("/tasks/{task_id}/executions/{execution_id}")
async def change_task_execution(
    task_id: str, execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Answer a wait of a task's execution or cancel it, as `PUT /executions/{execution_id}` does."""
    body = await read_model(request, ChangeBody)
    task = await services.definitions.versions.resolve(task_id, tenant=tenant)
    found = await services.store.get_execution(execution_id, tenant=tenant)
    if found.task_id != task.id:
        raise NotFound(f"the task {task_id!r} has no execution {execution_id}", code="execution.not_found")
    facts = await change(execution_id, body, request, services, key)
    return execution_for(reader_of(request), await view_of(services, facts), changed=True)


@public.post("/executions")
async def resume_by_token(request: Request, services: In, task_token: Token) -> dict[str, Any]:
    """Answer a wait by its task token ({input}), which is all the permission that is needed; no key is asked for.

    Whoever has nothing but the token is told that the answer was taken, and not what the execution works with.
    """
    body = await read_model(request, TokenAnswerBody)
    shown = await _answered(request, services, task_token, body.input)
    return {**{name: shown[name] for name in ("id", "status", "created_at", "updated_at")}, "jobs": [shown["id"]]}


async def _answered(request: Request, services: Services, token: str, value: Json, **who: str) -> dict[str, Any]:
    try:
        facts: ExecutionFacts = await services.task_tokens.answer(token, value, **who)
    except InputRejected as error:
        # the only callers of these routes are Julep's
        raise InvalidInput(error.message, code=error.code, hint=error.hint, details=error.details) from error
    return execution_for(reader_of(request), await view_of(services, facts), changed=True)
