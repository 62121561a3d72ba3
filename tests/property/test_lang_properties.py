"""What holds for every expression and template, whatever the text and the data."""

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template
from engine.core.values import canonical_json, to_json_value
from tests.support.bombs import calls_of
from tests.support.patience import START_S

CALLS_OF_ANY = 5_000
"""Calls of Python's functions that an evaluation may make for nothing: its frame, its names, its error."""
CALLS_OF_A_UNIT = 30
"""Calls that a unit of fuel may pay for."""
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abxyz"), inner, max_size=4),
    max_leaves=10,
)

LEAVES = """0|1|-3|2.5|''|'ab'|'1'|None|True|_|_.a|_['x']|_[0]|x|[]|{}|now()|range(4)|{1, 2}|(1, 'a')|math.pi|uuid()"""
MORE_LEAVES = [
    "re",
    "len",
    "9**99",
    "'a' * 99",
    "missing",
    "datetime.date(2026, 1, 2)",
    "timedelta(1)",
    "datetime.datetime",
]
leaves = st.sampled_from([*LEAVES.split("|"), *MORE_LEAVES])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = ["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "==", "<", "in", "is", "and", "or"]
    unary_calls = ["len", "str", "sum", "max", "sorted", "list", "set", "dump_json", "load_json", "bool", "int", "dict"]
    unary_calls += ["enumerate", "reversed", "abs", "round", "extract_json", "range", "any", "tuple", "float", "zip"]
    unary_calls += ["load_yaml", "dump_yaml", "chunk_doc", "markdown_to_html", "html_to_markdown", "math.prod"]
    unary_calls += ["statistics.mean", "csv.dumps", "csv.reader", "re.escape", "base64.b64encode", "urllib.parse.quote"]
    methods = [
        "upper()",
        "split()",
        "items()",
        "get('a')",
        "join(['a', 'b'])",
        "replace('a', 'bb')",
        "keys()",
        "a",
        "x.a",
    ]
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(binary), inner),
        st.builds("{}({})".format, st.sampled_from(unary_calls), inner),
        st.builds("({}).{}".format, inner, st.sampled_from(methods)),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{'k': {}, {}: 1}}".format, inner, inner),
        st.builds("[{} for x in {} if {}]".format, inner, inner, inner),
        st.builds("{{{}: x for x in {}}}".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("sorted({}, key={})".format, inner, inner),
        st.builds("map(str, {})".format, inner),
        st.builds("random.sample({}, 1)".format, inner),
        st.builds("reduce({}, {})".format, st.sampled_from(["max", "zip", "dump_json", "math.gcd"]), inner),
        st.builds("re.sub({}, {}, {})".format, inner, inner, inner),
        st.builds("f'{{{}!s:>{{{}}}}}'".format, st.sampled_from(["_", "x", "1.5"]), st.sampled_from(["9", "_", "x"])),
    )


expressions = st.recursive(leaves, _grown, max_leaves=12)


def outcome(source: str, env: dict[str, Any]) -> str:
    try:
        return canonical_json(compile_expression(source).evaluate(env, EvalContext(NOW, "seed", Fuel(20_000))))
    except ExpressionSyntaxError as error:
        return f"syntax {error.message} {error.offset}"
    except ExpressionError as error:
        return f"{error.code} {error.message} {error.hint} {error.details}"


@settings(max_examples=400, deadline=None)
@given(source=expressions, given_data=data)
def test_an_evaluation_ends_with_json_or_a_typed_error_and_leaves_its_input_alone(source: str, given_data: Any):
    env = {"_": given_data, "x": [given_data]}
    before = canonical_json(env)
    first = outcome(source, env)
    assert canonical_json(env) == before
    assert outcome(source, env) == first


@settings(max_examples=300, deadline=None)
@given(source=expressions, given_data=data, is_template=st.booleans(), limit=st.sampled_from([50, 2_000, 20_000]))
def test_an_evaluation_ends_within_its_fuel_and_calls_no_more_than_that_pays_for(
    source: str, given_data: Any, is_template: bool, limit: int
):
    fuel, env = Fuel(limit), {"_": given_data, "x": [given_data]}
    context = EvalContext(NOW, "seed", fuel)
    try:
        if is_template:
            template = compile_template("{% for y in [1, 2] %}{{ " + source + " }}{% endfor %}")
            calls = calls_of(lambda: _ended(lambda: template.render(env, context)))
        else:
            expression = compile_expression(source)
            calls = calls_of(lambda: _ended(lambda: expression.evaluate(env, context)))
    except ExpressionSyntaxError:
        return
    assert 0 <= fuel.left <= limit
    assert calls <= CALLS_OF_ANY + CALLS_OF_A_UNIT * (limit - fuel.left)


def _ended(action: Callable[[], Any]) -> None:
    with contextlib.suppress(ExpressionError):
        action()


@settings(max_examples=300, deadline=None)
@given(source=st.text(max_size=40) | st.text("ab_.()[]{}'\"f:,+-*/<>=!1 %\\\n#", max_size=40))
def test_any_text_compiles_or_is_refused_with_a_place_inside_it(source: str):
    for compile_text in (compile_expression, compile_template):
        try:
            places = [found.offset for found in compile_text(source).problems({"_"})]
        except ExpressionSyntaxError as error:
            places = [error.offset]
        assert all(0 <= place <= len(source) for place in places)


@settings(max_examples=200, deadline=None)
@given(source=expressions, given_data=data)
def test_a_template_ends_with_text_or_a_typed_error(source: str, given_data: Any):
    context = EvalContext(NOW, "seed", Fuel(20_000))
    try:
        template = compile_template("a{{ " + source + " }}b{% for x in _ %}{{ x | default(1) }}{% endfor %}")
        text = template.render({"_": given_data, "x": 1}, context)
    except (ExpressionSyntaxError, ExpressionError):
        return
    assert text.startswith("a")
    assert isinstance(text, str)


@settings(max_examples=200, deadline=None)
@given(given_data=data)
def test_data_passes_through_unchanged(given_data: Any):
    result = compile_expression("_").evaluate({"_": given_data}, EvalContext(NOW, "seed"))
    assert result == to_json_value(given_data)
    assert compile_expression("load_json(dump_json(_))").evaluate({"_": given_data}, EvalContext(NOW, "s")) == result


SAMPLES = [
    "{'c', 'a', 'b', 3, None}",
    "[set('hello world') | {'x'}, {k for k in _}, set(_.keys()) & {'a', 'b'}]",
    "[uuid(), random.random(), random.choice('abc'), random.shuffle(range(9))]",
    "str({'q', 'w', 'e'}) + f'{_}'",
    "unknwon + 1",
    "_.aa",
    "sorted(_.keys())",
    "'a'.uper()",
]


def sample_results() -> str:
    env = {"_": {"a": 1, "b": [1, 2], "ab": {"c": None}}}
    results = [outcome(source, env) for source in SAMPLES]
    problems = [str(compile_expression(source).problems({"_", "state", "unknown"})) for source in SAMPLES]
    template = "{{ {'b': 1, 'a': 2} | tojson }}{% for x in set('hello') %}{{ x }}{% endfor %}{{ uuid() }}"
    return json.dumps([results, problems, compile_template(template).render(env, EvalContext(NOW, "seed"))])


def test_results_and_messages_do_not_depend_on_the_hash_seed():
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_lang_properties as t; "
    code += "print(t.sample_results())"
    printed = []
    for seed in ("1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=START_S, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout)
    assert printed[0] == printed[1] == sample_results() + "\n"
