"""What the values of a task mean: expressions, templates, literals."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.errors import CompileError
from engine.core.kinds import ToolEffect
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import Plan, ToolContract
from engine.core.plan.ops import EvaluateOp, ForeachOp, IfElseOp, MapReduceOp, PromptOp, SleepOp, ToolCallOp, YieldOp


def compile_(text: str, **contracts: ToolContract) -> Plan:
    return compile_text(text, contracts=contracts).plan


def first(text: str, **contracts: ToolContract) -> Any:
    return compile_(text, **contracts).blocks[0].ops[0]


def codes_of(text: str, **contracts: ToolContract) -> list[str]:
    with pytest.raises(CompileError) as caught:
        compile_text(text, contracts=contracts)
    return [found.code for found in caught.value.diagnostics]


def warnings_of(text: str) -> list[str]:
    return [found.code for found in compile_text(text, contracts={}).warnings]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("$ _.x", Expr("_.x")),
        ("'$   _.x  '", Expr("_.x")),
        ("|\n    $ [\n      1]\n", Expr("[\n  1]")),
        ("$_", Lit("$_")),
        ("$5", Lit("$5")),
        ("'{{ _ }}'", Tmpl("{{ _ }}")),
        ("a {% if _ %}b{% endif %}", Tmpl("a {% if _ %}b{% endif %}")),
        ("'{braces} and {#}'", Lit("{braces} and {#}")),
        ("'{\"json\": 1}'", Lit('{"json": 1}')),
        ("5", Lit(5)),
        ("null", Lit(None)),
        ("[1, {a: b}]", Lit([1, {"a": "b"}])),
        ("[1, {a: $ _}]", Arr((Lit(1), Obj({"a": Expr("_")})))),
        ("{a: [1, 2], b: $ _}", Obj({"a": Lit([1, 2]), "b": Expr("_")})),
        ("{}", Lit({})),
        ("[]", Lit([])),
    ],
)
def test_a_value_is_an_expression_a_template_or_itself(written: str, value: Value) -> None:
    op = first(f"main:\n- evaluate: {written}")
    assert isinstance(op, EvaluateOp)
    assert op.value == value


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("_.x > 1", "_.x > 1"),
        ("$ _.x > 1", "_.x > 1"),
        ("true", "True"),
        ("5", "5"),
        ("[1, a, null]", "[1, 'a', None]"),
        ("[$ _, {k: true}]", "[(_), {'k': True}]"),
        ("{a: 1.5}", "{'a': 1.5}"),
        ("'[1, 2]'", "[1, 2]"),
    ],
)
def test_a_field_that_is_an_expression_by_nature_needs_no_mark(written: str, source: str) -> None:
    condition = first(f"main:\n- if: {written}\n  then: {{evaluate: 1}}")
    assert isinstance(condition, IfElseOp)
    assert condition.condition == Expr(source)
    loop = first(f"main:\n- foreach:\n    in: {written}\n    do: {{evaluate: 1}}")
    assert isinstance(loop, ForeachOp)
    assert loop.items == Expr(source)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", Expr("_")),
        ("arguments: _", Expr("_")),
        ("arguments: $ _.x", Expr("_.x")),
        ("arguments: {a: _, b: $ _}", Obj({"a": Lit("_"), "b": Expr("_")})),
        ("arguments: {}", Lit({})),
    ],
)
def test_arguments_are_the_input_an_expression_or_an_object(written: str, value: Value) -> None:
    tool = first(f"main:\n- tool: t\n  {written}", t=ToolContract("t", "python"))
    assert isinstance(tool, ToolCallOp)
    assert tool.arguments == value
    call = first(f"main:\n- workflow: sub\n  {written}\nsub: [{{evaluate: 1}}]")
    assert isinstance(call, YieldOp)
    assert call.arguments == value


@pytest.mark.parametrize("written", ["text", "5", "[1]", "'{{ _ }}'"])
def test_other_arguments_are_refused(written: str) -> None:
    assert codes_of(f"main:\n- workflow: sub\n  arguments: {written}\nsub: [{{evaluate: 1}}]") == ["E203"]


def test_a_text_prompt_is_one_message_of_the_user() -> None:
    assert first("main: {prompt: hi}").messages == Lit([{"role": "user", "content": "hi"}])
    assert first("main: {prompt: 'hi {{ _ }}'}").messages == Arr(
        (Obj({"role": Lit("user"), "content": Tmpl("hi {{ _ }}")}),)
    )
    assert first("main: {prompt: $ _.messages}").messages == Expr("_.messages")


def test_the_model_of_a_prompt_stands_beside_or_in_the_settings() -> None:
    beside = first("main: {prompt: hi, model: m, settings: {seed: 1}}")
    inside = first("main: {prompt: hi, settings: {model: m, seed: 1}}")
    assert isinstance(beside, PromptOp)
    assert beside == inside
    assert (beside.model, beside.settings) == ("m", Lit({"seed": 1}))
    computed = first("main: {prompt: hi, settings: {model: $ _.m, seed: $ 1}}")
    assert (computed.model, computed.settings) == ("", Obj({"seed": Expr("1"), "model": Expr("_.m")}))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("{seconds: 1, minutes: 2, hours: 1}", Lit(3721)),
        ("{seconds: 0.5}", Lit(0.5)),
        ("90", Lit(90)),
        ("1h30m", Lit(5400)),
        ("$ _.s", Expr("_.s")),
        ("{minutes: $ _.m}", Expr("(_.m) * 60")),
        ("{minutes: $ _.m, seconds: 5}", Expr("(_.m) * 60 + 5")),
    ],
)
def test_the_parts_of_a_sleep_are_added_up(written: str, value: Value) -> None:
    op = first(f"main:\n- sleep: {written}")
    assert isinstance(op, SleepOp)
    assert op.seconds == value


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{seconds: 0}", "E503"),
        ("{seconds: -1}", "E503"),
        ("{seconds: 5, minutes: -5}", "E503"),
        ("0s", "E503"),
        ("{days: 1000000}", "E503"),
        ("{seconds: true}", "E504"),
        ("soon", "E504"),
    ],
)
def test_a_sleep_that_is_no_time_is_refused(written: str, code: str) -> None:
    assert codes_of(f"main:\n- sleep: {written}") == [code]


def test_a_map_has_defaults_for_all_but_its_items_and_its_step() -> None:
    op = first("main: {over: _, map: {evaluate: 1}}")
    assert isinstance(op, MapReduceOp)
    assert (op.parallelism, op.on_item_error, op.reduce, op.initial) == (100, "fail", None, Lit([]))


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("_", ["W601"]),
        ("_.x > 3", ["W601"]),
        ("_['x']", ["W601"]),
        ("$_.x", ["W601"]),
        ("steps[0].output", ["W601"]),
        ("state.count", ["W601"]),
        ("Hello {_.name}", ["W603"]),
        ("{steps[0].output}", ["W603"]),
        ("'{\"a\": {}}'", []),
        ("{name}", []),
        ("_italic_", []),
        ("a _ b", []),
        ("steps to take", []),
        ("input", []),
        ("'{{ _ }} {_}'", []),
    ],
)
def test_literal_text_that_looks_like_code_gets_a_warning(written: str, codes: list[str]) -> None:
    text = written if written.startswith("'") else f"'{written}'" if "'" not in written else f'"{written}"'
    assert warnings_of(f"main:\n- evaluate: {text}") == codes


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("main: {evaluate: $ error}", "E401"),
        ("main: {evaluate: $ results}", "E401"),
        ("main: {over: _, map: {evaluate: $ results}}", "E401"),
        ("main: {evaluate: 1, when: $ error}", "E401"),
        ("main: {prompt: '{{ user.name }}'}", "E401"),
    ],
)
def test_a_name_is_unknown_where_nothing_provides_it(text: str, code: str) -> None:
    assert codes_of(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "main: {evaluate: 1, on_error: {evaluate: $ error.code}}",
        "main: {evaluate: 1, on_error: {if: error, then: {over: _, map: {prompt: '{{ error.code }}'}}}}",
        "main: {over: _, map: {evaluate: 1}, reduce: results + _ + state.x}",
        "main: {evaluate: '$ [_, steps, state, inputs, outputs, input, agent.name, task, execution.id]'}",
        "main: {evaluate: '$ [x for x in _ if x]'}",
    ],
)
def test_a_name_is_known_where_it_exists(text: str) -> None:
    assert compile_text(text, contracts={}).warnings == []


def test_only_tools_that_steps_call_travel_in_the_plan() -> None:
    contracts = {name: ToolContract(name, "python") for name in ("a", "b", "c")}
    plan = compile_text(
        "main: [{tool: b}, {prompt: hi, tools: [a]}]\ntools: [{name: d, api_call: {url: 'http://x'}}]",
        contracts=contracts,
    ).plan
    assert list(plan.tools) == ["b"]


@pytest.mark.parametrize(
    ("call", "effect", "repeatable"),
    [
        ("api_call: {url: 'http://x'}", ToolEffect.READ, True),
        ("api_call: {method: HEAD, url: 'http://x'}", ToolEffect.READ, True),
        ("api_call: {method: POST, url: 'http://x'}", ToolEffect.WRITE, False),
        ("api_call: {method: PUT, url: 'http://x'}\n  idempotent: true", ToolEffect.WRITE, True),
        ("api_call: {method: POST, url: 'http://x'}\n  effect: none", ToolEffect.NONE, True),
        ("api_call: {url: 'http://x'}\n  effect: external", ToolEffect.EXTERNAL, False),
    ],
)
def test_only_reading_http_calls_may_be_repeated_unless_said(call: str, effect: ToolEffect, repeatable: bool) -> None:
    contract = compile_(f"main: {{tool: t}}\ntools:\n- name: t\n  {call}").tools["t"]
    assert (contract.effect, contract.repeatable) == (effect, repeatable)


def test_a_task_may_change_how_long_an_operators_tool_takes_but_not_what_it_does() -> None:
    given = ToolContract("t", "python", effect=ToolEffect.WRITE, description="T", timeout_s=5.0)
    plan = compile_("main: {tool: t}\ntools: [{name: t, timeout: 1m, description: mine}]", t=given)
    assert (plan.tools["t"].timeout_s, plan.tools["t"].description) == (60.0, "mine")
    assert codes_of("main: {tool: t}\ntools: [{name: t, effect: read}]", t=given) == ["E509"]


def test_a_tool_of_the_task_hides_the_operators_tool_of_that_name() -> None:
    plan = compile_("main: {tool: t}\ntools: [{name: t, api_call: {url: 'http://x'}}]", t=ToolContract("t", "python"))
    assert plan.tools["t"].type == "api_call"
