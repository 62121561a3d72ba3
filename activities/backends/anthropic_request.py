"""Says a chat call in the words of Anthropic's Messages API: settings, tools, the schema of the reply, cache marks."""

from __future__ import annotations

from typing import Any

from activities.backends.anthropic_messages import Conversation, NoWord, read_conversation
from activities.backends.anthropic_schema import native_schema, takes_schemas
from engine.core.contracts.activities import ChatParams
from engine.core.values import Json, compact_json

DEFAULT_MAX_TOKENS = 16_000
"""Most tokens of a reply if the settings do not say; the service demands a number, and all its models allow this one.

What the model may think by `thinking.budget_tokens` comes on top of it.
"""

_CACHED = {"type": "ephemeral"}
_ONLY_JSON = "Answer with one JSON object, and with nothing else: no other words, no code fence."
_BY_SCHEMA = (
    "When you answer, answer with one JSON value that fits this JSON Schema, and with nothing else: no other words, "
    "no code fence.\n"
)
_PENALTIES = ("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias")
_ENGINE_DECIDES = ("model", "messages", "stream", "stream_options")
_DROPPED = ("seed", "logprobs", "top_logprobs")
"""Wishes that a reply is no other without."""
_TRANSLATED = (
    *("max_tokens", "max_completion_tokens", "stop", "user", "reasoning_effort", "response_format"),
    *("parallel_tool_calls", "betas", "n"),
)


def request_body(params: ChatParams) -> dict[str, Any]:
    """Return the JSON body of a call of /v1/messages.

    Settings come first, so that none of them can replace what the engine decides.

    Args:
        params: The call.

    Raises:
        NoWord: The provider has no word for a part of it.
    """
    settings = {key: value for key, value in params.settings.items() if value is not None}
    body = _translate_settings(settings)
    conversation = read_conversation(params.messages)
    body.update(model=params.model, max_tokens=_max_tokens(settings), messages=conversation.turns, stream=True)
    _add_schema(body, conversation, params, settings)
    if conversation.system:
        body["system"] = conversation.system
    _add_tools(body, conversation, params, settings)
    if "cache_control" not in params.settings and not conversation.marked:
        _mark_stable_part(conversation, body.get("tools") if params.tools else None)
    return body


def beta_features(settings: dict[str, Json]) -> str:
    """Return the names of beta features that `betas` asks for, as their header holds them."""
    named = settings.get("betas") or []
    return ",".join(str(name) for name in named) if isinstance(named, list) else str(named)


# --- settings --------------------------------------------------------------------------------------------------------


def _translate_settings(settings: dict[str, Any]) -> dict[str, Any]:
    for name in _PENALTIES:
        if settings.get(name) and not (name == "repetition_penalty" and settings[name] == 1):
            raise NoWord(f"the setting '{name}'", "leave it out, or say in the prompt what it is for")
    if settings.get("n", 1) != 1:
        raise NoWord("the setting 'n'", "run the step several times")
    left_out = (*_ENGINE_DECIDES, *_DROPPED, *_TRANSLATED, *_PENALTIES)
    body = {key: value for key, value in settings.items() if key not in left_out}
    stop = settings.get("stop")
    if stop:
        marks = stop if isinstance(stop, list) else [stop]
        if not all(str(mark).strip() for mark in marks):
            raise NoWord("a 'stop' of nothing but white space", "stop at a visible mark")
        body["stop_sequences"] = marks
    if "user" in settings:
        body["metadata"] = {"user_id": settings["user"]} | _object(body, "metadata")
    _translate_effort(body, settings.get("reasoning_effort"))
    return body


def _translate_effort(body: dict[str, Any], effort: Any) -> None:
    if effort == "none":
        body.setdefault("thinking", {"type": "disabled"})
    elif effort is not None:
        named = "low" if effort == "minimal" else effort
        body["output_config"] = {"effort": named} | _object(body, "output_config")


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise NoWord(f"a setting '{name}' that is no object", "see the documentation of the Messages API")
    return value


def _max_tokens(settings: dict[str, Any]) -> Any:
    given = settings.get("max_tokens", settings.get("max_completion_tokens"))
    if given is not None:
        return given
    thinking = settings.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)


# --- the schema of the reply -----------------------------------------------------------------------------------------


def _add_schema(body: dict[str, Any], conversation: Conversation, params: ChatParams, settings: dict[str, Any]) -> None:
    """Bind the reply to its schema where the model can be bound, and tell the model of all that this leaves open."""
    schema = params.output_schema
    wished = settings.get("response_format")
    if schema is None and isinstance(wished, dict):
        if wished.get("type") == "json_object":
            conversation.system.append({"type": "text", "text": _ONLY_JSON})
        held = wished.get("json_schema")
        schema = held.get("schema") if isinstance(held, dict) else None
    if schema is None:
        return
    # what the model is to go on with cannot be bound
    is_begun = conversation.turns[-1]["role"] == "assistant"
    native = native_schema(schema) if takes_schemas(params.model) and not is_begun else None
    if native is not None:
        form = {"type": "json_schema", "schema": native.schema}
        body["output_config"] = _object(body, "output_config") | {"format": form}
    if native is None or not native.is_all:
        conversation.system.append({"type": "text", "text": _BY_SCHEMA + compact_json(schema)})


# --- tools -----------------------------------------------------------------------------------------------------------


def _add_tools(body: dict[str, Any], conversation: Conversation, params: ChatParams, settings: dict[str, Any]) -> None:
    if params.tools:
        body["tools"] = [_tool(tool["function"]) for tool in params.tools]
        body.pop("tool_choice", None)
        choice = _choice(params.tool_choice)
        if settings.get("parallel_tool_calls") is False and choice != {"type": "none"}:
            choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
        if choice is not None:
            body["tool_choice"] = choice
    elif "tools" not in body and (called := _called(conversation)):
        # the service takes calls of the past only beside definitions of their tools
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        body["tool_choice"] = {"type": "none"}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    made = {"name": function["name"]}
    if function.get("description"):
        made["description"] = function["description"]
    return {**made, "input_schema": {"type": "object", **(function.get("parameters") or {})}}


def _choice(given: Json) -> dict[str, Any] | None:
    if given is None:
        return None
    if given in ("auto", "none"):
        return {"type": str(given)}
    if given == "required":
        return {"type": "any"}
    function = given.get("function") if isinstance(given, dict) else None
    if isinstance(function, dict) and function.get("name"):
        return {"type": "tool", "name": function["name"]}
    raise NoWord(f"the tool_choice {compact_json(given)}", "there are auto, none, required and one function")


def _called(conversation: Conversation) -> list[str]:
    blocks = (block for turn in conversation.turns for block in turn["content"])
    return list(dict.fromkeys(block["name"] for block in blocks if block["type"] == "tool_use"))


# --- caching ---------------------------------------------------------------------------------------------------------


def _mark_stable_part(conversation: Conversation, tools: list[dict[str, Any]] | None) -> None:
    """Ask the service to keep tools and system text, which the calls of a step share, and a conversation that goes on.

    What was said last in a conversation is marked, since the next call reads all before it again; a single question is
    not, since to keep what nobody reads again costs more than not to. An author who sets `cache_control`, or marks
    parts of messages, decides alone; null means no caching.
    """
    for blocks in (tools, conversation.system):
        if blocks:
            blocks[-1] = {**blocks[-1], "cache_control": _CACHED}
    asked = [turn["content"] for turn in conversation.turns if turn["role"] == "user"]
    if len(asked) > 1:
        asked[-1][-1] = {**asked[-1][-1], "cache_control": _CACHED}
