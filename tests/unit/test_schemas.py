"""JSON Schemas from strangers: a value is checked within bounds, and ends in problems, never in a bug."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.errors import CompileError
from engine.core.schemas import MAX_CHECKS, value_problems


def doubling(levels: int, link: Any) -> dict[str, Any]:
    """A chain of schemas of which each applies the next one twice to the same value."""
    defs: dict[str, Any] = {f"d{level}": {"allOf": [link(level + 1), link(level + 1)]} for level in range(levels)}
    defs[f"d{levels}"] = {"type": "integer"}
    return {"$defs": {name: {"$anchor": name, **schema} for name, schema in defs.items()}, **link(0)}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(40, lambda level: {"$ref": f"#d{level}"}),
        doubling(40, lambda level: {"$dynamicRef": f"#d{level}"}),
        doubling(40, lambda level: {"$ref": f"#/$defs/d{level}"}),
    ],
)
def test_a_schema_that_doubles_at_each_level_ends_within_its_steps(schema: dict[str, Any]) -> None:
    (problem,) = value_problems(1, schema)
    assert problem.startswith(f"value: checking it takes more than {MAX_CHECKS:,} steps")


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"default": {"$ref": "#/properties/default"}}},
        {"$anchor": "me", "$ref": "#me"},
        {"dependentSchemas": {"default": {"$ref": "#"}}},
    ],
)
def test_a_schema_that_refers_to_itself_for_ever_is_a_problem(schema: dict[str, Any]) -> None:
    (problem,) = value_problems({"default": 1}, schema)
    assert problem.startswith("value: ")


def test_a_property_may_be_called_default_and_is_checked_all_the_same() -> None:
    text = "input_schema: {properties: {default: {$ref: '#/properties/default'}}}\nmain: [{evaluate: 1}]"
    with pytest.raises(CompileError) as raised:
        compile_text(text, contracts={})
    assert [item.code for item in raised.value.diagnostics] == ["E501"]


def test_items_are_compared_once_each_so_that_many_take_no_time() -> None:
    many = [{"n": number} for number in range(20_000)]
    assert value_problems(many, {"uniqueItems": True}) == []
    assert len(value_problems([*many, {"n": 7.0}], {"uniqueItems": True})) == 1


@pytest.mark.parametrize(
    ("items", "unique"),
    [([1, True], True), ([0, False], True), ([1, 1.0], False), ([{"a": [1]}, {"a": [1.0]}], False), (["1", 1], True)],
)
def test_items_are_equal_as_json_schema_has_it(items: list[Any], unique: bool) -> None:
    assert (value_problems(items, {"uniqueItems": True}) == []) is unique


def test_a_number_that_no_float_holds_is_a_problem_and_no_bug() -> None:
    (problem,) = value_problems(10**350, {"multipleOf": 0.1})
    assert problem.startswith("value: the schema cannot be applied")


def test_an_ordinary_large_value_is_checked() -> None:
    rows = [{"id": number, "name": "x", "tags": ["a", "b"]} for number in range(50_000)]
    row = {
        "type": "object",
        "required": ["id", "name"],
        "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "tags": {"items": {"type": "string"}}},
    }
    assert value_problems(rows, {"type": "array", "items": row}) == []
    rows[49_999]["id"] = "x"
    assert value_problems(rows, {"type": "array", "items": row}) == ["49999/id: 'x' is not of type 'integer'"]
