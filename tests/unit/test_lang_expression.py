"""Expressions: what they compute, what they refuse, and how they say so."""

import datetime as dt
from typing import Any

import pytest

from engine.core.errors import ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ENV: dict[str, Any] = {
    "_": {
        "a": 5,
        "b": "x",
        "none": None,
        "items": [{"n": 1, "p": 1.5}, {"n": 2, "p": 2.5}],
        "nested": {"deep": {"key": "v"}},
        "list": [3, 1, 2],
    },
    "state": {"count": 3},
}


def context(fuel: Fuel | None = None, seed: str = "run/main.0") -> EvalContext:
    return EvalContext(now=NOW, seed=seed, fuel=fuel)


def value(source: str, env: dict[str, Any] | None = None) -> Any:
    return compile_expression(source).evaluate(ENV if env is None else env, context())


def error(source: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        value(source)
    return caught.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("-_.a", -5),
        ("7 // 2 + 7 % 4", 6),
        ("2 ** 10 - (1 << 3)", 1016),
        ("_.a > 3 and _.b == 'x'", True),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("_.none is None", True),
        ("_.none or 'd'", "d"),
        ("0 and missing", 0),
        ("'yes' if _.a else missing", "yes"),
        ("not _.list", False),
        ("'ab' * 2 + 'c'", "ababc"),
        ("[1] * 2 + [3]", [1, 1, 3]),
        ("'x' in _.b", True),
        ("'a' in _", True),
        ("4 not in _.list", True),
        ("_.list[0] + _.list[-1]", 5),
        ("_.list[1:]", [1, 2]),
        ("'hello'[1:4:2]", "el"),
        ("_['nested']['deep'].key", "v"),
        ("(1, 'a', None)", [1, "a", None]),
        ("{'k': _.a, **state}", {"k": 5, "count": 3}),
        ("{1: 'a'}", {"1": "a"}),
        ("[*_.list, 9]", [3, 1, 2, 9]),
        ("[i.n for i in _.items if i.p > 2]", [2]),
        ("[x + y for x in [1, 2] for y in [10, 20] if x + y != 21]", [11, 12, 22]),
        ("[[y for y in range(x)] for x in range(3)]", [[], [0], [0, 1]]),
        ("{k: v for k, v in state.items()}", {"count": 3}),
        ("sum(i.p for i in _.items)", 4.0),
        ("[a + b for a, (b, c) in [(1, (2, 3))]]", [3]),
        ("f'{_.a:>4}|{_.a:.2f}|{_.b!r}|{_.a:{_.list[0]}}'", "   5|5.00|'x'|  5"),
        ("f'{_.list} {True} {None}'", "[3, 1, 2] True None"),
        ("[true, false, null, NEWLINE]", [True, False, None, "\n"]),
        ("{**{'a': 1}} | {'b': 2}", {"a": 1, "b": 2}),
        ("  1 +\n  2  ", 3),
        ("_.a > 3\nand _.a < 6", True),
        ("'é' + 'ü'", "éü"),
        (r"search_regex('\d+', 'a12') and '\w'", "\\w"),
    ],
)
def test_an_expression_gives_the_value_that_python_gives(source: str, expected: Any):
    assert value(source) == expected


def test_data_wins_over_methods_when_read_and_methods_win_when_called():
    env = {"_": {"items": [1], "keys": 2}}
    assert value("_.items", env) == [1]
    assert value("_.items()", env) == [["items", [1]], ["keys", 2]]
    assert value("_.get('nope', 7)", env) == 7


def test_data_with_a_dunder_key_is_data():
    assert value("_.__class__", {"_": {"__class__": "mine"}}) == "mine"


def test_data_with_the_name_of_a_function_is_read_and_the_function_still_called():
    assert value("[max, max(1, 2)]", {"max": "mine"}) == ["mine", 2]


def test_a_name_of_a_comprehension_hides_the_one_outside_and_ends_with_it():
    assert value("[[_ for _ in [1, 2]], _]", {"_": 0}) == [[1, 2], 0]


def test_sets_keep_the_order_of_insertion():
    assert value("{'c', 'a', 'b', 'a'}") == ["c", "a", "b"]
    assert value("{x % 3 for x in [5, 4, 3, 2]}") == [2, 1, 0]
    assert value("set('hello') & set('loam') | {'z'}") == ["l", "o", "z"]


def test_identity_of_numbers_and_texts_means_equal_type_and_value():
    assert value("[1000 is 10 ** 3, 1 is True, 'ab' is 'a' + 'b', 1 is not 1.0]") == [True, False, True, True]


def test_the_result_shares_no_container_with_the_environment():
    env = {"_": {"a": [1, {"b": 2}]}}
    result = value("_", env)
    assert result == env["_"]
    result["a"][1]["b"] = 3
    assert env["_"]["a"] == [1, {"b": 2}]
    inner = value("{'x': _.a, 'y': [_.a[1]]}", env)
    inner["x"].append(1)
    inner["y"][0].clear()
    assert env["_"]["a"] == [1, {"b": 2}]


def test_truthy_follows_python():
    answers = [compile_expression(text).truthy(ENV, context()) for text in ("_.list", "[]", "0.0", "'0'", "null")]
    assert answers == [True, False, False, True, False]


@pytest.mark.parametrize(
    ("source", "code", "offset"),
    [
        ("_.item", "no_key", 2),
        ("_.nested.deep.kye", "no_key", 14),
        ("_['nope']", "no_key", 0),
        ("1 + _.list[9]", "no_index", 4),
        ("1 + missing", "unknown_name", 4),
        ("missing(1)", "unknown_function", 0),
        ("1 + (2 / (_.a - 5))", "zero_division", 5),
        ("1 + 'a'", "type", 0),
        ("_.a.b", "no_attribute", 4),
        ("_.none.b", "no_attribute", 7),
        ("_.b.nope()", "no_method", 4),
        ("_.list.append(1)", "no_method", 7),
        ("_.items(1)", "arguments", 2),
        ("len()", "arguments", 0),
        ("'a' < 1", "type", 0),
        ("[1, 2] < [1, 'a']", "type", 0),
        ("{[1]: 2}", "type", 0),
        ("[x for x in 5]", "type", 12),
        ("[a for a, b in [1]]", "type", 7),
        ("float('nan')", "not_json", 0),
        ("[len]", "not_json", 0),
        ("'a' % 1", "type", 0),
        ("10.0 ** 400", "overflow", 0),
        ("(-8) ** 0.5", "value", 0),
        ("int('x')", "value", 0),
        ("max([])", "value", 0),
    ],
)
def test_a_failure_has_a_code_a_place_and_the_text(source: str, code: str, offset: int):
    caught = error(source)
    assert (caught.code, caught.details) == (f"expression.{code}", {"expression": source, "offset": offset})


def test_a_missing_key_or_name_gets_the_nearest_known_one():
    assert error("_.item").hint == "did you mean 'items'?"
    assert error("stat.count").hint == "did you mean 'state'?"
    assert error("summ([1])").hint == "did you mean 'sum'?"
    assert error("'a'.uper()").hint == "did you mean 'upper'?"
    assert ".get(key, default)" in error("_.zzzzzz").hint


def test_a_long_expression_is_clipped_in_the_details():
    source = "missing + '" + "x" * 1000 + "'"
    assert len(error(source).details["expression"]) == 300


@pytest.mark.parametrize(
    ("source", "offset", "part"),
    [
        ("", 0, "empty"),
        ("  ", 0, "empty"),
        ("1 +", 3, "ends too early"),
        ("  1 + * 2", 6, "invalid syntax"),
        ("lambda x: x", 0, "lambda"),
        ("[(y := 1)]", 2, ":="),
        ("x = 1", 2, "not an expression"),
        ("a @ b", 0, "@"),
        ("b'x'", 0, "bytes"),
        ("1j", 0, "complex"),
        ("1 + ...", 4, "..."),
        ("_[0](1)", 0, "only functions"),
        ("f(**x)", 4, "**"),
        ("_[1, 2]", 2, "one index"),
        ("[x async for x in y]", 13, "async"),
        ("await x", 0, "await"),
        ("'\\ud800'", 0, "surrogate"),
        ("[x for x.y in z]", 7, "loop variables"),
        ("[x for x in y if x(1)]", 17, "data"),
        ("é + lambda: 1", 4, "not an expression"),
    ],
)
def test_what_is_not_part_of_the_language_is_refused_with_its_place(source: str, offset: int, part: str):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source)
    assert part in caught.value.message
    assert caught.value.offset == offset == caught.value.details["offset"]


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("_.x = 3", "write `==`"),
        ("_.x := 3", "use a `set` step"),
        ("!_.x", "write `not`"),
        ("_.from", "write ['from']"),
        ("_.order.class == 1", "write ['class']"),
        ("_.0", "write [0]"),
        ("\u201ca\u201d", "straight quotes"),
        ("for x in _: x", "no statements"),
        ("import os", "no statements"),
    ],
)
def test_a_slip_of_syntax_gets_the_hint_for_what_was_meant(source: str, hint: str):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source)
    assert hint in caught.value.hint


@pytest.mark.parametrize("source", ["1. foo", "_.x ==", "f(a=", "[1, 2", "_ == = 3"])
def test_a_syntax_error_of_another_kind_gets_no_hint_that_would_mislead(source: str):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source)
    assert "[" not in caught.value.hint
    assert "statements" not in caught.value.hint


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("[].append(1)", "items + [item]"),
        ("_.update({})", "a | b"),
        ("_.sort()", "sorted"),
        ("'{}'.format(1)", "f-str"),
    ],
)
def test_a_method_that_is_left_out_on_purpose_gets_the_way_without_it(source: str, hint: str):
    (found,) = compile_expression(source).problems({"_"})
    assert hint in found.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("results", "`reduce` only"),
        ("error", "`on_error` and `finally` only"),
        ("output", "`finally` only"),
        ("arguments", "`input`"),
        ("secrets", "`arguments` of tool steps"),
        ("user", "the input"),
        ("session", "the input"),
    ],
)
def test_a_name_that_exists_elsewhere_gets_the_place_where_it_does_or_what_is_here(name: str, hint: str):
    (found,) = compile_expression(f"{name}.x").problems({"_", "input", "outputs"})
    assert hint in found.hint
    assert compile_expression(f"{name}.x").problems({"_", name}) == []


def test_common_slips_get_a_hint():
    for source, hint in (("{{ _.a }}", "template"), ("a && b", "`and`"), ("$ _.a", "second $"), ("a ? b : c", "if")):
        with pytest.raises(ExpressionSyntaxError) as caught:
            compile_expression(source)
        assert hint in caught.value.hint


def test_places_count_characters_also_behind_wide_ones_and_doubled_escapes():
    assert error("'é☃😀' + missing").details["offset"] == 8
    assert error(r"'\d\w' + missing").details["offset"] == 9
    assert error(r"r'\d' + '\'\d' + missing").details["offset"] == 17


def test_names_are_the_free_roots():
    assert compile_expression("[x + y for x in _.items] + [len(z)]").names == {"_", "y", "z"}
    assert compile_expression("max(math.pi, now().year)").names == frozenset()


def test_equal_texts_give_the_same_object():
    assert compile_expression("1 + 1") is compile_expression("1 + 1")


def problems(source: str) -> list[tuple[str, int]]:
    return [
        (found.code.removeprefix("expression."), found.offset) for found in compile_expression(source).problems({"_"})
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("_.a + len(_.b)", []),
        ("foo + bar", [("unknown_name", 0), ("unknown_name", 6)]),
        ("foo(_)", [("unknown_function", 0)]),
        ("_.a.uper()", [("unknown_function", 4)]),
        ("math.flor(_.a)", [("unknown_function", 5)]),
        ("_.a.__class__", [("private_attribute", 4)]),
        ("_.__class__()", [("private_attribute", 2)]),
        ("_.a / 0", [("zero_division", 0)]),
        ("_.a % 0.0", [("zero_division", 0)]),
        ("len(_, _)", [("arguments", 0)]),
        ("sorted(_, by=1)", [("arguments", 0)]),
        ("[1, 2][2]", [("no_index", 7)]),
        ("[1, 2][-2]", []),
        ("[x for x in _]", []),
        ("_._id", []),
    ],
)
def test_the_static_check_finds_what_cannot_work(source: str, expected: list[tuple[str, int]]):
    assert problems(source) == expected


def test_the_static_check_suggests_known_names():
    found = compile_expression("stat.x").problems({"state", "_"})
    assert found[0].hint == "did you mean 'state'?"


def test_fuel_is_shared_when_given_and_fresh_when_not():
    fuel = Fuel(1000)
    text = compile_expression("[x for x in range(600)]")
    assert len(text.evaluate({}, context(fuel))) == 600
    with pytest.raises(ExpressionError) as caught:
        text.evaluate({}, context(fuel))
    assert caught.value.code == "expression.fuel"
    for _ in range(200):
        text.evaluate({}, context())


def test_a_comprehension_over_ten_thousand_objects_fits_the_default_fuel():
    env = {"_": [{"id": number, "name": f"n{number}", "score": number % 100} for number in range(10_000)]}
    assert len(value("[{**x, 'up': x.name.upper()} for x in _ if x.score >= 50]", env)) == 5_000
    assert len(value("[f'{x.name}: {x.score:.1f}' for x in _]", env)) == 10_000
    assert value("sorted(_, key='score')[0].id", env) == 0
    assert len(value("_", env)) == 10_000


def test_text_with_half_of_a_surrogate_pair_is_refused_before_it_reaches_a_store():
    with pytest.raises(ExpressionError) as caught:
        value("_", {"_": {"a": "\ud83d"}})
    assert caught.value.code == "expression.not_json"
