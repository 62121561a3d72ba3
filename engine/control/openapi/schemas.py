"""Turns schemas of an OpenAPI document into JSON Schema 2020-12 with the definitions that they refer to."""

from __future__ import annotations

import re
from typing import Any

from engine.control.openapi.document import EXCLUDE, MAX_LEVELS, Document
from engine.core.schemas import schema_problems
from engine.core.values import Json

_ONE = frozenset(
    {
        *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords whose value is a schema."""
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_DROPPED = frozenset({"deprecated", "discriminator", "externalDocs", "readOnly", "writeOnly", "xml"})
"""What says nothing about a value that is sent."""
_TWO = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
MAX_PARTS = 20_000
"""Objects and lists of one operation's schemas."""


class SchemaReader:
    """Turns the schemas of one operation's arguments; what they refer to is gathered as `$defs`.

    Attributes:
        definitions: The definitions so far, by name.
    """

    def __init__(self, document: Document) -> None:
        """Begin with no definition."""
        self.definitions: dict[str, Json] = {}
        self._document = document
        self._names: dict[str, str] = {}
        self._parts = 0

    def schema(self, node: Any, place: str) -> Json:
        """Return a schema as JSON Schema 2020-12, with references to `#/$defs/…`.

        Args:
            node: The schema as it stands in the document.
            place: Where it stands.

        Raises:
            InvalidInput: `config.openapi` if it is none, or refers to what does not exist.
        """
        found = self._schema(node, place, 0)
        self._check(found, place)
        return found

    def _check(self, schema: Json, place: str) -> None:
        if place in self._document.sound:
            return
        problems = schema_problems(schema)
        if problems:
            raise self._document.fault(place, f"the schema is wrong: {problems[0]}", EXCLUDE)
        self._document.sound.add(place)

    def _schema(self, node: Any, place: str, depth: int) -> Json:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise self._document.fault(place, "a schema must stand here: an object")
        self._parts += 1
        if self._parts > MAX_PARTS or depth > MAX_LEVELS:
            raise self._document.fault(place, "the schemas of this operation are too large for a tool", EXCLUDE)
        pointer = node.get("$ref")
        if isinstance(pointer, str):
            target = {"$ref": f"#/$defs/{self._defined(pointer, f'{place}/$ref', depth)}"}
            # beside a reference 3.0 lets nothing count
            if self._document.is_30:
                return target
            beside = self._members({key: item for key, item in node.items() if key != "$ref"}, place, depth)
            return {**target, **beside}
        found = self._members(node, place, depth)
        return _from_30(found, node) if self._document.is_30 else found

    def _defined(self, pointer: str, place: str, depth: int) -> str:
        name = self._names.get(pointer)
        if name is None:
            target = self._document.at(pointer, place)
            wanted = re.sub(r"[^A-Za-z0-9_.-]+", "_", pointer.rpartition("/")[2]) or "schema"
            name, number = wanted, 1
            while name in self.definitions:
                number += 1
                name = f"{wanted}_{number}"
            # before its parts are looked at: they may refer to it
            self._names[pointer], self.definitions[name] = name, True
            found = self._schema(target, pointer, depth + 1)
            self._check(found, pointer)
            self.definitions[name] = found
        return name

    def _members(self, node: dict[str, Any], place: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in node.items():
            here = f"{place}/{key}"
            if key in _DROPPED or key.startswith("x-"):
                continue
            if key == "example":
                found.setdefault("examples", [item])
            elif key in _ONE:
                found[key] = self._schema(item, here, depth + 1)
            elif key in _LISTS and isinstance(item, list):
                found[key] = [self._schema(part, f"{here}/{at}", depth + 1) for at, part in enumerate(item)]
            elif key in _MAPS and isinstance(item, dict):
                parts = self._sent(item) if key == "properties" else item
                found[key] = {name: self._schema(part, f"{here}/{name}", depth + 1) for name, part in parts.items()}
            elif key == "pattern" and schema_problems({"pattern": item}):
                continue  # one that takes exponential time is left to the service
            else:
                found[key] = item
        left_out = set(_object(node.get("properties"))) - set(_object(found.get("properties")))
        if left_out and isinstance(found.get("required"), list):
            found["required"] = [name for name in found["required"] if name not in left_out]
        return found

    def _sent(self, properties: dict[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in properties.items() if not is_read_only(part)}


def is_read_only(schema: Any) -> bool:
    """Say whether a member stands in answers only."""
    return isinstance(schema, dict) and schema.get("readOnly") is True


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_30(found: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for bound, exclusive in _TWO:
        marked = found.get(exclusive)
        if isinstance(marked, bool):
            del found[exclusive]
            if marked and bound in found:
                found[exclusive] = found.pop(bound)
    if found.pop("nullable", None) is not True:
        return found
    kind = node.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [found, {"type": "null"}]} if found else {}
    found["type"] = [kind, "null"]
    if isinstance(found.get("enum"), list) and None not in found["enum"]:
        found["enum"] = [*found["enum"], None]
    return found
