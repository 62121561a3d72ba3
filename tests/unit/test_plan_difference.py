"""A change of a task is told in words: steps, settings, and what it newly permits."""

from __future__ import annotations

import pytest

from engine.core.plan.difference import Difference, plan_difference
from engine.tooling import tool
from tests.support.lab import plan_of


@tool(effect="read")
def lookup(name: str) -> str:
    """Read something."""
    return name


@tool(effect="write", name="lookup")
def lookup_and_note(name: str) -> str:
    """Read something and write down who asked."""
    return name


BASE = """
name: t
input_schema: {type: object}
main:
  - label: first
    evaluate: {a: 1}
  - if: _.a
    then:
      - evaluate: {b: 1}
      - prompt: hello
  - return: $ _
"""


def change(*pairs: tuple[str, str]) -> Difference:
    text = BASE
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return plan_difference(plan_of(BASE, [lookup]), plan_of(text, [lookup]))


def test_the_same_plan_has_no_difference() -> None:
    assert change() == Difference()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{a: 1}", "{a: 2}", "main.0: evaluate 'first': the value changed"),
        ("{b: 1}", "{b: 2}", "main.1.then.0: evaluate b: the value changed"),
        ("label: first", "label: one", "main.0: the label is 'one', was 'first'"),
        ("prompt: hello", "prompt: hi", "main.1.then.1: prompt “hi”: prompt changed"),
        ("  - return: $ _\n", "", "main.2 (before): step gone: return _"),
        ("  - return: $ _\n", "    else: {evaluate: 3}\n  - return: $ _\n", "main.1: if _.a: `else` is new (1 step)"),
        ("input_schema: {type: object}\n", "", "the task has no 'input_schema' any more"),
        ("name: t\n", "name: u\n", "the task's name is 'u', was 't'"),
        ("{type: object}", "{type: object, required: [x]}", "the task's input_schema: required changed"),
        (
            "    evaluate: {a: 1}",
            "    evaluate: {a: 1}\n    timeout: 5s\n    retry: {attempts: 2}",
            "main.0: evaluate 'first': retry, timeout changed",
        ),
        ("  - if: _.a", "  - if: _.b", "main.1: if _.b: if changed"),
        (
            "prompt: hello",
            "prompt: hello\n        model: [a, b]\n        needs: {vision: true}\n        tool_mode: json",
            "main.1.then.1: prompt “hello”: model, needs, tool_mode changed",
        ),
    ],
)
def test_a_change_is_told_with_its_place(old: str, new: str, words: str) -> None:
    assert change((old, new)).changes == [words]


def test_an_inserted_step_does_not_make_its_followers_changed() -> None:
    told = change(("  - if: _.a", "  - set: {x: 1}\n  - if: _.a"))
    assert told.changes == ["main.1: new step: set x"]


@pytest.mark.parametrize(
    ("steps", "old", "new", "words"),
    [
        (
            "  - switch: [{case: _.a, then: {evaluate: 1}}, {case: _.b, then: {evaluate: 2}}]\n",
            "{evaluate: 2}",
            "{evaluate: 3}",
            ["main.0.case[1].0: evaluate 3: the value changed"],
        ),
        (
            "  - switch: [{case: _.a, then: {evaluate: 1}}]\n",
            "_.a",
            "_.b",
            ["main.0: switch 1 cases: cases changed"],
        ),
        (
            "  - {label: each, over: $ _, map: {evaluate: 1}}\n",
            "evaluate: 1}",
            "evaluate: 1}, retry: {attempts: 2}",
            ["main.0: over 'each': retry changed"],
        ),
        (
            "  - evaluate: 1\n    undo: {evaluate: 2}\n",
            "{evaluate: 2}",
            "[{evaluate: 2}, {evaluate: 3}]",
            ["main.0.undo.1: new step: evaluate 3"],
        ),
        (
            "  - evaluate: 1\n",
            "evaluate: 1\n",
            "evaluate: 1\n    on_error: {evaluate: 2}\n",
            ["main.0: evaluate 1: `on_error` is new (1 step)"],
        ),
        ("  - evaluate: 1\n", "", "finally: [{evaluate: 2}]\n", ["the list 'finally' is new (1 step)"]),
        ("  - while: _ < 3\n    do: {evaluate: $ _ + 1}\n    max_rounds: 5\n", "5", "6", ["max_rounds"]),
    ],
)
def test_steps_inside_steps_are_told_with_their_place(steps: str, old: str, new: str, words: list[str]) -> None:
    before = f"name: t\nmain:\n{steps}"
    after = before.replace(old, new) if old else before + new
    told = plan_difference(plan_of(before), plan_of(after)).changes
    assert len(told) == len(words)
    assert all(word in said for word, said in zip(words, told, strict=True)), told


def test_a_new_list_is_told_with_its_length() -> None:
    told = change(("  - return: $ _\n", "  - workflow: sub\n  - return: $ _\nsub:\n  - evaluate: 1\n  - evaluate: 2\n"))
    assert told.changes == ["main.2: new step: workflow sub", "the list 'sub' is new (2 steps)"]


def test_what_a_change_newly_permits_stands_apart() -> None:
    told = change(("  - return: $ _\n", "  - tool: lookup\n    arguments: {name: x}\n  - return: $ _\n"))
    assert told.gains == ["call the tool 'lookup' (effect: read)"]
    assert told.reach.tools == ("lookup",)
    assert told.losses == []


def test_what_a_change_gives_up_stands_apart() -> None:
    told = change(("      - prompt: hello\n", ""))
    assert (told.gains, told.losses) == ([], ["ask the default model"])


def test_a_tool_that_does_more_than_before_is_a_gain() -> None:
    text = "name: t\nmain:\n  - tool: lookup\n    arguments: {name: x}\n"
    told = plan_difference(plan_of(text, [lookup]), plan_of(text, [lookup_and_note]))
    assert told.gains == ["let the tool 'lookup' write, which could only read before"]
    assert told.changes == ["the tool 'lookup': effect, description changed"]


def test_of_a_first_version_everything_is_a_gain() -> None:
    told = plan_difference(None, plan_of(BASE))
    assert (told.changes, told.gains) == ([], ["ask the default model"])
