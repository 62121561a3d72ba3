"""Operations on what this server keeps that are tools: their arguments and effects. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from engine.core.kinds import ToolEffect
from engine.core.spec.read_system import OWNERS
from engine.core.values import Json

MOST_LISTED: Final = 100

_TEXT: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 300}
_PAGE: Final[dict[str, Json]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 20},
    "offset": {"type": "integer", "minimum": 0, "default": 0},
}
_OBJECT: Final[Json] = {"type": "object"}
_OWNER: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[^\x00-\x1f\x7f]*$"}
_PIECE: Final[Json] = {"type": "string", "minLength": 1}
_CONTENT: Final[Json] = {
    "anyOf": [_PIECE, {"type": "array", "items": _PIECE, "minItems": 1}],
    "description": "The text, or its pieces in order: each is found by itself.",
}
_NAME: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 255}
_AGENT: Final[dict[str, Json]] = {
    "name": _NAME,
    "model": {"type": "string", "maxLength": 255},
    "instructions": {"type": ["string", "array"], "items": {"type": "string"}},
    "about": {"type": "string"},
    "default_settings": _OBJECT,
    "default_system_template": {"type": "string"},
    "project": _NAME,
    "metadata": _OBJECT,
}
_USER: Final[dict[str, Json]] = {
    "name": {"type": "string", "maxLength": 255},
    "about": {"type": "string"},
    "project": _NAME,
    "metadata": _OBJECT,
}
_TASK: Final[Json] = {"type": ["object", "string"], "description": "The task as its file has it: an object, or YAML."}


_SWITCH: Final[Json] = {"type": "boolean"}
_NAMES: Final[Json] = {"type": "array", "items": _NAME, "minItems": 1, "maxItems": 100}
_SESSION: Final[dict[str, Json]] = {
    "situation": {"type": "string", "maxLength": 100_000},
    "system_template": {"type": "string", "maxLength": 100_000},
    "render_templates": _SWITCH,
    "token_budget": {"type": "integer", "minimum": 1},
    "context_overflow": {"enum": ["truncate", "adaptive"]},
    "auto_run_tools": _SWITCH,
    "forward_tool_calls": _SWITCH,
    "recall_options": _OBJECT,
    "metadata": _OBJECT,
}
_MEMBERS: Final[dict[str, Json]] = {"agent": _NAME, "agents": _NAMES, "user": _NAME, "users": _NAMES}
_MESSAGES: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["user", "assistant", "system", "tool"]},
            "content": {"type": ["string", "array", "null"]},
        },
        "required": ["role"],
    },
}
_CHAT: Final[dict[str, Json]] = {
    "messages": _MESSAGES,
    "agent": _NAME,
    "recall": _SWITCH,
    "recall_tools": _SWITCH,
    "save": _SWITCH,
    "auto_run_tools": _SWITCH,
    "model": _NAME,
    "tools": {"type": "array", "items": _OBJECT},
    "tool_choice": {"type": ["string", "object"]},
    "temperature": {"type": "number"},
    "top_p": {"type": "number"},
    "max_tokens": {"type": "integer", "minimum": 1},
    "stop": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    "seed": {"type": "integer"},
    "response_format": _OBJECT,
    "metadata": _OBJECT,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        about: For models and people.
        properties: JSON Schemas of its arguments.
        required: Those that must be given.
        effect: What it does to the world.
        idempotent: Whether a repeated call with the same key does no harm.
    """

    about: str
    properties: Mapping[str, Json]
    required: tuple[str, ...] = ()
    effect: ToolEffect = ToolEffect.READ
    idempotent: bool = False

    def parameters(self, fixed: Mapping[str, Json]) -> dict[str, Any]:
        """Return the JSON Schema of the arguments, without those that the definition of a tool has fixed."""
        return {
            "type": "object",
            "properties": {name: schema for name, schema in self.properties.items() if name not in fixed},
            "required": [name for name in self.required if name not in fixed],
            "additionalProperties": False,
        }

    def julep_parameters(self, fixed: Mapping[str, Json], names: Mapping[str, str]) -> dict[str, Any]:
        """Return the same with the names that Julep has, where what is written may stand in one object, `data`.

        Args:
            fixed: As for `parameters`.
            names: Julep's names, each with the one that the argument has here.
        """
        schema, theirs = self.parameters(fixed), {ours: name for name, ours in names.items()}
        properties = {theirs.get(name, name): about for name, about in schema["properties"].items()}
        required = [theirs.get(name, name) for name in schema["required"]]
        if self.effect is ToolEffect.WRITE:
            properties["data"] = _OBJECT
            required = [name for name in required if name in names]
        return {**schema, "properties": properties, "required": required}


def _of_documents(owner: str) -> dict[str, Operation]:
    """Return the operations on documents of an agent or a user, by name; of an empty owner those on nobody's."""
    own: dict[str, Json] = {owner: _OWNER} if owner else {}
    named = (owner,) if owner else ()
    place, whose = (f"{owner}.doc", f"documents of {owner}s") if owner else ("doc", "documents that are nobody's")
    create = {**own, "content": _CONTENT, "title": {"type": "string", "maxLength": 1_000}, "metadata": _OBJECT}
    search: dict[str, Json] = {
        "text": {"type": "string", "maxLength": 10_000, "description": "The words that are looked for."},
        "vector": {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 1,
            "description": "Their meaning; left out = that of the text.",
        },
        "metadata_filter": _OBJECT,
        "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
        "confidence": {"type": "number", "minimum": -1, "maximum": 1, "description": "Least likeness in meaning."},
        "alpha": {"type": "number", "minimum": 0, "maximum": 1, "description": "0 = words only, 1 = meaning only."},
        "mmr_strength": {"type": "number", "minimum": 0, "maximum": 1, "description": "How much variety counts."},
        "k_multiplier": {"type": "integer", "minimum": 1, "maximum": 100},
        "trigram_similarity_threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "lang": {"type": "string", "maxLength": 35},
        "include_embeddings": {"type": "boolean"},
    }
    write = ToolEffect.WRITE
    return {
        f"{place}.list": Operation(f"Lists {whose}.", {**own, **_PAGE, "metadata_filter": _OBJECT}, named),
        f"{place}.get": Operation(f"Shows one of the {whose}.", {**own, "id": _TEXT}, (*named, "id")),
        f"{place}.create": Operation(f"Adds to the {whose}.", create, (*named, "content"), write, idempotent=True),
        f"{place}.delete": Operation(f"Deletes one of the {whose}.", {**own, "id": _TEXT}, (*named, "id"), write),
        f"{place}.search": Operation(f"Searches {whose} by a text, a vector or both.", {**own, **search}, named),
    }


def _of_sessions() -> dict[str, Operation]:
    """Return the operations on sessions, by name."""
    write, one = ToolEffect.WRITE, {"id": _TEXT}
    latest: Json = {"type": "integer", "minimum": 1, "maximum": 10_000, "description": "Only so many of the latest."}
    again: dict[str, Any] = {"effect": write, "idempotent": True}
    return {
        "session.list": Operation("Lists sessions.", {**_PAGE, "metadata_filter": _OBJECT}),
        "session.get": Operation("Shows a session.", one, ("id",)),
        "session.create": Operation("Begins a session.", {**_MEMBERS, **_SESSION}, (), **again),
        "session.create_or_update": Operation(
            "Begins a session with this id, or replaces it.", {**one, **_MEMBERS, **_SESSION}, ("id",), **again
        ),
        "session.update": Operation("Changes what is given of a session.", {**one, **_SESSION}, ("id",), **again),
        "session.delete": Operation("Deletes a session with all that was said in it.", one, ("id",), write),
        "session.history": Operation("Tells what was said in a session.", {**one, "limit": latest}, ("id",)),
        "session.chat": Operation(
            "Says something in a session and waits for the answer.", {**one, **_CHAT}, ("id", "messages"), **again
        ),
    }


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "agent.list": Operation("Lists agents.", {**_PAGE, "metadata_filter": _OBJECT}),
        "agent.get": Operation("Shows an agent.", {"id": _TEXT}, ("id",)),
        "agent.create": Operation("Creates an agent.", _AGENT, ("name",), ToolEffect.WRITE, idempotent=True),
        "agent.update": Operation(
            "Changes what is given of an agent.",
            {"id": _TEXT, **_AGENT},
            ("id",),
            ToolEffect.WRITE,
            idempotent=True,
        ),
        "agent.delete": Operation(
            "Deletes an agent with its tasks, tools and documents.", {"id": _TEXT}, ("id",), ToolEffect.WRITE
        ),
        "user.list": Operation("Lists users.", {**_PAGE, "metadata_filter": _OBJECT}),
        "user.get": Operation("Shows a user.", {"id": _TEXT}, ("id",)),
        "user.create": Operation("Creates a user.", _USER, (), ToolEffect.WRITE, idempotent=True),
        "user.update": Operation(
            "Changes what is given of a user.", {"id": _TEXT, **_USER}, ("id",), ToolEffect.WRITE, idempotent=True
        ),
        "user.delete": Operation("Deletes a user with its documents.", {"id": _TEXT}, ("id",), ToolEffect.WRITE),
        "task.list": Operation("Lists tasks.", {**_PAGE, "agent_id": _TEXT, "name": _TEXT}),
        "task.get": Operation("Shows a task.", {"id": _TEXT}, ("id",)),
        "task.create": Operation(
            "Creates a task.", {"task": _TASK, "agent_id": _TEXT}, ("task",), ToolEffect.WRITE, idempotent=True
        ),
        "task.update": Operation(
            "Makes a new version of a task.",
            {"id": _TEXT, "task": _TASK},
            ("id", "task"),
            ToolEffect.WRITE,
            idempotent=True,
        ),
        "task.delete": Operation("Removes a task.", {"id": _TEXT}, ("id",), ToolEffect.WRITE),
        "execution.list": Operation("Lists executions, the newest first.", {**_PAGE, "task": _TEXT}),
        "execution.get": Operation("Shows an execution.", {"id": _TEXT}, ("id",)),
        "execution.create": Operation(
            "Starts an execution of a task and does not wait for it.",
            {
                "task": _TEXT,
                "input": {},
                "metadata": {"type": "object"},
                "labels": {"type": "array", "items": {"type": "string"}},
            },
            ("task",),
            ToolEffect.WRITE,
            idempotent=True,
        ),
        **_of_sessions(),
        **{name: made for owner in ("", *OWNERS) for name, made in _of_documents(owner).items()},
    }
)
"""All that this version has, by `resource.operation`; those that the reader of tasks knows."""


def plain_arguments(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a call in Julep's words under the names that they have here.

    Args:
        given: The arguments.
        names: Julep's names, each with ours.
    """
    data = given.get("data")
    told = {**given, **(data if isinstance(data, dict) else {})}
    return {names.get(name, name): value for name, value in told.items() if name != "data" and value is not None}
