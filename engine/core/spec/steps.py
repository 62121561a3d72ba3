"""The steps of a task as its author wrote them, one class for each kind, and their modifiers. Workflow-safe.

Values that are computed when the task runs stay nodes of the source; what they mean (expression, template, literal) is
decided by the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.core.diagnostics import NOWHERE, Position
from engine.core.kinds import StepKind
from engine.core.spec.nodes import MapNode, Node
from engine.core.spec.parts import (
    CacheSpec,
    CheckSpec,
    FunctionToolSpec,
    NameSpec,
    NeedsSpec,
    OnItemError,
    OnOverflow,
    RetrySpec,
    SchemaSpec,
    ToolMode,
    ToolRuleSpec,
)
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifiersSpec:
    """What may stand on any step; durations in seconds."""

    when: Node | None = None
    cache: CacheSpec | None = None
    retry: RetrySpec | None = None
    timeout_s: float | None = None
    total_timeout_s: float | None = None
    on_error: StepList | None = None
    checks: tuple[CheckSpec, ...] = ()
    undo: StepList | None = None


@dataclass(frozen=True, slots=True)
class StepList:
    """One step or a list of steps, as both may stand wherever a step may."""

    steps: tuple[StepSpec, ...]
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBase:
    """What all steps share.

    Attributes:
        position: Where the step starts.
        path: Its place in the structure, such as `main[2].then`.
        label: The author's name for it.
        mods: Its modifiers.
    """

    position: Position = NOWHERE
    path: str = ""
    label: NameSpec | None = None
    mods: ModifiersSpec = field(default_factory=ModifiersSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateStep(StepBase):
    """`evaluate: VALUE`."""

    value: Node
    kind: Literal[StepKind.EVALUATE] = StepKind.EVALUATE


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStep(StepBase):
    """`prompt: TEXT | [messages]` with its settings.

    Attributes:
        messages: The text of one user message, or a list of messages.
        model: Name of a model or a group.
        models: Those that are asked after it.
        needs: What whoever answers must be able to do.
        settings: Sampling settings.
        tools: `all`, or names of tools, or function tools that were written out.
        tool_choice: `auto`, `none`, `required` or a named function.
        tool_mode: How the tools are offered.
        output_schema: JSON Schema of the reply.
        repair: Rounds in which a reply that does not fit is sent back.
        unwrap: Whether only the reply's text or parsed object is the output.
    """

    messages: Node
    model: NameSpec | None = None
    models: tuple[NameSpec, ...] = ()
    needs: NeedsSpec | None = None
    settings: MapNode | None = None
    tools: tuple[NameSpec | FunctionToolSpec, ...] | Literal["all"] = ()
    tool_choice: Json = None
    tool_mode: ToolMode = "auto"
    output_schema: SchemaSpec | None = None
    repair: int = 2
    unwrap: bool = False
    kind: Literal[StepKind.PROMPT] = StepKind.PROMPT


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStep(StepBase):
    """`tool: NAME` with `arguments`."""

    tool: NameSpec
    arguments: Node | None = None
    kind: Literal[StepKind.TOOL_CALL] = StepKind.TOOL_CALL


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStep(StepBase):
    """`agent: TEXT | [messages]`: a model that uses tools until it is done.

    Attributes:
        messages: As of `PromptStep`.
        instructions: The system message.
        model: As of `PromptStep`.
        models: As of `PromptStep`.
        needs: As of `PromptStep`.
        settings: Sampling settings.
        tool_mode: As of `PromptStep`.
        tools: As of `PromptStep`.
        rules: What it must observe about its tools.
        max_rounds: Most calls of the model.
        parallelism: Most tool calls at one time.
        on_overflow: What is done when the conversation outgrows the model: `error`, `truncate` or `summarise`.
        output_schema: JSON Schema of the last reply.
        repair: As of `PromptStep`.
        unwrap: Whether only the last reply's text or object is the output.
        marker: The key of the messages: `agent`, or `prompt` of a prompt with `auto_run_tools`.
    """

    messages: Node
    instructions: Node | None = None
    model: NameSpec | None = None
    models: tuple[NameSpec, ...] = ()
    needs: NeedsSpec | None = None
    settings: MapNode | None = None
    tool_mode: ToolMode = "auto"
    tools: tuple[NameSpec | FunctionToolSpec, ...] | Literal["all"] = ()
    rules: tuple[ToolRuleSpec, ...] = ()
    max_rounds: int = 50
    parallelism: int = 10
    on_overflow: OnOverflow = "error"
    output_schema: SchemaSpec | None = None
    repair: int = 2
    unwrap: bool = False
    marker: Literal["agent", "prompt"] = "agent"
    kind: Literal[StepKind.AGENT] = StepKind.AGENT


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStep(StepBase):
    """`embed: TEXT | [TEXT, …] | {text, embed_instruction, model}`."""

    text: Node
    instruction: Node | None = None
    model: NameSpec | None = None
    kind: Literal[StepKind.EMBED] = StepKind.EMBED


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep(StepBase):
    """`search: TEXT | {text, vector, metadata_filter, agent, user, …}`.

    Attributes:
        text: What is looked for by its words; with a vector as well, both count.
        vector: What is looked for by its meaning.
        metadata_filter: What the metadata of a document must be.
        agent: Id of the agent whose documents are searched; neither agent nor user = the agent of the task.
        user: Id of the user whose documents are searched.
        options: How it is searched: `limit`, `lang` and so on.
    """

    text: Node | None = None
    vector: Node | None = None
    metadata_filter: Node | None = None
    agent: Node | None = None
    user: Node | None = None
    options: MapNode
    kind: Literal[StepKind.SEARCH] = StepKind.SEARCH


@dataclass(frozen=True, slots=True, kw_only=True)
class IfElseStep(StepBase):
    """`if: EXPRESSION` with `then` and `else`."""

    condition: Node
    then: StepList
    otherwise: StepList | None = None
    kind: Literal[StepKind.IF_ELSE] = StepKind.IF_ELSE


@dataclass(frozen=True, slots=True)
class CaseSpec:
    """One case of a switch; without condition it is the default."""

    condition: Node | None
    then: StepList


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchStep(StepBase):
    """`switch: [{case: EXPRESSION, then: STEPS}, …]`."""

    cases: tuple[CaseSpec, ...]
    kind: Literal[StepKind.SWITCH] = StepKind.SWITCH


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeachStep(StepBase):
    """`foreach: {in, do}`."""

    items: Node
    do: StepList
    kind: Literal[StepKind.FOREACH] = StepKind.FOREACH


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReduceStep(StepBase):
    """`over`, `map`, `reduce`, `initial`, `parallelism`, `on_item_error`."""

    over: Node
    map: StepList
    reduce: Node | None = None
    initial: Node | None = None
    parallelism: int = 100
    on_item_error: OnItemError = "fail"
    kind: Literal[StepKind.MAP_REDUCE] = StepKind.MAP_REDUCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelStep(StepBase):
    """`parallel: [branches]`."""

    branches: tuple[StepList, ...]
    parallelism: int = 100
    on_item_error: OnItemError = "fail"
    kind: Literal[StepKind.PARALLEL] = StepKind.PARALLEL


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceStep(StepBase):
    """`race: [STEPS, …], take: K, stagger: DURATION`."""

    branches: tuple[StepList, ...]
    take: int = 1
    stagger_s: float = 0.0
    kind: Literal[StepKind.RACE] = StepKind.RACE


@dataclass(frozen=True, slots=True, kw_only=True)
class WhileStep(StepBase):
    """`while: EXPRESSION, do: STEPS, max_rounds: N`."""

    condition: Node
    do: StepList
    max_rounds: int
    kind: Literal[StepKind.WHILE] = StepKind.WHILE


@dataclass(frozen=True, slots=True, kw_only=True)
class UntilStep(StepBase):
    """`until: EXPRESSION, do: STEPS, max_rounds: N`."""

    condition: Node
    do: StepList
    max_rounds: int
    kind: Literal[StepKind.UNTIL] = StepKind.UNTIL


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenStep(StepBase):
    """`listen: {messages, busy, allow_busy, schema, do, until, idle, default}`."""

    do: StepList
    messages: NameSpec | None = None
    busy: str = "enqueue"
    allow_busy: tuple[str, ...] = ()
    schema: SchemaSpec | None = None
    until: Node | None = None
    idle: Node | None = None
    default: Node | None = None
    kind: Literal[StepKind.LISTEN] = StepKind.LISTEN


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldStep(StepBase):
    """`workflow: NAME` with `arguments`."""

    workflow: NameSpec
    arguments: Node | None = None
    kind: Literal[StepKind.YIELD] = StepKind.YIELD


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStep(StepBase):
    """`task: NAME`, which may be `NAME@ALIAS` or have a `version` beside it, with `arguments`."""

    task: NameSpec
    version: int | None = None
    arguments: Node | None = None
    kind: Literal[StepKind.TASK] = StepKind.TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnStep(StepBase):
    """`return: VALUE`."""

    value: Node
    kind: Literal[StepKind.RETURN] = StepKind.RETURN


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStep(StepBase):
    """`wait_for_input: {info, schema}`."""

    info: Node | None = None
    schema: SchemaSpec | None = None
    deadline: Node | None = None
    default: Node | None = None
    kind: Literal[StepKind.WAIT_FOR_INPUT] = StepKind.WAIT_FOR_INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveStep(StepBase):
    """`approve: {info: VALUE, schema: SCHEMA, deadline: DURATION, default: VALUE}` or `approve: INFO`."""

    info: Node | None = None
    schema: SchemaSpec | None = None
    deadline: Node | None = None
    default: Node | None = None
    kind: Literal[StepKind.APPROVE] = StepKind.APPROVE


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStep(StepBase):
    """`wait_for_event: NAME, key: VALUE, schema: SCHEMA, deadline: DURATION, default: VALUE`."""

    event: NameSpec
    key: Node | None = None
    schema: SchemaSpec | None = None
    deadline: Node | None = None
    default: Node | None = None
    kind: Literal[StepKind.WAIT_FOR_EVENT] = StepKind.WAIT_FOR_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepStep(StepBase):
    """`sleep: {seconds, minutes, hours, days}`.

    Attributes:
        parts: Amounts with the seconds of their unit, such as (30, 60.0) for `minutes: 30`.
    """

    parts: tuple[tuple[Node, float], ...]
    kind: Literal[StepKind.SLEEP] = StepKind.SLEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStep(StepBase):
    """`set: OBJECT`."""

    values: Node
    kind: Literal[StepKind.SET] = StepKind.SET


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStep(StepBase):
    """`get: KEY`."""

    key: Node
    kind: Literal[StepKind.GET] = StepKind.GET


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStep(StepBase):
    """`log: VALUE`."""

    message: Node
    kind: Literal[StepKind.LOG] = StepKind.LOG


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStep(StepBase):
    """`error: MESSAGE`."""

    message: Node
    kind: Literal[StepKind.ERROR] = StepKind.ERROR


StepSpec = (
    EvaluateStep
    | PromptStep
    | ToolCallStep
    | AgentStep
    | EmbedStep
    | SearchStep
    | IfElseStep
    | SwitchStep
    | ForeachStep
    | MapReduceStep
    | ParallelStep
    | RaceStep
    | WhileStep
    | UntilStep
    | ListenStep
    | YieldStep
    | TaskStep
    | ReturnStep
    | WaitStep
    | ApproveStep
    | EventStep
    | SleepStep
    | SetStep
    | GetStep
    | LogStep
    | ErrorStep
)
