"""Agents in the store: written, read by id or canonical name, removed with all that is theirs alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, or_, select
from sqlalchemy.exc import IntegrityError

from engine.core.errors import Conflict, NotFound
from engine.core.values import Json, compact_json
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.projects import known_project
from engine.store.resources import ResourceStore, put_row
from engine.store.schema import agents
from engine.store.texts import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """An agent as it is stored; times in Unix microseconds.

    Attributes:
        id: Agent id.
        tenant: Its tenant.
        name: Its name.
        model: Default model of its prompts.
        instructions: Text or list of texts.
        about: What it is for.
        canonical_name: Unique name for programs, or None.
        default_settings: Default sampling settings.
        default_system_template: First message of its sessions, a template, or None.
        project: Canonical name of the project that it belongs to, or None; its id is taken too when it is written.
        metadata: The caller's metadata.
        created_us: When it was created.
        updated_us: When it was last changed.
        actor: Who made it; empty = nobody was asked for a name.
    """

    id: str
    tenant: str
    name: str
    model: str = ""
    instructions: Json = ""
    about: str = ""
    canonical_name: str | None = None
    default_settings: dict[str, Any] = field(default_factory=dict)
    default_system_template: str | None = None
    project: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_us: int
    updated_us: int
    actor: str = ""


Change = Callable[[AgentFacts | None], AgentFacts]
"""Makes the next state of an agent of its present one; None = there is none of that id or name."""


def no_agent(reference: str) -> NotFound:
    """Return the error for an agent that is not there."""
    return NotFound(f"there is no agent {reference}", code="agent.not_found")


class AgentStore(ResourceStore[AgentFacts]):
    """Agents of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database, table=agents, find=find_agent, facts_of=_agent_of, missing=no_agent)

    async def write(self, reference: str, change: Change, *, tenant: str) -> AgentFacts:
        """Change an agent, or add one, in one transaction.

        Args:
            reference: Its id or canonical name.
            change: What it shall be.
            tenant: Its tenant.

        Returns:
            What it is now.

        Raises:
            Conflict: `agent.exists` if another one has the canonical name.
            NotFound: `project.not_found`.
            EngineError: What `change` raises.
        """

        def work(connection: Connection) -> AgentFacts:
            lock_definitions(connection, tenant)
            present = find_agent(connection, reference, tenant)
            wanted = change(present)
            wanted = replace(wanted, project=known_project(connection, wanted.project, tenant))
            try:
                put_row(connection, agents, present, wanted, _values(wanted))
            except IntegrityError as error:
                taken = wanted.canonical_name or wanted.id
                raise Conflict(f"there is already an agent {taken!r}", code="agent.exists") from error
            return wanted

        return await self.database.run(work, write=True)


def find_agent(connection: Connection, reference: str, tenant: str) -> AgentFacts | None:
    """Return an agent by its id or canonical name within a transaction, or None."""
    named = or_(agents.c.id == reference, agents.c.canonical_name == reference)
    row = connection.execute(select(agents).where(agents.c.tenant == tenant, named)).one_or_none()
    return None if row is None else _agent_of(row)


def _values(agent: AgentFacts) -> dict[str, Any]:
    return {
        "name": agent.name,
        "model": agent.model,
        "instructions": compact_json(agent.instructions),
        "about": agent.about,
        "canonical_name": agent.canonical_name,
        "default_settings": compact_json(agent.default_settings),
        "default_system_template": agent.default_system_template,
        "project": agent.project,
        "metadata": compact_json(agent.metadata),
        "created_us": agent.created_us,
        "updated_us": agent.updated_us,
        "actor": plain(agent.actor, 255),
    }


def _agent_of(row: Row[*tuple[Any, ...]]) -> AgentFacts:
    written = ("instructions", "default_settings", "metadata")
    return AgentFacts(**{**row._mapping, **{name: json.loads(row._mapping[name]) for name in written}})
