"""The plan: the frozen, flat form of a task that the interpreter walks, in the workflow's input. Workflow-safe.

A plan is a table of blocks (lists of ops). Ops name other blocks by number, so that a place in a running execution is
just (block, position) and can be stored, moved and resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.kinds import Dialect, ToolEffect
from engine.core.plan.agent_rules import Approval
from engine.core.plan.computed import Expr, Value
from engine.core.plan.grant import OPEN, Grant
from engine.core.plan.ops import Op
from engine.core.plan.policies import USUAL, Defaults
from engine.core.values import Json

PLAN_FORMAT = 2
"""Version of what stands below; `engine.core.plan.upgrade` says what each one changed and reads the older ones."""
STDLIB_VERSION = 2
STDLIB_KNOWN = frozenset({1, 2})
"""The library versions whose results this one still gives, so that what began under them goes on here. Who raises
STDLIB_VERSION because a result or a price has changed takes the older ones out."""


@dataclass(frozen=True, slots=True)
class ToolContract:
    """What the plan knows of a tool; taken from the operator's registry or the task when the execution starts.

    Attributes:
        name: The name by which steps call it.
        type: `python`, `api_call`, `integration`, `provider` (an integration as a task names it), `openapi`, `mcp`,
            `acp` (a remote agent), `system`, `task` (runs another task) or `function` (the client runs it).
        parameters: JSON Schema of the arguments; None = anything.
        effect: What it does to the world.
        idempotent: Whether a repeated call with the same key does no harm.
        description: For models and people.
        timeout_s: Longest time of one call in seconds.
        spec: What the adapter of its type needs, e.g. {method, url, headers, params, json} of an `api_call`.
        pool: Pool of workers that makes the calls; empty = the workers of the executions.
        approve: Which calls wait for a person, whoever makes them, as the operator says; each of these counts.
        own_approve: The same as the task says of its own tool; that stays when the operator's definition changes.
        own: Members that the task itself sets; they stay when the operator's definition changes.
        tenants: Who may name it; empty = everybody. It is left out of plans.
        secrets: Where the spec has placeholders for texts with secrets: [{at, parts}], see `lang.secret`.
    """

    name: str
    type: Literal[
        "python", "api_call", "integration", "provider", "openapi", "mcp", "function", "acp", "system", "task"
    ]
    parameters: Json = None
    effect: ToolEffect = ToolEffect.WRITE
    idempotent: bool = False
    description: str = ""
    timeout_s: float = 60.0
    spec: dict[str, Any] = field(default_factory=dict)
    pool: str = ""
    approve: tuple[Approval, ...] = ()
    own_approve: tuple[Approval, ...] = ()
    own: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    secrets: tuple[dict[str, Any], ...] = ()

    @property
    def repeatable(self) -> bool:
        """Whether a call may be made again when its outcome was lost."""
        return self.idempotent or self.effect in (ToolEffect.NONE, ToolEffect.READ)

    @property
    def refuses_secrets(self) -> str:
        """Why no secret may go into its arguments, in words; empty = it may."""
        if self.type == "function":
            return f"the client makes the calls of '{self.name}', and no secret leaves the worker"
        if self.type == "system":
            return f"what '{self.name}' is given is kept in tasks, executions or documents, where all may read it"
        if self.type == "task":
            return f"what '{self.name}' is given is kept as the input of an execution, where all may read it"
        return ""

    @property
    def runs(self) -> str:
        """The task that a call runs as a child execution, perhaps with a version or an alias; empty = none."""
        return str(self.spec.get("task", "")) if self.type == "task" else ""

    @property
    def takes_address(self) -> bool:
        """Whether its spec or its arguments say whom a call reaches; else that is the operator's matter."""
        if self.type in ("integration", "provider"):
            return self.spec.get("provider") == "web"
        return self.type in ("api_call", "openapi", "acp")


@dataclass(frozen=True, slots=True)
class Drift:
    """That a tool is defined otherwise than when the task was checked against its definition.

    Attributes:
        tool: Name of the tool.
        before: Hash of the definition that the task's version was stored with.
        after: Hash of the one that counts now; empty = there is none any more, and the older one counts.
        changes: What differs, one sentence each.
    """

    tool: str
    before: str
    after: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """The agent's settings as they were when the execution was started.

    Attributes:
        id: Agent id, empty if the task has no agent.
        name: Its name.
        model: Default model of its prompts.
        instructions: System message for prompts that have none.
        settings: Default sampling settings.
        shown: What expressions of Julep's dialects see of it beside id, name and model; of a plan that is started only.
    """

    id: str = ""
    name: str = ""
    model: str = ""
    instructions: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a runaway execution with `limit.…`, which the task cannot catch.

    Attributes:
        steps: Most steps that may run, loop rounds counted each time.
        rounds: Most rounds of all loops together; None = no limit.
        seconds: Longest life of the execution by the clock; None = no limit.
        tokens: Most tokens of all model calls together; None = no limit.
        cost_usd: Most that all model calls together may cost, in US dollars; None = no limit.
    """

    steps: int = 1_000_000
    rounds: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold of the input (`_`) before an execution is created, and what is said if it does not."""

    condition: Expr
    message: Value


@dataclass(frozen=True, slots=True)
class Exit:
    """A way from the end of a block to another block of the same named list: a jump.

    Attributes:
        to: Block that goes on, with this block's output as its input; None = the named list ends with that output.
        when: Condition on the output (`_`); None = always.
    """

    to: int | None = None
    when: Expr | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A list of ops, which may be a position that jumps lead to and from.

    Attributes:
        name: The part of the step path that leads into it, such as `then`.
        ops: What runs, one after another.
        exits: Ways on from its end; the first whose condition holds is taken, and if none does, the named list fails.
            Empty in all blocks but those of a graph: control goes back to the op that holds the block.
        on_failure: Block that goes on, with null as its input, if an op of this one failed; None = the error goes up.
    """

    name: str
    ops: tuple[Op, ...]
    exits: tuple[Exit, ...] = ()
    on_failure: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled task.

    Attributes:
        task: The task's name.
        blocks: All blocks; ops name them by their index here.
        workflows: The named lists of the task and their blocks; `main` is where an execution starts.
        tools: Contracts of the tools that the steps call.
        agent: The agent's settings.
        input_schema: JSON Schema of the input; None = anything.
        limits: The limits of an execution.
        require: What must hold of an input.
        ending: Block of the `finally` steps; None = there are none.
        allow: What the steps may touch at most.
        dialect: The dialect the task was written in.
        defaults: What holds where the author said nothing.
        drift: Which tools are defined otherwise than when the task was stored; of a plan that is started only.
        format: Version of this structure.
        stdlib: Version of the expression library that the plan was made for.
    """

    task: str
    blocks: tuple[Block, ...]
    workflows: dict[str, int]
    tools: dict[str, ToolContract] = field(default_factory=dict)
    agent: AgentSnapshot = AgentSnapshot()
    input_schema: Json = None
    limits: Limits = Limits()
    require: tuple[Requirement, ...] = ()
    ending: int | None = None
    allow: Grant = OPEN
    dialect: Dialect = "everstep"
    defaults: Defaults = USUAL
    drift: tuple[Drift, ...] = ()
    format: int = PLAN_FORMAT
    stdlib: int = STDLIB_VERSION
