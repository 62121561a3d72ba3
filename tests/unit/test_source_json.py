"""Reading JSON: the same tree as YAML, and what only a JSON reader can read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.diagnostics import Findings, Position
from engine.core.errors import SourceError
from engine.core.spec.nodes import ListNode, MapNode, ScalarNode, node_to_json
from engine.source.json_reader import read_json
from engine.source.parse import parse_source

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(
    value=st.lists(JSON_VALUES, max_size=5) | st.dictionaries(st.text(), JSON_VALUES, max_size=5),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1, "\t"]),
)
def test_whatever_json_can_say_is_read_as_it_stands(value: object, ascii_only: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert node_to_json(parse_source(text, "t.json")) == value


def test_nodes_and_keys_of_json_know_their_place() -> None:
    node = parse_source('{\n  "a": [1,\n\t"x"],\r\n  "b": {"c": null}}', "t.json")
    assert isinstance(node, MapNode)
    items = node.get("a")
    assert isinstance(items, ListNode)
    assert [item.position for item in items.items] == [Position(2, 9), Position(3, 2)]
    second = node.entry("b")
    assert second is not None
    assert second.key_position == Position(4, 3)
    assert isinstance(second.value, MapNode)
    assert second.value.entries[0].key_position == Position(4, 9)


def test_a_surrogate_pair_is_one_character() -> None:
    assert node_to_json(parse_source('{"a": "\\ud83d\\ude00"}', "t")) == {"a": "\U0001f600"}


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(SourceError) as caught:
        parse_source('{"a": "\\ud83d"}', "t")
    assert [(found.code, found.position) for found in caught.value.diagnostics] == [("E101", Position(1, 7))]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 1, "a": 2}', "E103"),
        ('{"a": 1e999}', "E111"),
        ('{"a": ' + "1" * 500 + "}", "E111"),
        ("[" * 101 + "]" * 101, "E106"),
        ("[" + "1," * 200_000 + "1]", "E105"),
    ],
)
def test_json_without_bounds_is_refused(text: str, code: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text, "t.json")
    assert [found.code for found in caught.value.diagnostics] == [code]


@pytest.mark.parametrize("text", ["{a: 1}", '{"a": 1,}', "[a, b]", '{"a": 1} # comment', '{"a": 01}', "{'a': 1}"])
def test_what_is_no_json_may_still_be_yaml(text: str) -> None:
    assert read_json(text, Findings()) is None
    assert node_to_json(parse_source(text, "t")) is not None


def test_a_long_key_is_no_problem_in_json() -> None:
    node = parse_source(json.dumps({"k" * 2000: 1}), "t")
    assert isinstance(node, MapNode)
    assert isinstance(node.entries[0].value, ScalarNode)


@pytest.mark.parametrize("text", ['{"main": [{"evaluate": 1},]}', "{'main': [{evaluate: 1}]}", "main: [{evaluate: 1}]"])
def test_a_json_file_holds_json_and_nothing_else(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text, "task.json")
    (found,) = caught.value.diagnostics
    assert found.code == "E102"
    assert "this is not JSON" in found.message


def test_what_looks_like_json_in_a_yaml_file_may_be_yaml() -> None:
    assert node_to_json(parse_source("{main: [{evaluate: 1}]}", "task.yaml")) == {"main": [{"evaluate": 1}]}


def test_all_keys_that_stand_twice_are_told_at_once() -> None:
    with pytest.raises(SourceError) as caught:
        parse_source('{"a": 1, "a": 2, "b": {"c": 1, "c": 2}, "b": 3}', "t.json")
    assert [(found.code, found.position.column) for found in caught.value.diagnostics] == [
        ("E103", 10),
        ("E103", 32),
        ("E103", 41),
    ]


def test_a_json_file_that_breaks_off_tells_also_of_the_keys_that_stood_twice_before() -> None:
    with pytest.raises(SourceError) as caught:
        parse_source('{"a": 1, "a": 2, b', "t.json")
    assert [found.code for found in caught.value.diagnostics] == ["E103", "E102"]
