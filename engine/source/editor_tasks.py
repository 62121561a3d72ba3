"""What editors are told of each key of a task and of its tools: its shape and a text for hover and completion."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.kinds import ToolEffect
from engine.core.spec import vocabulary
from engine.source.editor_beside import BESIDE_KEYS
from engine.source.editor_shapes import ANY, FLAG, OBJECT, TEXT, Shape, closed, one_of, ref, whole
from engine.source.editor_shared import APPROVE

_CALL: Final = closed(
    {
        "method": (TEXT, "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS; GET if left out."),
        "url": ({"type": "string", "pattern": "^https?://"}, "Address; the arguments of a step may replace it."),
        "headers": (OBJECT, "Headers."),
        "params": (OBJECT, "Members of the query string."),
        "json": (ANY, "Body as JSON."),
        "data": ({"type": ["object", "string"]}, "Body as a form, or as text."),
        "content": (TEXT, "Any other body, as base64."),
        "files": (OBJECT, "Files of a form: base64 by field, or {content, filename, content_type}."),
        "cookies": (OBJECT, "Cookies."),
        "timeout": (ref("duration"), "Longest time of one call."),
        "follow_redirects": (FLAG, "Whether redirects are followed."),
        "include_response_content": (FLAG, "Whether the output has the body as bytes as well."),
        "params_schema": (ref("json_schema"), "Another word for the tool's `parameters`."),
        "schema": (ref("json_schema"), "JSON Schema that the answer's JSON must fit."),
    },
    "url",
)
_INTEGRATION: Final = closed(
    {
        "provider": (one_of(*vocabulary.PROVIDERS), "What it speaks to."),
        "method": (TEXT, "What is done there; each provider does one thing, so that it changes nothing."),
        "setup": (OBJECT, "Keys and servers in place of the operator's."),
        "arguments": (OBJECT, "Arguments that hold unless a call gives others."),
    },
    "provider",
)
_SYSTEM: Final = closed(
    {
        "resource": (one_of("agent", "task", "execution", "user", "session", "doc"), "What it is about."),
        "operation": (
            one_of("list", "get", "create", "create_or_update", "update", "delete", "search", "history", "chat"),
            "What is done.",
        ),
        "subresource": (
            one_of("execution", "doc"),
            "`execution` of a task, `doc` of an agent or user: those are meant.",
        ),
        "resource_id": (TEXT, "Which one, if that is fixed."),
        "arguments": (OBJECT, "Arguments that are fixed; calls give the others."),
    },
    "resource",
    "operation",
)
_TOOL: Final = closed(
    {
        "name": (ref("name"), "Name by which steps and models call it."),
        "type": (
            one_of("python", "api_call", "function", "integration", "system", "task"),
            "By its other members if left out.",
        ),
        "description": (TEXT, "What it does, for models and people."),
        "parameters": (ref("json_schema"), "JSON Schema of its arguments."),
        "effect": (one_of(*ToolEffect), "What it does to the world; only none and read may be repeated freely."),
        "idempotent": (FLAG, "Whether a repeated call with the same key does no harm."),
        "timeout": (ref("duration"), "Longest time of one call; 60s if left out."),
        "approve": APPROVE,
        "api_call": (_CALL, "The HTTP request it makes."),
        "function": (OBJECT, "{name, description, parameters}, as some clients write them."),
        "integration": (_INTEGRATION, "A service that the operator switched on."),
        "system": (_SYSTEM, "An operation on tasks, executions, agents, users, sessions or documents."),
        "task": (
            {"anyOf": [TEXT, closed({"name": (TEXT, "Its name, perhaps with @VERSION or @ALIAS.")}, "name")]},
            "The task that each call runs.",
        ),
    }
)

TASK_KEYS: Final = MappingProxyType[str, tuple[Shape, str]](
    {
        "name": (
            {"type": "string", "minLength": 1, "maxLength": vocabulary.MAX_TITLE_CHARS},
            "Name of the task; left out = the name of the file.",
        ),
        "description": (TEXT, "What the task is for."),
        "main": (ref("steps"), "The steps where the task starts."),
        "input_schema": ({"type": ["object", "boolean", "null"]}, "JSON Schema of the input."),
        "tools": ({"type": "array", "items": _TOOL}, "Tools that only this task has."),
        "metadata": (OBJECT, "Your own data."),
        "canonical_name": (TEXT, "A stable name for programs."),
        "inherit_tools": (FLAG, "Whether the agent's tools may be used as well."),
        "limits": (
            closed(
                {
                    "steps": (whole(1, 1_000_000_000), "Most steps, rounds of loops counted each time."),
                    "rounds": (whole(1, 1_000_000_000), "Most rounds of all loops together."),
                    "time": (ref("duration"), "Longest life of an execution."),
                    "tokens": (whole(1, 1_000_000_000_000), "Most tokens of all model calls together."),
                    "cost": (
                        {"type": "number", "minimum": 0.000_001, "maximum": 1_000_000_000},
                        "Most that all model calls together may cost, in US dollars.",
                    ),
                }
            ),
            "What ends a runaway execution; the task cannot catch it.",
        ),
        "dialect": (
            one_of("everstep", "julep-2024", "julep-2025", "contenox"),
            "How texts are read; everstep if left out.",
        ),
        "require": (
            {
                "type": "array",
                "items": closed(
                    {
                        "if": (ref("expression"), "What must hold of the input `_`."),
                        "message": (ANY, "What the caller is told if it does not."),
                    },
                    "if",
                ),
            },
            "What must hold of an input before an execution is made.",
        ),
        "finally": (ref("steps"), "Steps that run however the task ended; they see `error` and `output`."),
        **BESIDE_KEYS,
    }
)
"""Shape and text of each key of a task."""
