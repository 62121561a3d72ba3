"""DESIGN §3, "Expressions": what they are, what they may use up, where time and chance come from."""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

import engine.core.lang
from engine.core.errors import BugError, ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.stdlib import FUNCTIONS, MODULES, find_module
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.ir import STDLIB_VERSION
from engine.core.run.walker import Identity
from engine.core.schemas import value_problems
from engine.dryrun.running import run_in_memory
from engine.dryrun.scripted import ScriptedReplies
from tests.language.words import codes, compile_in, findings
from tests.support.lab import Lab
from tests.support.memory import error_of, output_of, run
from tests.support.upgrades import failed_task_of

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
LANG = Path(engine.core.lang.__file__ or "").parent


def value(source: str, given: Any = None, fuel: Fuel | None = None) -> Any:
    return compile_expression(source).evaluate({"_": given}, EvalContext(NOW, "seed", fuel))


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("[x * 2 for x in _ if x > 1]", [4, 6]),
        ("{'n': len(_), **{'m': 1}}", {"n": 3, "m": 1}),
        ("'yes' if 2 in _ and not 5 in _ else 'no'", "yes"),
        ('f"{_[0]:>3}|{sum(_) / 4:.2f}"', "  1|1.50"),
        ("_[-1] // 2 + _[1] ** 3", 9),
        ("1 < _[1] <= 2", True),
    ],
)
def test_expressions_are_python_like(source: str, result: object):
    """Expressions are Python-like."""
    assert value(source, [1, 2, 3]) == result


def test_expressions_are_compiled_when_the_task_is_loaded():
    """Expressions are compiled at load."""
    assert codes("main: [{evaluate: $ 1 +}]") == ["E301"]
    assert codes("main: [{evaluate: $ nowhere}]") == ["E401"]


@pytest.mark.parametrize(
    "source",
    [
        "lambda: 1",
        "(x := 1)",
        "await x",
        "_.__class__",
        "''.__class__.__mro__",
        "__import__('os')",
        "...",
        "b'x'",
        "1j",
    ],
)
def test_only_what_the_whitelist_names_compiles(source: str):
    """Expressions are compiled by our own whitelist over `ast`."""
    found = findings(f'main: [{{evaluate: "$ {source}"}}]')
    assert {item.code for item in found} <= {"E301", "E304", "E401"}
    assert found


@pytest.mark.parametrize(
    "source", ["1" + " + 1" * 5_000, "not " * 150 + "1", "[" * 120 + "]" * 120, "-" * 20_000 + "1"]
)
def test_the_length_and_the_depth_of_a_source_are_capped(source: str):
    """Source length and depth of an expression are capped."""
    with pytest.raises(ExpressionSyntaxError):
        value(source)


@pytest.mark.parametrize(
    "source",
    [
        "'x' * 10 ** 10",
        "[0] * 10 ** 10",
        "2 ** 10 ** 6",
        "1 << 10 ** 9",
        'f"{1:>1000000000}"',
        "[[x, y, z] for x in range(1000) for y in range(1000) for z in range(1000)]",
        "sum(range(10 ** 12))",
        "','.join([_] * 100000)",
        "math.factorial(10 ** 6)",
    ],
)
def test_what_works_on_much_costs_much(source: str):
    """Evaluation is metered: fuel is charged by the size of operands and results."""
    with pytest.raises(ExpressionError) as caught:
        value(source, "x" * 1000)
    assert caught.value.code in ("expression.fuel", "expression.too_large", "expression.value", "expression.arithmetic")


def test_the_price_grows_with_the_operands():
    """Fuel is charged by size, not by the number of operations."""

    def price(length: int) -> int:
        fuel = Fuel()
        value("_ + _", "x" * length, fuel)
        return fuel.limit - fuel.left

    assert price(1_000_000) > 100 * price(100)


def test_aliases_count_by_what_they_expand_to():
    """YAML aliases count by their expanded size."""
    levels = "\n".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    assert codes(f"metadata:\n  l0: &l0 [x, x]\n{levels}\nmain: [{{evaluate: 1}}]") == ["E107"]


def test_no_python_is_ever_evaluated():
    """Expressions never go through `eval`."""
    called = {
        node.func.id
        for file in LANG.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called, "the files are read"
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_now_is_the_time_of_the_workflow_task():
    """`now` is the time of the workflow task."""
    task = """
name: t
main:
  - set: {a: $ str(now())}
  - set: {b: $ str(now())}
  - sleep: 60
  - evaluate: [$ state.a, $ state.b, $ str(now())]
"""
    first, second, third = output_of(task)
    assert first == second == "2026-01-01T00:00:00Z"
    assert third == "2026-01-01T00:01:00Z"


CHANCE = """
name: t
main:
  - evaluate: {a: $ uuid(), b: $ uuid(), both: "$ [random.random(), random.random()]"}
  - foreach: {in: "$ [1, 2]", do: {evaluate: $ uuid()}}
  - evaluate: $ [*outputs, uuid()]
"""


def drawn(execution: str = "e") -> list[object]:
    """Return all that was drawn in an execution, one after another."""
    output = output_of(CHANCE, identity=Identity(execution_id=execution))
    return [output[0]["a"], output[0]["b"], *output[0]["both"], *output[1], output[2]]


def test_chance_depends_on_execution_place_round_and_draw():
    """`random` and `uuid` derive from execution id, step path, loop counters and call index."""
    assert len(set(map(str, drawn()))) == 7
    assert not set(map(str, drawn())) & set(map(str, drawn("other")))


def test_chance_gives_the_same_in_a_replay():
    """A replay outside Temporal gives the same random values."""
    assert drawn() == drawn()
    pieces = run(CHANCE, identity=Identity(execution_id="e"), carry_every=1)
    assert pieces.finished is not None
    whole = run(CHANCE, identity=Identity(execution_id="e"))
    assert pieces.finished == whole.finished


def test_the_data_of_an_object_wins_over_its_methods():
    """Data wins over dict methods: `_.items` is the key if there is one."""
    assert value("_.items", {"items": 5}) == 5
    assert value("_.items()", {"a": 1}) == [["a", 1]]
    assert value("[_.keys, _.get, _.values]", {"keys": 1, "get": 2, "values": 3}) == [1, 2, 3]


ORDER = """
import datetime as dt, json
from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression

source = "list({'pear', 'apple', 'fig', 'apple', 'kiwi'} | {'date', 'fig'})"
context = EvalContext(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "seed")
print(json.dumps(compile_expression(source).evaluate({}, context)))
"""


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_a_set_keeps_the_order_of_insertion(seed: str):
    """Sets keep insertion order, whatever the hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    told = subprocess.run([sys.executable, "-c", ORDER], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == ["pear", "apple", "fig", "kiwi", "date"]


def test_a_regular_expression_takes_linear_time():
    """Regular expressions are linear-time."""
    assert value("match_regex('(a+)+b', _)", "a" * 50_000) is False
    with pytest.raises(ExpressionError, match=r"backreference|escape|invalid"):
        value(r"search_regex('(a)\\1', 'aa')")


def test_a_pattern_of_a_schema_takes_linear_time():
    """JSON Schema `pattern` is linear-time too."""
    assert value_problems("a" * 50_000, {"type": "string", "pattern": "^(a+)+$"}) == []
    assert len(value_problems("a" * 50_000 + "!", {"type": "string", "pattern": "^(a+)+$"})) == 1
    assert codes("input_schema: {pattern: '(?=a)'}\nmain: [{evaluate: 1}]") == ["E501"]


@pytest.mark.parametrize("reference", ["https://example.com/s.json", "other.json#/a", "file:///etc/passwd"])
def test_a_schema_refers_to_itself_only(reference: str):
    """`$ref` is local only."""
    assert codes(f"input_schema: {{$ref: '{reference}'}}\nmain: [{{evaluate: 1}}]") == ["E502"]
    local = "input_schema: {$ref: '#/$defs/a', $defs: {a: {type: integer}}}\nmain: [{evaluate: 1}]"
    assert codes(local) == []
    assert value_problems("x", compile_in(local).plan.input_schema) != []


SCHEMA_PLACES = {
    "input_schema": "input_schema: SCHEMA\nmain: [{evaluate: 1}]",
    "output_schema": "main: [{prompt: a, output_schema: SCHEMA}]",
    "wait": "main: [{wait_for_input: {schema: SCHEMA}}]",
    "tool": "tools: [{name: x, type: function, function: {parameters: SCHEMA}}]\nmain: [{evaluate: 1}]",
}


@pytest.mark.parametrize("place", SCHEMA_PLACES)
def test_schemas_are_checked_wherever_they_stand(place: str):
    """Patterns and references are checked in every schema of a task."""
    told = [
        codes(SCHEMA_PLACES[place].replace("SCHEMA", schema))
        for schema in (
            "{$ref: other.json}",
            "{$dynamicRef: 'https://example.com/a'}",
            "{pattern: '(?=a)'}",
            "{$ref: '#'}",
        )
    ]
    assert told == [["E502"], ["E502"], ["E501"], ["E501"]]


CONTRACT = (
    "abs all any bool dict enumerate float int len list map max min round set str sum tuple zip reduce range load_json "
    "load_yaml dump_json dump_yaml extract_json search_regex match_regex chunk_doc markdown_to_html html_to_markdown "
    "humanize_text_alpha"
)
MODULES_OF_CONTRACT = "re json yaml string datetime math statistics base64 urllib.parse random time csv"


def test_the_library_has_the_functions_of_the_contract():
    """The list of functions is that of Julep's sandbox."""
    assert set(CONTRACT.split()) - set(FUNCTIONS) == set()
    assert [name for name in MODULES_OF_CONTRACT.split() if find_module(name) is None] == []
    assert "time" in MODULES


def test_chunk_doc_splits_with_a_splitter_of_our_own():
    """`chunk_doc` has a small splitter of our own."""
    pieces = value("chunk_doc(_)", "One sentence. " * 400)
    assert len(pieces) > 1
    assert " ".join(" ".join(pieces).split()) == " ".join(("One sentence. " * 400).split())


def test_nlp_is_a_diagnostic_that_says_what_to_do_instead():
    """`nlp` is a diagnostic."""
    (found,) = findings("main: [{evaluate: $ nlp(_)}]")
    assert found.code in ("E401", "E304")
    assert "chunk_doc" in found.hint


def test_a_plan_made_for_a_library_that_gave_other_results_is_not_run():
    """A `stdlib_version` in the plan guards replay against library changes."""
    body = plan_to_json(compile_in("name: t\nmain: [{evaluate: 1}]").plan)
    assert body["stdlib"] == STDLIB_VERSION
    with pytest.raises(BugError) as caught:
        run_in_memory(plan_from_json({**body, "stdlib": STDLIB_VERSION + 1}), None, ScriptedReplies())
    assert caught.value.code == "plan.stdlib"


async def test_an_execution_that_needs_a_newer_library_waits_for_a_newer_worker(lab: Lab) -> None:
    """On the server such an execution is left to a worker that knows the library, and Temporal says why."""
    body = plan_to_json(compile_in("name: t\nmain: [{evaluate: 1}]").plan)
    async with lab.worker():
        handle = await lab.start(plan_from_json({**body, "stdlib": STDLIB_VERSION + 1}))
        said = await failed_task_of(handle)
    assert f"needs version {STDLIB_VERSION + 1} of the expression library" in said
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


def test_an_error_of_an_expression_is_typed_and_the_task_may_handle_it():
    """An expression that cannot be evaluated is a typed error of its step."""
    assert error_of("name: t\nmain: [{evaluate: $ 1 / _}]", 0).code.startswith("expression.")
    handled = "name: t\nmain: [{evaluate: $ _.a.b, on_error: {evaluate: $ error.code}}]"
    assert output_of(handled, {}) == "expression.no_key"
