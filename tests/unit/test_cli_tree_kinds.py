"""Tests of the step tree for what runs beside and after the plain steps: loops, races, undoing, `finally`."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.kinds import StepKind
from engine.core.spec.vocabulary import MARKERS
from engine.edge.cli.titles import describe_step
from engine.edge.cli.treesteps import State
from tests.unit.test_cli_tree import events_of, fold, shown


def test_the_steps_of_finally_stand_below_those_of_the_task():
    tree = fold(events_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{label: tidy, prompt: bye}, {log: done}]"))
    assert shown(tree) == [
        (0, "evaluate", "done"),
        (0, "finally", "done"),
        (1, "tidy", "done"),
        (1, "log", "done"),
    ]


def test_a_step_of_finally_is_shown_while_it_runs():
    events = events_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{label: tidy, prompt: bye}]")
    begun = next(number for number, event in enumerate(events) if event["type"] == "effect.started")
    tree = fold(events[: begun + 1])
    assert shown(tree)[1:] == [(0, "finally", "running"), (1, "tidy", "running")]


def test_a_failed_step_of_finally_is_shown_as_failed():
    tree = fold(events_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{error: broken}]"))
    assert (tree.ended, [line.state for line in tree.lines(0.0)][1:]) == ("failed", [State.FAILED, State.FAILED])


def test_a_task_without_finally_has_no_line_for_it():
    assert shown(fold(events_of("name: t\nmain: [{evaluate: 1}]"))) == [(0, "evaluate", "done")]


def test_the_steps_that_undo_stand_below_what_they_undo():
    task = "name: t\nmain: [{evaluate: 1, undo: [{label: back, prompt: sorry}]}, {error: stop}]"
    assert (1, "back", "done") in shown(fold(events_of(task)))


def test_what_is_done_again_after_it_was_undone_is_shown():
    task = """
name: t
main:
  - if: 'True'
    then:
      - {evaluate: 1, undo: {log: back}}
      - {label: ask, prompt: again}
      - {error: stop}
    retry: {attempts: 2, initial: 1ms}
"""
    events = events_of(task)
    again = [event["body"]["path"] for event in events if event["type"] == "effect.started"]
    assert again == ["main.0.then.1", "main.0!2.then.1"]
    second = next(number for number, event in enumerate(events) if event["body"].get("path") == again[1])
    tree = fold([*events[:second], events[second]])
    assert (1, "ask", "running") in shown(tree)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("while: _ < 3\n    do: {evaluate: $ _ + 1}", "while"),
        ("until: _ == 3\n    do: {evaluate: $ _ + 1}", "until"),
        ("foreach: {in: range(3), do: {evaluate: $ _}}", "foreach"),
    ],
)
def test_the_rounds_of_a_loop_are_counted_and_not_listed(step: str, kind: str):
    tree = fold(events_of(f"name: t\nmain:\n  - {step}", given=0))
    assert shown(tree) == [(0, f"{kind}  3/3", "done")]


def test_the_branches_of_a_race_are_counted():
    tree = fold(events_of("name: t\nmain: [{race: [{sleep: 5}, {evaluate: 1}]}]"))
    assert shown(tree) == [(0, "race  1/2", "done")]


@pytest.mark.parametrize(("marker", "kind"), sorted(MARKERS.items()))
def test_every_kind_of_step_is_known_before_it_runs(marker: str, kind: StepKind):
    assert describe_step({marker: {}})[0] == kind


def test_a_step_that_has_not_begun_is_called_by_its_kind():
    steps: list[dict[str, Any]] = [{"race": []}, {"switch": []}, {"approve": "sure?"}]
    assert [line.text for line in fold([], steps).lines(0.0)] == ["race", "switch", "approve"]
