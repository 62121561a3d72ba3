"""What `run`, `logs` and `describe` tell people of a run: titles, failures inside loops, logs, and how to answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from engine.core.run.effects import Failed, Ok
from engine.core.schemas import value_problems
from engine.dryrun.effects import START_US, Answered
from engine.dryrun.replies import chat_reply, failed
from engine.edge.cli.answering import answer_hint
from engine.edge.cli.children import with_children
from engine.edge.cli.eventtext import EventLines
from engine.edge.cli.storytext import StoryText, usage_line
from engine.edge.cli.titles import WORDS, Titles, titles_of
from engine.edge.cli.tree import Line, RunTree
from engine.edge.cli.treesteps import UNKNOWN, State
from tests.unit.test_cli_tree import events_of

PLAINLY: tuple[Mapping[str, str], ...] = (WORDS, {})
LATER = START_US / 1e6 + 500
LOOP = """
name: loop
main:
  - label: all
    foreach:
      in: $ [1, 2]
      do:
        - label: decision
          switch:
            - case: _ == 2
              then: [{label: inner, evaluate: "$ [1][_]"}]
  - evaluate: 1
"""
NESTED = """
name: nested
main:
  - parallel: [{label: left, prompt: a}, [{evaluate: 1}, {label: right, prompt: b}]]
  - if: 'True'
    then: {workflow: tail}
    else: {log: no}
  - {label: mail, prompt: c, on_error: {label: saved, evaluate: 0}}
tail: [{label: last, tool: send}]
"""


def tree_of(source: str, events: list[dict[str, Any]]) -> RunTree:
    task = yaml.safe_load(source)
    tree = RunTree(task["main"], titles_of(task))
    for event in events:
        tree.apply(event)
    return tree


def lines_of(source: str, events: list[dict[str, Any]]) -> list[Line]:
    return tree_of(source, events).lines(LATER)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("main.0[0].0", "left"),
        ("main.0[1].1", "right"),
        ("main.1.then.0", "workflow tail"),
        ("main.1.then.0.tail.0", "last"),
        ("main.1!2.then.0.tail.0", "last"),
        ("main.1.else.0", "log"),
        ("main.2.on_error.0", "saved"),
        ("main.7", "…"),
        ("main.0[5].0", "…"),
        ("elsewhere", "…"),
    ],
)
def test_a_step_is_named_by_the_task_wherever_it_stands(path: str, title: str) -> None:
    assert titles_of(yaml.safe_load(NESTED)).of(path)[1] == title


def test_programs_get_the_kinds_of_the_plan() -> None:
    task = {"main": [{"over": "$ _", "map": {"tool": "x"}}]}
    assert [titles_of(task, words).of("main.0.map[0].0")[1] for words in PLAINLY] == ["tool x", "tool_call x"]


def test_all_that_stands_around_the_step_that_failed_is_shown_as_failed() -> None:
    shown = [(line.depth, line.text, line.state) for line in lines_of(LOOP, events_of(LOOP))]
    assert shown == [
        (0, "all  2/2", State.FAILED),
        (1, "do[1] decision", State.FAILED),
        (2, "inner", State.FAILED),
        (0, "evaluate", State.SKIPPED),
    ]


def test_the_reason_stands_at_the_step_that_failed_alone() -> None:
    notes = [line.note for line in lines_of(LOOP, events_of(LOOP))]
    assert [bool(note) for note in notes] == [False, False, True, False]
    assert notes[2].startswith("expression.no_index: ")


def test_the_time_of_a_collected_failure_stands_still() -> None:
    body = "{prompt: x, label: one, retry: {attempts: 1}}"
    source = f"name: c\nmain:\n  - {{over: '[1]', on_item_error: collect, map: {body}}}"
    broken = Answered(Failed(failed("backend.refused", "no").error), after_s=2.0)
    (_, line) = lines_of(source, events_of(source, lambda call: broken))
    assert (line.text, line.state, line.time) == ("map[0] one", State.FAILED, "2.0 s")


def test_a_step_that_on_error_saved_says_so_and_from_what() -> None:
    broken = Answered(Failed(failed("backend.refused", "bad key").error))
    source = "name: s\nmain: [{prompt: x, on_error: {evaluate: 0}}]"
    first = lines_of(source, events_of(source, lambda call: broken))[0]
    assert (first.state, first.note) == (State.DONE, "on_error took backend.refused: bad key")


def test_the_text_of_a_log_is_shown_and_not_what_went_by() -> None:
    source = "name: l\nmain: [{evaluate: 5}, {log: 'done; paid {{ _ }}'}]"
    first, second = lines_of(source, events_of(source))
    assert (first.output, first.note) == (5, "")
    assert (second.output, second.note) == (UNKNOWN, "done; paid 5")


def test_a_wait_inside_a_loop_is_shown_under_the_step_it_stands_in() -> None:
    source = LOOP.replace('{label: inner, evaluate: "$ [1][_]"}', "{label: ask, approve: 'Pay?'}")
    shown = [(line.depth, line.text, line.state) for line in lines_of(source, events_of(source))]
    assert shown[1:3] == [(1, "do[1] decision", State.RUNNING), (2, "ask", State.WAITING)]


# --- logs ------------------------------------------------------------------------------------------------------------


def told(source: str, events: list[dict[str, Any]], width: int = 200) -> tuple[list[str], bool]:
    lines = EventLines(titles_of(yaml.safe_load(source)), width)
    return ["  ".join(part for part in lines.line(event) if part) for event in events], lines.cut


def test_events_are_told_in_the_words_of_the_language() -> None:
    source = "name: w\nmain:\n  - over: $ [1]\n    map: {prompt: x, unwrap: true}\n  - {log: hi}\n"
    assert told(source, events_of(source, lambda call: Answered(Ok(chat_reply("fine"))))) == (
        [
            "start",
            "branch  main.0.map[0]  over  input=1",
            "call  main.0.map[0].0  prompt",
            "returned  main.0.map[0].0  prompt  model=dry-run  tokens=0+0  time=1 ms",
            "step  main.0.map[0].0  prompt  output=fine",
            'step  main.0  over  output=["fine"]',
            "finish  main.1  log  log=hi",
        ],
        False,
    )


def test_the_end_of_a_call_tells_model_tokens_cost_and_time() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    reply = {**chat_reply("fine", model="small"), "usage": usage, "cost": "0.00042"}
    lines, _ = told(
        "name: a\nmain: [{prompt: x}]",
        events_of("name: a\nmain: [{prompt: x}]", lambda call: Answered(Ok(reply, deliveries=2), after_s=1.5)),
    )
    assert "returned  main.0  prompt  model=small  tokens=12+5  cost=$0.00042  time=1.5 s  deliveries=2" in lines


def test_the_end_of_a_call_tells_what_of_its_tokens_was_cached_or_thought() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "cached_tokens": 8, "reasoning_tokens": 2}
    reply = {**chat_reply("fine", model="small"), "usage": usage}
    source = "name: a\nmain: [{prompt: x}]"
    lines, _ = told(source, events_of(source, lambda call: Answered(Ok(reply))))
    assert "returned  main.0  prompt  model=small  tokens=12+5 (8 cached, 2 reasoning)  time=1 ms" in lines


def test_a_sum_of_usage_tells_its_parts_and_those_of_children_are_added() -> None:
    own = {"llm_calls": 2, "total_tokens": 1_500, "cached_tokens": 1_000, "reasoning_tokens": 0, "cost": "0.5"}
    assert usage_line(own) == "2 model calls, 1,500 tokens (1,000 cached), $0.5"
    child = {"status": "succeeded", "usage": {**own, "cache_write_tokens": 7}}
    assert with_children(own, [child]) == (
        "2 model calls, 1,500 tokens (1,000 cached), $0.5"
        " (with its child: 4 model calls, 3,000 tokens (2,000 cached, 7 written to the cache), $1)"
    )


def test_a_call_that_failed_tells_the_code_and_its_attempt_the_rest() -> None:
    broken = Answered(Failed(failed("backend.refused", "bad key").error))
    source = "name: a\nmain: [{label: ask, prompt: x, retry: {attempts: 1}}]"
    lines, _ = told(source, events_of(source, lambda call: broken))
    assert lines[2:4] == [
        "call failed  main.0  ask  error=backend.refused",
        "attempt failed  main.0  ask  error=backend.refused: bad key",
    ]


def test_a_failed_attempt_has_the_label_of_its_step() -> None:
    broken = Answered(Failed(failed("backend.refused", "bad key").error))
    source = "name: a\nmain: [{label: ask, prompt: x, retry: {attempts: 1}}]"
    lines, _ = told(source, events_of(source, lambda call: broken))
    assert "attempt failed  main.0  ask  error=backend.refused: bad key" in lines


def test_a_task_that_was_removed_leaves_the_labels_that_events_tell() -> None:
    lines = EventLines(Titles({}), 200)
    events = events_of("name: a\nmain: [{label: ask, prompt: x, unwrap: true}]")
    assert [lines.line(event)[2] for event in events] == ["", "ask", "ask", "ask"]


def test_a_value_that_is_cut_is_owned_up_to() -> None:
    source = "name: c\nmain: [{evaluate: $ 'x' * 50}]"
    assert [told(source, events_of(source), width)[1] for width in (49, 50)] == [True, False]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_the_suggested_answer_is_a_command_that_fits() -> None:
    source = "name: q\nmain: [{label: ask, approve: 'Pay?'}]"
    (wait,) = tree_of(source, events_of(source)).waits.values()
    words = shlex.split(answer_hint("e1", wait, [wait]).partition(": ")[2])
    assert words[:4] == ["everstep", "answer", "e1", "--input"]
    assert value_problems(yaml.safe_load(words[4]), wait["schema"]) == []


def test_of_several_waits_the_suggested_answer_names_one_by_its_label_if_only_it_has_it() -> None:
    waits = [{"id": "main.0[0].0", "label": "ask"}, {"id": "main.0[1].0", "label": "ask"}, {"id": "m", "label": "go"}]
    hints = [answer_hint("e1", wait, waits) for wait in waits]
    named = [shlex.split(hint.partition(": ")[2])[4] for hint in hints]
    assert named == ["main.0[0].0", "main.0[1].0", "go"]


@pytest.mark.parametrize(
    ("path", "named"),
    [("main.0.turn[1].1[0].0", True), ("main.0.map[3].0", True), ("main.0.do[3].0", False), ("main.0", False)],
)
def test_where_other_waits_may_open_beside_it_a_single_one_is_named_too(path: str, named: bool) -> None:
    wait = {"id": f"{path}#1", "path": path}
    assert ("--wait-id" in shlex.split(answer_hint("e1", wait, [wait]))) is named


# --- messages --------------------------------------------------------------------------------------------------------


def test_of_a_vector_only_the_first_numbers_are_shown_unless_all_is_asked_for() -> None:
    vectors = {"vectors": [[0.5] * 384]}
    text = StoryText(full=False)
    assert list(text.value("output", vectors)) == ['    output: {"vectors": ["[0.5, 0.5, 0.5, …]"]}']
    assert text.cut
    assert len(list(StoryText(full=True).value("output", vectors))) > 384


def test_what_a_model_calls_and_what_it_is_told_of_it_stand_in_one_line_each() -> None:
    text = StoryText(full=False)
    function = {"name": "look", "arguments": '{"at":1}'}
    reply = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    request = {
        "before": 2,
        "messages": [reply, {"role": "tool", "tool_call_id": "c1", "content": "[]"}],
        "tools": ["look"],
    }
    assert [line.strip() for line in text.request(request)] == [
        "… 2 earlier messages",
        'assistant calls c1: look: {"at":1}',
        "tool c1: []",
        'tools: ["look"]',
    ]
