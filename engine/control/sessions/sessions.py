"""Use cases on sessions: made, changed, listed, deleted; and what was said in them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from engine.control.definitions import now_us
from engine.control.request_keys import id_for, key_reused
from engine.control.sessions.recall import changed_options, whole_options
from engine.control.sessions.templates import check_template
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.store.agents import AgentStore
from engine.store.database import Database
from engine.store.entries import EntryFacts, EntryStore
from engine.store.sessions import SessionFacts, SessionStore
from engine.store.users import UserStore

MOST_MEMBERS: Final = 100
SETTINGS: Final = (
    "situation",
    "system_template",
    "render_templates",
    "token_budget",
    "context_overflow",
    "auto_run_tools",
    "forward_tool_calls",
    "recall_options",
    "metadata",
)
"""What of a session can be changed by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Who takes part, as a client names them.

    Attributes:
        agent: Id or canonical name of the only agent; empty = see `agents`.
        agents: Those of several; None = none are named.
        user: Id of the only user; empty = see `users`.
        users: Those of several; None = none are named.
    """

    agent: str = ""
    agents: Sequence[str] | None = field(default=None)
    user: str = ""
    users: Sequence[str] | None = field(default=None)

    @property
    def named_agents(self) -> list[str]:
        """Agents in the order in which they are named.

        Raises:
            InvalidInput: `session.bad_members` if they are named in both ways.
        """
        return _one_way("agent", self.agent, "agents", self.agents)

    @property
    def named_users(self) -> list[str]:
        """Users in the order in which they are named.

        Raises:
            InvalidInput: `session.bad_members` if they are named in both ways.
        """
        return _one_way("user", self.user, "users", self.users)

    @property
    def are_named(self) -> bool:
        """Whether anybody is."""
        return bool(self.agent or self.user or self.agents is not None or self.users is not None)


class SessionService:
    """Keeps sessions.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.store = SessionStore(database)
        self.entries = EntryStore(database)
        self._agents = AgentStore(database)
        self._users = UserStore(database)

    async def create(
        self,
        members: Members,
        settings: Mapping[str, Any],
        *,
        tenant: str,
        session_id: str = "",
        request_key: str = "",
        actor: str = "",
    ) -> SessionFacts:
        """Make a session; with a `request_key` that made the same one before, return that.

        Args:
            members: Who takes part.
            settings: Some of SETTINGS.
            tenant: Tenant id.
            session_id: Its id, a UUID; empty = a new one.
            request_key: The request's Idempotency-Key.
            actor: Who makes it.

        Raises:
            InvalidInput: `session.no_agent`, `session.bad_members`, `session.bad_recall`, `session.bad_id`.
            NotFound: `agent.not_found`, `user.not_found`.
            Conflict: `session.exists`, `idempotency.key_reused`.
        """
        final_id = _checked_id(session_id) if session_id else id_for(tenant, "session", request_key)
        wanted = await self._made(final_id, members, settings, tenant=tenant, actor=actor)
        try:
            await self.store.add(wanted)
        except Conflict:
            known = await self.store.get(final_id, tenant=tenant) if request_key and not session_id else None
            if known is None:
                raise
            same = replace(known, created_us=0, updated_us=0, actor="", summary=None)
            if same != replace(wanted, created_us=0, updated_us=0, actor="") and known.created_us == known.updated_us:
                raise key_reused(request_key, f"the session {known.id}") from None
            return known
        return wanted

    async def put(
        self, session_id: str, members: Members, settings: Mapping[str, Any], *, tenant: str, actor: str = ""
    ) -> SessionFacts:
        """Make a session under an id, or give the one that has it other values; what was said in it stays.

        One that is there keeps those who take part if nobody is named.

        Raises:
            InvalidInput: As `create`.
            NotFound: As `create`.
        """
        final_id = _checked_id(session_id)
        known = None if members.are_named else await self.store.get(final_id, tenant=tenant)
        if known is not None:
            members = Members(agents=known.agents, users=known.users)
        return await self.store.put(await self._made(final_id, members, settings, tenant=tenant, actor=actor))

    async def get(self, session_id: str, *, tenant: str) -> SessionFacts:
        """Return a session.

        Raises:
            NotFound: `session.not_found`.
        """
        found = await self.store.get(session_id, tenant=tenant)
        if found is None:
            raise no_session(session_id)
        return found

    async def change(
        self, session_id: str, settings: Mapping[str, Any], *, tenant: str, whole: bool = False
    ) -> SessionFacts:
        """Give a session other settings.

        Args:
            session_id: The session.
            settings: Some of SETTINGS.
            tenant: Tenant id.
            whole: Whether what is not named becomes what is usual; otherwise it stays, also members of objects.

        Raises:
            InvalidInput: `session.bad_recall`.
            NotFound: `session.not_found`.
        """
        change = partial(_replaced if whole else _merged, settings)
        found = await self.store.change(session_id, change, tenant=tenant, now_us=now_us())
        if found is None:
            raise no_session(session_id)
        return found

    async def page(self, *, tenant: str, **asked: Any) -> list[SessionFacts]:
        """Return one page of sessions; see `SessionStore.page`."""
        return await self.store.page(tenant=tenant, **asked)

    async def remove(self, session_id: str, *, tenant: str) -> None:
        """Delete a session with all that was said in it.

        Raises:
            NotFound: `session.not_found`.
        """
        if not await self.store.remove(session_id, tenant=tenant):
            raise no_session(session_id)

    # --- what was said ---

    async def history(
        self, session_id: str, *, tenant: str, limit: int | None = None
    ) -> tuple[SessionFacts, list[EntryFacts]]:
        """Return a session and all that was said in it, in order; with a limit only the latest of what counts as said.

        Raises:
            NotFound: `session.not_found`.
        """
        session = await self.get(session_id, tenant=tenant)
        if limit is None:
            return session, await self.entries.every(session_id, tenant=tenant)
        return session, await self.entries.history(session_id, tenant=tenant, limit=limit)

    async def forget(self, session_id: str, *, tenant: str) -> None:
        """Delete what was said in a session, and what sums it up; turns that are under way are added later.

        Raises:
            NotFound: `session.not_found`.
        """
        await self.get(session_id, tenant=tenant)
        await self.entries.clear(session_id, tenant=tenant)

    # --- making ---

    async def _made(
        self, session_id: str, members: Members, settings: Mapping[str, Any], *, tenant: str, actor: str
    ) -> SessionFacts:
        agents = [await self._agents.get(name, tenant=tenant) for name in members.named_agents]
        users = [await self._users.get(name, tenant=tenant) for name in members.named_users]
        agent_ids = _distinct("agent", [agent.id for agent in agents])
        if not agent_ids:
            raise InvalidInput(
                "the session has no agent, so that nobody would answer",
                code="session.no_agent",
                hint="name one under `agent`, or several under `agents`",
            )
        at_us = now_us()
        return SessionFacts(
            id=session_id,
            tenant=tenant,
            agents=agent_ids,
            users=_distinct("user", [user.id for user in users]),
            actor=actor,
            created_us=at_us,
            updated_us=at_us,
            **_filled(settings),
        )


def no_session(session_id: str) -> NotFound:
    """Return the error for a session that is not there."""
    return NotFound(f"there is no session '{session_id}'", code="session.not_found")


def _replaced(settings: Mapping[str, Any], present: SessionFacts) -> dict[str, Any]:
    usual = SessionFacts(id="", tenant="", agents=present.agents, created_us=0, updated_us=0)
    return {**{name: getattr(usual, name) for name in SETTINGS}, **_filled(settings)}


def _merged(settings: Mapping[str, Any], present: SessionFacts) -> dict[str, Any]:
    changes = _filled({name: value for name, value in settings.items() if name != "recall_options"})
    if settings.get("metadata") is not None:
        changes["metadata"] = {**present.metadata, **settings["metadata"]}
    if "recall_options" in settings:
        given = settings["recall_options"]
        changes["recall_options"] = None if given is None else changed_options(present.recall_options, given)
    return changes


def _filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are stored: whole options, and an object of metadata in any case.

    Raises:
        InvalidInput: `session.bad_recall`, `template.invalid`.
    """
    filled = dict(settings)
    if filled.get("system_template"):
        check_template(filled["system_template"])
    if "metadata" in filled:
        filled["metadata"] = filled["metadata"] or {}
    if filled.get("recall_options") is not None:
        filled["recall_options"] = whole_options(filled["recall_options"])
    return filled


def _one_way(one: str, name: str, several: str, names: Sequence[str] | None) -> list[str]:
    if name and names is not None:
        raise InvalidInput(
            f"the session names both '{one}' and '{several}'", code="session.bad_members", hint="leave one of them out"
        )
    found = [name] if name else list(names or ())
    if len(found) > MOST_MEMBERS:
        raise InvalidInput(f"a session has {MOST_MEMBERS} {several} at most", code="session.bad_members")
    return found


def _distinct(kind: str, ids: list[str]) -> list[str]:
    twice = next((one for number, one in enumerate(ids) if one in ids[:number]), None)
    if twice is not None:
        raise InvalidInput(f"the session names the {kind} {twice} twice", code="session.bad_members")
    return ids


def _checked_id(session_id: str) -> str:
    try:
        return str(uuid.UUID(session_id))
    except ValueError as error:
        raise InvalidInput(
            f"{session_id!r} is no id of a session", code="session.bad_id", hint="ids are UUIDs"
        ) from error
