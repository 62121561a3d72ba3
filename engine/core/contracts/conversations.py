"""Conversations as they cross the border in parts: what a call carries of one, and hashes of the rest. Workflow-safe.

An agent's conversation grows with each round, and to send it whole each time would let histories grow with the square
of the rounds. So a call carries what is new, and names what the worker keeps already by number and hash. The
interpreter has the whole of it: if the worker keeps it no more, or keeps something else, the call ends with
`conversation.missing` and is made again with everything, which uses up no attempt.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.values import Json, compact_json, to_json_value

CONVERSATION_MISSING: Final = "conversation.missing"
"""Code of the error of a call whose conversation the worker does not keep, or not as the call says."""
MOST_NAME_CHARS: Final = 128
"""Of a tool's name; backends take no longer ones."""

_ODD = re.compile(r"[^a-zA-Z0-9_.:/-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Which conversation the messages of a call go on with.

    Attributes:
        id: Its id, at most 64 characters; unique in the execution.
        known: How many messages are kept, and come before those of the call; 0 = the call carries all of them.
        hash: Hash of these messages (`chain`); empty = there are none.
    """

    id: str
    known: int = 0
    hash: str = ""


def chain(hash: str, message: dict[str, Any]) -> str:
    """Return the hash of a conversation after one more message.

    Args:
        hash: Hash of the messages before; empty = there are none.
        message: The message.

    Returns:
        32 hexadecimal digits.
    """
    # escaped, since models send halves of characters that have no bytes
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(f"{hash}\n{text}".encode(), digest_size=16).hexdigest()


def chain_all(hash: str, messages: Iterable[dict[str, Any]]) -> str:
    """Return the hash of a conversation after several more messages; see `chain`."""
    for message in messages:
        hash = chain(hash, message)
    return hash


def kept_reply(message: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a reply's message as it stands in the conversation, and as workers keep it.

    Its tool calls have ids, names of plain characters, and objects as arguments: a backend would refuse the
    conversation otherwise, and with it each further call.

    Args:
        message: The message as the model wrote it.
        number: How many messages stand before it.
    """
    calls = message.get("tool_calls")
    if not calls or not isinstance(calls, list):
        return message
    seen: set[str] = set()
    fitted = [_fitting_call(call, f"call_{number}_{place}", seen) for place, call in enumerate(calls)]
    return message if fitted == calls else {**message, "tool_calls": fitted}


def _fitting_call(call: Any, made_id: str, seen: set[str]) -> dict[str, Any]:
    body = call if isinstance(call, dict) else {}
    function = body.get("function")
    function = function if isinstance(function, dict) else {}
    call_id = body.get("id")
    if not isinstance(call_id, str) or not call_id or call_id in seen:
        call_id = made_id
    seen.add(call_id)
    name = _ODD.sub("_", str(function.get("name") or ""))[:MOST_NAME_CHARS] or "unnamed"
    given = function.get("arguments")
    text = given if isinstance(given, str) and read_arguments(given)[1] == "" else None
    if text is None:
        text = compact_json(given if isinstance(given, dict) else {"INVALID_JSON": str(given)})
    return {**body, "id": call_id, "type": "function", "function": {**function, "name": name, "arguments": text}}


def read_arguments(given: Json) -> tuple[dict[str, Json], str]:
    """Read the arguments that a model gave a tool.

    Args:
        given: The JSON text of an object, or the object.

    Returns:
        (arguments, "") or ({}, what is wrong).
    """
    if isinstance(given, dict):
        return given, ""
    if given is None or (isinstance(given, str) and not given.strip()):
        return {}, ""
    if not isinstance(given, str):
        return {}, "the arguments are no JSON object"
    try:
        value = to_json_value(json.loads(given, parse_constant=_no_constant), where="the arguments")
    except ExpressionError as error:
        return {}, error.message
    except (ValueError, RecursionError) as error:
        return {}, f"the arguments are not JSON: {error}"
    return (value, "") if isinstance(value, dict) else ({}, "the arguments are JSON, but no object")


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON value")
