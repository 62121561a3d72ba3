"""Checks of a whole task: labels, references, unreachable steps, endless calls, schemas, sizes."""

from __future__ import annotations

import json

import pytest

from engine.control.compiling import MAX_DIAGNOSTICS, compile_text
from engine.core.errors import CompileError
from engine.core.plan.ir import ToolContract


def findings_of(text: str, **contracts: ToolContract) -> list[tuple[str, int]]:
    """Return (code, line) of everything that is said about a task."""
    try:
        found = compile_text(text, contracts=contracts).warnings
    except CompileError as error:
        found = list(error.diagnostics)
    return [(item.code, item.position.line) for item in found]


@pytest.mark.parametrize(
    "steps",
    [
        "[{return: 1}, {evaluate: 2}]",
        "[{error: no}, {evaluate: 2}]",
        "[{if: _, then: {return: 1}, else: {error: no}}, {evaluate: 2}]",
        "[{if: _, then: [{return: 1}, {evaluate: 2}]}]",
        "[{evaluate: 1, on_error: [{return: 1}, {evaluate: 2}]}]",
        "[{error: no, on_error: {return: 3}}, {evaluate: 2}]",
        "[{parallel: [{return: 1}]}, {evaluate: 2}]",
        "[{parallel: [{return: 1}, {error: no}]}, {evaluate: 2}]",
        "[{race: [{return: 1}, {error: no}]}, {evaluate: 2}]",
        "[{over: [1, 2], map: {return: 1}}, {evaluate: 2}]",
        "[{foreach: {in: [1], do: {return: 1}}}, {evaluate: 2}]",
        "[{while: true, do: {evaluate: 1}}, {evaluate: 2}]",
        "[{while: true, do: [{if: _, then: {return: 1}}]}, {evaluate: 2}]",
        "[{until: 'false', do: {evaluate: 1}}, {evaluate: 2}]",
        "[{until: _, do: {return: 1}}, {evaluate: 2}]",
        "[{if: 'false', then: {evaluate: 1}}, {evaluate: 2}]",
        "[{if: $ True, then: {evaluate: 1}, else: {evaluate: 3}}, {evaluate: 2}]",
        "[{evaluate: 1, when: false}, {evaluate: 2}]",
        "[{while: false, do: {evaluate: 1}}, {evaluate: 2}]",
        "[{switch: [{case: 'false', then: {evaluate: 1}}, {case: _, then: {evaluate: 3}}]}, {evaluate: 2}]",
        "[{return: 1, when: true}, {evaluate: 2}]",
        "[{workflow: sub}, {evaluate: 2}]\nsub: [{error: no}]",
        "[{workflow: sub}, {evaluate: 2}]\nsub: [{workflow: s}]\ns: [{if: _, then: {error: a}, else: {error: b}}]",
    ],
)
def test_a_step_behind_the_end_gets_a_warning(steps: str) -> None:
    assert findings_of(f"main: {steps}") == [("W602", 1)]


@pytest.mark.parametrize(
    "steps",
    [
        "[{return: 1, when: _}, {evaluate: 2}]",
        "[{error: no, on_error: {evaluate: 1}}, {evaluate: 2}]",
        "[{if: _, then: {return: 1}}, {evaluate: 2}]",
        "[{parallel: [{return: 1}, {evaluate: 1}]}, {evaluate: 2}]",
        "[{foreach: {in: _, do: {return: 1}}}, {evaluate: 2}]",
        "[{over: _, map: {return: 1}}, {evaluate: 2}]",
        "[{over: [1], map: {error: no}, on_item_error: skip}, {evaluate: 2}]",
        "[{parallel: [{error: no}], on_item_error: collect}, {evaluate: 2}]",
        "[{parallel: [{error: no}], on_error: {evaluate: 1}}, {evaluate: 2}]",
        "[{race: [{error: no}, {evaluate: 1}]}, {evaluate: 2}]",
        "[{return: $ _.x, on_error: {evaluate: 1}}, {evaluate: 2}]",
        "[{while: _, do: {return: 1}}, {evaluate: 2}]",
        "[{while: true, do: {evaluate: 1}, on_error: {evaluate: 3}}, {evaluate: 2}]",
        "[{workflow: sub}, {evaluate: 2}]\nsub: [{return: 1}]",
        "[{workflow: sub}, {evaluate: 2}]\nsub: [{if: _, then: {error: no}}]",
        "[{workflow: sub, on_error: {evaluate: 1}}, {evaluate: 2}]\nsub: [{error: no}]",
        "[{workflow: sub, when: _}, {evaluate: 2}]\nsub: [{error: no}]",
    ],
)
def test_a_step_that_may_run_gets_no_warning(steps: str) -> None:
    assert findings_of(f"main: {steps}") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("main: [{workflow: main}]", [("E409", 1)]),
        ("main: [{workflow: a}]\na: [{workflow: b}]\nb: [{workflow: a}]", [("E409", 3)]),
        ("main: [{if: _, then: {workflow: main}, else: {workflow: main}}]", [("E409", 1)]),
        ("main: [{parallel: [{evaluate: 1}, {workflow: main}]}]", [("E409", 1)]),
        ("main: [{workflow: main, on_error: {workflow: main}}]", [("E409", 1)]),
        ("main: [{workflow: a}]\na: [{wait_for_input: }, {workflow: a}]", [("W604", 2)]),
        ("main: [{workflow: a}]\na: [{sleep: 1}, {workflow: b}]\nb: [{workflow: a}]", [("W604", 3)]),
        ("main: [{workflow: main, when: _}]", []),
        ("main: [{if: _, then: {workflow: main}}]", []),
        ("main: [{if: _, then: {return: 1}}, {workflow: main}]", []),
        ("main: [{if: _, then: {error: x}}, {workflow: main}]", []),
        ("main: [{foreach: {in: _, do: {workflow: main}}}]", []),
        ("main: [{over: _, map: {workflow: main}}]", []),
        ("main: [{evaluate: 1, on_error: {workflow: main}}]", []),
        ("main: [{workflow: a}]\na: [{if: _, then: {workflow: b}}]\nb: [{workflow: a}]", []),
        ("main: [{workflow: a}, {workflow: a}]\na: [{evaluate: 1}]", []),
        ("main: [{workflow: a}]\na: [{workflow: a, on_error: {log: x}}]", [("E409", 2)]),
        ("main: [{workflow: a}]\na: [{workflow: b, on_error: {log: x}}]\nb: [{log: y}, {workflow: a}]", [("E409", 3)]),
        ("main: [{workflow: main, when: true}]", [("E409", 1)]),
        (
            "main: [{parallel: [{workflow: main}], on_error: {tool: t}}]\ntools: [{name: t, api_call: {url: 'http://x'}}]",
            [("E409", 1)],
        ),
        ("main: [{workflow: a}]\na: [{prompt: hi}, {workflow: a, on_error: {log: x}}]", []),
        ("main: [{workflow: a}]\na: [{workflow: a, arguments: $ _.next, on_error: {log: x}}]", []),
        ("main: [{workflow: a}]\na: [{workflow: b, on_error: {log: x}}]\nb: [{evaluate: $ 1 / _}, {workflow: a}]", []),
        ("main: [{workflow: a}]\na: [{workflow: a, timeout: 5s, on_error: {log: x}}]", []),
        ("main: [{workflow: a}]\na: [{if: _, then: {workflow: a}, on_error: {log: x}}]", []),
    ],
)
def test_calls_that_never_end_are_found_and_others_are_not(text: str, found: list[tuple[str, int]]) -> None:
    assert findings_of(text) == found


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("$ steps['a'].output", []),
        ("$ steps.a.output", []),
        ("$ steps['inner'].output", []),
        ("$ steps[0].output", []),
        ("$ steps[_.n].output", []),
        ("$ steps.items()", []),
        ("'{{ steps.a.output }} {{ steps[\"a\"] }} {{ steps[0] }}'", []),
        ("'{{ \"steps.none\" }} steps.none'", []),
        ("$ steps['none'].output", [("E405", 5)]),
        ("$ steps.none.output", [("E405", 5)]),
        ("$ steps[7].output", [("E405", 5)]),
        ("$ steps[-1].output", [("E405", 5)]),
        ("'{{ steps[-1].output }}'", [("E405", 5)]),
        ("$ steps[3].output", [("E405", 5)]),
        ("'{{ steps.none }}'", [("E405", 5)]),
        ("'{{ steps[\"none\"] }}'", [("E405", 5)]),
        ("'{{ steps[7] }}'", [("E405", 5)]),
        ("$ [steps[0], steps['x'], steps['y']]", [("E405", 5), ("E405", 5)]),
    ],
)
def test_a_reference_to_a_step_must_lead_to_one(reference: str, found: list[tuple[str, int]]) -> None:
    text = (
        "main:\n- {evaluate: 1, label: a}\n- if: _\n  then: {evaluate: 2, label: inner}\n"
        f"- evaluate: {reference}\n- evaluate: 4"
    )
    assert findings_of(text) == found


def test_a_sub_workflow_does_not_see_the_labels_of_its_caller() -> None:
    text = "main: [{evaluate: 1, label: a}, {workflow: s}]\ns:\n- evaluate: $ steps.a"
    assert findings_of(text) == [("E405", 3)]


def test_labels_are_unique_in_a_named_list_but_not_in_the_task() -> None:
    assert findings_of("main: [{evaluate: 1, label: a}, {workflow: s}]\ns: [{evaluate: 1, label: a}]") == []
    assert findings_of("main:\n- {evaluate: 1, label: a}\n- {over: _, map: {evaluate: 1, label: a}}") == [("E404", 3)]


def test_labels_are_bounded() -> None:
    assert findings_of(f"main: [{{evaluate: 1, label: {'x' * 120}}}]") == []
    assert findings_of(f"main: [{{evaluate: 1, label: {'x' * 121}}}]") == [("E407", 1)]
    assert findings_of("main: [{evaluate: 1, label: '12'}]") == [("E407", 1)]


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ("{type: object, properties: {a: {$ref: '#'}}}", None),
        ("{$defs: {a: {type: string}}, $ref: '#/$defs/a'}", None),
        ("{$defs: {'a/b': {type: string}}, $ref: '#/$defs/a~1b'}", None),
        ("{$defs: {a: {$anchor: x}}, $ref: '#x'}", None),
        ("{properties: {pattern: {type: string}}}", None),
        ("true", None),
        ("{type: strin}", "E501"),
        ("{$ref: '#/$defs/a'}", "E501"),
        ("{$ref: '#x'}", "E501"),
        ("{$ref: '#'}", "E501"),
        ("{$defs: {a: {anyOf: [{$ref: '#/$defs/b'}]}, b: {not: {$ref: '#/$defs/a'}}}}", "E501"),
        ("{$ref: 'http://x/y'}", "E502"),
        ("{$ref: other.json}", "E502"),
        ("{pattern: '('}", "E501"),
        ("{pattern: '(?=a)'}", "E501"),
        ("{patternProperties: {'(?=a)': {}}}", "E501"),
        ("{minimum: x}", "E501"),
        ("{required: a}", "E501"),
    ],
)
def test_a_json_schema_is_checked_when_the_task_is_created(schema: str, code: str | None) -> None:
    expected = [] if code is None else [(code, 1)]
    assert findings_of(f"input_schema: {schema}\nmain: [{{evaluate: 1}}]") == expected
    assert findings_of(f"main: [{{prompt: x, output_schema: {schema}}}]") == expected
    assert findings_of(f"main: [{{wait_for_input: {{schema: {schema}}}}}]") == expected


def test_a_schema_that_would_take_for_ever_to_check_a_value_is_refused() -> None:
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}
    schema = {"$defs": {**twice, "a30": {}}, "$ref": "#/$defs/a0"}
    assert findings_of(json.dumps({"main": [{"evaluate": 1}], "input_schema": schema})) == [("E501", 1)]
    wide = {"enum": list(range(6_000))}
    assert findings_of(json.dumps({"main": [{"evaluate": 1}], "input_schema": wide})) == [("E503", 1)]


STRICT = ToolContract(
    "t",
    "python",
    parameters={
        "type": "object",
        "$defs": {"size": {"enum": ["s", "m"]}},
        "properties": {"n": {"type": "integer"}, "size": {"$ref": "#/$defs/size"}, "tags": {"type": "array"}},
        "required": ["n"],
        "additionalProperties": False,
    },
)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ("{n: 1}", 0),
        ("{n: $ _.n, size: m}", 0),
        ("{n: '{{ _ }}'}", 1),
        ("{n: 1, tags: [$ _, 2]}", 0),
        ("_", 0),
        ("$ {}", 0),
        ("{}", 1),
        ("{n: one}", 1),
        ("{n: 1, size: xl}", 1),
        ("{n: 1, m: 2}", 1),
        ("{n: 1, tags: {a: $ _}}", 1),
        ("{m: x, size: xl}", 3),
    ],
)
def test_literal_arguments_that_cannot_fit_the_tool_are_found(arguments: str, count: int) -> None:
    assert findings_of(f"main:\n- tool: t\n  arguments: {arguments}", t=STRICT) == [("E505", 3)] * count


def test_a_reading_tool_is_not_called_with_a_writing_method() -> None:
    text = "main:\n- tool: t\n  arguments: {method: METHOD}\ntools: [{name: t, api_call: {url: 'http://x'}}]"
    assert findings_of(text.replace("METHOD", "POST")) == [("E505", 3)]
    assert findings_of(text.replace("METHOD", "HEAD")) == []
    assert findings_of(text.replace("METHOD", "POST").replace("api_call:", "effect: write, api_call:")) == []


@pytest.mark.parametrize("name", ["$ _.tool", "'{{ _.tool }}'"])
def test_names_of_tools_and_sub_workflows_cannot_be_computed(name: str) -> None:
    assert findings_of(f"main: [{{tool: {name}}}, {{workflow: {name}}}]") == [("E508", 1), ("E508", 1)]


def test_a_sub_workflow_that_nothing_runs_gets_a_warning() -> None:
    assert findings_of("main: [{evaluate: 1}]\nsub:\n- evaluate: 1") == [("W605", 3)]


def test_a_broken_step_makes_no_sub_workflow_unused() -> None:
    assert findings_of("main: [{workfow: sub}]\nsub: [{evaluate: 1}]") == [("E206", 1)]


@pytest.mark.parametrize(("value", "count"), [(0, 1), (1, 0), (100_000, 0), (100_001, 1), ("many", 1), (1.5, 1)])
def test_parallelism_is_bounded(value: object, count: int) -> None:
    assert len(findings_of(f"main: [{{over: _, map: {{evaluate: 1}}, parallelism: {value}}}]")) == count


def test_a_task_with_too_many_steps_is_refused() -> None:
    assert findings_of("main:\n" + "- evaluate: 1\n" * 20_001) == [("E507", 1)]


def test_structure_and_meaning_are_reported_together_in_the_order_of_the_source() -> None:
    text = "main:\n- evaluate: $ nme\n- promt: x\n- tool: nothing\n- evaluate: $ (\nextra: 5"
    assert findings_of(text) == [("E401", 2), ("E206", 3), ("E402", 4), ("E301", 5), ("E201", 6)]


def test_of_very_many_findings_the_first_are_handed_out_and_all_are_counted() -> None:
    with pytest.raises(CompileError, match=r"1,000 errors \(the first 500 findings are shown\)") as caught:
        compile_text("main: [{evaluate: 1}]\n" + "".join(f"k{n}: 1\n" for n in range(1000)), contracts={})
    assert len(caught.value.diagnostics) == MAX_DIAGNOSTICS


def test_a_long_line_is_cut_around_the_place_when_it_is_printed() -> None:
    text = json.dumps({"main": [{"evaluate": "x" * 5000}, {"promt": 1}, {"evaluate": "y" * 5000}]})
    with pytest.raises(CompileError) as caught:
        compile_text(text, contracts={})
    _, line, caret, _ = caught.value.render().split("\n")
    assert len(line) < 200
    assert line[caret.index("^") :].startswith('"promt"')


@pytest.mark.parametrize(
    ("step", "codes"),
    [
        ("evaluate: $ steps[1].input", ["E405"]),
        ("evaluate: $ steps[0].output", []),
        ('{if: "steps[1].input", then: {evaluate: 1}}', ["E405"]),
        ('{evaluate: 1, undo: {evaluate: "$ steps[1].output"}}', []),
    ],
)
def test_a_step_does_not_see_itself_in_steps_before_it_has_ended(step: str, codes: list[str]) -> None:
    try:
        found = compile_text(f"main:\n- evaluate: 1\n- {step}", contracts={}).warnings
    except CompileError as error:
        found = list(error.diagnostics)
    assert [item.code for item in found] == codes


def test_in_the_older_dialects_the_running_step_has_its_input_in_steps() -> None:
    text = 'dialect: julep-2025\nmain:\n- evaluate: {a: "$ steps[0].input"}'
    assert [item.code for item in compile_text(text, contracts={}).warnings] == []


def test_a_task_in_a_race_is_doubtful_also_behind_a_sub_workflow() -> None:
    text = """
main:
  - race:
      - task: first
      - workflow: other
  - task: outside
other: {task: second}
"""
    assert findings_of(text) == [("W615", 4), ("W615", 7)]


@pytest.mark.parametrize("tool", ["type: mcp", "integration: {provider: x}", "type: pythn"])
def test_a_tool_of_a_type_that_is_refused_is_told_once_however_many_steps_use_it(tool: str) -> None:
    steps = "main:\n- tool: t\n- {race: [{tool: t}, {evaluate: 1}]}\n- {prompt: hi, tools: [t]}\n"
    text = f"{steps}tools: [{{name: t, {tool}}}]"
    with pytest.raises(CompileError) as caught:
        compile_text(text, contracts={})
    (found,) = caught.value.diagnostics
    assert found.code == ("E506" if "pythn" in tool else "E207")
    assert found.hint


def test_a_long_chain_of_sub_workflows_in_the_worst_order_is_looked_through_once() -> None:
    count = 3_000
    lists = "".join(f"w{n}: [{{workflow: w{n + 1}, on_error: {{log: x}}}}]\n" for n in range(count))
    text = f"main: [{{workflow: w0}}, {{evaluate: 1}}]\n{lists}w{count}: [{{error: no}}]"
    assert findings_of(text) == []
    assert findings_of(text.replace(", on_error: {log: x}", "")) == [("W602", 1)]


@pytest.mark.parametrize("step", ["sleep: 5x", "wait_for_event: e\n  deadline: abc"])
def test_a_text_that_is_no_duration_is_called_so_with_a_remedy(step: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(f"main:\n- {step}", contracts={})
    (found,) = caught.value.diagnostics
    key = step.rpartition(":")[0].rpartition(" ")[2]
    assert (found.code, found.message) == ("E504", f"'{key}' is not a duration or an expression")
    assert "write a duration such as" in found.hint
