"""Brings messages with the roles of 2024, whose calls of functions have no ids, into those that models take today."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.control.sessions.recalling import text_of
from engine.core.ids import derive_uuid
from engine.store.entries import EntryFacts

RESULTS: Final = frozenset({"function", "function_response"})
CALL: Final = "function_call"
_SAME: Final = {"agent": "assistant", "auto": "user"}
"""Other words for roles of today."""


def in_present_roles(
    messages: Sequence[dict[str, Any]], history: Sequence[EntryFacts], *, turn_id: str
) -> list[dict[str, Any]]:
    """Return a client's messages in the roles of today, one for each.

    A result belongs to the call of its name that waits for one, or to the first that waits; where none does, the user
    tells it. A call that no result follows is told as what the assistant said, since models refuse open calls.

    Args:
        messages: The messages as the client wrote them.
        history: What was said before, which may end with calls.
        turn_id: The turn, of which calls get their ids.
    """
    waiting = _open_calls(history)
    told: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        following = messages[number + 1]["role"] if number + 1 < len(messages) else ""
        if message["role"] in RESULTS:
            now = _result(message, waiting)
        elif message["role"] == CALL:
            call_id = f"call_{derive_uuid(turn_id, 'call', str(number)).replace('-', '')}"
            now = _call(message, call_id, is_answered=following in RESULTS)
        else:
            now = {**message, "role": _SAME.get(message["role"], message["role"])}
        waiting = _left(waiting, now)
        told.append(now)
    return told


def _open_calls(history: Sequence[EntryFacts]) -> list[Mapping[str, Any]]:
    """Return the calls at the end of a history that have no results yet."""
    waiting: list[Mapping[str, Any]] = []
    for entry in history:
        waiting = _left(waiting, {"tool_calls": entry.tool_calls, "tool_call_id": entry.tool_call_id})
    return waiting


def _left(waiting: Sequence[Mapping[str, Any]], message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the calls that wait for results after a message: its own, or those that it does not answer."""
    answered = message.get("tool_call_id")
    if answered is not None:
        return [call for call in waiting if call.get("id") != answered]
    return list(message.get("tool_calls") or ())


def _result(message: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = message.get("name")
    named = [call for call in waiting if call["function"]["name"] == name]
    call_id = message.get("tool_call_id") or next((call["id"] for call in named or waiting), None)
    if call_id is not None:
        return {**message, "role": "tool", "tool_call_id": call_id}
    whose = f"Result of the function {name}" if name else "Result of a function"
    return {"role": "user", "content": f"{whose}:\n{text_of(message.get('content'))}"}


def _call(message: Mapping[str, Any], call_id: str, *, is_answered: bool) -> dict[str, Any]:
    said = {key: value for key, value in message.items() if key not in ("role", "name")}
    if message.get("tool_calls"):
        return {**said, "role": "assistant"}
    text = text_of(message.get("content"))
    function = _called(text, message.get("name"))
    if function is None or not is_answered:
        name = f" {message['name']}" if message.get("name") else ""
        return {"role": "assistant", "content": f"Call of the function{name}:\n{text}"}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _called(text: str, name: str | None) -> dict[str, str] | None:
    """Return what a call's text calls: {name, arguments}, or the arguments alone of a function that is named beside."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    if name:
        return {"name": name, "arguments": text}
    arguments = told.get("arguments")
    if not isinstance(told.get("name"), str) or not isinstance(arguments, str | dict):
        return None
    return {"name": told["name"], "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}
