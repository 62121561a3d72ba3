"""Pointing into a text: which place of the source a character of a value comes from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.spec.nodes import MapNode, ScalarNode, position_at
from engine.source.parse import parse_source


def text_of(source: str) -> ScalarNode:
    node = parse_source(source, "t")
    assert isinstance(node, MapNode)
    found = node.entries[0].value
    assert isinstance(found, ScalarNode)
    assert isinstance(found.value, str)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "a: some X text",
        "a: 'some X text'",
        "a: 'it''s X text'",
        'a: "some X text"',
        'a: "tab\\t \\u00e9 \\x41 quote\\" X text"',
        "a: |\n  first\n\n    indented\n  then X\n  last",
        "a: |2-\n    deep X",
        "a: >\n  first\n  second X\n\n  third",
        "a: >-\n\n  after a blank X",
        "a: first\n  second X\n  third",
        "a: 'first\n  second X'",
        'a: "first\n  second X"',
        'a: "é\n\n  second \\u00e9 X"',
        '{"a": "json \\ud83d X"}'.replace("\\ud83d", "\\n"),
    ],
)
def test_a_character_of_a_value_is_found_where_it_stands_in_the_source(source: str) -> None:
    node = text_of(source)
    assert isinstance(node.value, str)
    at = position_at(node, node.value.index("X"))
    assert source.split("\n")[at.line - 1][at.column - 1] == "X"


def test_the_end_of_a_text_is_just_behind_it() -> None:
    node = text_of("a: abc")
    at = position_at(node, 3)
    assert (at.line, at.column) == (1, 7)


def test_a_text_without_source_stands_at_its_own_place() -> None:
    node = ScalarNode("abc")
    assert position_at(node, 2) == node.position


@settings(deadline=None)  # two cores are shared; a pause of the machine is no failure
@given(
    st.lists(st.text(st.sampled_from("ab '\"\\#{}$é"), min_size=1).map(lambda line: "x" + line), min_size=1, max_size=5)
)
def test_each_character_of_a_literal_block_is_found_exactly(lines: list[str]) -> None:
    source = "a: |\n" + "\n".join(f"  {line}" for line in lines)
    node = text_of(source)
    assert isinstance(node.value, str)
    rows = source.split("\n")
    for offset, char in enumerate(node.value.rstrip("\n")):
        if not char.isspace():
            at = position_at(node, offset)
            assert rows[at.line - 1][at.column - 1] == char
