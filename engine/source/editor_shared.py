"""The shapes that several keys of a task file share, by their names in `$defs`, and that of approvals."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import vocabulary
from engine.source.editor_shapes import ANY, TEXT, Shape, closed, ref

_DURATION: Final = r"\s*([0-9]+(\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*"

APPROVE: Final = (
    {
        "anyOf": [
            {"type": ["boolean", "string"]},
            closed(
                {
                    "if": (ref("expression"), "Which calls; `_` are the arguments. Left out = all."),
                    "info": (ANY, "What the person who decides is told beside tool and arguments."),
                    "deadline": (ref("amount"), "How long it waits, such as 24h."),
                    "default": (ANY, "The decision at the deadline; without it the call is denied."),
                }
            ),
        ]
    },
    "Which calls wait for a person, who may approve, change the arguments, or deny with a reason.",
)
"""Shape and text of `approve`, of an agent's rule and of a tool."""

SHARED: Final = MappingProxyType[str, Shape](
    {
        "steps": {
            "description": "One step or a list of steps.",
            "if": {"type": "array"},
            "then": {"items": ref("step"), "minItems": 1},
            "else": ref("step"),
        },
        "branches": {"type": "array", "items": ref("steps"), "minItems": 1},
        "expression": {
            "description": "An expression, with or without `$ `.",
            "type": ["string", "number", "boolean", "array", "object"],
        },
        "duration": {
            "description": "Seconds as a number, or text such as 500ms, 30s, 5m, 1h30m, 1d.",
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": f"^({_DURATION})+$",
            "patternErrorMessage": "Write seconds as a number, or text such as 500ms, 30s, 5m, 1h30m, 1d.",
        },
        "amount": {
            "description": "A duration, or an expression that gives seconds.",
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": rf"^(({_DURATION})+|\$\s[\s\S]*)$",
            "patternErrorMessage": "Write a duration such as 30s, or an expression that starts with `$ `.",
        },
        "json_schema": {"description": "A JSON Schema.", "type": ["object", "boolean"]},
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": vocabulary.MAX_NAME_CHARS},
        "message": closed(
            {
                "role": (TEXT, "system, user, assistant, tool or developer."),
                "content": (ANY, "Its text, or a list of parts."),
                "name": (TEXT, "Name of the speaker."),
                "tool_calls": (ANY, "Calls that the assistant made."),
                "tool_call_id": (TEXT, "The call that this message answers."),
            },
            "role",
        )
        | {"additionalProperties": True},
    }
)
"""Shapes that several keys share, by their names in `$defs`."""
