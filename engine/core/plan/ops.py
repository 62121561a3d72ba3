"""The ops of a plan, one for each kind of step. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.core.kinds import StepKind
from engine.core.plan.agent_rules import ToolRule
from engine.core.plan.computed import Expr, Lit, Value
from engine.core.plan.needs import NO_NEEDS, Needs, ToolMode
from engine.core.plan.policies import NO_MODIFIERS, Modifiers
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class OpBase:
    """What all ops share.

    Attributes:
        label: The author's name for the step, unique in its named list; empty if there is none.
        mods: The step's modifiers.
    """

    label: str = ""
    mods: Modifiers = NO_MODIFIERS


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOp(OpBase):
    """Computes a value."""

    value: Value
    op: Literal[StepKind.EVALUATE] = StepKind.EVALUATE


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOp(OpBase):
    """Asks a model.

    Attributes:
        messages: Evaluates to a list of {role, content, …}.
        model: Name of a model or a group; empty = the backend's default.
        models: Those that are asked after it, in order of preference; computed ones stand in the settings.
        needs: What whoever answers must be able to do.
        settings: Evaluates to an object of sampling settings (temperature, max_tokens, seed, stop…).
        tools: Function tools offered to the model: {type: function, function: {name, description, parameters}}.
        tool_choice: `auto`, `none`, `required` or {type: function, function: {name}}.
        tool_mode: How the tools are offered.
        output_schema: JSON Schema that the reply must satisfy.
        repair: Rounds in which a reply that does not fit is sent back with what is wrong.
        unwrap: Output only the reply's text (or the parsed object with `output_schema`).
    """

    messages: Value
    model: str = ""
    models: tuple[str, ...] = ()
    needs: Needs = NO_NEEDS
    settings: Value = field(default_factory=lambda: Lit({}))
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Json = None
    tool_mode: ToolMode = "auto"
    output_schema: Json = None
    repair: int = 2
    unwrap: bool = False
    op: Literal[StepKind.PROMPT] = StepKind.PROMPT


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallOp(OpBase):
    """Calls a tool of the plan's tool table with computed arguments."""

    tool: str
    arguments: Value
    op: Literal[StepKind.TOOL_CALL] = StepKind.TOOL_CALL


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOp(OpBase):
    """Lets a model use tools, round after round, until it answers without asking for one.

    Attributes:
        messages: Evaluates to the list of {role, content, …} that the conversation starts with.
        instructions: Evaluates to the system message; None = that of the agent.
        model: See `PromptOp`.
        models: See `PromptOp`.
        needs: See `PromptOp`.
        settings: See `PromptOp`.
        tool_mode: See `PromptOp`.
        tools: Names of the tools, in the plan's tool table, that it may call.
        functions: Tools that the client runs: {type: function, function: {name, description, parameters}}.
        hands_over: Whether a call of one of these ends the step, since the client brings the result with what it says
            next; otherwise the step waits for it.
        rules: What it must observe about single tools.
        max_rounds: Most calls of the model.
        parallelism: Most tool calls at one time.
        on_overflow: What is done when the conversation outgrows the model: end with an error, leave the oldest messages
            out, or put a summary in their place.
        output_schema: JSON Schema that the last reply must satisfy.
        repair: See `PromptOp`.
        unwrap: Output only the last reply's text (or the parsed object with `output_schema`).
    """

    messages: Value
    instructions: Value | None = None
    model: str = ""
    models: tuple[str, ...] = ()
    needs: Needs = NO_NEEDS
    settings: Value = field(default_factory=lambda: Lit({}))
    tool_mode: ToolMode = "auto"
    tools: tuple[str, ...] = ()
    functions: tuple[dict[str, Any], ...] = ()
    hands_over: bool = False
    rules: tuple[ToolRule, ...] = ()
    max_rounds: int = 50
    parallelism: int = 10
    on_overflow: Literal["error", "truncate", "summarise"] = "error"
    output_schema: Json = None
    repair: int = 2
    unwrap: bool = False
    op: Literal[StepKind.AGENT] = StepKind.AGENT


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOp(OpBase):
    """Turns texts into vectors; output: {vectors}, one for each text.

    Attributes:
        text: Evaluates to a text or a list of texts.
        instruction: Evaluates to what the model is told about their purpose; None = nothing.
        model: Model name; empty = the backend's default.
    """

    text: Value
    instruction: Value | None = None
    model: str = ""
    op: Literal[StepKind.EMBED] = StepKind.EMBED


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOp(OpBase):
    """Searches documents by words, by meaning, or by both; output: {docs}, the best first.

    Attributes:
        text: Evaluates to the words.
        vector: Evaluates to the vector; text and vector = both count.
        metadata_filter: Evaluates to what the metadata of a document must be.
        agent: Evaluates to the id of the agent whose documents are searched; neither agent nor user = that of the task.
        user: Evaluates to the id of the user whose documents are searched.
        options: Evaluates to {limit, lang, confidence, alpha, mmr_strength, k_multiplier, …}.
    """

    text: Value | None = None
    vector: Value | None = None
    metadata_filter: Value | None = None
    agent: Value | None = None
    user: Value | None = None
    options: Value = field(default_factory=lambda: Lit({}))
    op: Literal[StepKind.SEARCH] = StepKind.SEARCH


@dataclass(frozen=True, slots=True, kw_only=True)
class IfElseOp(OpBase):
    """Runs one of two blocks; without the chosen block the input passes through."""

    condition: Expr
    then: int
    otherwise: int | None = None
    op: Literal[StepKind.IF_ELSE] = StepKind.IF_ELSE


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a switch; without condition it is the default."""

    then: int
    condition: Expr | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOp(OpBase):
    """Runs the block of the first case that holds; without one the input passes through."""

    cases: tuple[Case, ...]
    op: Literal[StepKind.SWITCH] = StepKind.SWITCH


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeachOp(OpBase):
    """Runs a block for each item, one after another; output: the list of outputs."""

    items: Expr
    do: int
    op: Literal[StepKind.FOREACH] = StepKind.FOREACH


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReduceOp(OpBase):
    """Runs a block for each item concurrently, then folds the outputs in input order.

    Attributes:
        over: Evaluates to the list of items.
        map: The block.
        parallelism: Most branches at one time.
        on_item_error: What a failed item does: `fail` the step, be `collect`ed as {error}, or be `skip`ped.
        reduce: Expression over `results` and `_`, evaluated per item; None = list of outputs.
        initial: Evaluates to the first `results`.
    """

    over: Expr
    map: int
    parallelism: int = 100
    on_item_error: Literal["fail", "collect", "skip"] = "fail"
    reduce: Expr | None = None
    initial: Value = field(default_factory=lambda: Lit([]))
    op: Literal[StepKind.MAP_REDUCE] = StepKind.MAP_REDUCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelOp(OpBase):
    """Runs blocks concurrently on the same input; output: the list of outputs in order."""

    branches: tuple[int, ...]
    parallelism: int = 100
    on_item_error: Literal["fail", "collect", "skip"] = "fail"
    op: Literal[StepKind.PARALLEL] = StepKind.PARALLEL


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceOp(OpBase):
    """Runs blocks concurrently on the same input until some of them have succeeded; the others are stopped.

    Attributes:
        branches: The blocks.
        take: How many must succeed; output: the output of the one, or the list of outputs in order of success.
        stagger_s: Seconds between the starts of two branches; a branch that fails starts the next one at once.
    """

    branches: tuple[int, ...]
    take: int = 1
    stagger_s: float = 0.0
    op: Literal[StepKind.RACE] = StepKind.RACE


@dataclass(frozen=True, slots=True, kw_only=True)
class WhileOp(OpBase):
    """Runs a block as long as a condition holds; `_` = output of the round before. Zero rounds: the input."""

    condition: Expr
    do: int
    max_rounds: int
    op: Literal[StepKind.WHILE] = StepKind.WHILE


@dataclass(frozen=True, slots=True, kw_only=True)
class UntilOp(OpBase):
    """Runs a block, and again until a condition on its output holds."""

    condition: Expr
    do: int
    max_rounds: int
    op: Literal[StepKind.UNTIL] = StepKind.UNTIL


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOp(OpBase):
    """Runs a block for each message that comes, one after another; output: that of the last turn.

    Attributes:
        do: The block of a turn; its input is the message, or the list of messages where several may be joined.
        messages: Name of the inbox.
        busy: What becomes of a message that comes while a turn runs, a word of `vocabulary.BUSY`.
        allow_busy: What a message may ask for in place of that.
        schema: JSON Schema of a message; None = anything.
        until: Looked at after each turn; the step ends when it holds. None = never.
        idle: Evaluates to the seconds without a message after which the step ends; None = never.
        default: Evaluates to the output in that case; None = the output of the last turn, or the input.
    """

    do: int
    messages: str = "message"
    busy: str = "enqueue"
    allow_busy: tuple[str, ...] = ()
    schema: Json = None
    until: Expr | None = None
    idle: Value | None = None
    default: Value | None = None
    op: Literal[StepKind.LISTEN] = StepKind.LISTEN

    @property
    def joins(self) -> bool:
        """Whether several messages may have a turn together, so that a turn gets a list."""
        return "join" in (self.busy, *self.allow_busy)

    @property
    def rolls_back(self) -> bool:
        """Whether a message may roll a turn back."""
        return "rollback" in (self.busy, *self.allow_busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldOp(OpBase):
    """Runs a named list of the task with its own scope and fresh state; output: its result."""

    workflow: str
    arguments: Value
    op: Literal[StepKind.YIELD] = StepKind.YIELD


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOp(OpBase):
    """Runs another task as an execution of its own, a child of this one; output: its result.

    Attributes:
        task: Name or id of the task, with `@VERSION` or `@ALIAS` behind it if one is meant.
        arguments: Evaluates to its input.
    """

    task: str
    arguments: Value
    op: Literal[StepKind.TASK] = StepKind.TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnOp(OpBase):
    """Ends the surrounding named list with a value."""

    value: Value
    op: Literal[StepKind.RETURN] = StepKind.RETURN


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOp(OpBase):
    """Waits for an answer from outside; output: the answer.

    Attributes:
        info: Evaluates to what the person who answers is told.
        schema: JSON Schema of the answer; None = anything.
        deadline: Evaluates to the seconds after which it gives up; None = never.
        default: Evaluates, when the wait opens, to the output at the deadline; None = `wait.expired`.
    """

    info: Value
    schema: Json = None
    deadline: Value | None = None
    default: Value | None = None
    op: Literal[StepKind.WAIT_FOR_INPUT] = StepKind.WAIT_FOR_INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveOp(OpBase):
    """Waits for a decision; members as those of `WaitOp`."""

    info: Value
    schema: Json
    deadline: Value | None = None
    default: Value | None = None
    op: Literal[StepKind.APPROVE] = StepKind.APPROVE


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOp(OpBase):
    """Waits for an event from outside that names this execution; output: its value.

    Attributes:
        event: Name of the event.
        key: Evaluates to what must equal the event's key.
        schema: JSON Schema of the value; None = anything.
        deadline: See `WaitOp`.
        default: See `WaitOp`.
    """

    event: str
    key: Value = field(default_factory=lambda: Lit(None))
    schema: Json = None
    deadline: Value | None = None
    default: Value | None = None
    op: Literal[StepKind.WAIT_FOR_EVENT] = StepKind.WAIT_FOR_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepOp(OpBase):
    """Waits for a time; the input passes through.

    Attributes:
        seconds: Evaluates to a number of seconds above 0.
    """

    seconds: Value
    op: Literal[StepKind.SLEEP] = StepKind.SLEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOp(OpBase):
    """Merges an object into the state of the scope; output: that object."""

    values: Value
    op: Literal[StepKind.SET] = StepKind.SET


@dataclass(frozen=True, slots=True, kw_only=True)
class GetOp(OpBase):
    """Reads one key of the state; an unknown key is an error."""

    key: Value
    op: Literal[StepKind.GET] = StepKind.GET


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOp(OpBase):
    """Says something in the metadata of its transition; the input passes through."""

    message: Value
    op: Literal[StepKind.LOG] = StepKind.LOG


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOp(OpBase):
    """Ends with a `task.error`.

    Attributes:
        message: Evaluates to the message.
    """

    message: Value
    op: Literal[StepKind.ERROR] = StepKind.ERROR


Op = Annotated[
    EvaluateOp
    | PromptOp
    | ToolCallOp
    | AgentOp
    | EmbedOp
    | SearchOp
    | IfElseOp
    | SwitchOp
    | ForeachOp
    | MapReduceOp
    | ParallelOp
    | RaceOp
    | WhileOp
    | UntilOp
    | ListenOp
    | YieldOp
    | TaskOp
    | ReturnOp
    | WaitOp
    | ApproveOp
    | EventOp
    | SleepOp
    | SetOp
    | GetOp
    | LogOp
    | ErrorOp,
    Field(discriminator="op"),
]
