"""Tests of the step tree that `run` and `describe` show, folded from events that a real plan emits."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.run.effects import Call, CallOutcome, Failed, Ok
from engine.dryrun.effects import START_US, Answered
from engine.dryrun.replies import chat_reply, failed
from engine.dryrun.running import run_in_memory
from engine.edge.cli.titles import describe_step
from engine.edge.cli.tree import RunTree
from engine.edge.cli.treesteps import State

TASK = """
name: shown
main:
  - label: numbers
    evaluate: $ [1, 2, 3]
  - over: $ _
    parallelism: 2
    map:
      - prompt: "number {{ _ }}"
        unwrap: true
      - evaluate: $ _
  - label: choose
    if: $ len(_) > 2
    then: {evaluate: $ 'many'}
    else: {evaluate: $ 'few'}
  - workflow: tail
    arguments: $ _
tail:
  - label: last
    evaluate: $ _ + '!'
"""


def view(event: Any) -> dict[str, Any]:
    at = dt.datetime.fromtimestamp(event.now_us / 1e6, dt.UTC)
    return {"seq": event.seq, "type": event.type, "at": at.isoformat(), "body": event.body}


def replies(call: Call) -> Answered:
    del call
    return Answered(Ok(chat_reply("fine")), after_s=1.0)


def events_of(source: str, handler: Any = replies, given: Any = None, answers: Any = ()) -> list[dict[str, Any]]:
    plan = compile_text(source, file="t.yaml", contracts={}).plan
    return [view(event) for event in run_in_memory(plan, given, handler, answers=answers).events]


def fold(events: list[dict[str, Any]], steps: Any = ()) -> RunTree:
    tree = RunTree(steps)
    for event in events:
        tree.apply(event)
    return tree


def shown(tree: RunTree) -> list[tuple[int, str, str]]:
    return [(line.depth, line.text, line.state.value) for line in tree.lines(START_US / 1e6 + 60)]


def test_a_finished_execution_shows_every_step_as_done_and_maps_folded() -> None:
    assert shown(fold(events_of(TASK))) == [
        (0, "numbers", "done"),
        (0, "over  3/3", "done"),
        (0, "choose", "done"),
        (1, "evaluate", "done"),
        (0, "workflow", "done"),
        (1, "last", "done"),
    ]


def test_a_running_map_shows_its_progress_and_the_branches_under_way() -> None:
    events = events_of(TASK)
    first_done = next(number for number, event in enumerate(events) if event["type"] == "finish_branch")
    lines = shown(fold(events[: first_done + 1]))
    assert lines[1] == (0, "over  1/3", "running")
    assert lines[2] == (1, "map[1] prompt", "running")


def test_steps_that_have_not_begun_stand_under_the_names_their_author_gave_them() -> None:
    steps = [{"label": "numbers", "evaluate": "$ 1"}, {"tool": "search", "arguments": {}}, {"workflow": "tail"}]
    assert shown(fold(events_of(TASK)[:1], steps)) == [
        (0, "numbers", "running"),
        (0, "tool search", "pending"),
        (0, "workflow tail", "pending"),
    ]


def test_a_retried_step_shows_its_attempt_and_the_reason() -> None:
    outcomes: list[CallOutcome] = [failed("backend.rate_limited", "slow down"), Ok(chat_reply("fine"))]
    source = 'name: r\nmain:\n  - prompt: "x"\n    unwrap: true\n'
    events = events_of(source, lambda call: Answered(outcomes.pop(0)))
    tree = RunTree()
    notes = []
    for event in events:
        tree.apply(event)
        notes += [(line.state, line.note) for line in tree.lines(START_US / 1e6)]
    assert (State.RETRYING, "attempt 1 failed, trying again: backend.rate_limited: slow down") in notes
    assert (State.RUNNING, "attempt 2 after backend.rate_limited: slow down") in notes
    assert notes[-1] == (State.DONE, "")


def test_a_repair_round_is_shown_as_one_and_not_as_another_attempt() -> None:
    outcomes: list[CallOutcome] = [Ok(chat_reply("no json")), Ok(chat_reply("{}"))]
    source = 'name: r\nmain:\n  - prompt: "x"\n    unwrap: true\n    output_schema: {type: object}\n'
    tree = RunTree()
    notes = []
    for event in events_of(source, lambda call: Answered(outcomes.pop(0))):
        tree.apply(event)
        notes += [(line.state, line.note.split(":")[0]) for line in tree.lines(START_US / 1e6)]
    assert (State.RUNNING, "repair round 1") in notes
    assert not any("attempt" in note for _, note in notes)
    assert notes[-1] == (State.DONE, "")


def test_a_failed_execution_shows_where_and_why_and_what_never_ran() -> None:
    source = 'name: f\nmain:\n  - prompt: "x"\n  - evaluate: $ 1\n'
    events = events_of(source, lambda call: Answered(Failed(failed("backend.refused", "bad key").error)))
    tree = fold(events, [{"prompt": "x"}, {"evaluate": "$ 1"}])
    first, second = tree.lines(START_US / 1e6)
    assert tree.ended == "failed"
    assert first.state is State.FAILED or "backend.refused" in first.note
    assert second.state is State.SKIPPED


def test_a_wait_is_open_until_it_is_answered() -> None:
    source = "name: w\nmain:\n  - label: ask\n    wait_for_input: {info: {question: 'ok?'}}\n"
    waiting = fold(events_of(source))
    (line,) = waiting.lines(START_US / 1e6)
    assert line.state is State.WAITING
    assert "ok?" in line.note
    assert list(waiting.waits) == ["main.0"]

    answered = fold(events_of(source, answers=["yes"]))
    assert not answered.waits
    assert answered.lines(START_US / 1e6)[0].state is State.DONE


def test_a_step_that_runs_another_task_shows_the_execution_it_started() -> None:
    source = "name: p\nmain: [{task: greet, label: greeting}, {evaluate: 1}]"
    events = events_of(source, lambda call: Answered(Ok("hello"), after_s=1.0))
    (child_id,) = [event["body"]["child_id"] for event in events if event["type"] == "effect.started"]
    first, second = fold(events, [{"task": "greet"}, {"evaluate": 1}]).lines(START_US / 1e6)
    assert first.text == f"greeting  {child_id}"
    assert child_id not in second.text


def test_durations_count_from_the_start_of_a_step_to_its_end() -> None:
    source = 'name: d\nmain:\n  - prompt: "x"\n    unwrap: true\n'
    (line,) = fold(events_of(source)).lines(START_US / 1e6 + 500)
    assert line.time == "1.0 s"


def test_an_event_that_is_told_twice_changes_nothing() -> None:
    events = events_of(TASK)
    doubled = [event for event in events for _ in range(2)]
    assert shown(fold(doubled)) == shown(fold(events))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"label": "x", "prompt": "hi"}, ("prompt", "x")),
        ({"tool": "search"}, ("tool_call", "tool search")),
        ({"kind_": "wait_for_input", "info": {}}, ("wait_for_input", "wait_for_input")),
        ({"over": "$ _", "map": {}}, ("map_reduce", "over")),
        ({"task": "greet"}, ("task", "task greet")),
        ({"race": []}, ("race", "race")),
        ({"until": "_", "do": {}}, ("until", "until")),
        ("nonsense", ("", "step")),
    ],
)
def test_a_step_is_described_by_label_kind_and_tool(step: Any, expected: tuple[str, str]) -> None:
    assert describe_step(step) == expected
