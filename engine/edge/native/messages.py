"""Route of messages: to a step that listens, with what becomes of them."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from engine.core.contracts.execution import MessageSignal
from engine.core.spec.vocabulary import DEFAULT_INBOX
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.services import In, Tenant
from engine.edge.native.executions import Key
from engine.edge.native.shapes import ActorName, Body

router = APIRouter(tags=["executions"])


class MessageBody(Body):
    """A message to an execution.

    Attributes:
        name: Name of the inbox, as the `messages` of a step that listens gives it.
        value: The message.
        busy: What becomes of it if a turn runs; counts where the step's `allow_busy` permits it.
        id: Its id; a message is taken once. Left out = the Idempotency-Key, or a new one.
        actor: Who sends it.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)] = DEFAULT_INBOX
    value: Json = None
    busy: Literal["", "reject", "enqueue", "join", "interrupt", "rollback"] = ""
    id: str | None = Field(default=None, min_length=1, max_length=255)
    actor: ActorName = ""


@router.post("/executions/{execution_id}/messages", dependencies=[MAY_RUN])
async def send_message(
    execution_id: str, request: Request, services: In, tenant: Tenant, key: Key = None
) -> dict[str, Any]:
    """Send a message to a step that listens, and learn what becomes of it; one with a known id is not taken again."""
    body = await read_model(request, MessageBody)
    own = body.id or key
    message = MessageSignal(
        id=own or str(uuid.uuid4()),
        name=body.name,
        value=body.value,
        busy=body.busy,
        actor=actor_of(request, body.actor),
    )
    taken = await services.messages.send(execution_id, message, tenant=tenant, repeated=own is not None)
    return {**taken, "execution_id": execution_id}
