"""Routes of sessions: create, replace, change, list, delete; and what was said in them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import Field

from engine.control.definitions import now_us
from engine.control.sessions.sessions import Members
from engine.control.sessions.views import for_fern, history_for_fern, history_view, session_view
from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.clients import is_fern, listed
from engine.edge.http.paging import IdPrefix, Page, read_page
from engine.edge.http.services import In, Tenant
from engine.edge.native.shapes import ActorName, Body
from engine.store.sessions import SessionFacts

router = APIRouter(tags=["sessions"])

Paged = Annotated[Page, Depends(read_page)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]
Reference = Annotated[str, Field(min_length=1, max_length=255)]
MOST_TOKENS: Final = 100_000_000


class SessionChange(Body):
    """What can be changed of a session; null takes a member away.

    Attributes:
        situation: What a system template can show of the occasion.
        system_template: The template of the system message; left out = that of the agent, or the engine's own.
        render_templates: Whether the messages of clients are templates, too.
        token_budget: Most tokens of a prompt; left out = as many as the model takes.
        context_overflow: What happens to a prompt that is longer; left out = it is refused.
        auto_run_tools: Whether tools that the model calls are run, unless a request says otherwise.
        forward_tool_calls: Kept and told; means nothing here.
        recall_options: How documents are looked up; left out = none are.
        metadata: Anything.
    """

    situation: str | None = Field(default=None, max_length=100_000)
    system_template: str | None = Field(default=None, max_length=100_000)
    render_templates: bool | None = None
    token_budget: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    context_overflow: Literal["truncate", "adaptive"] | None = None
    auto_run_tools: bool | None = None
    forward_tool_calls: bool | None = None
    recall_options: dict[str, Json] | None = None
    metadata: dict[str, Json] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the caller said; a switch is on or off, so that null says nothing of it."""
        said = self.model_dump(include=set(SessionChange.model_fields), exclude_unset=True)
        switches = ("render_templates", "auto_run_tools", "forward_tool_calls")
        return {name: value for name, value in said.items() if value is not None or name not in switches}


class SessionBody(SessionChange):
    """A session.

    Attributes:
        agent: The agent that answers, by id or canonical name.
        agents: Those that answer, if there are several; the first does unless a request names another.
        user: The user that takes part, by id.
        users: Those that do, if there are several.
        actor: Who makes it.
    """

    agent: Reference | None = None
    agents: list[Reference] | None = None
    user: Reference | None = None
    users: list[Reference] | None = None
    actor: ActorName = ""

    @property
    def members(self) -> Members:
        """Who takes part."""
        return Members(agent=self.agent or "", agents=self.agents, user=self.user or "", users=self.users)


def _shown(request: Request, session: SessionFacts) -> dict[str, Any]:
    view = session_view(session)
    return for_fern(view) if is_fern(request.headers) else view


@router.post("/sessions", status_code=201, dependencies=[MAY_RUN])
async def create_session(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Make a session of one agent or several, and of no user, one or several."""
    body = await read_model(request, SessionBody)
    made = await services.sessions.service.create(
        body.members, body.settings, tenant=tenant, request_key=key, actor=actor_of(request, body.actor)
    )
    return _shown(request, made)


@router.get("/sessions")
async def list_sessions(
    request: Request, services: In, tenant: Tenant, page: Paged, id_prefix: IdPrefix = ""
) -> dict[str, Any]:
    """List sessions, the oldest first."""
    found = await services.sessions.service.page(tenant=tenant, id_prefix=id_prefix, **page.arguments("asc"))
    return listed(request, [_shown(request, session) for session in found])


@router.get("/sessions/{session_id}")
async def get_session(session_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a session."""
    return _shown(request, await services.sessions.service.get(session_id, tenant=tenant))


@router.post("/sessions/{session_id}", status_code=201, dependencies=[MAY_RUN])
async def create_or_update_session(session_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Make a session with this id, a UUID, or replace what is said of it; what was said in it stays."""
    body = await read_model(request, SessionBody)
    actor = actor_of(request, body.actor)
    made = await services.sessions.service.put(session_id, body.members, body.settings, tenant=tenant, actor=actor)
    return _shown(request, made)


@router.put("/sessions/{session_id}", dependencies=[MAY_RUN])
async def reset_session(session_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Replace what is said of a session, but for who takes part; what is left out is as if it was never said."""
    body = await read_model(request, SessionChange)
    changed = await services.sessions.service.change(session_id, body.settings, tenant=tenant, whole=True)
    return _shown(request, changed)


@router.patch("/sessions/{session_id}", dependencies=[MAY_RUN])
async def update_session(session_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Change what is given; members of `metadata` and `recall_options` that are not given stay."""
    body = await read_model(request, SessionChange)
    return _shown(request, await services.sessions.service.change(session_id, body.settings, tenant=tenant))


@router.delete("/sessions/{session_id}", status_code=202, dependencies=[MAY_RUN])
async def delete_session(session_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a session with all that was said in it; executions that answer in it go on, and are told to nobody."""
    await services.sessions.service.remove(session_id, tenant=tenant)
    return _deleted(session_id)


@router.get("/sessions/{session_id}/history")
async def get_history(
    session_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="only so many of the latest entries")] = None,
) -> dict[str, Any]:
    """Return what was said in a session, in order, without what a summary stands for."""
    session, entries = await services.sessions.service.history(session_id, tenant=tenant, limit=limit)
    view = history_view(session, entries)
    return history_for_fern(view) if is_fern(request.headers) else view


@router.delete("/sessions/{session_id}/history", status_code=202, dependencies=[MAY_RUN])
async def delete_history(session_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete what was said in a session, and its summary; a turn that is under way is added when it ends."""
    await services.sessions.service.forget(session_id, tenant=tenant)
    return _deleted(session_id)


def _deleted(session_id: str) -> dict[str, Any]:
    return {"id": session_id, "deleted_at": iso_time(now_us()), "jobs": []}
