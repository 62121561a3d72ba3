"""Checks the JSON Schemas of a task and points at the place in the source that is wrong. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from engine.core.diagnostics import Findings, Position, did_you_mean
from engine.core.schemas import TYPES, schema_problems, value_problems
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapNode, Node
from engine.core.spec.parts import SchemaSpec
from engine.core.values import Json

MAX_SCHEMA_VALUES = 5_000
"""Checking a schema takes up to half a millisecond for each of its values."""
MAX_EXPANSION = 10_000
"""Schemas that are applied to one and the same value."""
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_DATA = ("const", "enum", "default", "examples")

MAX_LOOKED_UP = 50
"""Unknown keys of one schema that are compared with the keywords."""
_NEAR = 0.8
_KEYWORDS = (
    "$schema $id $ref $defs $comment $anchor $dynamicRef $dynamicAnchor $vocabulary definitions allOf anyOf oneOf not "
    "if then else properties patternProperties additionalProperties propertyNames unevaluatedProperties items "
    "prefixItems contains minContains maxContains unevaluatedItems dependentSchemas dependentRequired type enum const "
    "required minLength maxLength pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems "
    "maxItems uniqueItems minProperties maxProperties format title description default deprecated readOnly writeOnly "
    "examples contentEncoding contentMediaType contentSchema"
)
_KEYWORD_OF = {keyword.lower(): keyword for keyword in _KEYWORDS.split()}
_ANNOTATIONS = frozenset({"example", "id", "name", "formats", "additionalItems", "dependencies"})
"""Keys of other systems that are near a keyword and mean something else."""
_TYPES_ELSEWHERE = {
    "list": "array",
    "dict": "object",
    "map": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "str": "string",
    "text": "string",
    "date": "string",
    "none": "null",
}


def check_schema(schema: SchemaSpec, findings: Findings, path: str) -> bool:
    """Report what is wrong with a JSON Schema.

    Args:
        schema: The schema.
        findings: Where to put what is wrong.
        path: Its place in the structure.

    Returns:
        Whether it may be used.
    """
    size = sum(1 for _ in _values(schema.value))
    if size > MAX_SCHEMA_VALUES:
        message = f"the schema has {size:,} values, more than {MAX_SCHEMA_VALUES:,}"
        findings.error(codes.OUT_OF_RANGE, message, schema.node.position, path=path)
        return False
    problems = schema_problems(schema.value) or [*_bad_keys(schema.value, ""), *_bad_references(schema.value)]
    for problem in problems:
        place, _, message = problem.partition(": ")
        parts = [] if place == "schema" else place.split("/")
        code = codes.REMOTE_REFERENCE if "references within the schema" in message else codes.BAD_SCHEMA
        shown = "the schema" if not parts else f"the schema at '{place}'"
        at = _position(schema.node, parts)
        hint = _meant_type(message) if "is no type" in message else ""
        findings.error(code, f"{shown}: {message}", at, hint=hint, path=".".join([path, *parts]))
    if not problems:
        _warn_of_keywords(schema, findings, path)
    return not problems


def _meant_type(message: str) -> str:
    word = message[1:].partition("'")[0].lower()
    return f"did you mean '{_TYPES_ELSEWHERE[word]}'?" if word in _TYPES_ELSEWHERE else did_you_mean(word, TYPES)


def _warn_of_keywords(schema: SchemaSpec, findings: Findings, path: str) -> None:
    """Warn about keys that are nearly keywords; JSON Schema itself takes any key and ignores what it does not know."""
    unknown = (
        (place, key)
        for place, node in _subschemas(schema.value, "")
        for key in node
        if key not in _KEYWORD_OF.values() and len(key) <= 40 and not place.endswith("dependentRequired")
    )
    for place, key in islice(unknown, MAX_LOOKED_UP):
        nearest = get_close_matches(key.lower(), _KEYWORD_OF, n=1, cutoff=_NEAR)
        if nearest and key not in _ANNOTATIONS:
            parts = place.split("/") if place else []
            findings.warn(
                codes.MISSPELT,
                f"JSON Schema has no '{key}', so it checks nothing",
                _position(schema.node, parts, key),
                path=".".join([path, *parts, key]),
                hint=f"did you mean '{_KEYWORD_OF[nearest[0]]}'?",
            )


def check_value(value: Json, schema: Json, node: Node, findings: Findings, path: str) -> None:
    """Report that a value which was written out does not fit the schema of what it stands for.

    Args:
        value: The value.
        schema: A valid JSON Schema; None = anything fits.
        node: Where it was read from.
        findings: Where to put what is wrong.
        path: Its place in the structure.
    """
    for problem in value_problems(value, schema):
        place, _, message = problem.partition(": ")
        parts = [] if place == "value" else place.split("/")
        shown = "it" if not parts else f"'{place}' in it"
        findings.error(
            codes.BAD_ARGUMENTS,
            f"{shown} does not fit the schema: {message}",
            _position(node, parts),
            path=".".join([path, *parts]),
            hint="what stands in for an answer must look like one",
        )


def _position(node: Node, parts: list[str], key: str = "") -> Position:
    """Return the position of the deepest node that a path leads to, or of a key of it."""
    for part in parts:
        found: Node | None = None
        if isinstance(node, MapNode):
            found = node.get(part)
        elif isinstance(node, ListNode) and part.isdigit() and int(part) < len(node.items):
            found = node.items[int(part)]
        if found is None:
            break
        node = found
    entry = node.entry(key) if key and isinstance(node, MapNode) else None
    return node.position if entry is None else entry.key_position


def _values(node: Json) -> Iterator[Json]:
    yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _values(item)


def _subschemas(node: Json, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield place, node
        for key, value in node.items():
            here = f"{place}/{key}" if place else key
            if key in _BY_NAME and isinstance(value, dict):
                # a property may be called `default`: its name says nothing of what it is
                for name, inner in value.items():
                    yield from _subschemas(inner, f"{here}/{name}")
            elif key not in _DATA:
                yield from _subschemas(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _subschemas(value, f"{place}/{index}")


def _bad_keys(schema: Json, place: str) -> Iterator[str]:
    for here, node in _subschemas(schema, place):
        patterns = node.get("patternProperties")
        if isinstance(patterns, dict):
            for pattern in patterns:
                for problem in schema_problems({"pattern": pattern}):
                    yield f"{here}/patternProperties: {problem.partition(': ')[2]}".lstrip("/")


def _bad_references(schema: Json) -> Iterator[str]:
    nodes = list(_subschemas(schema, ""))
    if any("$id" in node for place, node in nodes if place):
        return  # an inner $id changes what local references mean; the validator sorts that out
    anchors = {
        node[key] for _, node in nodes for key in ("$anchor", "$dynamicAnchor") if isinstance(node.get(key), str)
    }
    broken = False
    for place, node in nodes:
        for key in ("$ref", "$dynamicRef"):
            reference = node.get(key)
            if isinstance(reference, str) and _target(schema, reference, anchors) is None:
                broken = True
                yield f"{place}/{key}: '{reference[:80]}' leads nowhere".lstrip("/")
    if not broken:
        yield from _endless(schema, nodes, anchors)


def _target(schema: Json, reference: str, anchors: set[str]) -> Json | None:
    if reference in ("#", ""):
        return schema
    if not reference.startswith("#/"):
        return True if reference[1:] in anchors else None
    node = schema
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~").replace("%25", "%")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node if isinstance(node, (dict, bool)) else None


def _endless(schema: Json, nodes: list[tuple[str, dict[str, Any]]], anchors: set[str]) -> Iterator[str]:
    """Find what would make checking one value endless: references in a circle, or ones that double at each level."""
    done: dict[int, int] = {}
    for place, node in nodes:
        path: set[int] = set()
        stack: list[tuple[Any, bool]] = [(node, False)]
        while stack:
            current, leaving = stack.pop()
            if not isinstance(current, dict):
                continue
            if leaving:
                path.discard(id(current))
                done[id(current)] = 1 + sum(done.get(id(item), 1) for item in _in_place(schema, current, anchors))
                if done[id(current)] > MAX_EXPANSION:
                    yield f"{place or 'schema'}: its references expand to more than {MAX_EXPANSION:,} schemas"
                    return
                continue
            if id(current) in path:
                yield f"{place or 'schema'}: a reference leads back to itself for ever"
                return
            if id(current) in done:
                continue
            path.add(id(current))
            stack.append((current, True))
            stack.extend((item, False) for item in _in_place(schema, current, anchors))


def _in_place(schema: Json, node: dict[str, Any], anchors: set[str]) -> Iterator[Json]:
    reference = node.get("$ref")
    if isinstance(reference, str):
        target = _target(schema, reference, anchors)
        if isinstance(target, dict):
            yield target
    for key in _IN_PLACE_LISTS:
        items = node.get(key)
        if isinstance(items, list):
            yield from items
    for key in _IN_PLACE:
        if isinstance(node.get(key), dict):
            yield node[key]
