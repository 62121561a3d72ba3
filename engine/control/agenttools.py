"""Use cases on the tools of agents: create, replace, change, delete; each is checked before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.control.definitions import now_us
from engine.control.request_keys import id_for, key_reused
from engine.control.resources import deleted_view, later
from engine.control.toolshapes import OWN_DEFINITION, SHAPES, check_tool
from engine.core.errors import InvalidInput
from engine.core.run.times import iso_time
from engine.store.agent_tools import AgentToolFacts, AgentTools, no_tool


class AgentToolService:
    """Creates and changes tools of agents.

    Args:
        store: Where they are.
    """

    def __init__(self, store: AgentTools) -> None:
        self.store = store

    async def create(
        self, agent: str, given: Mapping[str, Any], *, tenant: str, request_key: str = "", actor: str = ""
    ) -> AgentToolFacts:
        """Give an agent a new tool; with a `request_key` that stored the same one before, return that.

        Args:
            agent: The agent's id or canonical name.
            given: {name, type, description} and the definition under the key of its type.
            tenant: The tenant.
            request_key: The request's Idempotency-Key.
            actor: Who creates it.

        Raises:
            InvalidInput: `agent_tool.bad_name`, `agent_tool.bad_definition`.
            Conflict: `agent_tool.exists` if the agent has a tool of that name, `idempotency.key_reused`.
            NotFound: `agent.not_found`.
        """
        now = now_us()
        wanted = AgentToolFacts(
            id=id_for(tenant, f"tool of {agent}", request_key),
            tenant=tenant,
            agent_id=agent,
            created_us=now,
            updated_us=now,
            actor=actor,
            **_read(given),
        )

        def change(present: AgentToolFacts | None) -> AgentToolFacts:
            if present is None:
                return wanted
            if present.updated_us == present.created_us and _told(present) != _told(wanted):
                raise key_reused(request_key, f"the tool {present.id}")
            return present

        return await self.store.write(agent, wanted.id, change, tenant=tenant)

    async def reset(self, agent: str, tool_id: str, given: Mapping[str, Any], *, tenant: str) -> AgentToolFacts:
        """Replace a tool of an agent.

        Raises:
            InvalidInput: As `create`.
            Conflict: `agent_tool.exists`.
            NotFound: `agent.not_found`, `agent_tool.not_found`.
        """

        def change(present: AgentToolFacts | None) -> AgentToolFacts:
            if present is None:
                raise no_tool(tool_id)
            return replace(present, **_read(given), updated_us=later(present.updated_us, now_us()))

        return await self.store.write(agent, tool_id, change, tenant=tenant)

    async def patch(self, agent: str, tool_id: str, given: Mapping[str, Any], *, tenant: str) -> AgentToolFacts:
        """Change what is given of a tool; its definition keeps the members that are not given, unless its type changes.

        Raises:
            InvalidInput: As `create`.
            Conflict: `agent_tool.exists`.
            NotFound: `agent.not_found`, `agent_tool.not_found`.
        """

        def change(present: AgentToolFacts | None) -> AgentToolFacts:
            if present is None:
                raise no_tool(tool_id)
            changes = {name: value for name, value in given.items() if value is not None}
            told = {**_told(present), **changes}
            if told["type"] == present.type:
                told[present.type] = {**present.definition, **changes.get(present.type, {})}
            elif present.type not in changes:
                del told[present.type]
            return replace(present, **_read(told), updated_us=later(present.updated_us, now_us()))

        return await self.store.write(agent, tool_id, change, tenant=tenant)

    async def delete(self, agent: str, tool_id: str, *, tenant: str) -> dict[str, Any]:
        """Take a tool away from an agent.

        Returns:
            {id, deleted_at, jobs}.

        Raises:
            NotFound: `agent.not_found`, `agent_tool.not_found`.
        """
        await self.store.remove(agent, tool_id, tenant=tenant)
        return deleted_view(tool_id, now_us())


def _told(tool: AgentToolFacts) -> dict[str, Any]:
    return {"name": tool.name, "type": tool.type, "description": tool.description, tool.type: tool.definition}


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return name, type, description and definition of a tool.

    Raises:
        InvalidInput: `agent_tool.bad_name`, `agent_tool.bad_definition`.
    """
    kind = given["type"]
    others = [name for name in SHAPES if name != kind and given.get(name) is not None]
    if others:
        raise InvalidInput(
            f"the tool '{given['name']}' is of the type '{kind}', but `{others[0]}` is given",
            code="agent_tool.bad_definition",
            hint=f"leave `{others[0]}` out, or say `type: {others[0]}`",
        )
    definition = given.get(kind)
    if definition is None:
        if kind not in OWN_DEFINITION:
            raise InvalidInput(
                f"the tool '{given['name']}' is of the type '{kind}' and has no `{kind}`",
                code="agent_tool.bad_definition",
                hint=f"say under `{kind}` what it is",
            )
        definition = {}
    check_tool(given["name"], kind, definition)
    return {
        "name": given["name"],
        "type": kind,
        "description": given.get("description") or "",
        "definition": dict(definition),
    }


def agent_tool_view(tool: AgentToolFacts) -> dict[str, Any]:
    """Return a tool as JSON (contracts: Julep's Tool): every type has its key, and only one of them is not null.

    The client of 2024 needs `background`, and `parameters` of every function.
    """
    definition = {"parameters": {}, **tool.definition} if tool.type == "function" else tool.definition
    return {
        "id": tool.id,
        "agent_id": tool.agent_id,
        "name": tool.name,
        "type": tool.type,
        "description": tool.description,
        "background": False,
        **dict.fromkeys(SHAPES),
        tool.type: definition,
        "created_at": iso_time(tool.created_us),
        "updated_at": iso_time(tool.updated_us),
    }
