"""Use cases on agents and tasks: check what an author wrote, compile it, store it in versions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.control.compiling import Compiled, compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.ir import AgentSnapshot, ToolContract
from engine.core.run.projection import iso_time
from engine.core.values import Json
from engine.store.definitions import AgentFacts, Definitions, TaskFacts

JSON_FILE = "body"
"""Name of the source in diagnostics when a task came as a JSON object."""


def now_us() -> int:
    """Return the present time in Unix microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a task found.

    Attributes:
        ok: Whether the task could be created.
        diagnostics: Errors and warnings as JSON, in the order of their places.
        name: Name of the task, if it could be read.
    """

    ok: bool
    diagnostics: list[dict[str, Any]]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """A task after an author's text was taken.

    Attributes:
        task: The version that now is the latest.
        warnings: Findings that did not forbid it, as JSON.
        changed: False if that very version was stored before.
    """

    task: TaskFacts
    warnings: list[dict[str, Any]] = field(default_factory=list)
    changed: bool = True


def snapshot_of(agent: AgentFacts | None) -> AgentSnapshot:
    """Return an agent's settings as a plan carries them; the empty one for no agent."""
    if agent is None:
        return AgentSnapshot()
    given = agent.instructions
    instructions = "\n".join(str(item) for item in given) if isinstance(given, list) else str(given or "")
    return AgentSnapshot(
        id=agent.id,
        name=agent.name,
        model=agent.model,
        instructions=instructions,
        settings=agent.default_settings,
    )


class DefinitionService:
    """Creates and checks agents and tasks.

    Args:
        definitions: The store.
        contracts: Contracts of the operator's tools by name.
    """

    def __init__(self, definitions: Definitions, contracts: Mapping[str, ToolContract]) -> None:
        self.definitions = definitions
        self.contracts = contracts

    async def create_agent(
        self,
        *,
        tenant: str,
        name: str,
        model: str = "",
        instructions: Json = "",
        about: str = "",
        canonical_name: str | None = None,
        default_settings: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AgentFacts:
        """Store a new agent.

        Raises:
            Conflict: `agent.exists` if the canonical name is taken.
        """
        now = now_us()
        agent = AgentFacts(
            id=str(uuid.uuid4()),
            tenant=tenant,
            name=name,
            model=model,
            instructions=instructions,
            about=about,
            canonical_name=canonical_name,
            default_settings=dict(default_settings or {}),
            metadata=dict(metadata or {}),
            created_us=now,
            updated_us=now,
        )
        await self.definitions.add_agent(agent)
        return agent

    async def check_task(self, source: str, *, tenant: str, file: str = "task", agent_id: str = "") -> Checked:
        """Compile a task without storing it.

        Args:
            source: YAML or JSON text.
            tenant: Tenant id.
            file: Name of the source in diagnostics.
            agent_id: Agent it would belong to.

        Raises:
            NotFound: `agent.not_found`.
        """
        try:
            compiled = await self._compile(source, tenant=tenant, file=file, agent_id=agent_id)
        except DefinitionError as error:
            return Checked(False, [item.to_json(file) for item in error.diagnostics])
        return Checked(True, _to_json(compiled.warnings, file), compiled.plan.task)

    async def create_task(
        self, source: str, *, tenant: str, file: str = "task", agent_id: str = "", by_name: bool = False
    ) -> Created:
        """Compile a task and store it.

        Args:
            source: YAML or JSON text.
            tenant: Tenant id.
            file: Name of the source in diagnostics.
            agent_id: Agent it belongs to; empty = none.
            by_name: Make a new version of the task that has this name and agent, if there is one and it differs.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: `agent.not_found`.
        """
        compiled = await self._compile(source, tenant=tenant, file=file, agent_id=agent_id)
        warnings = _to_json(compiled.warnings, file)
        older = None
        if by_name:
            older = await self.definitions.find_task(compiled.plan.task, tenant=tenant, agent_id=agent_id)
        return await self._store(compiled, source, older, warnings, tenant=tenant, agent_id=agent_id)

    async def update_task(self, task_id: str, source: str, *, tenant: str, file: str = "task") -> Created:
        """Compile a task and store it as the next version of an existing one.

        Raises:
            DefinitionError: With diagnostics.
            NotFound: `task.not_found`.
        """
        older = await self.definitions.get_task(task_id, tenant=tenant)
        compiled = await self._compile(source, tenant=tenant, file=file, agent_id=older.agent_id)
        warnings = _to_json(compiled.warnings, file)
        return await self._store(compiled, source, older, warnings, tenant=tenant, agent_id=older.agent_id)

    async def plan_for_start(self, task: TaskFacts) -> dict[str, Any]:
        """Return a task's plan with the present settings of its agent and the present contracts of its tools."""
        plan = plan_from_json(task.plan)
        agent = None
        if task.agent_id:
            agent = await self.definitions.get_agent(task.agent_id, tenant=task.tenant)
        tools = {
            name: self.contracts.get(name, contract) if contract.type == "python" else contract
            for name, contract in plan.tools.items()
        }
        return plan_to_json(replace(plan, agent=snapshot_of(agent), tools=tools))

    async def _compile(self, source: str, *, tenant: str, file: str, agent_id: str) -> Compiled:
        agent = await self.definitions.get_agent(agent_id, tenant=tenant) if agent_id else None
        return compile_text(source, file=file, contracts=self.contracts, agent=snapshot_of(agent))

    async def _store(
        self,
        compiled: Compiled,
        source: str,
        older: TaskFacts | None,
        warnings: list[dict[str, Any]],
        *,
        tenant: str,
        agent_id: str,
    ) -> Created:
        plan, spec, now = compiled.plan, compiled.spec, now_us()
        digest = plan_hash(plan)
        if older is not None and older.plan_hash == digest and older.source == source:
            return Created(older, warnings, changed=False)
        canonical = spec.get("canonical_name")
        task = TaskFacts(
            id=str(uuid.uuid4()) if older is None else older.id,
            tenant=tenant,
            version=1 if older is None else older.version + 1,
            agent_id=agent_id,
            name=plan.task,
            canonical_name=canonical if isinstance(canonical, str) else None,
            description=str(spec.get("description") or ""),
            spec=spec,
            source=source,
            plan=plan_to_json(plan),
            plan_hash=digest,
            input_schema=plan.input_schema,
            metadata=dict(spec.get("metadata") or {}),
            created_us=now if older is None else older.created_us,
            updated_us=now,
        )
        await self.definitions.add_task(task)
        return Created(task, warnings)


def _to_json(items: list[Diagnostic], file: str) -> list[dict[str, Any]]:
    return [item.to_json(file) for item in items]


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
        "metadata": agent.metadata,
        "created_at": iso_time(agent.created_us),
        "updated_at": iso_time(agent.updated_us),
    }


def task_view(task: TaskFacts) -> dict[str, Any]:
    """Return a task as JSON: what its author wrote, and id, version, agent_id, plan_hash and times."""
    return {
        **task.spec,
        "id": task.id,
        "name": task.name,
        "version": task.version,
        "agent_id": task.agent_id or None,
        "description": task.description,
        "canonical_name": task.canonical_name,
        "input_schema": task.input_schema,
        "metadata": task.metadata,
        "plan_hash": task.plan_hash,
        "created_at": iso_time(task.created_us),
        "updated_at": iso_time(task.updated_us),
    }
