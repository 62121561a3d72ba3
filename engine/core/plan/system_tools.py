"""Operations on tasks, executions and agents that are tools: their arguments and effects. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from engine.core.kinds import ToolEffect
from engine.core.values import Json

MOST_LISTED: Final = 100

_TEXT: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 300}
_PAGE: Final[dict[str, Json]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 20},
    "offset": {"type": "integer", "minimum": 0, "default": 0},
}
_TASK: Final[Json] = {"type": ["object", "string"], "description": "The task as its file has it: an object, or YAML."}


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


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "agent.list": Operation("Lists agents.", _PAGE),
        "agent.get": Operation("Shows an agent.", {"id": _TEXT}, ("id",)),
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
    }
)
"""All that this version has, by `resource.operation`; those that the reader of tasks knows."""
