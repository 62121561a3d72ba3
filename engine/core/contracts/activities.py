"""What crosses the border between interpreter and activities: names, parameters, results. Workflow-safe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from engine.core.contracts.conversations import Conversation
from engine.core.errors import ToolError
from engine.core.plan.grant import Grant
from engine.core.plan.ir import ToolContract
from engine.core.plan.needs import Needs, ToolMode
from engine.core.schemas import value_problems
from engine.core.values import Json

CHAT_ACTIVITY = "llm.chat"
TOOL_ACTIVITY = "tool.call"

POSTPONED = "effect.postponed"
"""Type of the failure by which a call asks Temporal to make it again later; it is no attempt of a step."""
HEARTBEAT_TIMEOUT_S = 5.0
"""How long a worker may be silent about a running effect before Temporal gives the effect to another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Who calls, and as what.

    Attributes:
        tenant: Tenant id.
        execution_id: The root execution.
        path: Step path of the call.
        key: Idempotency key: the same for every repetition of this step visit.
        attempt: The interpreter's attempt, from 1.
        allow: What of the plan's bound only the activity can compare; None = nothing.
        trace: W3C traceparent of the step's span, so that the call's spans hang below it; empty = no trace.
    """

    tenant: str
    execution_id: str
    path: str
    key: str
    attempt: int = 1
    allow: Grant | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What all model calls of an execution may use, and what it knows to have used.

    Attributes:
        tokens: Most tokens; None = any number.
        cost_nano: Most thousand-millionths of a dollar; None = any.
        tokens_used: Tokens of the replies that it got.
        cost_nano_used: What they cost.
    """

    tokens: int | None = None
    cost_nano: int | None = None
    tokens_used: int = 0
    cost_nano_used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """That an outcome may be one that is kept from an equal call, and is to be kept.

    Attributes:
        ttl_s: How long it is kept, in seconds.
        key: What else makes calls equal, as the author says.
        is_fresh: Whether the call is made all the same, since what was kept did not do.
    """

    ttl_s: float
    key: Json = None
    is_fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """Who may answer a call, beside the model that it names.

    Attributes:
        models: Further models or groups, in order of preference.
        needs: What whoever answers must be able to do; None = nothing beside what the call itself shows.
        tool_mode: How the tools are offered.
    """

    models: list[str] = field(default_factory=list)
    needs: Needs | None = None
    tool_mode: ToolMode = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatParams:
    """One chat completion.

    Attributes:
        context: Who calls.
        messages: OpenAI-shaped messages [{role, content, name?, tool_calls?, tool_call_id?}].
        model: Name of a model or a group; empty = the backend's default model.
        settings: Sampling settings {temperature?, top_p?, max_tokens?, stop?, seed?, …}; others go to the backend.
        tools: [{type: function, function: {name, description?, parameters}}].
        tool_choice: As in the OpenAI API, or None.
        output_schema: JSON Schema of a structured reply, or None.
        timeout_s: Longest time of the call in seconds.
        conversation: What the messages go on with, after those that the worker keeps; None = they are all there is.
            The worker keeps them and the reply's message, as it is told, behind them.
        wants: What the step says of who may answer beside the name; None = nothing.
        limits: What the execution may use; None = anything.
        keep: Whether the reply may be a kept one; None = it may not.
    """

    context: CallContext
    messages: list[dict[str, Any]]
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: Json = None
    output_schema: Json = None
    timeout_s: float = 600.0
    conversation: Conversation | None = None
    wants: Wants | None = None
    limits: CallLimits | None = None
    keep: Keep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call as the backend counted them.

    Attributes:
        prompt_tokens: Tokens of the request.
        completion_tokens: Tokens of the reply.
        total_tokens: Both.
        cached_tokens: Those of the request that the provider read from its cache; 0 = none, or it told nothing of them.
        cache_write_tokens: Those of the request that it wrote to its cache.
        reasoning_tokens: Those of the reply that the model thought with.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def to_json(self) -> dict[str, Json]:
        """Return the counts; the last three, which are parts of the others, only as far as they are not 0."""
        counts: dict[str, Json] = asdict(self)
        whole = ("prompt_tokens", "completion_tokens", "total_tokens")
        return {name: count for name, count in counts.items() if count or name in whole}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult:
    """The reply of a chat completion.

    Attributes:
        id: The backend's id of the completion.
        model: Model that answered.
        backend: Name of the backend that answered.
        created: Unix time in seconds.
        message: {role, content, tool_calls?}.
        finish_reason: stop, length, tool_calls or content_filter.
        usage: Token counts; None if the backend sent none.
        took_s: How long the backend took; repair rounds of an attempt share its time.
        cost: Price of the call in dollars as decimal text; None = the price is not known.
        deliveries: How often Temporal handed the call to a worker; more than once after a lost worker.
        route: How the backend was found, if there was a choice: {policy, passed_over?: [{backend?, model?, why}],
            tried?: [{backend, model?, code}]}; and `waited_s`, if it waited for its turn.
        logprobs: How likely each token of the text was: [{token, logprob, …}]; None = the backend told nothing of it.
        cached: Whether it was kept from an equal call, and nothing was asked and paid.
    """

    id: str
    model: str
    backend: str
    created: int
    message: dict[str, Any]
    finish_reason: str
    usage: Usage | None = None
    took_s: float = 0.0
    cost: str | None = None
    deliveries: int = 1
    route: dict[str, Any] | None = None
    logprobs: list[Any] | None = None
    cached: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return what the interpreter gets, which tells of the usage as it gets it.

        So a call whose tokens have no parts is told alike by interpreters that know of parts and by older ones.
        """
        told = asdict(self) | {"usage": None if self.usage is None else self.usage.to_json()}
        return told if self.logprobs is not None else {key: value for key, value in told.items() if key != "logprobs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolParams:
    """One tool call.

    Attributes:
        context: Who calls.
        tool: The contract from the plan.
        arguments: JSON object that fits the tool's schema.
        timeout_s: Longest time of the call in seconds.
        keep: Whether the output may be a kept one; None = it may not.
        secrets: Where the arguments have placeholders for texts with secrets: [{at, parts}], see `lang.secret`.
    """

    context: CallContext
    tool: ToolContract
    arguments: dict[str, Any]
    timeout_s: float
    keep: Keep | None = None
    secrets: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool returned.

    Attributes:
        output: JSON value.
        took_s: How long the tool took.
        deliveries: How often Temporal handed the call to a worker; more than once after a lost worker.
        cached: Whether it was kept from an equal call, and nothing was called.
    """

    output: Json
    took_s: float = 0.0
    deliveries: int = 1
    cached: bool = False


def check_arguments(params: ToolParams) -> None:
    """Check the arguments of a call; done where the call is made, since a replay would only do it again.

    Raises:
        ToolError: `tool.bad_arguments` if they do not fit the tool's schema.
    """
    problems = value_problems(params.arguments, params.tool.parameters)
    if problems:
        raise ToolError(
            f"tool '{params.tool.name}' does not take these arguments: {'; '.join(problems)}",
            code="tool.bad_arguments",
            details={"tool": params.tool.name},
        )
