"""How the definition of an agent's tool must look: one JSON Schema for each of Julep's types."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.errors import InvalidInput
from engine.core.schemas import schema_problems, value_problems
from engine.core.spec.vocabulary import MAX_NAME_CHARS
from engine.core.values import Json

_TEXT: Final[Json] = {"type": ["string", "null"]}
_WORD: Final[Json] = {"type": "string", "minLength": 1}
_FLAG: Final[Json] = {"type": ["boolean", "null"]}
_OBJECT: Final[Json] = {"type": ["object", "null"]}
_TEXTS: Final[Json] = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
_PIXELS: Final[Json] = {"type": ["integer", "null"], "minimum": 1}
_METHODS: Final[list[Json]] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"]
_RESOURCES: Final[list[Json]] = ["agent", "user", "task", "execution", "doc", "session", "job"]
_OPERATIONS: Final[list[Json]] = [
    *("create", "update", "patch", "create_or_update", "delete", "get", "list"),
    *("embed", "search", "change_status", "chat", "history"),
]


def _shape(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _claude(name: str, **more: Json) -> Json:
    return _shape({"name": _TEXT, "type": {"enum": [name, None]}, **more})


SHAPES: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "function": _shape({"name": {}, "description": {}, "parameters": _OBJECT, "strict": _FLAG}),
        "integration": _shape({"provider": _WORD, "method": _TEXT, "setup": _OBJECT, "arguments": _OBJECT}, "provider"),
        "system": _shape(
            {
                "resource": {"enum": _RESOURCES},
                "operation": {"enum": _OPERATIONS},
                "subresource": {"enum": ["tool", "doc", "execution", "transition", None]},
                "resource_id": _TEXT,
                "arguments": _OBJECT,
            },
            *("resource", "operation"),
        ),
        "api_call": _shape(
            {
                "method": {"enum": _METHODS},
                "url": _WORD,
                "headers": _TEXTS,
                "params": {"type": ["object", "string", "null"]},
                "params_schema": _OBJECT,
                "json": {},
                "data": {"type": ["object", "string", "null"]},
                "files": _OBJECT,
                "content": _TEXT,
                "cookies": _TEXTS,
                "follow_redirects": _FLAG,
                "include_response_content": _FLAG,
                "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0},
                "schema": _OBJECT,
                "secrets": {
                    "type": ["object", "null"],
                    "additionalProperties": _shape({"name": _WORD}, "name"),
                },
            },
            *("method", "url"),
        ),
        "computer_20241022": _claude(
            "computer_20241022",
            display_width_px=_PIXELS,
            display_height_px=_PIXELS,
            display_number={"type": ["integer", "null"]},
        ),
        "text_editor_20241022": _claude("text_editor_20241022"),
        "bash_20241022": _claude("bash_20241022"),
    }
)
"""By type; the definition stands under a key of that name."""

OWN_DEFINITION: Final = frozenset({"computer_20241022", "text_editor_20241022", "bash_20241022"})
"""Types that need no definition: the model knows what they are."""
_SCHEMAS: Final = MappingProxyType({"function": ("parameters",), "api_call": ("params_schema", "schema")})
"""Members that are JSON Schemas themselves."""


def check_tool(name: str, kind: str, definition: Any) -> None:
    """Check a tool of an agent.

    Args:
        name: What it is called.
        kind: Its type, one of SHAPES.
        definition: What stands under the key of the type.

    Raises:
        InvalidInput: `agent_tool.bad_name`, `agent_tool.bad_definition`.
    """
    if not (name.isascii() and name.isidentifier() and len(name) <= MAX_NAME_CHARS):
        raise InvalidInput(
            f"{name[:60]!r} is not a name for a tool",
            code="agent_tool.bad_name",
            hint=f"use letters, digits and _, at most {MAX_NAME_CHARS}, and no digit first",
        )
    problems = value_problems(definition, SHAPES[kind], whole=kind)
    for member in _SCHEMAS.get(kind, ()):
        if not problems and definition.get(member) is not None:
            problems = [f"{member}: {problem}" for problem in schema_problems(definition[member])]
    if problems:
        raise InvalidInput(
            f"`{kind}` of the tool '{name}': {'; '.join(problems)}",
            code="agent_tool.bad_definition",
            hint="docs/resources.md says what each type of tool needs",
        )
