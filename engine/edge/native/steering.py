"""Routes that steer executions: pause, continue, breaks, deadlines, terminate, retry and fork."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from engine.control.definitions import now_us
from engine.control.forking import OWN, ForkWish
from engine.core.errors import InvalidInput
from engine.core.values import Json, duration_seconds
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.idempotency import REPLAYED
from engine.edge.http.services import In, Tenant
from engine.edge.http.times import to_us
from engine.edge.native.executions import Key, view_of
from engine.edge.native.shapes import ActorName, Body, StepPath, Word

router = APIRouter(tags=["executions"], dependencies=[MAY_RUN])

Breaks = Annotated[list[StepPath], Field(max_length=100)]
Reason = Annotated[str, StringConstraints(max_length=2_000)]
LONGEST_S = 10 * 366 * 86_400.0
"""Deadlines further away than that are mistakes in writing."""


class SteerBody(Body):
    """A pause, or the end of an execution by force.

    Attributes:
        reason: Why; is kept with it.
        actor: Who wants it.
    """

    reason: Reason = ""
    actor: ActorName = ""


class ContinueBody(Body):
    """The end of a pause.

    Attributes:
        break_at: Paths or labels of the steps before which it pauses from now on; left out = they stay as they are.
        actor: Who wants it.
    """

    break_at: Breaks | None = None
    actor: ActorName = ""


class BreaksBody(Body):
    """The steps before which an execution pauses.

    Attributes:
        break_at: Their paths or labels, in place of those that were set before; an empty list = none.
        actor: Who wants it.
    """

    break_at: Breaks
    actor: ActorName = ""


class DeadlineBody(Body):
    """When a wait gives up.

    Attributes:
        deadline: A time with its zone, a duration from now (seconds, or text such as `2h`), or null: never.
        actor: Who wants it.
    """

    # strict, or true would be one second
    deadline: Annotated[float, Field(strict=True)] | str | None
    actor: ActorName = ""


class RetryBody(Body):
    """An execution that goes on where another one failed.

    Attributes:
        at: Path or label of the first step that runs; left out = the step that failed, or the first that was undone.
        input: Another input; left out = that of the execution.
        patch: Other outputs of steps before it, by path or label.
        state: Written into the state just before that step runs.
        definition: `own`, `newest`, or a task with `@VERSION` or `@ALIAS`.
        break_at: Paths or labels of steps before which the new execution pauses.
        labels: Words by which to find it; left out = those of the execution.
        metadata: Anything; left out = that of the execution.
        actor: Who wants it.
    """

    at: Annotated[str, StringConstraints(max_length=1_000)] = ""
    input: Json = None
    patch: dict[str, Json] = Field(default_factory=dict, max_length=1_000)
    state: dict[str, Json] = Field(default_factory=dict)
    definition: Annotated[str, StringConstraints(min_length=1, max_length=320)] = OWN
    break_at: Breaks = Field(default_factory=list)
    labels: list[Word] | None = Field(default=None, max_length=20)
    metadata: dict[str, Any] | None = None
    actor: ActorName = ""


class ForkBody(RetryBody):
    """An execution that takes another way from a step of another one; its calls have keys of their own."""


@router.post("/executions/{execution_id}/pause")
async def pause(execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None) -> dict[str, Any]:
    """Pause an execution: calls under way end and are recorded, nothing new starts until it is continued."""
    body = await read_model(request, SteerBody)
    facts = await services.controls.pause(
        execution_id, tenant=tenant, key=key, reason=body.reason, actor=actor_of(request, body.actor)
    )
    return await view_of(services, facts)


@router.post("/executions/{execution_id}/continue")
async def go_on(execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None) -> dict[str, Any]:
    """Let a paused execution go on, to the next of its breaks."""
    body = await read_model(request, ContinueBody)
    facts = await services.controls.go_on(
        execution_id, tenant=tenant, key=key, breaks=body.break_at, actor=actor_of(request, body.actor)
    )
    return await view_of(services, facts)


@router.post("/executions/{execution_id}/breaks")
async def set_breaks(
    execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Set the steps before which an execution pauses."""
    body = await read_model(request, BreaksBody)
    facts = await services.controls.set_breaks(
        execution_id, body.break_at, tenant=tenant, key=key, actor=actor_of(request, body.actor)
    )
    return await view_of(services, facts)


@router.post("/executions/{execution_id}/terminate")
async def terminate(
    execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """End an execution at once, without its `undo` and `finally` steps; one that was terminated stays as it is."""
    del key  # to terminate twice does no harm
    body = await read_model(request, SteerBody)
    facts = await services.controls.terminate(
        execution_id, tenant=tenant, reason=body.reason, actor=actor_of(request, body.actor)
    )
    return await view_of(services, facts)


@router.patch("/executions/{execution_id}/waits/{wait_id}")
async def change_wait(
    execution_id: str, wait_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Change when a wait gives up (its id), or when a sleep is over (its path)."""
    body = await read_model(request, DeadlineBody)
    facts = await services.controls.set_deadline(
        execution_id,
        wait_id,
        deadline_us(body.deadline, now_us()),
        tenant=tenant,
        key=key,
        actor=actor_of(request, body.actor),
    )
    return await view_of(services, facts)


@router.post("/executions/{execution_id}/retry", status_code=201)
async def retry(
    execution_id: str, request: Request, response: Response, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Start an execution that goes on where one failed: what ended before is taken over and not done again."""
    body = await read_model(request, RetryBody)
    return await _fork("retry", execution_id, body, request, response, services, tenant, key)


@router.post("/executions/{execution_id}/fork", status_code=201)
async def fork(
    execution_id: str, request: Request, response: Response, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Start an execution that begins with a step of another one, with the recorded outputs of the steps before it."""
    body = await read_model(request, ForkBody)
    return await _fork("fork", execution_id, body, request, response, services, tenant, key)


async def _fork(
    kind: Literal["retry", "fork"],
    execution_id: str,
    body: RetryBody,
    request: Request,
    response: Response,
    services: In,
    tenant: str,
    key: str | None,
) -> dict[str, Any]:
    wish = ForkWish(
        kind=kind,
        at=body.at,
        has_input="input" in body.model_fields_set,
        input=body.input,
        patch=body.patch,
        state=body.state,
        definition=body.definition,
        breaks=tuple(body.break_at),
        labels=body.labels,
        metadata=body.metadata,
    )
    actor = actor_of(request, body.actor)
    started = await services.forks.fork(execution_id, wish, tenant=tenant, key=key, actor=actor)
    if not started.created:
        response.status_code = 200
        if started.entry is None:
            response.headers[REPLAYED] = "true"
    return await view_of(services, started.facts)


def deadline_us(given: float | str | None, at_us: int) -> int | None:
    """Read a deadline: a time with its zone, or a duration from now.

    Args:
        given: What was sent; None = never.
        at_us: The time now, Unix microseconds.

    Raises:
        InvalidInput: `request.invalid`.
    """
    if given is None:
        return None
    seconds = duration_seconds(given) if isinstance(given, str) else given
    if seconds is None:
        try:
            moment = dt.datetime.fromisoformat(str(given))
            if moment.tzinfo is None:
                raise ValueError("it has no zone")
            seconds = (to_us(moment) - at_us) / 1e6
        except (ValueError, OverflowError) as error:
            raise InvalidInput(
                f"the deadline {str(given)[:60]!r} is no time",
                code="request.invalid",
                hint="write a duration from now such as 90s, 15m or 2h, or a time such as 2026-12-24T18:00:00Z",
            ) from error
        if 0 <= seconds <= LONGEST_S:
            return to_us(moment)
    if seconds < 0:
        raise InvalidInput(
            f"the deadline {str(given)[:60]!r} has passed",
            code="request.invalid",
            hint="0s lets the wait give up now",
        )
    # also of what is no number
    if not seconds <= LONGEST_S:
        raise InvalidInput("the deadline is further away than ten years", code="request.invalid")
    return at_us + round(seconds * 1e6)
