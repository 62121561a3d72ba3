"""Reading a task: what each key becomes, shorthands, and that one mistake hides no other."""

from __future__ import annotations

import pytest

from engine.core.diagnostics import Diagnostic
from engine.core.kinds import StepKind, ToolEffect
from engine.core.spec.fields import parse_duration
from engine.core.spec.model import TaskSpec
from engine.core.spec.nodes import ScalarNode, node_from_json, node_to_json
from engine.core.spec.parts import FunctionToolSpec, NameSpec
from engine.core.spec.read import read_task
from engine.core.spec.steps import ForeachStep, IfElseStep, ParallelStep, PromptStep, WaitStep
from engine.core.spec.walk import all_steps
from engine.source.parse import parse_source


def read(text: str) -> TaskSpec:
    task, findings = read_task(parse_source(text, "t"))
    assert findings.items == []
    return task


def refuse(text: str) -> list[Diagnostic]:
    _, findings = read_task(parse_source(text, "t"))
    return findings.items


def codes_of(text: str) -> list[str]:
    return [found.code for found in refuse(text)]


def test_every_other_list_of_steps_is_a_sub_workflow_in_the_order_of_the_source() -> None:
    task = read("b: [{evaluate: 1}]\nmain: [{evaluate: 2}]\na: [{evaluate: 3}]")
    assert list(task.workflows) == ["main", "b", "a"]


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("then", 2),
        ("else", 2),
        ("do", 2),
        ("map", 2),
        ("parallel", 2),
        ("on_error", 2),
        ("main", 2),
    ],
)
def test_every_place_that_takes_a_step_takes_a_list_of_steps(place: str, count: int) -> None:
    forms = {
        "then": "main: {if: _, then: STEPS}",
        "else": "main: {if: _, then: {evaluate: 0}, else: STEPS}",
        "do": "main: {foreach: {in: _, do: STEPS}}",
        "map": "main: {over: _, map: STEPS}",
        "parallel": "main: {parallel: [STEPS]}",
        "on_error": "main: {evaluate: 1, on_error: STEPS}",
        "main": "main: STEPS",
    }
    one = read(forms[place].replace("STEPS", "{evaluate: 7, label: x}"))
    many = read(forms[place].replace("STEPS", "[{evaluate: 7, label: x}, {return: 8}]"))
    few = [step.kind for step in all_steps(one.workflows["main"])]
    more = [step.kind for step in all_steps(many.workflows["main"])]
    assert len(more) - len(few) == count - 1
    assert more[-1] is StepKind.RETURN


def test_paths_name_the_place_of_a_step() -> None:
    task = read("main:\n- if: _\n  then: {parallel: [{evaluate: 1}, [{evaluate: 2}]]}\n  on_error: [{evaluate: 3}]")
    assert [step.path for step in all_steps(task.workflows["main"])] == [
        "main[0]",
        "main[0].then",
        "main[0].then.parallel[0]",
        "main[0].then.parallel[1][0]",
        "main[0].on_error[0]",
    ]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (".5s", 0.5),
        ("1.5m", 90.0),
        ("5", None),
        ("5x", None),
        ("", None),
        ("m", None),
        ("1h-5m", None),
        (True, None),
        (None, None),
        (1e300, None),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_numbers_with_units(written: object, seconds: float | None) -> None:
    assert parse_duration(node_from_json(written)) == seconds


def test_modifiers_stand_on_any_step() -> None:
    task = read(
        "main: {sleep: {seconds: 1}, label: nap, when: _, retry: {attempts: 3, initial: 2, on: tool},"
        " timeout: 5s, total_timeout: 1m, on_error: {evaluate: 1}}"
    )
    (step,) = task.workflows["main"].steps
    assert step.label == NameSpec("nap", step.label.position if step.label else None)  # type: ignore[arg-type]
    assert step.mods.retry is not None
    assert (step.mods.retry.attempts, step.mods.retry.initial_s, step.mods.retry.on) == (3, 2.0, ("tool",))
    assert (step.mods.timeout_s, step.mods.total_timeout_s) == (5.0, 60.0)


def test_a_first_pause_longer_than_the_default_maximum_moves_the_maximum() -> None:
    (step,) = read("main: {evaluate: 1, retry: {attempts: 2, initial: 5m}}").workflows["main"].steps
    assert step.mods.retry is not None
    assert step.mods.retry.max_s == 300.0


def test_the_legacy_wait_has_its_info_beside_kind() -> None:
    (step,) = read("main: [{kind_: wait_for_input, info: {why: x}}]").workflows["main"].steps
    assert isinstance(step, WaitStep)
    assert step.info is not None
    assert node_to_json(step.info) == {"why": "x"}


def test_a_wait_needs_no_info() -> None:
    (step,) = read("main: [{wait_for_input: }]").workflows["main"].steps
    assert isinstance(step, WaitStep)
    assert step.info is None


def test_tools_of_a_prompt_are_names_references_or_written_out() -> None:
    (step,) = (
        read(
            "main: {prompt: hi, tools: [a, {ref: {name: b}}, {name: c, parameters: {type: object}},"
            " {type: function, function: {name: d, description: D}}]}"
        )
        .workflows["main"]
        .steps
    )
    assert isinstance(step, PromptStep)
    assert isinstance(step.tools, tuple)
    assert [tool.text if isinstance(tool, NameSpec) else tool.name.text for tool in step.tools] == ["a", "b", "c", "d"]
    assert isinstance(step.tools[3], FunctionToolSpec)
    assert step.tools[3].description == "D"


def test_the_type_of_a_tool_follows_from_its_body() -> None:
    task = read(
        "main: {evaluate: 1}\ntools:\n- {name: a, api_call: {url: 'http://x'}}\n"
        "- {name: b, function: {parameters: {}}}\n- {name: c}\n"
        "- {name: d, type: python, effect: read, idempotent: true}"
    )
    assert [tool.type for tool in task.tools] == ["api_call", "function", "python", "python"]
    assert (task.tools[3].effect, task.tools[3].idempotent) == (ToolEffect.READ, True)


def test_an_api_call_keeps_what_its_adapter_needs() -> None:
    task = read(
        "main: {evaluate: 1}\ntools:\n- name: a\n  api_call: {method: post, url: 'http://x', headers: {A: b},"
        " params: {q: [1]}, json: null, cookies: {c: d}, follow_redirects: true, include_response_content: false,"
        " timeout: 5s}"
    )
    assert task.tools[0].spec == {
        "method": "POST",
        "url": "http://x",
        "headers": {"A": "b"},
        "params": {"q": [1]},
        "cookies": {"c": "d"},
        "json": None,
        "follow_redirects": True,
        "include_response_content": False,
    }
    assert task.tools[0].timeout_s == 5.0


def test_all_mistakes_are_found_at_once() -> None:
    found = codes_of("nam: x\nlimits: {steps: 0}\nmain: [{evalute: 1}, {if: _}, 5, {sleep: {}, timeout: x}]")
    assert sorted(found) == ["E201", "E202", "E202", "E203", "E206", "E503", "E504"]


def test_a_step_that_cannot_be_read_keeps_its_number_and_label() -> None:
    task, findings = read_task(parse_source("main: [{promt: x, label: first}, {evaluate: 1}]", "t"))
    assert len(findings.errors) == 1
    first, second = task.workflows["main"].steps
    assert first.label is not None
    assert (first.label.text, second.path) == ("first", "main[1]")


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("main: [{evaluat: 1}]", "E206", "did you mean 'evaluate'?"),
        ("main: [{evaluate: 1, labell: x}]", "E201", "did you mean 'label'?"),
        ("man: [{evaluate: 1}]\nmain: [{workflow: man}]", "", ""),
        ("main: [{evaluate: 1}]\ninput_schem: {}", "E201", "did you mean 'input_schema'?"),
        ("main: [{kind_: evalute, evaluate: 1}]", "E206", "did you mean 'evaluate'?"),
        ("main: [{then: {evaluate: 1}}]", "E204", "`then` needs `if:` beside it"),
        ("main: [{arguments: _}]", "E204", "`arguments` need `tool:`, `workflow:` or `task:` beside them"),
    ],
)
def test_a_slip_gets_the_word_that_was_meant(text: str, code: str, hint: str) -> None:
    found = refuse(text)
    assert [(item.code, item.hint) for item in found] == ([(code, hint)] if code else [])


@pytest.mark.parametrize("root", ["5", "text", "[1]", "null"])
def test_what_is_no_object_is_no_task(root: str) -> None:
    assert codes_of(root) == ["E209"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"name: {'x' * 256}", "E406"),
        ("name: ''", "E406"),
        (f"canonical_name: {'x' * 256}", "E406"),
        ("metadata: [1]", "E203"),
        ("tools: {}", "E203"),
        ("input_schema: text", "E203"),
        ("limits: {cost: -5}", "E503"),
        ("limits: {cost: much}", "E203"),
        ("dialect: 5", "E203"),
        ("1abc: [{evaluate: 1}]", "E406"),
        (f"{'x' * 41}: [{{evaluate: 1}}]", "E406"),
        ("sub: []", "E201"),
        ("sub: [text]", "E201"),
    ],
)
def test_a_wrong_setting_of_a_task_is_refused(text: str, code: str) -> None:
    assert codes_of(f"main: [{{evaluate: 1}}]\n{text}") == [code]


def test_long_lists_of_words_are_not_compared_with_every_mistake() -> None:
    found = refuse("main: [{evaluate: 1}]\n" + "\n".join(f"nam{number}: 1" for number in range(200)))
    assert len(found) == 200
    assert found[0].hint == "did you mean 'name'?"
    assert "did you mean" not in found[-1].hint


def test_inner_steps_are_typed() -> None:
    task = read("main: [{if: _, then: {foreach: {in: _, do: {parallel: [{evaluate: 1}]}}}}]")
    kinds = [type(step) for step in all_steps(task.workflows["main"])]
    assert kinds[:3] == [IfElseStep, ForeachStep, ParallelStep]


def test_a_scalar_made_without_a_source_has_no_raw_text() -> None:
    node = node_from_json({"a": [1, "x", None, True]})
    assert node_to_json(node) == {"a": [1, "x", None, True]}
    assert ScalarNode("x").raw == ""
