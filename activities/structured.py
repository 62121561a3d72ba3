"""Replies that must be JSON, from models that cannot be bound to it: the instruction, and the JSON in what they say."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from engine.core.contracts.activities import ChatParams, ChatResult
from engine.core.schemas import value_problems
from engine.core.values import Json, compact_json

MOST_STARTS = 200
"""Places in a reply at which JSON may begin; each costs a try."""
_START = re.compile(r"[{\[]")
_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
_TOLD = (
    "When you answer, answer with one JSON value that fits this JSON Schema, and with nothing else: no other words, no "
    "code fence.\n"
)


def in_words(params: ChatParams) -> ChatParams:
    """Return a call that says in its system message what the reply must look like, and binds it to nothing."""
    if params.output_schema is None:
        return params
    told = _TOLD + compact_json(params.output_schema)
    settings = {key: value for key, value in params.settings.items() if key != "response_format"}
    return dataclasses.replace(
        params, messages=with_system(params.messages, told), output_schema=None, settings=settings
    )


def with_system(messages: list[dict[str, Any]], told: str) -> list[dict[str, Any]]:
    """Return messages whose first system message says something more; the author's own words come first."""
    if not messages or messages[0].get("role") not in ("system", "developer"):
        return [{"role": "system", "content": told}, *messages]
    first, *rest = messages
    content = first.get("content") or ""
    if isinstance(content, list):
        return [{**first, "content": [*content, {"type": "text", "text": told}]}, *rest]
    return [{**first, "content": f"{content}\n\n{told}".lstrip()}, *rest]


def only_json(result: ChatResult, schema: Json) -> ChatResult:
    """Return a reply whose text is nothing but the JSON in it; as it is, if it has none.

    Args:
        result: The reply.
        schema: What the JSON must fit; of several values the first that does is taken, else the first of all.
    """
    text = result.message.get("content")
    if schema is None or not isinstance(text, str) or result.message.get("tool_calls"):
        return result
    found = json_in(text, schema)
    if found is None or found == text:
        return result
    return dataclasses.replace(result, message={**result.message, "content": found})


def json_in(text: str, schema: Json = None) -> str | None:
    """Return the text of the JSON value in a text: all of it, what a code fence holds, or an object or list within.

    Args:
        text: What a model said.
        schema: What the value should fit; None = any does.

    Returns:
        The JSON text; None if there is none.
    """
    if _read(text) is not None:
        return text
    fenced = [part.strip() for part in _FENCE.findall(text)]
    found = [part for part in fenced if _read(part) is not None] + _within(text)
    return next((part for part in found if schema is None or not _problems(part, schema)), found[0] if found else None)


def _within(text: str) -> list[str]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    parts: list[str] = []
    at = 0
    for _ in range(MOST_STARTS):
        start = _START.search(text, at)
        if start is None:
            break
        try:
            _, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
            continue
        parts.append(text[start.start() : at])
    return parts


def _problems(part: str, schema: Json) -> bool:
    read = _read(part)
    return read is None or bool(value_problems(read[0], schema))


def _read(text: str) -> tuple[Any] | None:
    """Return the value of a JSON text, as the only member of a tuple; None if it is none."""
    try:
        return (json.loads(text, parse_constant=_no_constant),)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON value")
