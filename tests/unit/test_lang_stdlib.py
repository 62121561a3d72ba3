"""The library of expressions: functions, modules and methods."""

import datetime as dt
from typing import Any

import pytest

from engine.core.errors import ExpressionError
from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.lang.functions import Function, Module
from engine.core.lang.stdlib import FUNCTIONS, all_modules, find_module

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def value(source: str, env: dict[str, Any] | None = None, seed: str = "run/main.0") -> Any:
    return compile_expression(source).evaluate(env or {}, EvalContext(NOW, seed))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[abs(-2), abs(-1.5)]", [2, 1.5]),
        ("[all([]), any([]), all([1, 0]), any(x > 1 for x in [1, 2])]", [True, False, False, True]),
        ("[bool([]), bool('a'), bool()]", [False, True, False]),
        ("dict([['a', 1]], b=2)", {"a": 1, "b": 2}),
        ("dict(value=1)", {"value": 1}),
        ("enumerate('ab', start=1)", [[1, "a"], [2, "b"]]),
        ("[float('1.5'), float(2), int('12'), int(2.9), int('ff', 16)]", [1.5, 2.0, 12, 2, 255]),
        ("[len('abc'), len({'a': 1}), len(range(5)), len({1, 2})]", [3, 1, 5, 2]),
        ("[list('ab'), list({'k': 1}), list(range(2, 8, 3)), tuple([1])]", [["a", "b"], ["k"], [2, 5], [1]]),
        ("[max(1, 3, 2), min([4, 2]), max(['a', 'bb'], key=len), max([], default=0)]", [3, 2, "bb", 0]),
        ("min([{'p': 2}, {'p': 1}], key='p')", {"p": 1}),
        ("[round(2.5), round(3.14159, 2), round(1234, -2)]", [2, 3.14, 1200]),
        ("[set([2, 1, 2]), sorted([3, 1, 2], reverse=True), sorted('ba')]", [[2, 1], [3, 2, 1], ["a", "b"]]),
        ("sorted([{'a': {'b': 2}}, {'a': {'b': 1}}], key='a.b')", [{"a": {"b": 1}}, {"a": {"b": 2}}]),
        ("[str(1.0), str(None), str([1, 'a', {'k': True}]), str((1,)), str({2, 1})]",
         ["1.0", "None", "[1, 'a', {'k': True}]", "(1,)", "{2, 1}"]),
        ("[sum([1, 2.5]), sum([1], 10)]", [3.5, 11]),
        ("[zip([1, 2], 'ab'), zip(), reversed([1, 2])]", [[[1, "a"], [2, "b"]], [], [2, 1]]),
        ("zip(*[[1, 2], [3, 4]])", [[1, 3], [2, 4]]),
        ("[map(str, [1, 2]), filter(None, [0, 1]), map(max, [1, 5], [4, 2])]", [["1", "2"], [1], [4, 5]]),
        ("[get({'a': [{'b': 1}]}, 'a.0.b'), get({}, 'x.y', 3), get(null, 'x')]", [1, 3, None]),
        ("range(3)", [0, 1, 2]),
        ("[3 in range(5), range(10)[2:4]]", [True, [2, 3]]),
        ("[math.floor(1.5), math.ceil(1.5), math.sqrt(9), math.log(1), math.isfinite(1)]", [1, 2, 3.0, 0.0, True]),
        ("round(math.pi + math.e, 3)", 5.86),
        ("load_json('{\"a\": [1, null]}')", {"a": [1, None]}),
        ("json.loads('1') + len(json.dumps([1, 2]))", 7),
        ("dump_json({'ä': [1, true], 's': {2}})", '{"ä": [1, true], "s": [2]}'),
        ("dump_json({'b': 1, 'a': 2}, indent=1, sort_keys=True)", '{\n "a": 2,\n "b": 1\n}'),
        ("search_regex('(a)(x)?(b+)', 'zabbz')", ["abb", "a", None, "bb"]),
        ("search_regex('(?P<n>[0-9]+)', 'ü 42').group('n')", "42"),
        ("[search_regex('(b)', 'abc').start(), search_regex('(b)', 'abc').groups()]", [1, ["b"]]),
        ("search_regex('x', 'abc')", None),
        ("[match_regex('a+', 'aaa'), match_regex('a+', 'aab')]", [True, False]),
        ("[now(), now().year, now().isoformat(), str(now())]",
         ["2026-01-02T03:04:05Z", 2026, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"]),
        ("[now() + timedelta(days=1, hours=2), (now() - now()).total_seconds(), now().timestamp()]",
         ["2026-01-03T05:04:05Z", 0.0, 1767323045.0]),
        ("[now() < now() + timedelta(seconds=1), f'{now():%Y-%m-%d}', now().strftime('%H:%M')]",
         [True, "2026-01-02", "03:04"]),
    ],
)  # fmt: skip
def test_a_function_gives_what_its_name_says(source: str, expected: Any):
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("' Ab '.strip().upper()", "AB"),
        ("'a,b,c'.split(',', 1)", ["a", "b,c"]),
        ("'a,b,c'.rsplit(',', maxsplit=1)", ["a,b", "c"]),
        ("' a  b '.split()", ["a", "b"]),
        ("'a\\nb'.splitlines()", ["a", "b"]),
        ("'-'.join(['a', 'b'])", "a-b"),
        ("'aab'.replace('a', 'x', 1)", "xab"),
        ("['abc'.startswith('ab'), 'abc'.endswith(('b', 'c')), 'abc'.find('z')]", [True, True, -1]),
        ("'a'.ljust(3, '.') + 'a'.rjust(2) + '7'.zfill(3)", "a.. a007"),
        ("['hello world'.title(), 'aBc'.swapcase(), 'abc'.capitalize()]", ["Hello World", "AbC", "Abc"]),
        ("['a=b'.partition('='), 'xay'.removeprefix('x'), 'banana'.count('an')]", [["a", "=", "b"], "ay", 2]),
        ("['12'.isdigit(), 'a\\tb'.expandtabs(4)]", [True, "a   b"]),
        ("[[1, 2, 1].count(1), [1, 2].index(2), (1, 2).index(1)]", [2, 1, 0]),
        ("[{'a': 1}.keys(), {'a': 1}.values(), {'a': 1}.get('b', default=2)]", [["a"], [1], 2]),
        ("[{1, 2}.union([3]), {1, 2}.issubset([1, 2, 3]), {1} ^ {2}, {1, 2} - {1}]", [[1, 2, 3], True, [1, 2], [2]]),
    ],
)
def test_a_method_gives_what_python_gives(source: str, expected: Any):
    assert value(source) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2]}',
        '  {"a": [1, 2]}  ',
        'Sure, here it is:\n```json\n{"a": [1, 2]}\n```\nAnything else?',
        'First ```python\nprint([1])\n``` then ```\n{"a": [1, 2]}\n```',
        'The answer [see below] is {"a": [1, 2]} as you asked.',
    ],
)
def test_extract_json_finds_json_in_a_reply(text: str):
    assert value("extract_json(_)", {"_": text}) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("source", "code", "part"),
    [
        ("extract_json('none here')", "value", "no JSON"),
        ("load_json('{]')", "value", "line 1, column 2"),
        ("load_json('NaN')", "value", "NaN"),
        ("load_json(1)", "type", "must be text"),
        ("search_regex('(?=a)', 'a')", "value", "pattern"),
        ("search_regex('(', 'a')", "value", "pattern"),
        ("sum(['a'])", "type", "text"),
        ("sum([[1]], [])", "type", "a list"),
        ("','.join([1])", "type", "a number"),
        ("sorted([1, 'a'])", "type", "in order"),
        ("sorted([{}], key='a')", "no_key", "'a'"),
        ("math.sqrt(-1)", "value", "domain"),
        ("math.floor('a')", "type", "real number"),
        ("now().strftime('%Q')", "value", "directive"),
        ("random.choice([])", "value", "no items"),
        ("random.randint(2, 1)", "value", "between"),
        ("map(1, [1])", "type", "not a function"),
        ("random.seed(1)", "unknown_function", "random.seed"),
        ("math.pi()", "type", "not a function"),
        ("'a'.split('')", "value", "empty"),
        ("f'{1:q}'", "value", "q"),
        ("f'{[1]:>3}'", "type", "format spec"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(source: str, code: str, part: str):
    with pytest.raises(ExpressionError) as caught:
        value(source)
    assert caught.value.code == f"expression.{code}"
    assert part in caught.value.message


DRAWS = "[uuid(), random.random(), random.randint(1, 6), random.choice('abc'), random.shuffle([1, 2, 3, 4, 5])]"


def test_draws_depend_on_the_seed_only():
    assert value(DRAWS) == value(DRAWS)
    assert value(DRAWS) != value(DRAWS, seed="run/main.1")


def test_draws_of_one_evaluation_differ():
    drawn = value("[uuid() for x in range(100)]")
    assert len(set(drawn)) == 100
    assert all(text[14] == "4" and text[19] in "89ab" and len(text) == 36 for text in drawn)


def test_draws_go_on_over_the_evaluations_of_one_context():
    context = EvalContext(NOW, "seed")
    text = compile_expression("uuid()")
    assert text.evaluate({}, context) != text.evaluate({}, context)


def test_draws_lie_within_their_bounds_and_use_all_values():
    assert set(value("[random.randint(1, 3) for x in range(200)]")) == {1, 2, 3}
    assert all(0 <= number < 1 for number in value("[random.random() for x in range(200)]"))
    assert all(2 <= number <= 3 for number in value("[random.uniform(2, 3) for x in range(50)]"))
    assert sorted(value("random.sample(range(10), 10)")) == list(range(10))


def test_every_function_of_the_table_stands_under_its_own_name():
    assert all(name == function.name for name, function in FUNCTIONS.items())
    for module in all_modules():
        assert find_module(module.name) is module
        for name, member in module.members.items():
            if isinstance(member, (Function, Module)):
                assert member.name == f"{module.name}.{name}"
            else:
                assert isinstance(member, (float, int, str, dt.timezone))
