"""Paths of steps in a plan: what they lead to, and which steps of two plans are the same."""

from __future__ import annotations

import pytest

from engine.core.plan.paths import Places, plain_path, steps_around
from tests.support.memory import compiled

TEXT = """
name: t
tools:
  - {name: post, type: api_call, api_call: {method: POST, url: "http://a.example"}}
main:
  - evaluate: 1
    label: one
  - if: $ True
    then: [{evaluate: 2}]
    else: [{evaluate: 3, on_error: [{evaluate: 33}]}]
  - foreach:
      in: $ [1]
      do: [{evaluate: 5}, {parallel: [{evaluate: 6}, [{evaluate: 7}, {workflow: sub, arguments: {a: 1}}]]}]
  - over: $ [1]
    map: {evaluate: 9}
  - switch: [{case: $ True, then: {evaluate: 10}}]
  - {tool: post, arguments: {json: 1}}
  - {workflow: sub, arguments: {a: 1}}
sub:
  - evaluate: 11
  - if: $ False
    then: {workflow: sub, arguments: {a: 2}}
finally:
  - evaluate: 12
"""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("main.0", 1),
        ("main.1.then.0", 2),
        ("main.1~2.else.0", 3),
        ("main.1.else.0.on_error.0", 33),
        ("main.2.do[7].0", 5),
        ("main.2!3.do[0].1[0].0", 6),
        ("main.2.do[7].1[1].1.sub.1.then.0.sub.0", 11),
        ("main.3.map[9].0", 9),
        ("main.4.case[0].0", 10),
        ("finally.0", 12),
    ],
)
def test_a_path_leads_to_a_step(path: str, value: int) -> None:
    op = Places(compiled(TEXT)).op_at(path)
    assert op is not None
    assert getattr(op.value, "value", None) == value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "path",
    [
        *("", "main", "main.9", "sub.9", "nobody.0", "main.0.then.0", "main.2.then.0", "main.2.do[0].1[2].0"),
        *("main.4.case[1].0", "main.1.undo.0", "main.6.other.0", "main.x", "main.0.", "main.-1", "main.3.do[0].0"),
        "main.0.on_error.0",
    ],
)
def test_a_path_that_leads_nowhere_is_none(path: str) -> None:
    assert Places(compiled(TEXT)).op_at(path) is None


def test_marks_of_attempts_are_left_out_of_plain_paths() -> None:
    assert plain_path("main.3~2.then.1!3[0].1") == "main.3.then.1[0].1"
    assert steps_around("main.3.then.1[0].1") == ["main.3", "main.3.then.1"]


@pytest.mark.parametrize(
    ("old", "new", "differ"),
    [
        ("evaluate: 1\n", "evaluate: 100\n", {"main.0"}),
        ("{evaluate: 2}", "{evaluate: 2, label: two}", {"main.1", "main.1.then.0"}),
        ("evaluate: 33", "evaluate: 34", {"main.1"}),
        ("{evaluate: 9}", "{evaluate: 8}", {"main.3"}),
        ("evaluate: 11", "evaluate: 12", {"main.2", "main.6"}),
        ("arguments: {a: 2}", "arguments: {a: 3}", {"main.2", "main.6"}),
        ("http://a.example", "http://b.example", {"main.5"}),
        ("- evaluate: 12", "- evaluate: 13", set()),
    ],
)
def test_a_step_is_the_same_in_two_plans_if_all_inside_it_is(old: str, new: str, differ: set[str]) -> None:
    # a step in front of all others moves every block of the plan
    assert old in TEXT
    one, other = Places(compiled(TEXT)), Places(compiled(TEXT.replace(old, new, 1)))
    paths = [f"main.{number}" for number in range(7)] + ["main.1.then.0"]
    assert {path for path in paths if one.fingerprint(path) != other.fingerprint(path)} == differ


def test_where_a_block_stands_in_the_plan_does_not_matter() -> None:
    moved = TEXT.replace("  - evaluate: 1\n", "  - if: $ True\n    then: [{evaluate: 0}]\n")
    one, other = Places(compiled(TEXT)), Places(compiled(moved))
    for number in range(1, 7):
        assert one.fingerprint(f"main.{number}") == other.fingerprint(f"main.{number}") is not None
    assert one.fingerprint("main.9") is None
