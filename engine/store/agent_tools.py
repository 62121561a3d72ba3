"""Tools of agents in the store: definitions as Julep's clients write them, one row for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from engine.core.errors import Conflict, NotFound
from engine.core.values import compact_json
from engine.store.agents import find_agent, no_agent
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.metadata import ordered
from engine.store.schema_resources import agent_tools
from engine.store.texts import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentToolFacts:
    """A tool of an agent as it is stored; times in Unix microseconds.

    Attributes:
        id: Tool id.
        tenant: Its tenant.
        agent_id: Whose tool it is.
        name: What tasks and models call it.
        type: function, integration, system, api_call, or one of the computer-use types.
        description: For models.
        definition: What stands under the key of the type.
        created_us: When it was created.
        updated_us: When it was last changed.
        actor: Who made it; empty = nobody was asked for a name.
    """

    id: str
    tenant: str
    agent_id: str
    name: str
    type: str
    description: str = ""
    definition: dict[str, Any]
    created_us: int
    updated_us: int
    actor: str = ""


Change = Callable[[AgentToolFacts | None], AgentToolFacts]
"""Makes the next state of a tool of its present one; None = there is none of that id."""


def no_tool(tool_id: str) -> NotFound:
    """Return the error for a tool that its agent does not have."""
    return NotFound(f"the agent has no tool {tool_id}", code="agent_tool.not_found")


class AgentTools:
    """Tools of all agents.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def of_agent(self, agent_id: str, tenant: str) -> list[AgentToolFacts]:
        """Return all tools of an agent by name; none for an agent that is not there.

        Args:
            agent_id: Its id.
            tenant: Its tenant.
        """
        query = select(agent_tools).where(_of(agent_id, tenant)).order_by(agent_tools.c.name)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_tool_of(row) for row in rows]

    async def page(
        self,
        agent: str,
        *,
        tenant: str,
        limit: int = 100,
        offset: int = 0,
        sort_by: str = "created_at",
        descending: bool = False,
    ) -> list[AgentToolFacts]:
        """Return one page of an agent's tools.

        Args:
            agent: Its id or canonical name.
            tenant: Its tenant.
            limit: Most to return.
            offset: How many to leave out first.
            sort_by: `created_at` or `updated_at`.
            descending: Newest first.

        Raises:
            NotFound: `agent.not_found`.
        """

        def work(connection: Connection) -> list[AgentToolFacts]:
            query = select(agent_tools).where(_of(_agent_id(connection, agent, tenant), tenant))
            query = ordered(query, agent_tools, sort_by, descending).limit(limit).offset(offset)
            return [_tool_of(row) for row in connection.execute(query)]

        return await self.database.run(work)

    async def get(self, agent: str, tool_id: str, *, tenant: str) -> AgentToolFacts:
        """Return a tool of an agent.

        Raises:
            NotFound: `agent.not_found`, `agent_tool.not_found`.
        """

        def work(connection: Connection) -> AgentToolFacts | None:
            return _find(connection, _agent_id(connection, agent, tenant), tool_id, tenant)

        found = await self.database.run(work)
        if found is None:
            raise no_tool(tool_id)
        return found

    async def write(self, agent: str, tool_id: str, change: Change, *, tenant: str) -> AgentToolFacts:
        """Change a tool of an agent, or add one, in one transaction.

        Args:
            agent: The agent's id or canonical name.
            tool_id: The tool.
            change: What it shall be; which agent it belongs to is said here.
            tenant: The tenant.

        Returns:
            What it is now.

        Raises:
            Conflict: `agent_tool.exists` if the agent has another tool of that name.
            NotFound: `agent.not_found`.
            EngineError: What `change` raises.
        """

        def work(connection: Connection) -> AgentToolFacts:
            lock_definitions(connection, tenant)
            agent_id = _agent_id(connection, agent, tenant)
            present = _find(connection, agent_id, tool_id, tenant)
            wanted = replace(change(present), agent_id=agent_id)
            try:
                if present is None:
                    connection.execute(insert(agent_tools).values(tenant=tenant, id=wanted.id, **_values(wanted)))
                else:
                    connection.execute(update(agent_tools).where(_is(tool_id, tenant)).values(_values(wanted)))
            except IntegrityError as error:
                raise Conflict(
                    f"the agent has a tool {wanted.name!r} already",
                    code="agent_tool.exists",
                    hint="change that one, or take another name",
                ) from error
            return wanted

        return await self.database.run(work, write=True)

    async def remove(self, agent: str, tool_id: str, *, tenant: str) -> None:
        """Remove a tool of an agent.

        Raises:
            NotFound: `agent.not_found`, `agent_tool.not_found`.
        """

        def work(connection: Connection) -> None:
            lock_definitions(connection, tenant)
            mine = and_(_is(tool_id, tenant), _of(_agent_id(connection, agent, tenant), tenant))
            if connection.execute(delete(agent_tools).where(mine)).rowcount == 0:
                raise no_tool(tool_id)

        await self.database.run(work, write=True)


# --- rows ------------------------------------------------------------------------------------------------------------


def _of(agent_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(agent_tools.c.tenant == tenant, agent_tools.c.agent_id == agent_id)


def _is(tool_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(agent_tools.c.tenant == tenant, agent_tools.c.id == tool_id)


def _agent_id(connection: Connection, agent: str, tenant: str) -> str:
    found = find_agent(connection, agent, tenant)
    if found is None:
        raise no_agent(agent)
    return found.id


def _find(connection: Connection, agent_id: str, tool_id: str, tenant: str) -> AgentToolFacts | None:
    query = select(agent_tools).where(_is(tool_id, tenant), _of(agent_id, tenant))
    row = connection.execute(query).one_or_none()
    return None if row is None else _tool_of(row)


def _values(tool: AgentToolFacts) -> dict[str, Any]:
    return {
        "agent_id": tool.agent_id,
        "name": tool.name,
        "type": tool.type,
        "description": tool.description,
        "definition": compact_json(tool.definition),
        "created_us": tool.created_us,
        "updated_us": tool.updated_us,
        "actor": plain(tool.actor, 255),
    }


def _tool_of(row: Row[*tuple[Any, ...]]) -> AgentToolFacts:
    return AgentToolFacts(**{**row._mapping, "definition": json.loads(row.definition)})
