"""How the Anthropic adapter asks for a reply that fits a schema: bound to it, or told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.anthropic_schema import native_schema, takes_schemas
from tests.backends.test_anthropic_request import CACHED, sent

BOUND = "claude-sonnet-4-5"
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}


def test_a_model_that_can_be_bound_to_the_schema_is_bound_to_it() -> None:
    body = sent(model=BOUND, output_schema=COLOUR, settings={"output_config": {"effort": "low", "format": "mine"}})
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {**COLOUR, "additionalProperties": False}},
    }
    assert "system" not in body


def test_rules_that_the_service_does_not_know_are_told_in_words_beside_the_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    body = sent(model=BOUND, output_schema=schema)
    assert body["output_config"]["format"]["schema"]["properties"] == {"n": {"type": "integer"}}
    assert '"minimum":3' in body["system"][-1]["text"]


@pytest.mark.parametrize(
    ("model", "schema", "messages"),
    [
        ("claude-3-5-sonnet-20241022", COLOUR, []),
        ("other", COLOUR, []),
        (BOUND, {"type": "array", "items": {"type": "string"}}, []),
        (BOUND, COLOUR, [{"role": "user", "content": "hi"}, {"role": "assistant", "content": '{"colour":'}]),
    ],
)
def test_a_model_that_cannot_be_bound_is_told_the_schema(model: str, schema: Any, messages: Any) -> None:
    body = sent(*messages, model=model, output_schema=schema)
    assert "output_config" not in body
    assert json.dumps(schema, separators=(",", ":")) in body["system"][-1]["text"]
    assert body["system"][-1]["cache_control"] == CACHED


def test_a_response_format_of_the_settings_counts_if_the_step_has_no_schema() -> None:
    wished = {"type": "json_schema", "json_schema": {"name": "x", "schema": COLOUR}}
    assert sent(model=BOUND, settings={"response_format": wished}) == sent(model=BOUND, output_schema=COLOUR)
    body = sent(model=BOUND, settings={"response_format": {"type": "json_object"}})
    assert "JSON object" in body["system"][0]["text"]
    assert sent(settings={"response_format": {"type": "text"}}) == sent()
    broken = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {"enum": 3}}}}}
    assert "output_config" not in sent(model=BOUND, settings={"response_format": broken})


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-opus-4-5-20251101", True),
        ("claude-sonnet-4-6", True),
        ("anthropic/claude-haiku-4.5", True),
        ("claude-opus-5", True),
        ("claude-opus-4-20250514", False),
        ("claude-opus-4-1", False),
        ("claude-3-7-sonnet-latest", False),
        ("gpt-9", False),
    ],
)
def test_the_name_of_a_model_says_whether_it_can_be_bound(model: str, takes: bool) -> None:
    assert takes_schemas(model) is takes


def closed(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


@pytest.mark.parametrize(
    ("member", "narrowed"),
    [
        ({"type": ["string", "null"], "description": "d"}, {"type": ["string", "null"], "description": "d"}),
        ({"anyOf": [{"type": "null"}, {"const": 3}]}, {"anyOf": [{"type": "null"}, {"const": 3}]}),
        ({"type": "array", "items": {"type": "number"}}, {"type": "array", "items": {"type": "number"}}),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {**closed(a={"type": "string"}), "required": []}),
        (
            {"type": ["object", "null"], "properties": {"a": {"type": "null"}}, "required": ["a"]},
            {"anyOf": [closed(a={"type": "null"}), {"type": "null"}]},
        ),
        ({"type": "string", "enum": ["a"], "examples": ["a"]}, {"type": "string", "enum": ["a"]}),
    ],
)
def test_what_the_service_takes_of_a_schema_is_kept(member: Any, narrowed: Any) -> None:
    native = native_schema(closed(x=member))
    assert native is not None
    assert (native.schema["properties"]["x"], native.is_all) == (narrowed, True)


@pytest.mark.parametrize(
    "member",
    [
        {},
        True,
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": True},
        {"type": "array"},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"oneOf": [{"type": "string"}, {"type": "null"}]},
        {"type": "string", "not": {"const": "a"}},
        {"type": "string", "items": {"type": "string"}},
        {"type": "colour"},
        {"const": {"a": 1}},
        {"enum": [{"a": 1}]},
        {"$ref": "#/$defs/none"},
        {"anyOf": [{"type": "null"}, {"oneOf": []}]},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#"},
    ],
)
def test_a_schema_that_the_service_cannot_take_is_not_sent(member: Any) -> None:
    assert native_schema(closed(x=member)) is None


def test_definitions_are_followed_unless_they_hold_themselves() -> None:
    node = {"type": "object", "properties": {"leaf": {"$ref": "#/$defs/leaf"}}, "required": ["leaf"]}
    leaf = {"type": "string", "maxLength": 3}
    native = native_schema({**closed(x={"$ref": "#/$defs/node"}), "$defs": {"node": node, "leaf": leaf}})
    assert native is not None
    assert native.schema["properties"] == {"x": {"$ref": "#/$defs/node"}}
    assert native.schema["$defs"] == {"node": {**node, "additionalProperties": False}, "leaf": {"type": "string"}}
    assert not native.is_all
    looped = {**node, "properties": {"leaf": {"$ref": "#/$defs/node"}}}
    assert native_schema({**closed(x={"$ref": "#/$defs/node"}), "$defs": {"node": looped}}) is None


@pytest.mark.parametrize(("count", "takes"), [(24, True), (25, False)])
def test_a_schema_with_more_optional_members_than_the_service_takes_is_not_sent(count: int, takes: bool) -> None:
    members = {f"m{number}": {"type": "string"} for number in range(count)}
    assert (native_schema({"type": "object", "properties": members}) is not None) is takes


@pytest.mark.parametrize(("count", "takes"), [(16, True), (17, False)])
@pytest.mark.parametrize("union", [{"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}])
def test_a_schema_with_more_unions_than_the_service_takes_is_not_sent(union: Any, count: int, takes: bool) -> None:
    assert (native_schema(closed(**{f"m{number}": union for number in range(count)})) is not None) is takes


def test_what_a_definition_holds_counts_once_however_often_it_is_used() -> None:
    members = {f"m{number}": {"type": "string"} for number in range(20)}
    used = closed(a={"$ref": "#/$defs/it"}, b={"$ref": "#/$defs/it"})
    definitions = {"first": used, "it": {"type": "object", "properties": members}}
    assert native_schema({**used, "$defs": definitions}) is not None


def test_a_schema_that_is_a_reference_itself_is_not_sent() -> None:
    assert native_schema({"type": "object", "$ref": "#/$defs/it", "$defs": {"it": closed(a={"type": "null"})}}) is None
