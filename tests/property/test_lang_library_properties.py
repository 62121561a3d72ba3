"""What holds for the library whatever the data: it ends typed, goes both ways, and does not depend on the process."""

import datetime as dt
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.errors import ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.functions import Function
from engine.core.lang.reference.entries import entries
from engine.core.lang.stdlib import FUNCTIONS, all_modules
from engine.core.lang.template import compile_template
from engine.core.values import canonical_json
from tests.support.patience import START_S

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
FUEL = 20_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), texts
)
data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
marked = st.text("ab \n\t*_`~[]()<>!#-+|.:\"'\\&/=0123;{}%$?,—“é", max_size=80)


def value(source: str, given_data: Any, fuel: int = 1_000_000) -> Any:
    return compile_expression(source).evaluate({"_": given_data}, EvalContext(NOW, "seed", Fuel(fuel)))


def outcome(source: str, env: dict[str, Any]) -> str:
    """Return the JSON of the value, or all that is said of the error."""
    try:
        return canonical_json(compile_expression(source).evaluate(env, EvalContext(NOW, "seed", Fuel(FUEL))))
    except ExpressionSyntaxError as error:
        return f"syntax {error.message} {error.offset}"
    except ExpressionError as error:
        return f"{error.code} {error.message} {error.hint} {error.details}"


# --- every function on any data ------------------------------------------------------------------------------------


def _functions() -> Iterator[Function]:
    yield from FUNCTIONS.values()
    for module in all_modules():
        yield from (member for member in module.members.values() if isinstance(member, Function))
        if module.call is not None:
            yield module.call


CALLS = sorted(
    f"{function.name}({', '.join(given)})"
    for function in _functions()
    for count in range(function.least, min(function.most or 3, 3) + 1)
    for given in [[f"x{number}" for number in range(count)]]
)
NAMED = sorted(
    f"{function.name}({', '.join([*(f'x{n}' for n in range(function.least)), f'{name}=y'])})"
    for function in _functions()
    for name in function.keywords
    if name.isidentifier()
)
arguments = st.one_of(
    data, marked, st.lists(st.integers(-5, 5), max_size=5), st.lists(st.lists(texts, max_size=3), max_size=3)
)


@settings(max_examples=600, deadline=None)
@given(source=st.sampled_from(CALLS + NAMED), values=st.lists(arguments, min_size=4, max_size=4))
def test_every_function_ends_with_json_or_a_typed_error_on_any_data(source: str, values: list[Any]):
    env = {"x0": values[0], "x1": values[1], "x2": values[2], "y": values[3]}
    before = canonical_json(env)
    first = outcome(source, env)
    assert canonical_json(env) == before
    assert outcome(source, env) == first


EXAMPLES = [entry.doc.example for entry in entries() if not entry.is_template]
fragments = st.sampled_from(EXAMPLES)
joints = st.sampled_from(["+", "-", "*", "/", "%", "==", "<", "in", "and", "or", "[]", "map", "{}", "f"])
CONVERTERS = ["markdown_to_html", "html_to_markdown", "load_yaml", "extract_json", "chunk_doc"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(fragments, min_size=2, max_size=3), joint=joints)
def test_functions_within_functions_end_with_json_or_a_typed_error(parts: list[str], joint: str):
    first, *others = [f"({part})" for part in parts]
    second = others[0]
    source = {
        "[]": f"{first}[{second}]",
        "map": f"[[x, {second}] for x in {first}]",
        "{}": "{" + f"str({first}): {second}" + "}",
        "f": "f'{" + first.replace("'", '"') + "!r:>20}'",
    }.get(joint, f" {joint} ".join([first, *others]))
    env: dict[str, Any] = {}
    assert outcome(source, env) == outcome(source, env)


@settings(max_examples=300, deadline=None)
@given(text=marked, name=st.sampled_from(CONVERTERS))
def test_a_template_with_a_converter_ends_with_text_or_a_typed_error(text: str, name: str):
    template = compile_template("{{ " + name + "(_) }}")
    try:
        rendered = template.render({"_": text}, EvalContext(NOW, "seed", Fuel(FUEL)))
    except ExpressionError:
        return
    assert isinstance(rendered, str)


# --- both ways -----------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(given_data=data)
def test_yaml_that_was_written_is_read_back(given_data: Any):
    assert value("load_yaml(dump_yaml(_))", given_data) == given_data
    assert value("load_yaml(dump_yaml(_, indent=4, sort_keys=true))", given_data) == given_data


lines = st.text("ab-:#>|'\"[]{}&*!%@`,? \n\t\r\x85\u2028é0", max_size=20)


@settings(max_examples=400, deadline=None)
@given(
    given_data=st.recursive(
        lines, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(lines, inner, max_size=3), max_leaves=6
    )
)
def test_yaml_keeps_texts_that_look_like_yaml(given_data: Any):
    assert value("load_yaml(dump_yaml(_))", given_data) == given_data


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.lists(lines, min_size=1, max_size=4), max_size=5))
def test_csv_that_was_written_is_read_back(rows: list[list[str]]):
    assert value("csv.reader(csv.dumps(_))", rows) == rows


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_encodings_are_undone(text: str):
    assert value("base64.b64decode(base64.b64encode(_))", text) == text
    assert value("urllib.parse.unquote_plus(urllib.parse.quote_plus(_))", text) == text
    assert value("urllib.parse.parse_qsl(urllib.parse.urlencode([['k', _]]))", text) == [["k", text]]


# --- documents -----------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab. \n?!。é", max_size=400), size=st.integers(50, 120), overlap=st.integers(0, 25))
def test_chunks_hold_all_of_the_text_and_are_never_too_long(text: str, size: int, overlap: int):
    chunks = value(f"chunk_doc(_, max_chars={size})", text)
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert all(len(chunk) <= size for chunk in value(f"chunk_doc(_, max_chars={size}, overlap={overlap})", text))


@settings(max_examples=400, deadline=None)
@given(text=marked)
def test_html_of_markdown_holds_no_tag_that_was_not_asked_for(text: str):
    html = value("markdown_to_html(_)", text + "<script>alert(1)</script>")
    assert "<script" not in html
    assert "javascript:" not in value("markdown_to_html(_)", f"[a](javascript:x) {text}").replace(
        "[a](javascript:x)", ""
    )


# --- the same in every process -------------------------------------------------------------------------------------


def all_results() -> str:
    """Return the outcome of every example, and of every function on mixed-up data, as one text."""
    mixer = random.Random(7)
    pool: list[Any] = [{"b": 1, "a": [2]}, ["x", "y"], "a: {c: 1}\nb: <p>*x*</p>", 3, 0.5, None, [[1, 2], [3, 4]]]
    found = [outcome(example, {}) for example in EXAMPLES]
    for source in CALLS + NAMED:
        for _ in range(3):
            found.append(outcome(source, {name: mixer.choice(pool) for name in ("x0", "x1", "x2", "y")}))
        found.append(str(compile_expression(source).problems({"x0"})))
    return json.dumps(found)


def test_no_function_depends_on_the_hash_seed():
    folder = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import test_lang_library_properties as t; "
    code += "print(t.all_results())"
    printed = []
    for seed in ("1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=START_S, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout)
    assert printed[0] == printed[1] == all_results() + "\n"
