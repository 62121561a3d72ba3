"""What is wrong with switch, loops, races and waits is said at the place where it stands."""

from __future__ import annotations

import pytest

from engine.control.compiling import compile_text
from engine.core.errors import CompileError
from tests.support.memory import TOOLS


def findings_of(text: str) -> list[tuple[str, int]]:
    """Return (code, line) of everything that is said about a task."""
    try:
        found = compile_text(text, contracts={tool.contract().name: tool.contract() for tool in TOOLS}).warnings
    except CompileError as error:
        found = list(error.diagnostics)
    return [(item.code, item.position.line) for item in found]


@pytest.mark.parametrize(
    ("steps", "code", "line"),
    [
        ("  - switch: []", "E208", 3),
        ("  - switch: {case: _}", "E203", 3),
        (
            "  - switch:\n      - case: _\n        then: {evaluate: 1}\n      - case: $ 1\n        then: {evaluate: 2}",
            "W602",
            7,
        ),
        ("  - switch:\n      - case: $ nothing\n        then: {evaluate: 1}", "E401", 4),
        ("  - switch:\n      - then: {evaluate: 1}", "E202", 4),
        ("  - switch:\n      - case: $ 1\n        than: {evaluate: 1}", "E202", 4),
        ("  - while: _ < 3", "E202", 3),
        ("  - while: _ <\n    do: {evaluate: 1}", "E301", 3),
        ("  - until: $ 1\n    do: {evaluate: 1}\n    max_rounds: 0", "E503", 5),
        ("  - race: []", "E208", 3),
        ("  - race: [{evaluate: 1}, {evaluate: 2}]\n    take: 3", "E503", 4),
        ("  - race: [{evaluate: 1}]\n    stagger: soon", "E504", 4),
        ("  - race:\n      - {evaluate: 1}\n      - {tool: pay, arguments: {}}", "E510", 5),
        ("  - approve: [a]", "E203", 3),
        ("  - approve: {info: a, default: {approved: true}}", "E509", 3),
        ("  - approve: {info: a, deadline: soon}", "E504", 3),
        ("  - wait_for_input: {deadline: 0}", "E503", 3),
        ("  - do: {evaluate: 1}", "E204", 3),
        ("  - evaluate: 1\n    check: {if: $ _}", "E509", 4),
        ("  - tool: book\n    check: {if: $ _, on_fail: repair}", "E509", 4),
        ("  - tool: book\n    check: {message: no}", "E202", 4),
        ("  - tool: book\n    check: {if: $ _, on_fail: shout}", "E506", 4),
    ],
)
def test_a_mistake_is_reported_where_it_stands(steps: str, code: str, line: int):
    assert (code, line) in findings_of(f"name: t\nmain:\n{steps}\n")


def test_a_race_sees_tools_in_sub_workflows_too():
    task = "name: t\nmain:\n  - race: [{workflow: sub}, {evaluate: 1}]\nsub:\n  - if: $ True\n    then: {tool: pay}\n"
    assert ("E510", 6) in findings_of(task)


def test_what_may_be_repeated_may_race():
    task = "name: t\nmain:\n  - race: [{tool: book}, {tool: lookup, arguments: {name: a}}, {prompt: hi}]\n"
    assert findings_of(task) == []


def test_a_switch_whose_cases_all_return_ends_its_list():
    task = """name: t
main:
  - switch:
      - case: $ _
        then: {return: 1}
      - case: _
        then: {return: 2}
  - evaluate: never
"""
    assert findings_of(task) == [("W602", 8)]


def test_a_loop_of_sub_workflows_inside_until_never_ends():
    task = "name: t\nmain: [{workflow: a}]\na: [{until: $ True, do: {workflow: a}}]\n"
    assert "E409" in [code for code, _ in findings_of(task)]
    maybe = "name: t\nmain: [{workflow: a}]\na: [{while: $ _, do: {workflow: a}}]\n"
    assert findings_of(maybe) == []


@pytest.mark.parametrize(
    ("keys", "code", "line"),
    [
        ("finally:\n  - if: $ True\n    then: {return: 1}", "E511", 5),
        ("sub:\n  - evaluate: 1\n    undo: {return: 1}", "E511", 5),
        ("finally: []", "E208", 3),
        ("finally:\n  - evaluate: $ nothing", "E401", 4),
        ("require: [{message: no}]", "E202", 3),
        ('require: [{if: "$ steps[0].output"}]', "E401", 3),
        ("require: _.x", "E203", 3),
    ],
)
def test_a_mistake_around_the_steps_is_reported_where_it_stands(keys: str, code: str, line: int):
    assert (code, line) in findings_of(f"name: t\nmain: [{{evaluate: 1}}]\n{keys}\n")


def test_finally_sees_how_the_task_ended_and_main_does_not():
    assert findings_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{evaluate: [$ error, $ output, $ state]}]") == []
    assert findings_of("name: t\nmain: [{evaluate: $ output}]") == [("E401", 2)]


def test_a_sub_workflow_that_only_finally_runs_is_used():
    assert findings_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{workflow: sub}]\nsub: [{evaluate: 2}]") == []
