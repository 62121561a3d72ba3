"""DESIGN §3, "Scopes": what steps see of each other."""

from __future__ import annotations

import pytest

from tests.language.words import codes, findings
from tests.support.memory import error_of, output_of


def test_steps_are_numbered_on_the_top_level_of_their_list_only():
    """`steps[i]` counts the top level of the surrounding named list."""
    task = """
name: t
main:
  - evaluate: a
  - if: $ True
    then: [{evaluate: inside, label: inside}, {evaluate: "$ [steps[0].output, len(outputs)]"}]
  - evaluate: c
  - evaluate: "$ [steps[0].output, steps[1].output, steps[2].output, steps[2].input]"
"""
    assert output_of(task) == ["a", ["a", 1], "c", ["a", 1]]


def test_a_sub_workflow_numbers_its_own_steps():
    """`steps[i]` in a sub-workflow counts that list's steps."""
    task = "name: t\nmain: [{evaluate: a}, {workflow: sub}]\nsub: [{evaluate: b}, {evaluate: '$ steps[0].output'}]"
    assert output_of(task) == "b"


def test_a_label_stands_once_in_a_list_however_deep():
    """Labels are unique per list."""
    task = "main:\n  - {evaluate: 1, label: a}\n  - if: _\n    then: {evaluate: 2, label: a}\n"
    (found,) = findings(task)
    assert (found.code, found.position.line) == ("E404", 4)


def test_two_lists_may_have_the_same_label():
    """The same label may stand in another list."""
    task = "name: t\nmain: [{evaluate: 1, label: a}, {workflow: sub}, {evaluate: [$ _, $ steps.a.output]}]\n"
    assert output_of(task + "sub: [{evaluate: 2, label: a}, {evaluate: $ steps.a.output * 10}]") == [20, 1]


INSIDE = {
    "if": "if: $ True, then: {evaluate: 7, label: inner}",
    "else": "if: $ False, then: {evaluate: 0}, else: {evaluate: 7, label: inner}",
    "switch": "switch: [{case: _, then: {evaluate: 7, label: inner}}]",
    "foreach": "foreach: {in: '$ [5, 6]', do: {evaluate: $ _ + 1, label: inner}}",
    "while": "while: _ < 7, do: {evaluate: $ _ + 1, label: inner}",
    "until": "until: _ >= 7, do: {evaluate: $ _ + 1, label: inner}",
}


@pytest.mark.parametrize("kind", INSIDE)
def test_a_label_is_visible_after_what_holds_it_has_joined(kind: str):
    """Labels are visible after the join of if, switch and loops."""
    assert output_of(f"name: t\nmain: [{{{INSIDE[kind]}}}, {{evaluate: $ steps.inner.output}}]", 5) == 7


@pytest.mark.parametrize(
    "step",
    [
        "over: '$ [1]', map: {evaluate: 7, label: inner}",
        "parallel: [{evaluate: 7, label: inner}]",
        "race: [{evaluate: 7, label: inner}]",
    ],
)
def test_a_label_of_a_concurrent_branch_stays_there(step: str):
    """Labels are not visible after the join of map and parallel."""
    assert codes(f"name: t\nmain: [{{{step}}}, {{evaluate: $ steps.inner.output}}]") == ["E405"]
    error = error_of(f"name: t\nmain: [{{{step}}}, {{evaluate: \"$ steps['in' + 'ner'].output\"}}]")
    assert error.code == "expression.no_key"


def test_a_label_is_visible_within_its_branch():
    """Within its branch a label is visible."""
    task = "name: t\nmain: [{over: _, map: [{evaluate: $ _ * 2, label: twice}, {evaluate: $ steps.twice.input}]}]"
    assert output_of(task, [1, 2]) == [1, 2]


def test_a_sub_workflow_begins_with_a_fresh_state():
    """A sub-workflow has fresh state."""
    task = "name: t\nmain: [{set: {a: 1}}, {workflow: sub}, {evaluate: [$ _, $ state]}]\n"
    assert output_of(task + "sub: [{set: {b: 2}}, {evaluate: $ state}]") == [{"b": 2}, {"a": 1}]


@pytest.mark.parametrize(
    "step",
    [
        "parallel: [[{set: {n: $ state.n + 1}}, {sleep: 2}, {get: n}], [{set: {n: $ state.n + 10}}, {get: n}]]",
        "over: '$ [1, 10]', map: [{set: {n: $ state.n + _}}, {sleep: 1}, {get: n}]",
    ],
)
def test_concurrent_branches_have_a_state_of_their_own(step: str):
    """Concurrent branches get a copy of the state."""
    assert output_of(f"name: t\nmain: [{{set: {{n: 100}}}}, {{{step}}}]") == [101, 110]


@pytest.mark.parametrize(
    "step", ["parallel: [{set: {n: 2}}]", "over: '$ [2]', map: {set: {n: $ _}}", "race: [{set: {n: 2}}]"]
)
def test_what_concurrent_branches_write_ends_with_them(step: str):
    """The writes of concurrent branches end with them."""
    assert output_of(f"name: t\nmain: [{{set: {{n: 1}}}}, {{{step}}}, {{get: n}}]") == 1


def test_what_other_branches_write_stays():
    """What is written in if, switch and loops stays."""
    loop = "{foreach: {in: '$ [1, 2]', do: {if: $ True, then: {set: {n: $ state.n * 10}}}}}"
    task = f"name: t\nmain: [{{set: {{n: 1}}}}, {loop}, {{get: n}}]"
    assert output_of(task) == 100


def test_get_of_a_key_that_nobody_set_is_an_error():
    """`get` of an unknown key is an error."""
    error = error_of("name: t\nmain: [{set: {a: 1}}, {get: b}]")
    assert error.code == "expression.no_key"


def test_a_name_of_a_step_that_does_not_exist_is_found_when_the_task_is_made():
    """`steps[…]` of a label or number that the list does not have is a diagnostic."""
    assert codes("main: [{evaluate: 1, label: first}, {evaluate: $ steps.frist.output}]") == ["E405"]
    assert codes("main: [{evaluate: 1}, {evaluate: '$ steps[7].output'}]") == ["E405"]
