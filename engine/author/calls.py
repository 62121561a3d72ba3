"""Steps that call: models, tools, sub-workflows, other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from engine.author.places import author_error
from engine.author.schemas import Schema, schema_of
from engine.author.step import Modifiers, Step, make_step
from engine.author.tools import AnyTool, FunctionTool, HttpTool, name_of
from engine.author.values import Expr, Value, given, plain
from engine.core.spec import codes
from engine.core.values import Json
from engine.tooling.definition import Tool

if TYPE_CHECKING:
    from engine.author.task import Task

_PROMPT_KEYS = (
    "model",
    "needs",
    "settings",
    "extra_settings",
    "tools",
    "tool_choice",
    "tool_mode",
    "output",
    "repair",
    "unwrap",
)
_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt; made by `system`, `user`, `assistant`."""

    role: str
    content: Value


def system(content: Value) -> Message:
    """Return a message that tells the model how to behave."""
    return Message("system", content)


def user(content: Value) -> Message:
    """Return a message of the user."""
    return Message("user", content)


def assistant(content: Value) -> Message:
    """Return a message as the model might have written it, as an example."""
    return Message("assistant", content)


class Settings(TypedDict, total=False):
    """Sampling settings that all backends know; others go into `extra_settings`."""

    temperature: float | Expr
    top_p: float | Expr
    max_tokens: int | Expr
    stop: str | Sequence[str] | Expr
    seed: int | Expr
    frequency_penalty: float | Expr
    presence_penalty: float | Expr
    response_format: Mapping[str, Value]


class Needs(TypedDict, total=False):
    """What whoever answers must be able to do.

    Attributes:
        tools: It calls tools.
        vision: It reads images.
        json_schema: Its replies can be bound to a JSON Schema.
        context: Tokens that request and reply together may have at least.
        max_price: Most dollars for a million tokens, of the request and of the reply alike.
    """

    tools: bool
    vision: bool
    json_schema: bool
    context: int
    max_price: float


Model = str | Expr | Sequence[str | Expr]
"""A model or a group by its name, or several in order of preference."""


def model_json(model: Model | None) -> Json:
    """Return whom a step asks as a task file has it."""
    return plain(model if model is None or isinstance(model, (str, Expr)) else list(model), "model")


def prompt(
    messages: str | Expr | Message | Sequence[Message | Mapping[str, Value]],
    /,
    *,
    model: Model | None = None,
    needs: Needs | None = None,
    settings: Settings | None = None,
    extra_settings: Mapping[str, Value] | None = None,
    tools: Literal["all"] | Sequence[str | AnyTool] | None = None,
    tool_choice: Literal["auto", "none", "required"] | AnyTool | Mapping[str, Value] | None = None,
    tool_mode: Literal["auto", "native", "json"] | None = None,
    output: Schema | None = None,
    repair: int | None = None,
    unwrap: bool | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Ask a model.

    Args:
        messages: One message of the user (text or template), or messages made by `system`, `user` and `assistant`.
        model: A model or a group, or several in order of preference; default: the agent's or the backend's.
        needs: What whoever answers must be able to do.
        settings: Sampling settings.
        extra_settings: Settings that only some backends know.
        tools: What the model may call: `"all"` tools of the task, or some by name or as themselves.
        tool_choice: `auto`, `none`, `required`, or the tool it must call; one that has only a name is
            `{"type": "function", "function": {"name": …}}`.
        tool_mode: How the tools are offered: by the backend's own means, in words with JSON as the answer, or in words
            only to models that have no tool calls (`auto`, the default).
        output: What the reply must be: a pydantic model, another type, or a JSON Schema.
        repair: Rounds in which a reply that does not fit is sent back.
        unwrap: Whether only the reply's text or object is the output, and not the whole response.
        **modifiers: See `Modifiers`.
    """
    merged = {**(settings or {}), **(extra_settings or {})}
    body = {
        "prompt": messages_json(messages, "prompt"),
        **given(
            model=model_json(model),
            needs=plain(needs, "needs"),
            settings=plain(merged, "settings") or None,
            tools=offered_json(tools),
            tool_choice=_choice(tool_choice),
            tool_mode=plain(tool_mode, "tool_mode"),
            output_schema=None if output is None else schema_of(output, "output"),
            repair=plain(repair, "repair"),
            unwrap=plain(unwrap, "unwrap"),
        ),
    }
    return make_step(body, modifiers, _PROMPT_KEYS)


def call_tool(
    tool: str | Tool[..., Any] | HttpTool,
    arguments: Mapping[str, Value] | str | Expr | None = None,
    /,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Call a tool; its result is the step's output.

    Args:
        tool: What `@tool` or `HttpTool(…)` made, or a name.
        arguments: An object, or an expression that gives one; default: the step's input.
        **modifiers: See `Modifiers`.
    """
    return make_step({"tool": name_of(tool, "call_tool"), **_arguments(arguments)}, modifiers)


def run_workflow(
    name: str, arguments: Mapping[str, Value] | str | Expr | None = None, /, **modifiers: Unpack[Modifiers]
) -> Step:
    """Run one of the task's own sub-workflows; its output is the step's output.

    Args:
        name: Its name under `Task(workflows=…)`.
        arguments: Its input: an object or an expression; default: the step's input.
        **modifiers: See `Modifiers`.
    """
    return make_step({"workflow": plain(name, "run_workflow"), **_arguments(arguments)}, modifiers)


def run_task(
    task: str | Task,
    arguments: Mapping[str, Value] | str | Expr | None = None,
    /,
    *,
    version: int | None = None,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Run another task as an execution of its own; its output is the step's output.

    Args:
        task: Its name or id, also `name@alias`, or the task itself.
        arguments: Its input: an object or an expression; default: the step's input.
        version: Which version of it; default: the newest one when the step runs.
        **modifiers: See `Modifiers`.
    """
    name = task if isinstance(task, str) else task.name
    if not name:
        raise author_error(codes.MISSING_KEY, "the task to run has no name", "give it one: Task(name=…)")
    named = {"task": plain(name, "run_task"), **given(version=plain(version, "version"))}
    return make_step({**named, **_arguments(arguments)}, modifiers, ("version",))


def _arguments(arguments: Mapping[str, Value] | str | Expr | None) -> dict[str, Json]:
    return {} if arguments is None else {"arguments": plain(arguments, "arguments")}


def messages_json(messages: str | Expr | Message | Sequence[Message | Mapping[str, Value]], where: str) -> Json:
    """Return what a model is told as a task file has it."""
    if isinstance(messages, (str, Expr)):
        return plain(messages, where)
    items: Sequence[Any] = [messages] if isinstance(messages, Message) else messages
    return plain(
        [{"role": item.role, "content": item.content} if isinstance(item, Message) else item for item in items],
        where,
    )


def offered_json(tools: Literal["all"] | Sequence[str | AnyTool] | None) -> Json:
    """Return the tools that a model is offered as a task file has them."""
    if tools is None or isinstance(tools, str):
        return plain(tools, "tools")
    return [item.plain() if isinstance(item, FunctionTool) else name_of(item, "tools") for item in tools]


def _choice(choice: str | AnyTool | Mapping[str, Value] | None) -> Json:
    if choice is None or isinstance(choice, Mapping) or choice in _CHOICES:
        return plain(choice, "tool_choice")
    return {"type": "function", "function": {"name": name_of(choice, "tool_choice")}}
