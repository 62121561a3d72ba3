"""Says a chat call in the words of Ollama's /api/chat."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from engine.core.contracts.activities import ChatParams
from engine.core.contracts.failures import clip
from engine.core.values import Json, compact_json


class NoWordForIt(Exception):
    """A call has something that Ollama has no word for and that must not be dropped.

    Attributes:
        hint: What the author can do about it.
    """

    def __init__(self, text: str, *, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def request_body(params: ChatParams) -> dict[str, Any]:
    """Return the JSON body of a chat request.

    Raises:
        NoWordForIt: Ollama has no word for something in it.
    """
    tools = _tools_of(params)
    if tools and params.settings.get("parallel_tool_calls") is False:
        raise NoWordForIt(
            "Ollama cannot hold a model to one tool call at a time",
            hint="leave parallel_tool_calls out of the settings",
        )
    # by itself Ollama forgets the oldest messages of a prompt that is too long, without a word
    body: dict[str, Any] = {"truncate": False, **_settings(params.settings)}
    messages = _messages(params.messages)
    if params.output_schema is not None:
        if tools:
            # `format` binds the model from its first letter on, so that it could call no tool
            body.pop("format", None)
            messages = _instructed(messages, params.output_schema)
        else:
            body["format"] = params.output_schema
    body.update(model=params.model, messages=messages, stream=True)
    if tools:
        body["tools"] = tools
    return body


def _tools_of(params: ChatParams) -> list[dict[str, Any]]:
    choice = params.tool_choice
    if not params.tools or choice == "none":
        return []
    # of an agent it is a wish: the engine itself makes no other call, and goes on where one is missing
    if choice in (None, "auto") or (choice == "required" and params.conversation is not None):
        return params.tools
    raise NoWordForIt(
        f"Ollama has no tool_choice, so that {clip(compact_json(choice), 100)} cannot be kept",
        hint="leave tool_choice at auto and say in the prompt that the tool is to be called",
    )


_TOP_LEVEL = frozenset({"think", "keep_alive", "logprobs", "top_logprobs", "truncate", "shift", "format"})
_OURS = frozenset({"model", "messages", "stream", "tools", "tool_choice", "parallel_tool_calls", "options"})
_OPTIONS = {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
}
"""Settings that Ollama calls otherwise."""


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that settings become; those that are not Ollama's own members are its options."""
    body: dict[str, Any] = {}
    options = dict(_object(settings.get("options"), "the setting 'options'"))
    for name, value in settings.items():
        if value is None or name in _OURS:
            continue
        if name in _TOP_LEVEL:
            body[name] = value
        elif name == "response_format":
            body.update(_format_of(value))
        elif name == "reasoning_effort":
            body.setdefault("think", False if value == "none" else value)
        elif name == "logit_bias":
            raise NoWordForIt("Ollama has no logit_bias", hint="leave it out of the settings")
        elif name == "stop":
            options[name] = [value] if isinstance(value, str) else value
        else:
            options[_OPTIONS.get(name, name)] = value
    if options:
        body["options"] = options
    return body


def _format_of(value: Any) -> dict[str, Any]:
    given = _object(value, "the setting 'response_format'")
    if given.get("type") == "json_object":
        return {"format": "json"}
    schema = _object(given.get("json_schema"), "the json_schema of 'response_format'").get("schema")
    return {} if schema is None else {"format": schema}


def _instructed(messages: list[dict[str, Any]], schema: Json) -> list[dict[str, Any]]:
    """Say in the first system message what a reply must look like."""
    told = f"Unless you call a tool, reply with nothing but JSON that fits this JSON Schema:\n{compact_json(schema)}"
    if messages and messages[0]["role"] == "system":
        first, *rest = messages
        return [first | {"content": f"{first['content']}\n\n{told}".lstrip()}, *rest]
    return [{"role": "system", "content": told}, *messages]


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the conversation in Ollama's words; the names of speakers are left out, as it knows none."""
    told: list[dict[str, Any]] = []
    tools: dict[str, str] = {}
    for message in messages:
        role = message.get("role")
        turns = [
            {"role": "system" if role == "developer" else role, "content": "\n".join(texts)}
            | ({"images": images} if images else {})
            for texts, images in _pieces(message.get("content") or message.get("refusal") or "")
        ]
        if calls := [_call(call) for call in message.get("tool_calls") or ()]:
            turns[-1]["tool_calls"] = calls
            tools |= {call["id"]: call["function"]["name"] for call in calls if "id" in call}
        if role == "tool":
            call_id = str(message.get("tool_call_id", ""))
            name = tools.get(call_id) or message.get("name")
            turns[-1] |= ({"tool_name": name} if name else {}) | ({"tool_call_id": call_id} if call_id else {})
        told += turns
    return told


def _call(value: Any) -> dict[str, Any]:
    call = _object(value, "a tool call")
    function = _object(call.get("function"), "the function of a tool call")
    name, given = str(function.get("name", "")), function.get("arguments") or {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    if not isinstance(given, dict):
        raise NoWordForIt(
            f"Ollama takes the arguments of a tool call only as an object, but those of '{name}' are none",
            hint="leave the broken tool call out of the messages",
        )
    told: dict[str, Any] = {"function": {"name": name, "arguments": given}}
    return {"id": str(call["id"]), **told} if call.get("id") else told


def _pieces(content: Any) -> list[tuple[list[str], list[str]]]:
    """Return texts and images of the messages that one message becomes.

    Ollama keeps images beside the text, so that only separate messages can say which text belongs to which image.
    """
    if isinstance(content, str):
        return [([content], [])]
    if not isinstance(content, list):
        raise NoWordForIt("the content of a message is neither text nor a list of parts", hint="write it as text")
    parts = [_part(part) for part in content]
    several = sum(kind == "image" for kind, _ in parts) > 1
    pieces: list[tuple[list[str], list[str]]] = [([], [])]
    for index, (kind, value) in enumerate(parts):
        # whichever comes first, text or image, opens each piece
        if several and index and kind == parts[0][0] != parts[index - 1][0]:
            pieces.append(([], []))
        pieces[-1][kind == "image"].append(value)
    return pieces


def _part(part: Any) -> tuple[str, str]:
    """Return (text or image, its text or its data)."""
    fields = _object(part, "a part of a message")
    kind = fields.get("type")
    if kind in ("text", "refusal"):
        return "text", str(fields.get(kind, ""))
    if kind == "image_url":
        place = fields.get("image_url")
        return "image", _image(str(place.get("url", "")) if isinstance(place, dict) else str(place))
    raise NoWordForIt(
        f"Ollama takes text and images, but no part of the type '{clip(str(kind), 60)}'", hint="leave it out"
    )


def _image(url: str) -> str:
    """Return the base64 text of an image."""
    head, comma, data = url.partition(",")
    if not (comma and head[:5].lower() == "data:"):
        raise NoWordForIt(
            "Ollama fetches no images from addresses", hint="give the image itself, as a URL data:image/png;base64,…"
        )
    raw = unquote_to_bytes(data)
    if not head.lower().endswith(";base64"):
        return base64.b64encode(raw).decode()
    plain = re.sub(rb"\s", b"", raw)
    try:
        base64.b64decode(plain, validate=True)
    except binascii.Error:
        raise NoWordForIt("the data of an image are not base64", hint="encode its bytes as base64") from None
    return plain.decode()


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NoWordForIt(f"{what} is no object", hint="write it as an object")
    return value
