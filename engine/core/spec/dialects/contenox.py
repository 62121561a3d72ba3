"""The chain of a contenox client as its author wrote it: tasks with handlers, and branches that jump. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from engine.core.diagnostics import NOWHERE, Position
from engine.core.spec.nodes import ScalarNode
from engine.core.spec.parts import NameSpec


class Handler(StrEnum):
    """What a task of a chain does; the values are the names of the first documents."""

    RAW_STRING = "raw_string"
    CONDITION_KEY = "condition_key"
    PARSE_NUMBER = "parse_number"
    PARSE_SCORE = "parse_score"
    PARSE_RANGE = "parse_range"
    PARSE_TRANSITION = "parse_transition"
    PARSE_KEY_VALUE = "parse_key_value"
    EMBEDDING = "embedding"
    RAISE_ERROR = "raise_error"
    MODEL_EXECUTION = "model_execution"
    EXECUTE_TOOL_CALLS = "execute_tool_calls"
    HOOK = "hook"
    CONVERT = "convert_to_openai_chat_response"
    NOOP = "noop"


LATER_NAMES: Final = MappingProxyType(
    {
        "prompt_to_string": Handler.RAW_STRING,
        "prompt_to_condition": Handler.CONDITION_KEY,
        "prompt_to_int": Handler.PARSE_NUMBER,
        "prompt_to_float": Handler.PARSE_SCORE,
        "prompt_to_range": Handler.PARSE_RANGE,
        "text_to_embedding": Handler.EMBEDDING,
        "chat_completion": Handler.MODEL_EXECUTION,
        "tools": Handler.HOOK,
    }
)
"""What newer documents call the handlers."""

PROMPTING: Final = frozenset(
    {Handler.RAW_STRING, Handler.CONDITION_KEY, Handler.PARSE_NUMBER, Handler.PARSE_SCORE, Handler.PARSE_RANGE}
)
"""Handlers that ask a model for a text."""

RESULTS: Final = MappingProxyType(
    {
        Handler.CONDITION_KEY: ("true", "false"),
        Handler.PARSE_KEY_VALUE: ("parsed",),
        Handler.EMBEDDING: ("ok",),
        Handler.MODEL_EXECUTION: ("executed", "tool-call"),
        Handler.EXECUTE_TOOL_CALLS: ("tools_executed", "no_calls_found", "no_op"),
        Handler.CONVERT: ("converted",),
        Handler.NOOP: ("noop",),
    }
)
"""What branches can compare with, for the handlers whose result is one of a few words."""


class Operator(StrEnum):
    """How a branch compares the result of its task with `when`."""

    EQUALS = "equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    GT = "gt"
    LT = "lt"
    IN_RANGE = "in_range"
    DEFAULT = "default"


SYMBOLS: Final = MappingProxyType({">": Operator.GT, "<": Operator.LT})

END: Final = ("", "end")
"""Targets of a branch that end the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchSpec:
    """One way on from a task.

    Attributes:
        operator: How the result is compared.
        when: What it is compared with.
        goto: The next task; empty or `end` = the chain ends.
        position: Where the branch stands.
        path: Its place in the structure, such as `tasks[0].transition.branches[1]`.
    """

    operator: Operator
    when: NameSpec
    goto: NameSpec
    position: Position = NOWHERE
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteSpec:
    """`execute_config`: which model a task asks, and with which tools.

    Attributes:
        models: Names of models, the first preferred.
        temperature: Sampling temperature; None = the default.
        hooks: Services whose tools the model gets.
        hide_tools: Tools that it does not get.
    """

    models: tuple[NameSpec, ...] = ()
    temperature: float | None = None
    hooks: tuple[NameSpec, ...] = ()
    hide_tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSpec:
    """A call of a service: `tool` of the service `name` with fixed arguments."""

    name: NameSpec
    tool: NameSpec
    args: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSpec:
    """How the output of a task is put together with a variable."""

    with_var: NameSpec
    strategy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskSpec:
    """One task of a chain.

    Attributes:
        id: Its name, at which branches jump.
        handler: What it does.
        system_instruction: System message for the model.
        prompt_template: Go template that gives the task's input.
        output_template: Go template that gives a hook's output.
        input_var: Variable that is the task's input; None = the output before.
        valid_conditions: Answers of a `condition_key` task and what they mean.
        execute: Model settings.
        hook: The call of a `hook` task.
        compose: What the output is put together with.
        print: Go template of a message for the operator.
        timeout_s: Seconds for one attempt.
        retries: Attempts after the first.
        on_failure: Task that goes on when this one failed.
        branches: The ways on, in order.
        position: Where the task stands.
        path: Its place in the structure, such as `tasks[0]`.
    """

    id: NameSpec
    handler: Handler
    system_instruction: str = ""
    prompt_template: ScalarNode | None = None
    output_template: ScalarNode | None = None
    input_var: NameSpec | None = None
    valid_conditions: dict[str, bool] = field(default_factory=dict)
    execute: ExecuteSpec = ExecuteSpec()
    hook: HookSpec | None = None
    compose: ComposeSpec | None = None
    print: ScalarNode | None = None
    timeout_s: float | None = None
    retries: int = 0
    on_failure: NameSpec | None = None
    branches: tuple[BranchSpec, ...] = ()
    position: Position = NOWHERE
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSpec:
    """A chain; its first task is where it starts."""

    tasks: tuple[ChainTaskSpec, ...]
    id: str = ""
    description: str = ""
    token_limit: int = 0
    position: Position = NOWHERE
