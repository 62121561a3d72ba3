"""Plans as executions begin with them: a stored version with its agent, and its tools, as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from engine.control.compiling import compile_tree
from engine.control.toolrules import OF_TASKS, present_tools
from engine.core.errors import CompileError, NotFound
from engine.core.plan.codec import check_library, plan_from_json
from engine.core.plan.ir import STDLIB_VERSION, AgentSnapshot, Drift, Plan, ToolContract
from engine.core.plan.planned import refuse_planned
from engine.core.run.times import iso_time
from engine.core.spec.nodes import node_from_json
from engine.core.values import Json
from engine.store.agent_tools import AgentTools
from engine.store.agents import AgentFacts
from engine.store.definitions import Definitions, TaskFacts

MOST_TOLD = 10_000
"""Changes of tools that a process remembers to have told."""

log = structlog.get_logger("everstep.tools")


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


def _shown_of(agent: AgentFacts) -> dict[str, Any]:
    """Return what tasks of Julep's clients may read of their agent beside what a plan carries anyway."""
    return {
        "about": agent.about,
        "canonical_name": agent.canonical_name,
        "default_settings": agent.default_settings,
        "instructions": agent.instructions,
        "metadata": agent.metadata,
        "created_at": iso_time(agent.created_us),
        "updated_at": iso_time(agent.updated_us),
    }


async def tools_of_agent(definitions: Definitions, agent_id: str, tenant: str) -> list[dict[str, Json]]:
    """Return the tools of an agent as Julep's clients define them, each with its id.

    Args:
        definitions: The store.
        agent_id: The agent's id.
        tenant: Its tenant.
    """
    found = await AgentTools(definitions.database).of_agent(agent_id, tenant)
    return [
        {
            "id": tool.id,
            "name": tool.name,
            "type": tool.type,
            "description": tool.description,
            tool.type: tool.definition,
        }
        for tool in found
    ]


def _inherits(task: TaskFacts) -> bool:
    wanted = task.spec.get("inherit_tools")
    return task.spec.get("dialect") == "julep-2024" if wanted is None else bool(wanted)


class PresentPlans:
    """Brings stored plans up to the present.

    Args:
        definitions: The store.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._told: set[tuple[str, int, Drift]] = set()

    async def of(self, task: TaskFacts, contracts: Mapping[str, ToolContract]) -> Plan:
        """Return a task's plan with the present settings of its agent, contracts of its tools and expression library.

        Args:
            task: The task's version.
            contracts: The operator's tools by name.

        Raises:
            CompileError: `task.not_runnable` if something in it is only planned, or a tool is not there for its tenant.
            BugError: `plan.stdlib` if it was made for a newer expression library.
        """
        plan = plan_from_json(task.plan)
        refuse_planned(plan)
        if plan.stdlib > STDLIB_VERSION:
            check_library(plan)
        agent = await self._agent_of(task)
        # of one that was deleted, what was stored with the version: executions of its tasks go on
        present = plan.agent if agent is None and task.agent_id else snapshot_of(agent)
        if agent is not None and plan.dialect in ("julep-2024", "julep-2025"):
            present = replace(present, shown=_shown_of(agent))
        if agent is not None and _inherits(task):
            plan = await self._with_present_tools(task, plan, contracts)
        plan = present_tools(plan, contracts, task.tenant)
        if plan.drift:
            self._tell_drift(task, plan)
        return replace(plan, agent=present, stdlib=STDLIB_VERSION)

    async def _agent_of(self, task: TaskFacts) -> AgentFacts | None:
        """Return a task's agent; None if it has none, or one that was deleted."""
        if not task.agent_id:
            return None
        try:
            return await self._definitions.get_agent(task.agent_id, tenant=task.tenant)
        except NotFound:
            return None

    async def _with_present_tools(self, task: TaskFacts, plan: Plan, contracts: Mapping[str, ToolContract]) -> Plan:
        """Return the plan of a task that takes over tools of its agent, with these as they are now.

        Raises:
            CompileError: `task.not_runnable` if it cannot do without one that is gone.
        """
        inherited = await tools_of_agent(self._definitions, task.agent_id, task.tenant)
        try:
            fresh = compile_tree(
                node_from_json(task.spec),
                source=task.source,
                file=task.name,
                contracts=contracts,
                tenant=task.tenant,
                name=task.name,
                inherited=inherited,
            ).plan
        except CompileError as error:
            raise CompileError(
                f"the task '{task.name}' cannot be run with the tools that its agent has now: {error.message}",
                code="task.not_runnable",
                hint=error.hint,
                diagnostics=error.diagnostics,
                file=task.name,
                source=task.source,
            ) from error
        # what is the operator's stays as it was stored, so that its changes are told
        pinned = {name: tool for name, tool in plan.tools.items() if tool.type not in OF_TASKS}
        return replace(fresh, tools={name: pinned.get(name, tool) for name, tool in fresh.tools.items()})

    def _tell_drift(self, task: TaskFacts, plan: Plan) -> None:
        """Tell once of the tools of a version that are not what they were when it was stored."""
        for drift in plan.drift:
            mark = (task.id, task.version, drift)
            if mark not in self._told:
                if len(self._told) >= MOST_TOLD:
                    self._told.clear()
                self._told.add(mark)
                log.warning(
                    "tool.drift",
                    task=task.name,
                    version=task.version,
                    tool=drift.tool,
                    before=drift.before,
                    after=drift.after,
                    changes=list(drift.changes),
                )
