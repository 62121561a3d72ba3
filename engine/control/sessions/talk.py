"""From entries of a history, and messages of a client, to messages as a model gets them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.control.sessions.recalling import text_of
from engine.control.sessions.templates import render
from engine.core.lang.context import Fuel
from engine.core.lang.template import is_template
from engine.core.values import Json
from engine.store.entries import SUMMARIZER, EntryFacts

MOST_OF_NAME: Final = 64
_SUMMARY: Final = "Summary of what was said before:"
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
"""What providers take in no name of who speaks."""


def past_messages(history: Sequence[EntryFacts], *, agents: int, tools: bool) -> list[dict[str, Any]]:
    """Return a history as messages.

    Args:
        history: Entries in order.
        agents: How many agents take part; of one alone nobody need be told who spoke.
        tools: Whether calls of tools and their results are told.
    """
    told: list[dict[str, Any]] = []
    for entry in history:
        message = _past_message(entry, is_one_of_many=agents > 1)
        if not tools:
            message.pop("tool_calls", None)
        if tools or entry.role != "tool":
            told.append(message)
    return told


def _past_message(entry: EntryFacts, *, is_one_of_many: bool) -> dict[str, Any]:
    if entry.source == SUMMARIZER:
        return {"role": "system", "content": f"{_SUMMARY}\n{text_of(entry.content)}"}
    message: dict[str, Any] = {"role": entry.role, "content": content_of(entry.content)}
    name = _NO_NAME.sub("_", entry.name or "")[:MOST_OF_NAME].strip("_")
    if name and (is_one_of_many or entry.role == "user"):
        message["name"] = name
    if entry.tool_calls:
        message["tool_calls"] = [plain_call(call) for call in entry.tool_calls]
    if entry.tool_call_id:
        message["tool_call_id"] = entry.tool_call_id
    return message


def new_message(given: Mapping[str, Any], env: Mapping[str, Json] | None, fuel: Fuel | None = None) -> dict[str, Any]:
    """Return a client's message as a model gets it.

    Args:
        given: The message as the client wrote it.
        env: What its texts see as templates; None = they are data.
        fuel: What the templates of the turn may still use up; None = each is alone.

    Raises:
        InvalidInput: `template.invalid`, `template.failed`.
    """
    message = {name: value for name, value in given.items() if value is not None or name == "content"}
    message["content"] = content_of(message.get("content"))
    if env is not None:
        message["content"] = _rendered(message["content"], env, fuel)
    if "tool_calls" in message:
        message["tool_calls"] = [plain_call(call) for call in message["tool_calls"]]
    return message


def content_of(given: Json) -> Any:
    """Return a content as models take it: a text, or a list of parts, of which a text is one."""
    if not isinstance(given, list):
        return given
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in given]


def plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call of a tool without members that say nothing."""
    return {name: value for name, value in call.items() if value is not None}


def without_loose_ends(past: Sequence[dict[str, Any]], said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a history without calls that nobody answered and results that nobody asked for: models take neither.

    Args:
        past: The history as messages.
        said: What is said now, which may answer calls of the history.
    """
    answered = {message.get("tool_call_id") for message in (*past, *said) if message["role"] == "tool"}
    asked: set[Any] = set()
    told: list[dict[str, Any]] = []
    for message in past:
        if message["role"] == "tool" and message.get("tool_call_id") not in asked:
            continue
        calls = [call for call in message.get("tool_calls", ()) if call.get("id") in answered]
        asked |= {call.get("id") for call in calls}
        kept = {name: value for name, value in message.items() if name != "tool_calls"}
        if calls:
            told.append({**kept, "tool_calls": calls})
        elif message["content"]:
            told.append(kept)
    return told


def _rendered(content: Any, env: Mapping[str, Json], fuel: Fuel | None) -> Any:
    if isinstance(content, str):
        return render(content, env, "a message", fuel) if is_template(content) else content
    if not isinstance(content, list):
        return content
    return [_rendered_part(part, env, fuel) for part in content]


def _rendered_part(part: Any, env: Mapping[str, Json], fuel: Fuel | None) -> Any:
    text = part.get("text") if isinstance(part, Mapping) else None
    return {**part, "text": _rendered(text, env, fuel)} if isinstance(text, str) else part
