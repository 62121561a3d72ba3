"""Tells which JSON Schemas Anthropic's models can be bound to, and says them in the part of the language they take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from engine.core.values import Json

MAX_OPTIONAL = 24
MAX_UNIONS = 16
"""Most optional members and most unions of one schema; the service refuses schemas beyond that as too complex."""

FIRST_VERSION = (4, 5)
"""Models before this one cannot be bound to a schema."""

_VERSION = re.compile(r"claude-[a-z]+-(\d+)(?:[-.](\d{1,2})(?!\d))?(?!\d)")
_KEPT = ("title", "description", "default", "const")
_NO_RULES = {"$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly", *_KEPT}
_RULES = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format"),
    *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
}
"""What the service does not enforce; a model can still be told of it in words."""
_ABOUT = {"object": {"properties", "required", "additionalProperties"}, "array": {"items"}}
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


@dataclass(frozen=True, slots=True)
class NativeSchema:
    """A schema that the service takes.

    Attributes:
        schema: What is sent; everything that fits it has the shape that the author's schema asks for.
        is_all: Whether it says all rules of the author's schema.
    """

    schema: dict[str, Any]
    is_all: bool


class _NotNative(Exception):
    pass


def takes_schemas(model: str) -> bool:
    """Say whether a model can be bound to a schema, as far as its name tells."""
    found = _VERSION.search(model.lower())
    return found is not None and (int(found[1]), int(found[2] or 0)) >= FIRST_VERSION


def native_schema(schema: Json) -> NativeSchema | None:
    """Return a schema as the service takes it, or None if it cannot be bound to it.

    Objects are closed, as the service demands it: a schema whose author left them open is fulfilled by closed ones too.
    Rules like `minimum`, which the service refuses, are left out.

    Args:
        schema: The author's schema.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object" or "$ref" in schema:
        return None
    narrowing = _Narrowing(schema)
    try:
        narrowed = narrowing.narrow(schema)
    except (_NotNative, TypeError, AttributeError):  # the settings of a step may hold what is no schema at all
        return None
    if narrowing.optional > MAX_OPTIONAL or narrowing.unions > MAX_UNIONS:
        return None
    return NativeSchema(narrowed, narrowing.is_all)


class _Narrowing:
    """One walk through a schema: what was counted, and whether anything had to be left out."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.optional = 0
        self.unions = 0
        self.is_all = True
        self._root = root
        self._open: list[str] = []
        self._checked: set[str] = set()

    def narrow(self, schema: Json) -> dict[str, Any]:
        """Return a part of the schema as the service takes it.

        Raises:
            _NotNative: The service has no words for it.
        """
        if not isinstance(schema, dict):
            raise _NotNative
        if "$ref" in schema:
            self.is_all = self.is_all and not schema.keys() - _NO_RULES - {"$ref"}
            return {"$ref": self._follow(schema["$ref"])}
        made: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
        left = schema.keys() - _NO_RULES
        if left & _RULES:
            self.is_all = False
        left -= _RULES
        for key in ("$defs", "definitions"):
            if key in left:
                made[key] = {name: self._definition(f"#/{key}/{name}") for name in schema[key]}
        left -= {"$defs", "definitions"}
        made.update(self._body(schema, left))
        return made

    def _body(self, schema: dict[str, Any], left: set[str]) -> dict[str, Any]:
        if left == {"anyOf"}:
            self.unions += 1
            return {"anyOf": [self.narrow(item) for item in schema["anyOf"]]}
        fixed = [*schema.get("enum", []), schema.get("const")]
        if any(isinstance(item, (dict, list)) for item in fixed):
            raise _NotNative
        if "enum" in left and left <= {"enum", "type"}:
            return {key: schema[key] for key in ("type", "enum") if key in left}
        if not left and "const" in schema:
            return {}
        kinds = schema.get("type")
        names: list[Any] = kinds if isinstance(kinds, list) else [kinds]
        if not names or any(name not in _TYPES for name in names):
            raise _NotNative
        about = {name: _ABOUT.get(name, set()) for name in names}
        if not left <= {"type"}.union(*about.values()):
            raise _NotNative
        self.unions += isinstance(kinds, list)
        if not any(about.values()):
            return {"type": kinds}
        made = [self._typed(name, schema) for name in names]
        return {"anyOf": made} if isinstance(kinds, list) else made[0]

    def _typed(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        if name == "array":
            return {"type": name, "items": self.narrow(schema.get("items"))}
        return {"type": name, **(self._object(schema) if name == "object" else {})}

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        members = schema.get("properties")
        # an object without members of its own may hold anything, which a closed one may not
        if not isinstance(members, dict) or not members or schema.get("additionalProperties", False) is not False:
            raise _NotNative
        required = schema.get("required", [])
        self.optional += len(members.keys() - set(required))
        return {
            "properties": {name: self.narrow(member) for name, member in members.items()},
            "required": required,
            "additionalProperties": False,
        }

    def _follow(self, place: Any) -> str:
        """Check what a reference leads to; a schema that holds itself is refused by the service."""
        if not isinstance(place, str) or place in self._open:
            raise _NotNative
        if place not in self._checked:
            counted = self.optional, self.unions
            self._definition(place)
            # its members are counted where it is defined
            self.optional, self.unions = counted
        return place

    def _definition(self, place: str) -> dict[str, Any]:
        start, _, rest = place.partition("/")
        group, _, name = rest.partition("/")
        held = self._root.get(group)
        if start != "#" or group not in ("$defs", "definitions") or not isinstance(held, dict) or name not in held:
            raise _NotNative
        self._open.append(place)
        made = self.narrow(held[name])
        self._open.pop()
        self._checked.add(place)
        return made
