"""Checks the JSON Schemas of a task and points at the place in the source that is wrong. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.core.diagnostics import Findings, Position
from engine.core.schemas import schema_problems
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
        findings.error(code, f"{shown}: {message}", at, path=".".join([path, *parts]))
    return not problems


def _position(node: Node, parts: list[str]) -> Position:
    """Return the position of the deepest node that a path leads to."""
    for part in parts:
        found: Node | None = None
        if isinstance(node, MapNode):
            found = node.get(part)
        elif isinstance(node, ListNode) and part.isdigit() and int(part) < len(node.items):
            found = node.items[int(part)]
        if found is None:
            break
        node = found
    return node.position


def _values(node: Json) -> Iterator[Json]:
    yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _values(item)


def _subschemas(node: Json, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield place, node
        for key, value in node.items():
            if key not in ("const", "enum", "default", "examples"):
                yield from _subschemas(value, f"{place}/{key}" if place else key)
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
