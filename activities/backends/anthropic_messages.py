"""Says an OpenAI-shaped conversation in the words of Anthropic's Messages API."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

THINKING = "thinking_blocks"
"""Member of an assistant message that calls tools: what the model thought before, which it wants to see again."""

_NATIVE_PARTS = {"image", "document", "search_result"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,(.*)", re.DOTALL)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


class NoWord(Exception):
    """The provider has no word for something; the text says what.

    Attributes:
        hint: What to do instead.
    """

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(slots=True)
class Conversation:
    """A conversation in Anthropic's words.

    Attributes:
        system: Blocks of the system text.
        turns: Messages; no two neighbours have the same role.
        marked: Whether the author marked what is to be cached.
    """

    system: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    marked: bool = False

    def add(self, role: str, blocks: list[dict[str, Any]]) -> None:
        """Add to the last turn if it has this role, else begin a new one; a turn of nothing is left out."""
        self.marked = self.marked or any("cache_control" in block for block in blocks)
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"].extend(blocks)
        else:
            self.turns.append({"role": role, "content": blocks})


def read_conversation(messages: list[dict[str, Any]]) -> Conversation:
    """Say a conversation in Anthropic's words.

    Args:
        messages: OpenAI-shaped messages.

    Returns:
        The system text and the turns; a conversation of system messages only is what the user says.

    Raises:
        NoWord: The provider has no word for a part of it.
    """
    made = Conversation()
    for message in messages:
        role = message.get("role")
        blocks = _blocks(message.get("content"))
        if role in ("system", "developer"):
            if any(block["type"] != "text" for block in blocks):
                raise NoWord("system messages that hold more than text", "put images into a user message")
            made.marked = made.marked or any("cache_control" in block for block in blocks)
            made.system.extend(blocks)
        elif role == "user":
            made.add("user", blocks)
        elif role == "assistant":
            made.add("assistant", _said(message, blocks))
        elif role == "tool":
            made.add("user", [_tool_result(message, blocks)])
        else:
            raise NoWord(f"messages of the role '{role}'", "there are system, user, assistant and tool")
    if not made.turns:
        made.turns, made.system = [{"role": "user", "content": made.system}], []
    if not made.turns[0]["content"]:
        raise NoWord("a prompt without text", "give at least one message with content")
    return made


def _blocks(content: Any) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise NoWord("content that is neither text nor a list of parts", "see what the message's expression gives")
    # text of nothing but white space is refused by the service
    return [_block(part) for part in parts if part.get("type") != "text" or str(part.get("text", "")).strip()]


def _block(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _NATIVE_PARTS:
        return part
    if kind == "text":
        block: dict[str, Any] = {"type": "text", "text": str(part["text"])}
    elif kind == "image_url":
        image = part.get("image_url")
        block = _image(str(image.get("url", "") if isinstance(image, dict) else image))
    else:
        raise NoWord(f"message parts of the type '{kind}'", "there are text and image_url")
    if "cache_control" in part:
        block["cache_control"] = part["cache_control"]
    return block


def _image(url: str) -> dict[str, Any]:
    found = _DATA_URL.fullmatch(url)
    if found is not None:
        kind = "document" if found[1] == "application/pdf" else "image"
        return {"type": kind, "source": {"type": "base64", "media_type": found[1], "data": found[2]}}
    if url.startswith("https://"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise NoWord(f"the image address '{url[:40]}'", "an image is a data: URL in base64, or an https: URL")


def _said(message: dict[str, Any], blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the assistant said: its thoughts first, as it must be, then text, then tool calls."""
    if not blocks and isinstance(refusal := message.get("refusal"), str):
        blocks = _blocks(refusal)
    return [
        *_objects(message, THINKING),
        *blocks,
        *(_tool_use(call) for call in _objects(message, "tool_calls")),
    ]


def _objects(message: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = message.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NoWord(f"'{name}' that are no list of objects", "send the model's messages back as they came")
    return items


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not function.get("name"):
        raise NoWord("a tool call without the name of a function", "send the model's messages back as they came")
    return {
        "type": "tool_use",
        "id": _id(call.get("id")),
        "name": function["name"],
        "input": _input(function.get("arguments")),
    }


def _input(arguments: Any) -> dict[str, Any]:
    """Return arguments as an object; what a model wrote instead is shown to it as it was."""
    if isinstance(arguments, dict):
        return arguments
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, TypeError):
        parsed = arguments
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}


def _tool_result(message: dict[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(message.get("tool_call_id"))}
    if blocks:
        block["content"] = blocks
    return block


def _id(given: Any) -> str:
    # ids of other backends may hold what this one refuses
    return _NOT_IN_IDS.sub("_", str(given or ""))
