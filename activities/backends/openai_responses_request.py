"""Says a chat call in the words of OpenAI's Responses API: input items, tools, the form of the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from activities.backends.openai import fits_strict_mode
from engine.core.contracts.activities import ChatParams
from engine.core.contracts.failures import clip
from engine.core.values import Json, compact_json

REASONING = "reasoning_items"
"""Member of an assistant message that holds the model's thoughts, sealed, which it wants to see again."""

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
"""What a reply holds only if the call asks for it."""
_OURS = frozenset({"model", "input", "messages", "stream", "stream_options", "tool_choice", "tools", "include"})
_DROPPED = frozenset({"seed"})
"""Wishes that a reply is no other without."""


class NoWord(Exception):
    """The Responses API has no word for something in a call that must not be dropped.

    Attributes:
        hint: What the author can do about it.
    """

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def request_body(params: ChatParams) -> dict[str, Any]:
    """Return the JSON body of a call of /responses.

    Settings come first, so that none of them can replace what the engine decides. Nothing is kept by the provider
    unless the settings say `store: true`.

    Raises:
        NoWord: The API has no word for a part of it.
    """
    body: dict[str, Any] = {"store": False, **_settings(params.settings)}
    schema = params.output_schema
    if schema is not None:
        form = {"type": "json_schema", "name": "reply", "schema": schema, "strict": fits_strict_mode(schema)}
        body["text"] = {**_object(body.get("text"), "text"), "format": form}
    body.update(model=params.model, input=_input(params.messages), stream=True)
    own = params.settings.get("tools")
    tools = [*(own if isinstance(own, list) else ()), *(_tool(tool["function"]) for tool in params.tools)]
    if tools:
        body["tools"] = tools
    if params.tools and params.tool_choice is not None:
        body["tool_choice"] = _choice(params.tool_choice)
    return body


# --- settings --------------------------------------------------------------------------------------------------------


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    given = settings.get("include")
    include = list(given) if isinstance(given, list) else []
    for name, value in settings.items():
        if value is None or name in _OURS or name in _DROPPED:
            continue
        if name in ("max_tokens", "max_completion_tokens"):
            body["max_output_tokens"] = value
        elif name == "reasoning_effort":
            body["reasoning"] = {"effort": value, **_object(body.get("reasoning"), "reasoning")}
        elif name == "verbosity":
            body["text"] = {"verbosity": value, **_object(body.get("text"), "text")}
        elif name == "response_format":
            body["text"] = {**_object(body.get("text"), "text"), **_format(value)}
        elif name == "logprobs":
            include += [LOGPROBS] if value else []
        elif name == "n" and value != 1:
            raise NoWord("the setting 'n'", "run the step several times")
        elif name in ("text", "reasoning"):
            body[name] = {**body.get(name, {}), **_object(value, name)}
        elif name != "n":
            body[name] = value
    if "reasoning" in body and not body.get("store"):
        include.append(SEALED)
    return body | ({"include": list(dict.fromkeys(include))} if include else {})


def _format(value: Any) -> dict[str, Any]:
    wished = _object(value, "response_format")
    held = wished.get("json_schema")
    if wished.get("type") == "json_schema" and isinstance(held, dict):
        return {"format": {"type": "json_schema", "name": "reply", **held}}
    return {"format": {"type": wished.get("type", "text")}}


def _object(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NoWord(f"a setting '{name}' that is no object", "write it as an object")
    return value


# --- tools -----------------------------------------------------------------------------------------------------------


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: function[name] for name in ("name", "description") if function.get(name)}
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    # left out, `strict` would be true here
    return {"type": "function", **made, "parameters": parameters, "strict": bool(function.get("strict", False))}


def _choice(choice: Json) -> Json:
    if choice in ("auto", "none", "required"):
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and function.get("name"):
        return {"type": "function", "name": function["name"]}
    raise NoWord(f"the tool_choice {clip(compact_json(choice), 100)}", "there are auto, none, required and a function")


# --- the conversation ------------------------------------------------------------------------------------------------


def _input(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            call = str(message.get("tool_call_id") or "")
            items.append({"type": "function_call_output", "call_id": call, "output": _output(content)})
        elif role == "assistant":
            items += _said(message)
        else:
            items.append({"type": "message", "role": role, "content": _content(content)})
    return items


def _said(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of an assistant message: thoughts, words, calls."""
    kept = message.get(REASONING)
    items = [item for item in kept if isinstance(item, dict)] if isinstance(kept, list) else []
    text = _text_of(message.get("content")) or message.get("refusal")
    if text:
        items.append({"type": "message", "role": "assistant", "content": str(text)})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = function.get("arguments") or "{}"
        items.append(
            {
                "type": "function_call",
                "call_id": str(call.get("id") or ""),
                "name": str(function.get("name") or ""),
                "arguments": arguments if isinstance(arguments, str) else compact_json(arguments),
            }
        )
    return items


def _output(content: Json) -> Any:
    if isinstance(content, list):
        parts = [_part(part) for part in content]
        if any(part["type"] != "input_text" for part in parts):
            return parts
        return "\n".join(str(part["text"]) for part in parts)
    return content if isinstance(content, str) else compact_json(content)


def _content(content: Json) -> Any:
    if isinstance(content, list):
        return [_part(part) for part in content]
    return content if isinstance(content, str) else "" if content is None else compact_json(content)


def _part(part: Any) -> dict[str, Any]:
    held = part if isinstance(part, dict) else {"type": "text", "text": str(part)}
    kind = held.get("type")
    if kind == "text":
        return {"type": "input_text", "text": str(held.get("text", ""))}
    if kind == "image_url":
        place = held.get("image_url")
        image = place if isinstance(place, dict) else {"url": place}
        detail = {"detail": image["detail"]} if image.get("detail") else {}
        return {"type": "input_image", "image_url": str(image.get("url", "")), **detail}
    file = held.get("file")
    if kind == "file" and isinstance(file, dict):
        return {"type": "input_file", **file}
    if isinstance(kind, str) and kind.startswith("input_"):
        return dict(held)
    raise NoWord(f"a part of the type '{clip(str(kind), 60)}'", "it takes text, images and files")


def _text_of(content: Json) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
