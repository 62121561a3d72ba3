"""The route that tells what a turn of a session would send to the model, without asking it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import Field

from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import Answer
from engine.edge.native.chat import ChatBody

router = APIRouter(tags=["sessions"])


@router.post("/sessions/{session_id}/render", dependencies=[MAY_RUN])
async def render_session(session_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return what the same request to the chat would send to the model; nothing is asked, and nothing kept."""
    asked = (await read_model(request, ChatBody)).asked
    sessions = services.sessions
    session = await sessions.service.get(session_id, tenant=tenant)
    history = await sessions.service.entries.history(session_id, tenant=tenant)
    made = await sessions.prompts.prepare(session, asked, history, tenant=tenant, turn_id="")
    return {
        "messages": made.messages,
        "docs": made.docs,
        "tools": made.tools,
        "tool_choice": made.tool_choice,
        "model": made.model or None,
        "settings": made.settings,
        "left_out": made.left_out,
    }


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class LeftOut(Answer):
    """A tool that cannot be offered."""

    name: str
    message: str = Field(description="What is wrong with it.")
    hint: str = Field(description="What to do about it; may be empty.")


class RenderedView(Answer):
    """What a turn would send to the model."""

    messages: list[dict[str, Json]] = Field(description="The system message, the history, and what is said now.")
    docs: list[dict[str, Json]] = Field(description="The documents that were found.")
    tools: list[dict[str, Json]] = Field(description="The tools that are offered.")
    tool_choice: str | dict[str, Json] | None
    model: str | None = Field(description="Who is asked; null = the default.")
    settings: dict[str, Json] = Field(description="Sampling settings: those of the agent, then those of the request.")
    left_out: list[LeftOut] = Field(description="The agent's tools that cannot be offered, and why.")


_MESSAGE: Final[dict[str, Json]] = {"role": "user", "content": "When do you open?"}

RENDER_DOCS: Final[Docs] = {
    ("POST", "/api/sessions/{session_id}/render"): Doc(
        answer=RenderedView,
        errors=(400, 404, 409, 413, 415, 422),
        body=ChatBody,
        example={"messages": [_MESSAGE]},
    )
}
RENDER_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    RenderedView: {
        "messages": [{"role": "system", "content": "You are Ada."}, _MESSAGE],
        "docs": [],
        "tools": [],
        "tool_choice": None,
        "model": "gpt-4o-mini",
        "settings": {"temperature": 0},
        "left_out": [],
    }
}
