"""Short words for the tests of the Gemini adapter: messages and tool calls, and the body that is sent for them."""

from __future__ import annotations

from typing import Any

from activities.backends.gemini_call import request_body
from tests.backends.loopback import chat_params

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False}
LOOK = {"type": "function", "function": {"name": "look", "description": "Look it up.", "parameters": SCHEMA}}
STOP = {"type": "function", "function": {"name": "stop"}}


def sent(**params: Any) -> dict[str, Any]:
    """Return the body of a call."""
    return request_body(chat_params(**params))


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call_of(call_id: str, name: str = "look", arguments: Any = '{"at":"a"}', **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}
