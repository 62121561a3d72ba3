"""The small shapes that the JSON Schema of task files is made of."""

from __future__ import annotations

from typing import Any, Final

Shape = dict[str, Any]

ANY: Final[Shape] = {}
TEXT: Final[Shape] = {"type": "string"}
FLAG: Final[Shape] = {"type": "boolean"}
LIST: Final[Shape] = {"type": "array"}
OBJECT: Final[Shape] = {"type": "object"}


def ref(name: str) -> Shape:
    """Return a reference to a shared shape; see `SHARED`."""
    return {"$ref": f"#/$defs/{name}"}


def one_of(*words: str) -> Shape:
    """Return the shape of one of some words."""
    return {"enum": list(words)}


def whole(least: int, most: int) -> Shape:
    """Return the shape of a whole number within bounds, both included."""
    return {"type": "integer", "minimum": least, "maximum": most}


def closed(members: dict[str, tuple[Shape, str]], *required: str) -> Shape:
    """Return the shape of an object that has these members and no others.

    Args:
        members: Shape and text by name.
        required: Members that must be there.
    """
    properties = {name: {**shape, "description": text} for name, (shape, text) in members.items()}
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**shape, "required": list(required)} if required else shape
