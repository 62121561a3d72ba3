"""The task as its author wrote it: its tools, limits, bounds and named lists of steps. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.diagnostics import NOWHERE, Position
from engine.core.kinds import Dialect, ToolEffect
from engine.core.spec.dispatch import DispatchSpec
from engine.core.spec.nodes import Node
from engine.core.spec.parts import ApprovalSpec, NameSpec, SchemaSpec
from engine.core.spec.steps import StepList


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool of the task.

    Attributes:
        name: The name by which steps call it.
        type: `python` (the operator's), `api_call`, `function` (the client runs it), `integration` (a provider that the
            operator switched on), `system`, or `unknown`, which is reported already.
        description: For models and people; None = as registered.
        parameters: JSON Schema of the arguments.
        effect: What it does to the world; None = by its type.
        idempotent: Whether repeating a call does no harm; None = by its effect.
        timeout_s: Longest time of one call in seconds; None = the default.
        approve: Which calls wait for a person.
        spec: {operation, arguments, names?} of a `system` tool; {provider, setup, arguments} of an `integration`;
            {task} of a `task` tool; settings of an `api_call`: {method, url, headers?, params?, json?, …}.
        answer: JSON Schema of the answer of an `api_call`.
        inherited: Whether it is the agent's.
        id: Its id, if it is the agent's, by which prompts may name it.
        position: Where it stands.
        path: Its place in the structure, such as `tools[0]`.
    """

    name: NameSpec
    type: Literal["python", "api_call", "function", "integration", "system", "task", "unknown"]
    description: str | None = None
    parameters: SchemaSpec | None = None
    effect: ToolEffect | None = None
    idempotent: bool | None = None
    timeout_s: float | None = None
    approve: ApprovalSpec | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    answer: SchemaSpec | None = None
    inherited: bool = False
    id: str = ""
    position: Position = NOWHERE
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSpec:
    """Limits of an execution; None = the engine's default."""

    steps: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    cost_position: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class RequireSpec:
    """What must hold of the input, and what is said if it does not."""

    condition: Node
    message: Node | None
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class AllowSpec:
    """What the steps may reach: names by kind (`tools`, `models`, …); a kind that is missing is open."""

    names: dict[str, tuple[NameSpec, ...]]
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task.

    Attributes:
        name: Its name; empty if it has none.
        description: For people.
        canonical_name: The client's own stable name.
        workflows: The named lists of steps in the order of the source, `main` first.
        input_schema: JSON Schema of the input.
        tools: Its tools.
        inherit_tools: Whether the agent's tools may be used as well.
        metadata: The client's own data.
        limits: Limits of its executions.
        require: What must hold of an input.
        ending: The steps of `finally`; None = there are none.
        allow: What its steps may reach; None = anything.
        dispatch: What starts its executions; None = nothing but a request.
        dialect: The dialect of its texts.
    """

    workflows: dict[str, StepList]
    name: str = ""
    description: str = ""
    canonical_name: str = ""
    input_schema: SchemaSpec | None = None
    tools: tuple[ToolSpec, ...] = ()
    inherit_tools: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    require: tuple[RequireSpec, ...] = ()
    ending: StepList | None = None
    allow: AllowSpec | None = None
    dispatch: DispatchSpec | None = None
    dialect: Dialect = "everstep"
