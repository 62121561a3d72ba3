"""Reading YAML: YAML 1.2 scalars, positions, and everything that is refused."""

from __future__ import annotations

import pytest

from engine.core.diagnostics import Findings, Position
from engine.core.errors import SourceError
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, node_to_json
from engine.source.limits import MAX_DEPTH, MAX_SOURCE_CHARS
from engine.source.parse import parse_source


def read(text: str) -> Node:
    return parse_source(text, "t.yaml")


def refuse(text: str) -> tuple[str, Position, str]:
    """Return code, place and message of the one finding that a source is refused with."""
    with pytest.raises(SourceError) as caught:
        read(text)
    (found,) = caught.value.diagnostics
    assert caught.value.source == text
    assert caught.value.file == "t.yaml"
    assert f"error[{found.code}]" in caught.value.render()
    return found.code, found.position, found.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("+", "+"),
        (".", "."),
        ("0x", "0x"),
        ("0o8", "0o8"),
        ("=", "="),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("!!float 1", 1.0),
        ("!!int 3", 3),
        ("! 5", "5"),
        ("١٢", "١٢"),
    ],
)
def test_a_scalar_has_the_value_that_yaml_1_2_gives_it(text: str, value: object) -> None:
    node = read(f"a: {text}\n") if text != "-" else read('a: "-"\n')
    assert isinstance(node, MapNode)
    found = node.get("a")
    assert isinstance(found, ScalarNode)
    assert found.value == value
    assert type(found.value) is type(value)


def test_keys_become_text_and_keep_their_place() -> None:
    node = read("1: a\n  \ntrue: b\nnull: c\nyes: d\n0x10: e\n'': f\n")
    assert isinstance(node, MapNode)
    assert node.keys() == ("1", "true", "null", "yes", "0x10", "")
    assert [entry.key_position.line for entry in node.entries] == [1, 3, 4, 5, 6, 7]


def test_each_node_knows_where_it_starts() -> None:
    node = read("a:\n  - b\n  - {c: [d, 'e']}\n")
    assert isinstance(node, MapNode)
    items = node.get("a")
    assert isinstance(items, ListNode)
    assert items.position == Position(2, 3)
    inner = items.items[1]
    assert isinstance(inner, MapNode)
    assert inner.position == Position(3, 5)
    assert inner.entries[0].key_position == Position(3, 6)
    deep = inner.get("c")
    assert isinstance(deep, ListNode)
    assert [item.position for item in deep.items] == [Position(3, 10), Position(3, 13)]


def test_an_alias_is_the_value_of_its_anchor() -> None:
    assert node_to_json(read("a: &x {b: [1]}\nc: *x\nd: &k key\n*k : v\n")) == {
        "a": {"b": [1]},
        "c": {"b": [1]},
        "d": "key",
        "key": "v",
    }


def test_a_byte_order_mark_is_no_part_of_the_source() -> None:
    assert node_to_json(parse_source("\ufeffa: 1", "t")) == {"a": 1}


def test_a_duplicate_key_is_refused_with_both_places() -> None:
    code, at, message = refuse("a: 1\nb:\n  c: 1\n  'c': 2\n")
    assert (code, at) == ("E103", Position(4, 3))
    assert "line 3, column 3" in message


def test_all_duplicate_keys_are_told_at_once_and_a_syntax_error_after_them_too() -> None:
    text = "a: 1\na: 2\nb:\n  c: 1\n  c: 2\nb: 3\n"
    for source, last in ((text, []), (f"{text}d: @x\n", ["E102"])):
        with pytest.raises(SourceError) as caught:
            read(source)
        found = caught.value.diagnostics
        assert [item.code for item in found] == ["E103", "E103", "E103", *last]
        assert [item.position.line for item in found[:3]] == [2, 5, 6]


def test_of_a_duplicate_key_lists_and_objects_are_read_on_with_both_values() -> None:
    findings = Findings()
    text = "a: [1]\na: [2]\nb: {c: 1, d: 2}\nb: {d: 3, e: 4}\nf: 1\nf: [2]\n"
    node = parse_source(text, "t.yaml", findings)
    assert node_to_json(node) == {"a": [1, 2], "b": {"c": 1, "d": 2, "e": 4}, "f": 1}
    assert [item.position.line for item in findings.items] == [2, 4, 6]


def test_very_many_duplicate_keys_are_no_bomb() -> None:
    findings = Findings()
    node = parse_source("a: [1]\n" * 40_000, "t.yaml", findings)
    assert isinstance(node, MapNode)
    assert len(findings.items) == 39_999


def test_a_quote_that_is_never_closed_is_told_where_it_starts_with_a_remedy() -> None:
    with pytest.raises(SourceError) as caught:
        read("name: 'it\nmain: [{evaluate: 1}]\n")
    (found,) = caught.value.diagnostics
    assert (found.position, found.message) == (Position(1, 7), "the quote that starts here is never closed")
    assert found.hint == "close it where the text ends"


def test_keys_that_become_the_same_text_are_duplicates() -> None:
    assert refuse("1: a\n'1': b\n")[0] == "E103"


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("a: [1", "E102", Position(2, 1)),
        ("a:\n\tb: 1", "E102", Position(2, 1)),
        ("a: b: c", "E102", Position(1, 5)),
        ("a: @x", "E102", Position(1, 4)),
        ("a: 'x", "E102", Position(1, 4)),
        ('a: 1\nb: "x\nc: 1\n', "E102", Position(2, 4)),
        ("a: 1\n--- \nb: 2", "E104", Position(2, 1)),
        ("a: 1\n...\nb: 2", "E102", Position(3, 1)),
        ('"a":1', "E102", Position(1, 4)),
        ("a: *nowhere", "E107", Position(1, 4)),
        ("a: &x [*x]", "E107", Position(1, 8)),
        ("a: &x [1]\n*x : 2", "E110", Position(2, 1)),
        ("<<: {a: 1}", "E108", Position(1, 1)),
        ("a: !!binary aGk=", "E109", Position(1, 4)),
        ("a: !!timestamp 2024-01-01", "E109", Position(1, 4)),
        ("a: !custom x", "E109", Position(1, 4)),
        ("a: !!int x", "E109", Position(1, 4)),
        ("a: !!set {x}", "E109", Position(1, 4)),
        ("? [a]\n: 1", "E110", Position(1, 3)),
        ("{a: 1}: b", "E110", Position(1, 1)),
        ("a: .nan", "E111", Position(1, 4)),
        ("a: -.Inf", "E111", Position(1, 4)),
        ("a: 1e999", "E111", Position(1, 4)),
        ("a: " + "9" * 500, "E111", Position(1, 4)),
        ("", "E112", Position(1, 1)),
        ("# only a comment\n", "E112", Position(1, 1)),
        ("a: 1\nb: \x07", "E101", Position(2, 4)),
        ("a: \ud800", "E101", Position(1, 4)),
        ("[" * (MAX_DEPTH + 1), "E106", Position(1, MAX_DEPTH + 1)),
        ("- " * (MAX_DEPTH + 1) + "x", "E106", Position(1, 2 * MAX_DEPTH + 1)),
        ("x" * (MAX_SOURCE_CHARS + 1), "E105", Position(1, 1)),
        ("[" + "1," * 200_001 + "]", "E105", Position(1, 400_000)),
    ],
)
def test_a_source_that_cannot_be_a_task_is_refused_with_code_and_place(text: str, code: str, at: Position) -> None:
    assert refuse(text)[:2] == (code, at)


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    assert node_to_json(read("'<<': 1")) == {"<<": 1}


@pytest.mark.parametrize("text", ["cron: */5 * * * *", "hosts: [*.a.example]", "- *"])
def test_a_text_that_starts_with_a_star_needs_quotes(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text, "t")
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("E102", "a text cannot start with *, which marks an alias")
    assert (found.hint, found.position.column) == ("put quotes around it", text.index("*") + 1)


def test_an_alias_bomb_is_refused_before_it_expands() -> None:
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    code, at, _ = refuse("\n".join(levels))
    assert (code, at.line) == ("E107", 6)


def test_a_long_text_repeated_by_aliases_is_refused() -> None:
    assert refuse(f"a: &a {'x' * 100_000}\nb: [{','.join(['*a'] * 50)}]")[0] == "E107"


def test_the_deepest_allowed_source_is_read() -> None:
    assert node_to_json(read("[" * MAX_DEPTH + "]" * MAX_DEPTH)) is not None
