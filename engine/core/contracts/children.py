"""What crosses the border when an execution starts another one: names, parameters, results. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.core.contracts.activities import CallContext
from engine.core.contracts.execution import Origin
from engine.core.plan.grant import OPEN, Grant
from engine.core.values import Json

RESOLVE_ACTIVITY = "task.resolve"
"""Finds the task that a step names and checks the input, before anything is started."""
PLAN_ACTIVITY = "task.plan"
"""Gives a child execution its plan. The child asks for it itself: handed down, a copy of it would stand twice in the
history of its parent, and a map over a thousand tasks would not fit into one."""

LOOK_UP_TIMEOUT_S = 30.0
"""Longest time of one attempt of either; a store that is away is waited for."""

MAX_DEPTH = 16
"""Levels of child executions below the one that somebody started; a task that runs itself ends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveParams:
    """Which task is meant, and what it is to be run with.

    Attributes:
        context: Who asks.
        task: Name or id, with `@VERSION` or `@ALIAS` behind it if one is meant.
        input: The input.
        agent_id: Agent whose tasks come before others of the same name; empty = those of no agent do.
        grant: What the child may touch at most.
    """

    context: CallContext
    task: str
    input: Json
    agent_id: str = ""
    grant: Grant = OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTask:
    """The version of a task that is meant.

    Attributes:
        id: Id of the task.
        version: Its version.
        name: Its name.
        agent_id: Its agent, may be empty.
        description: What it is for, cut to what Temporal takes as a summary.
        labels: Words by which all its executions are found.
    """

    id: str
    version: int
    name: str
    agent_id: str = ""
    description: str = ""
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildParams:
    """A child execution.

    Attributes:
        context: Who starts it.
        execution_id: Id of the child.
        task: What it runs.
        input: Its input, which fits.
        origin: Where it comes from, as it will know it.
        actor: Who started the execution that starts it.
    """

    context: CallContext
    execution_id: str
    task: ResolvedTask
    input: Json
    origin: Origin
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanParams:
    """Whose plan is wanted.

    Attributes:
        tenant: Tenant id.
        task_id: Id of the task.
        version: Its version.
        grant: What the plan may touch at most.
    """

    tenant: str
    task_id: str
    version: int
    grant: Grant = OPEN
