"""Use cases on agents: create, replace, change, list, delete; in an answer their texts are never null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from engine.control.definitions import now_us
from engine.control.request_keys import id_for
from engine.control.resources import chosen_id, deleted_view, first_or_same, later, merged
from engine.control.sessions.templates import check_template
from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.store.agents import AgentFacts, AgentStore, no_agent
from engine.store.removing import remove_agent


class AgentFields(TypedDict, total=False):
    """What callers say of an agent; null means that there is none of it."""

    name: str
    about: str | None
    model: str | None
    instructions: Json
    canonical_name: str | None
    default_settings: Mapping[str, Any] | None
    default_system_template: str | None
    project: str | None
    metadata: Mapping[str, Any] | None


class AgentService:
    """Creates and changes agents.

    A change is seen by whatever starts later; executions that run keep what they began with.

    Args:
        store: Where they are.
    """

    def __init__(self, store: AgentStore) -> None:
        self.store = store

    async def create(self, fields: AgentFields, *, tenant: str, request_key: str = "", actor: str = "") -> AgentFacts:
        """Store a new agent; with a `request_key` that stored the same one before, return that.

        Raises:
            Conflict: `agent.exists` if the canonical name is taken, `idempotency.key_reused`.
            NotFound: `project.not_found`.
        """
        wanted = _whole(id_for(tenant, "agent", request_key), fields, tenant=tenant, actor=actor)
        return await self.store.write(
            wanted.id, lambda present: first_or_same(present, wanted, request_key), tenant=tenant
        )

    async def put(self, reference: str, fields: AgentFields, *, tenant: str, actor: str = "") -> AgentFacts:
        """Replace an agent, or create it under an id that the caller chose.

        Args:
            reference: Its id or canonical name; of a new one the id.
            fields: All that is to be known of it.
            tenant: Its tenant.
            actor: Who creates it.

        Raises:
            InvalidInput: `request.bad_id` if there is none and the reference is no id for a new one.
            Conflict: `agent.exists` if another one has the canonical name.
            NotFound: `project.not_found`.
        """

        def change(present: AgentFacts | None) -> AgentFacts:
            if present is None:
                return _whole(chosen_id(reference, "agent"), fields, tenant=tenant, actor=actor)
            return _replaced(present, fields)

        return await self.store.write(reference, change, tenant=tenant)

    async def reset(self, reference: str, fields: AgentFields, *, tenant: str) -> AgentFacts:
        """Replace an agent.

        Raises:
            Conflict: `agent.exists` if another one has the canonical name.
            NotFound: `agent.not_found`, `project.not_found`.
        """

        def change(present: AgentFacts | None) -> AgentFacts:
            if present is None:
                raise no_agent(reference)
            return _replaced(present, fields)

        return await self.store.write(reference, change, tenant=tenant)

    async def patch(self, reference: str, fields: AgentFields, *, tenant: str) -> AgentFacts:
        """Change what is given of an agent; `metadata` and `default_settings` keep the members that are not given.

        Raises:
            Conflict: `agent.exists` if another one has the canonical name.
            NotFound: `agent.not_found`, `project.not_found`.
        """

        def change(present: AgentFacts | None) -> AgentFacts:
            if present is None:
                raise no_agent(reference)
            given = _stored(fields)
            for name in ("metadata", "default_settings"):
                if name in fields:
                    given[name] = merged(getattr(present, name), fields[name])
            return replace(present, **given, updated_us=later(present.updated_us, now_us()))

        return await self.store.write(reference, change, tenant=tenant)

    async def delete(self, reference: str, *, tenant: str) -> dict[str, Any]:
        """Delete an agent with its tasks, tools and documents, and the sessions in which nobody else answers.

        Its executions go on, since each carries its own plan.

        Returns:
            {id, deleted_at, jobs}.

        Raises:
            NotFound: `agent.not_found`.
        """
        moment = now_us()
        gone = await remove_agent(self.store.database, reference, tenant=tenant, now_us=moment)
        return deleted_view(gone, moment)


def _whole(agent_id: str, fields: AgentFields, *, tenant: str, actor: str) -> AgentFacts:
    now = now_us()
    return AgentFacts(id=agent_id, tenant=tenant, created_us=now, updated_us=now, actor=actor, **_stored(fields))


def _replaced(present: AgentFacts, fields: AgentFields) -> AgentFacts:
    moment = later(present.updated_us, now_us())
    fresh = _whole(present.id, fields, tenant=present.tenant, actor=present.actor)
    return replace(fresh, created_us=present.created_us, updated_us=moment)


def _stored(fields: AgentFields) -> dict[str, Any]:
    """Return what is given as it is stored: texts and objects are never null.

    Raises:
        InvalidInput: `template.invalid`.
    """
    stored: dict[str, Any] = dict(fields)
    if stored.get("default_system_template"):
        check_template(stored["default_system_template"], "default_system_template")
    for name in ("about", "model", "instructions"):
        if name in stored:
            stored[name] = stored[name] or ""
    for name in ("default_settings", "metadata"):
        if name in stored:
            stored[name] = dict(stored[name] or {})
    return stored


def agent_view(agent: AgentFacts) -> dict[str, Any]:
    """Return an agent as JSON (contracts: Julep's Agent)."""
    return {
        "id": agent.id,
        "name": agent.name,
        "canonical_name": agent.canonical_name,
        "about": agent.about,
        "model": agent.model,
        "instructions": agent.instructions,
        "default_settings": agent.default_settings,
        "default_system_template": agent.default_system_template,
        "project": agent.project,
        "metadata": agent.metadata,
        "created_at": iso_time(agent.created_us),
        "updated_at": iso_time(agent.updated_us),
    }
