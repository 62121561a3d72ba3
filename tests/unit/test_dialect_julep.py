"""Julep's dialects: as what each text is read, what is doubtful about it, and which spellings are understood."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import CompileError
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ops import EvaluateOp, PromptOp


def op_of(text: str, dialect: str) -> Any:
    return compile_text(f"dialect: {dialect}\nmain:\n- {text}", contracts={}).plan.blocks[0].ops[0]


def value_of(written: str, dialect: str) -> Value:
    op = op_of(f"evaluate: {written}", dialect)
    assert isinstance(op, EvaluateOp)
    return op.value


def warnings_of(text: str, dialect: str) -> list[Diagnostic]:
    return compile_text(f"dialect: {dialect}\nmain:\n- {text}", contracts={}).warnings


def errors_of(text: str, dialect: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(CompileError) as caught:
        compile_text(f"dialect: {dialect}\nmain:\n- {text}", contracts={})
    return caught.value.diagnostics


def test_a_task_keeps_the_dialect_it_was_written_in() -> None:
    plan = compile_text("dialect: julep-2025\nmain: {evaluate: 1}", contracts={}).plan
    assert plan.dialect == "julep-2025"
    assert plan_from_json(plan_to_json(plan)) == plan


def test_our_own_dialect_stands_in_no_plan() -> None:
    plan = compile_text("dialect: everstep\nmain: {evaluate: 1}", contracts={}).plan
    assert "dialect" not in plan_to_json(plan)


def test_the_callers_dialect_holds_only_if_the_task_names_none() -> None:
    bare = compile_text("main: {evaluate: {a: '1 + 1'}}", contracts={}, dialect="julep-2024").plan
    named = compile_text("dialect: everstep\nmain: {evaluate: {a: '1 + 1'}}", contracts={}, dialect="julep-2024").plan
    assert bare.blocks[0].ops[0] == EvaluateOp(value=Obj({"a": Expr("1 + 1")}))
    assert named.blocks[0].ops[0] == EvaluateOp(value=Lit({"a": "1 + 1"}))


@pytest.mark.parametrize("written", ["julep", "2024", "[everstep]", "5"])
def test_a_dialect_that_does_not_exist_is_an_error(written: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(f"dialect: {written}\nmain: {{evaluate: 1}}", contracts={})
    (found,) = caught.value.diagnostics
    assert (found.code in ("E506", "E203"), found.position.line) == (True, 1)


# --- julep-2024 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("_.x + 1", Expr("_.x + 1")),
        ("$ _.x", Expr("_.x")),
        ("\"'text'\"", Expr("'text'")),
        ("'5'", Expr("5")),
        ("5", Lit(5)),
        ("{a: 'outputs[0].b', c: [_, 1]}", Obj({"a": Expr("outputs[0].b"), "c": Arr((Expr("_"), Lit(1)))})),
    ],
)
def test_in_2024_every_text_that_is_computed_with_is_an_expression(written: str, value: Value) -> None:
    assert value_of(written, "julep-2024") == value


def test_in_2024_prompts_and_errors_are_templates_and_settings_stand_for_themselves() -> None:
    prompt = op_of(
        "{prompt: [{role: system, content: Be kind.}, {role: user, content: 'Hi {{ _ }}'}], settings: {model: gpt-4o}}",
        "julep-2024",
    )
    assert isinstance(prompt, PromptOp)
    assert prompt.messages == Arr(
        (
            Lit({"role": "system", "content": "Be kind."}),
            Obj({"role": Lit("user"), "content": Tmpl("Hi {{ _ }}")}),
        )
    )
    assert prompt.model == "gpt-4o"
    assert op_of("error: no luck", "julep-2024").message == Lit("no luck")
    assert op_of("log: 'got {{ _ }}'", "julep-2024").message == Tmpl("got {{ _ }}")
    assert op_of("get: name", "julep-2024").key == Lit("name")
    checked = op_of("{prompt: x, check: [{if: len(_) > 5, message: 'too long for {{ _ }}'}]}", "julep-2024")
    assert checked.mods.checks[0].message == Tmpl("too long for {{ _ }}")


def test_in_2024_prose_as_a_value_is_an_error_that_names_the_dialect() -> None:
    (found,) = errors_of("evaluate: {x: this is plain text}", "julep-2024")
    assert found.code == "E301"
    assert "julep-2024" in found.hint


def test_in_2024_keys_of_earlier_inputs_are_names() -> None:
    task = """
dialect: julep-2024
input_schema: {type: object, properties: {topic: {type: string}}}
main:
- evaluate: {question: "'What is ' + topic", unit: unknwon}
- prompt: "{{ question }} in {{ topic }} and {{ topc }}"
"""
    warnings = compile_text(task, contracts={}).warnings
    assert [(found.code, found.position.line, found.position.column) for found in warnings] == [
        ("W611", 5, 52),
        ("W611", 6, 49),
    ]
    assert warnings[1].hint == "did you mean 'topic'?"


def test_in_2024_functions_and_methods_are_still_checked() -> None:
    assert [found.code for found in errors_of("evaluate: {x: nosuch(_)}", "julep-2024")] == ["E304"]


@pytest.mark.parametrize("written", ["'{_.x} is single'", "$ _.x", "_.x", "'{{ _.x }} and {_.y}'"])
def test_in_2024_text_for_a_model_that_looks_computed_gets_a_warning(written: str) -> None:
    (found,) = warnings_of(f"prompt: {written}", "julep-2024")
    assert found.code == "W611"
    assert "julep-2024" in found.message


# --- julep-2025 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("$ _.x", Expr("_.x")),
        ("plain text", Lit("plain text")),
        ("'Hi {_.name}!'", Expr("f'Hi {_.name}!'")),
        ("'{_}'", Expr("f'{_}'")),
        ("'{ steps[0].output.a } and {state.b}'", Expr("f'{steps[0].output.a} and {state.b}'")),
        ("'{_.price:.2f} {_.name!r}'", Expr("f'{_.price:.2f} {_.name!r}'")),
        ("'Hi {{_.name}}'", Expr("f'Hi {_.name}'")),
        ("'{{\"a\": 1}}'", Lit('{"a": 1}')),
        ('\'{"a": {"b": [1]}}\'', Lit('{"a": {"b": [1]}}')),
        ('\'reply as {"name": "{_.name}"}\'', Expr('f\'reply as {{"name": "{_.name}"}}\'')),
        ("'body { color: red }'", Lit("body { color: red }")),
        ("_", Expr("_")),
        ("_.x", Expr("_.x")),
        ("'[x for x in _]'", Expr("[x for x in _]")),
        ("'_[0]'", Expr("_[0]")),
        ("outputs[0].a", Expr("outputs[0].a")),
        ("'[note] read this [1]'", Lit("[note] read this [1]")),
        ("$_.x", Lit("$_.x")),
        ("5", Lit(5)),
    ],
)
def test_in_2025_text_is_the_body_of_an_f_string_unless_it_was_an_expression_before(written: str, value: Value) -> None:
    assert value_of(written, "julep-2025") == value


def test_in_2025_the_same_rule_holds_for_prompts() -> None:
    prompt = op_of("prompt: 'Tell {_.name} about {topics}'", "julep-2025")
    assert prompt.messages == Expr("f'Tell {_.name} about {{topics}}'")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("_.x", "'_.x' is read as an expression (julep-2025)"),
        ("'[1] and [2]'", "'[1] and [2]' is read as an expression (julep-2025)"),
        ("'[note] read this [1]'", "'[note] read this [1]' stays text (julep-2025)"),
        ("$_.x", "'$_.x' stays text (julep-2025)"),
        ("state.x", "'state.x' stays text (julep-2025)"),
        (
            "'about {topic}'",
            "'{topic}' stays text, since it does not start at a name that is known here (julep-2025)",
        ),
        (
            "'there are {len(_.items)}'",
            "'{len(_.items)}' stays text, since it does not start at a name that is known here (julep-2025)",
        ),
        ("'{% if _ %}yes{% endif %}'", "'{%' stays text (julep-2025)"),
    ],
)
def test_in_2025_a_doubtful_text_gets_a_warning_that_says_how_it_was_read(written: str, says: str) -> None:
    (found,) = warnings_of(f"evaluate: {written}", "julep-2025")
    assert (found.code, found.message) == ("W611", says)


@pytest.mark.parametrize("written", ["'Hi {_.name}'", "'{\"a\": 1}'", "'a {1, 2} b'", "$ _.x", "plain"])
def test_in_2025_a_text_that_nobody_would_read_otherwise_gets_no_warning(written: str) -> None:
    assert warnings_of(f"evaluate: {written}", "julep-2025") == []


def test_in_2025_what_is_wrong_inside_a_field_is_said_at_its_place() -> None:
    task = "dialect: julep-2025\nmain:\n- prompt: 'Dear {_.name}, {steps[7].output} {_ + nobody}'"
    with pytest.raises(CompileError) as caught:
        compile_text(task, contracts={})
    assert [(found.code, found.position.column) for found in caught.value.diagnostics] == [("E405", 28), ("E401", 50)]


def test_in_2025_fields_that_are_expressions_by_nature_need_no_mark() -> None:
    op = op_of("{if: _.x > 1, then: {evaluate: 1}}", "julep-2025")
    assert op.condition == Expr("_.x > 1")
    assert compile_text(
        "dialect: julep-2025\nmain: [{tool: t, arguments: 'outputs[0]'}]\ntools: [{name: t, type: api_call,"
        " api_call: {url: 'http://x'}}]",
        contracts={},
    ).plan.blocks[0].ops[0].arguments == Expr("outputs[0]")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("$ outputs[0]", []),
        ("$ inputs[0].a", []),
        ("$ [outputs[-1], inputs[-1], outputs[_], _.inputs[7]]", []),
        ("$ outputs[5]", ["E405"]),
        ("$ inputs[1]", ["E405"]),
        ("'{{ outputs[5].a }} {{ outputs[0] }} {{ inputs[-1] }}'", ["E405"]),
    ],
)
def test_older_spellings_name_steps_that_must_exist(written: str, codes: list[str]) -> None:
    text = f"main:\n- evaluate: 1\n- evaluate: {written}"
    try:
        found = compile_text(text, contracts={}).warnings
    except CompileError as error:
        found = list(error.diagnostics)
    assert [item.code for item in found] == codes


@pytest.mark.parametrize("dialect", ["julep-2024", "julep-2025"])
@pytest.mark.parametrize("name", ["user", "session", "arguments"])
def test_names_that_julep_has_are_known(dialect: str, name: str) -> None:
    assert warnings_of(f"evaluate: {{x: $ {name}}}", dialect) == []
    (found,) = errors_of(f"evaluate: {{x: $ {name}}}", "everstep")
    assert found.code == "E401"


def test_in_2024_a_key_of_an_input_may_be_called_like_such_a_name() -> None:
    task = (
        "dialect: julep-2024\ninput_schema: {type: object, properties: {user: {type: string}}}\n"
        "main: {evaluate: {x: user}}"
    )
    assert compile_text(task, contracts={}).warnings == []


# --- spellings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["julep-2024", "julep-2025"])
@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("{yield: {workflow: sub, arguments: _}}", "{workflow: sub, arguments: _}"),
        ("{yield: sub, arguments: _}", "{workflow: sub, arguments: _}"),
        ("{kind_: yield, workflow: sub, arguments: _}", "{workflow: sub, arguments: _}"),
        ("{tool_call: {tool: t, arguments: _}}", "{tool: t, arguments: _}"),
        ("{tool_call: {name: t, arguments: _}, label: x}", "{tool: t, arguments: _, label: x}"),
        ("{if_else: {if: _, then: {evaluate: 1}}}", "{if: _, then: {evaluate: 1}}"),
        ("{map_reduce: {over: _, map: {evaluate: 1}}}", "{over: _, map: {evaluate: 1}}"),
        ("{over: _, map: {evaluate: 1}, parallel: true}", "{over: _, map: {evaluate: 1}}"),
        ("{map_reduce: {over: _, map: {evaluate: 1}, parallel: false}}", "{over: _, map: {evaluate: 1}}"),
        ("{map: {over: _, evaluate: 1}}", "{over: _, map: {evaluate: 1}}"),
        ("{map: {over: _, map: {evaluate: 1}, parallelism: 3}}", "{over: _, map: {evaluate: 1}, parallelism: 3}"),
        ("{if: _, then: [{yield: sub}]}", "{if: _, then: [{workflow: sub}]}"),
        ("{foreach: {in: _, do: {tool_call: {tool: t}}}}", "{foreach: {in: _, do: {tool: t}}}"),
        ("{parallel: [{yield: sub}]}", "{parallel: [{workflow: sub}]}"),
        ("{switch: [{case: _, then: {yield: sub}}]}", "{switch: [{case: _, then: {workflow: sub}}]}"),
        ("{evaluate: 1, label: null}", "{evaluate: 1}"),
    ],
)
def test_spellings_of_older_clients_mean_the_plain_ones(dialect: str, written: str, plain: str) -> None:
    rest = (
        f"\nsub: [{{evaluate: 1}}, {{tool: t, arguments: _}}]\ndialect: {dialect}\n"
        "tools: [{name: t, type: api_call, api_call: {url: 'http://x'}}]"
    )
    extra = "" if "sub" in plain else "\nother: [{workflow: sub}]"
    one = compile_text(f"main:\n- {written}{rest}{extra}", contracts={}).plan
    other = compile_text(f"main:\n- {plain}{rest}{extra}", contracts={}).plan
    assert one == other


def test_data_that_is_called_like_a_wrapper_stays_data() -> None:
    assert value_of("{tool_call: {tool: 1}}", "julep-2025") == Lit({"tool_call": {"tool": 1}})


def test_our_own_dialect_refuses_the_spellings_of_older_clients() -> None:
    with pytest.raises(CompileError):
        compile_text("main: [{yield: {workflow: sub}}]\nsub: [{evaluate: 1}]", contracts={})


def test_keys_that_a_server_adds_are_left_out_with_a_warning() -> None:
    task = "dialect: julep-2025\nid: 4\ncreated_at: now\nplan_hash: x\nmain: [{evaluate: 1}]"
    assert [found.code for found in compile_text(task, contracts={}).warnings] == ["W612"] * 3
