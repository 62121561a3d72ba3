"""DESIGN §3, "Dialects": as what the texts of a task are read."""

from __future__ import annotations

import pytest

from engine.core.kinds import Dialect
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.computed import Expr, Lit, Tmpl
from engine.core.plan.ops import EvaluateOp
from tests.language.words import codes, compile_in, findings, hash_of
from tests.support.memory import output_of


def read_as(text: str, dialect: Dialect = "everstep") -> object:
    """Return what a text becomes in a plan."""
    op = compile_in(f"main: [{{evaluate: {text}}}]", dialect).plan.blocks[0].ops[0]
    assert isinstance(op, EvaluateOp)
    return op.value


def test_a_task_names_its_dialect_and_keeps_it():
    """The key `dialect` of a task is stored with its version."""
    plan = compile_in("dialect: julep-2025\nmain: [{evaluate: 1}]").plan
    assert plan_to_json(plan)["dialect"] == "julep-2025"
    assert plan_from_json(plan_to_json(plan)).dialect == "julep-2025"


def test_the_client_decides_about_a_task_that_names_no_dialect():
    """The default dialect is the client's, and else ours."""
    task = "main: [{evaluate: _.a + 1}]"
    assert compile_in(task, "julep-2024").plan.dialect == "julep-2024"
    assert compile_in(task).plan.dialect == "everstep"
    assert compile_in(f"dialect: everstep\n{task}", "julep-2024").plan.dialect == "everstep"


def test_in_the_dialect_of_2024_every_string_is_an_expression():
    """The 2024 client: all strings are expressions."""
    assert read_as("_.a + 1", "julep-2024") == Expr("_.a + 1")
    task = "name: t\ndialect: julep-2024\nmain: [{evaluate: {a: '_.n * 2', b: \"'text'\"}}]"
    assert output_of(task, {"n": 4}) == {"a": 8, "b": "text"}


def test_in_the_dialect_of_2025_a_string_is_marked_or_the_body_of_an_fstring():
    """The 2025 SDK: `$ ` and f-string bodies."""
    task = "name: t\ndialect: julep-2025\nmain: [{evaluate: {a: '$ _.n * 2', b: 'n is {_.n:03d}', c: _n}}]"
    assert output_of(task, {"n": 4}) == {"a": 8, "b": "n is 004", "c": "_n"}


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("{_.n}", "4"),
        ("{steps[0].input.n}", "4"),
        ("{not parsed}", "{not parsed}"),
        ("{n}", "{n}"),
        ("{unknown.n}", "{unknown.n}"),
        ('{\\"json\\": {_.n}}', '{"json": 4}'),
        ("{_.}", "{_.}"),
    ],
)
def test_in_2025_braces_are_a_field_only_around_what_is_known(text: str, output: str):
    """In the 2025 dialect `{…}` is interpolated only if it parses and starts at a known root name."""
    assert output_of(f'name: t\ndialect: julep-2025\nmain: [{{evaluate: "{text}"}}]', {"n": 4}) == output


def test_in_ours_a_dollar_marks_an_expression():
    """Ours: `$ expr` is an expression."""
    assert read_as("$ _.a + 1") == Expr("_.a + 1")
    assert output_of("name: t\nmain: [{evaluate: $ _ + 1}]", 1) == 2


@pytest.mark.parametrize("text", ["hi {{ _.name }}", "{% if _ %}a{% endif %}"])
def test_in_ours_two_braces_make_a_template(text: str):
    """Ours: text with `{{ }}` or `{% %}` is a template."""
    assert read_as(f'"{text}"') == Tmpl(text)


@pytest.mark.parametrize("text", ["plain", "{_}", "{name}", "$5", "${x}", "a $ b", "{#fff}", "}}"])
def test_in_ours_any_other_text_stands_for_itself(text: str):
    """Ours: any other text is literal, braces and all."""
    assert read_as(f'"{text}"') == Lit(text)
    assert output_of(f'name: t\nmain: [{{evaluate: "{text}"}}]', {"name": "x"}) == text


BY_NATURE = {
    "if": "main: [{if: 'EXPR', then: {evaluate: 1}}]",
    "case": "main: [{switch: [{case: 'EXPR', then: {evaluate: 1}}]}]",
    "in": "main: [{foreach: {in: 'EXPR', do: {evaluate: 1}}}]",
    "over": "main: [{over: 'EXPR', map: {evaluate: 1}}]",
    "reduce": "main: [{over: _, map: {evaluate: 1}, reduce: 'EXPR'}]",
    "when": "main: [{evaluate: 1, when: 'EXPR'}]",
    "while": "main: [{while: 'EXPR', do: {evaluate: 1}}]",
    "until": "main: [{until: 'EXPR', do: {evaluate: 1}}]",
}


@pytest.mark.parametrize("field", BY_NATURE)
def test_fields_that_are_expressions_by_nature_need_no_mark(field: str):
    """if, case, in, over, reduce, when, while and until are expressions with or without `$ `."""
    bare, marked = (BY_NATURE[field].replace("EXPR", text) for text in ("[_] + [1]", "$ [_] + [1]"))
    assert hash_of(bare) == hash_of(marked)
    assert codes(BY_NATURE[field].replace("EXPR", "nowhere")) == ["E401"]


@pytest.mark.parametrize("step", ["tool: book", "workflow: sub"])
def test_an_underscore_as_arguments_is_an_expression(step: str):
    """`_` as arguments is an expression with or without `$ `."""
    task = f"main: [{{{step}, arguments: ARGUMENTS}}]\nsub: [{{evaluate: 1}}]"
    assert hash_of(task.replace("ARGUMENTS", "_")) == hash_of(task.replace("ARGUMENTS", "$ _"))


def test_arguments_of_one_underscore_hand_the_input_on():
    """`arguments: _` means the step's input."""
    assert output_of("name: t\nmain: [{workflow: sub, arguments: _}]\nsub: [{evaluate: $ input.n}]", {"n": 5}) == 5


@pytest.mark.parametrize("text", ["_.x > 3", "_", "_[0]", "$_.x", "steps[0].output", "outputs[1]", "state.count"])
def test_a_literal_that_looks_like_an_expression_gets_a_warning(text: str):
    """A literal that looks like an expression (`_.x > 3`) gets a warning."""
    (found,) = findings(f'main: [{{evaluate: "{text}"}}]')
    assert (found.code, found.severity.value) == ("W601", "warning")
    assert f"`$ {text.removeprefix('$')}`" in found.hint


@pytest.mark.parametrize(
    "step",
    ["set: {a: _.x}", "return: _.x", "log: _.x", "prompt: _.x", "tool: book, arguments: {seat: _.x}", "error: _.x"],
)
def test_the_warning_stands_wherever_text_may_stand(step: str):
    """The warning stands at any field that takes a text."""
    assert codes(f"main: [{{{step}}}]") == ["W601"]


def test_prose_gets_no_such_warning():
    """Only what looks like an expression gets the warning."""
    assert codes("main: [{evaluate: 'The _ stands for itself. state it.'}]") == []
