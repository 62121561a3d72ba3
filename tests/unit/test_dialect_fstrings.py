"""Texts as bodies of f-strings: what is a field, what stays text, and that the expression gives the same text."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.plan.fstrings import MAX_FIELDS, split_body

NAMES = frozenset({"_", "steps"})
CONTEXT = EvalContext(now=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), seed="s")


def shown(text: str) -> str:
    source = split_body(text, NAMES).to_expression()
    result = compile_expression(source).evaluate({"_": {"a": 1.5, "b": "x", "n": None, "o": {"k": [1]}}}, CONTEXT)
    assert isinstance(result, str)
    return result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a {_.a} b", "a 1.5 b"),
        ("{_.a:.2f}|{_.b:>3}|{_.b!r}", "1.50|  x|'x'"),
        ("{_.n} {_.o}", "None {'k': [1]}"),
        ("{{{_.b}}}", "{x}"),
        ("{{_.b}}", "x"),
        ("{{ _.b }} and {{literal}}", "x and {literal}"),
        ('{"k": "{_.b}", "l": {"m": 1}}', '{"k": "x", "l": {"m": 1}}'),
        ("{_['b']} {_[\"b\"]}", "x x"),
        ("{_.b + '}'} \\ \n\t\"'", "x} \\ \n\t\"'"),
        ("{_.b if _.b != 'y' else 'no'}", "x"),
        ("{_['b'].replace('x', '\\n')}{_.a:.1f}", "\n1.5"),
        ("{_.a}{", "1.5{"),
        ("{_.a}}", "1.5}"),
        ("{ _.a }", "1.5"),
        ("{_.b!x} {_.b:{_.a}}", "{_.b!x} {_.b:1.5}"),
        ("{_.b", "{_.b"),
        ("{_.(} {_.b]}", "{_.(} {_.b]}"),
        ("\u2028{_.b}\x07é😀", "\u2028x\x07é😀"),
    ],
)
def test_the_expression_gives_the_text_with_its_fields_filled_in(text: str, result: str) -> None:
    assert shown(text) == result


def test_a_field_starts_at_a_known_name_only() -> None:
    assert split_body("{other} {len(_)} {_} {steps[0]}", NAMES).to_expression() == (
        "f'{{other}} {{len(_)}} {_} {steps[0]}'"
    )


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("it's {_}", "f'it\\'s {_}'"),
        ("{_['a']}", "f\"{_['a']}\""),
        ("{_['a']} {_[\"b\"]}", "''.join([str(_['a']), ' ', str(_[\"b\"])])"),
        ("{_['#']:.2f}", "''.join([[f'{part:.2f}' for part in [_['#']]][0]])"),
    ],
)
def test_the_expression_is_one_that_every_python_reads_alike(text: str, source: str) -> None:
    assert split_body(text, NAMES).to_expression() == source


def test_a_field_knows_its_place_in_the_text() -> None:
    (field,) = split_body("ab { _.x }", NAMES).fields
    assert (field.source, field.offset) == ("_.x", 5)


def test_a_text_full_of_unclosed_fields_is_given_up_after_some() -> None:
    body = split_body("{_ ' " * 50_000, NAMES)
    assert body.fields == []
    assert len(split_body("{_}" * (MAX_FIELDS + 5), NAMES).fields) == MAX_FIELDS


@given(st.text(alphabet=st.sampled_from("{}_.ab'\"\\ \n[]:!#$é"), max_size=40))
@example("{_#}")
@example("{_['#']}")
def test_any_text_gives_an_expression_that_parses(text: str) -> None:
    body = split_body(text, NAMES)
    compile_expression(body.to_expression())
    if not body.fields and "{{" not in text and "}}" not in text:
        assert body.text == text


def test_a_mark_of_a_comment_makes_no_field_but_one_inside_a_text_does() -> None:
    assert split_body("see {_#}", NAMES).fields == []
    assert [field.source for field in split_body("see {_['#']}", NAMES).fields] == ["_['#']"]
