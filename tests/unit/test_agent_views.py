"""How agents are seen and steered: events in words, the tree of the terminal, breaks, pauses, cancels, usage."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.contracts.execution import ControlSignal
from engine.core.kinds import EventType
from engine.core.run.breaks import unknown_breaks
from engine.core.run.effects import Ok
from engine.core.run.events import EventRecord
from engine.core.run.machine import Machine
from engine.core.run.progress import Progress
from engine.core.run.story import Story
from engine.core.run.story_views import step_row
from engine.core.run.story_words import entry
from engine.core.values import compact_json
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun
from engine.dryrun.scripted import dry_run
from engine.edge.cli.tree import RunTree
from tests.support.agents import Model, too_long
from tests.support.memory import compiled, run
from tests.unit.test_run_agents import AGENT, bodies, looks, outcome

LOOK = {"lookup": {"name": "x"}}


def records(result: DryRun) -> list[EventRecord]:
    return [
        EventRecord("e", "run", event.seq, event.now_us, event.type, compact_json(event.body))
        for event in result.events
    ]


def said(result: DryRun, kind: EventType) -> list[str]:
    return [entry(record)["what"] for record in records(result) if record.type == kind]


def tree_of(result: DryRun) -> RunTree:
    tree = RunTree()
    for record, event in zip(records(result), result.events, strict=True):
        at = entry(record)["at"]
        tree.apply({"seq": event.seq, "type": event.type, "at": at, "body": event.body})
    return tree


# --- words ---------------------------------------------------------------------------------------------------------


def test_turns_and_overflows_are_told_in_words() -> None:
    result = run(AGENT + "    on_overflow: truncate\n", "x", Model(*looks(3), too_long(), "done"))
    assert said(result, EventType.INIT_BRANCH)[0] == "turn 1 begins"
    (told,) = said(result, EventType.ATTEMPT_FAILED)
    assert told == (
        "the conversation has outgrown the model: the 4 oldest messages are left out, and it is asked again"
    )


def test_a_summary_is_told_as_one() -> None:
    result = run(AGENT + "    on_overflow: summarise\n", "x", Model(*looks(3), too_long(), "sum", "done"))
    (told,) = said(result, EventType.ATTEMPT_FAILED)
    assert "the 4 oldest messages are summarised" in told


def test_shortened_results_are_told_as_such() -> None:
    model = Model([LOOK], too_long(), "done", tools={"lookup": "y" * 4_000})
    (told,) = said(run(AGENT + "    on_overflow: truncate\n", "x", model), EventType.ATTEMPT_FAILED)
    assert "results of tools are shortened" in told


# --- the tree ------------------------------------------------------------------------------------------------------


def test_the_tree_has_a_line_for_each_turn_with_the_tools_that_were_called() -> None:
    broken = failed("tool.failed", "no seat", retryable=False)
    model = Model([LOOK, {"pay": {}}], [{"nope": {}}], "done", tools={"pay": broken})
    lines = [(line.depth, line.text, line.state.value, line.note) for line in tree_of(run(AGENT, "x", model)).lines(0)]
    assert lines == [
        (0, "agent", "done", ""),
        (1, "turn 1  lookup, pay", "done", "tool.failed: no seat"),
        (1, "turn 2", "done", "tool.unknown: there is no tool 'nope' here"),
        (1, "turn 3", "done", ""),
    ]


def test_a_call_that_waits_is_called_by_its_tool() -> None:
    result = run(AGENT + "    rules: {pay: {approve: true}}\n", "x", Model([{"pay": {"amount": 3}}]))
    lines = [(line.depth, line.text.strip(), line.state.value) for line in tree_of(result).lines(0)]
    assert (1, "turn 1  pay", "running") in lines
    assert (3, "[0] tool pay", "waiting") in lines


def test_of_many_turns_the_tree_shows_the_last_ones() -> None:
    texts = [line.text for line in tree_of(run(AGENT, "x", Model(*looks(12), "done"))).lines(0)]
    assert texts[1:3] == ["… 5 earlier turns", "turn 6  lookup"]
    assert texts[-1] == "turn 13"


# --- stories and sums ----------------------------------------------------------------------------------------------


def test_the_row_of_an_agent_counts_its_turns_and_what_all_of_them_used() -> None:
    result = run(AGENT, "x", Model([LOOK, {"nope": {}}], "done"))
    story = Story().extend(records(result))
    row = step_row(story.steps["main.0"], story.totals()["main.0"])
    assert (row["kind"], row["state"]) == ("agent", "done")
    assert row["rounds"] == {"begun": 2, "ended": 2, "failed": 0, "of": None}
    assert (row["usage"]["llm_calls"], row["usage"]["tool_calls"], row["usage"]["total_tokens"]) == (2, 1, 20)


def test_a_call_that_waits_and_the_calls_around_it_are_rows_with_kind_and_tool() -> None:
    result = run(AGENT + "    rules: {pay: {approve: true}}\n", "x", Model([{"pay": {"amount": 3}}]))
    story = Story().extend(records(result))
    rows = [step_row(step, story.totals()[step.path]) for step in story.walk()]
    assert [(row["path"], row["kind"], row["name"]) for row in rows[2:]] == [
        ("main.0.turn[0].1", "parallel", None),
        ("main.0.turn[0].1[0].0", "tool_call", "pay"),
    ]


def test_an_open_wait_of_a_call_is_an_open_wait_of_the_execution() -> None:
    result = run(AGENT + "    rules: {pay: {approve: true}}\n", "x", Model([{"pay": {"amount": 3}}]))
    progress = Progress()
    for record in records(result):
        progress.apply(record)
    assert [wait.path for wait in progress.open_waits] == ["main.0.turn[0].1[0].0"]


# --- steering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("main.0.turn.0", True),
        ("main.0.turn[3].0", True),
        ("main.0.turn[].1", True),
        ("main.0.turn.1[0].0", True),
        ("main.0.turn", False),
        ("main.0.turn.x", False),
        ("main.0.turn.1[0]", False),
    ],
)
def test_a_break_may_stand_before_the_steps_of_turns(path: str, known: bool) -> None:
    assert (unknown_breaks(compiled(AGENT), [path]) == []) is known


def test_a_break_stops_before_the_tools_of_each_turn() -> None:
    stopped: list[str] = []

    def go_on(machine: Machine) -> None:
        paused = machine.walker.state.paused
        if paused is not None:
            stopped.append(paused.at)
            machine.control(ControlSignal(kind="continue", key=f"k{len(stopped)}", actor="me"))

    model = Model([LOOK], [LOOK], "done")
    result = run(AGENT, "x", model, breaks=["main.0.turn.1"], steer=go_on)
    assert outcome(result) == "done"
    assert stopped == ["main.0.turn[0].1", "main.0.turn[1].1"]


def test_while_it_is_paused_no_turn_begins_and_no_result_is_lost() -> None:
    seen: list[int] = []
    model = Model([LOOK, LOOK], "done", tools={"lookup": lambda _: Answered(Ok("x"), 5.0)})

    def pause_once(machine: Machine) -> None:
        if machine.walker.calls and not seen and len(model.called) == 2:
            seen.append(1)
            machine.control(ControlSignal(kind="pause", key="p", actor="me"))
        elif machine.paused and not machine.walker.calls:
            assert len(model.asked) == 1
            machine.control(ControlSignal(kind="continue", key="c", actor="me"))

    assert outcome(run(AGENT, "x", model, steer=pause_once)) == "done"
    assert model.heard() == ["x", "x"]


def test_a_cancel_stops_all_calls_of_a_turn() -> None:
    model = Model([LOOK, {"pay": {}}], "never", tools={"lookup": lambda _: Answered(Ok("x"), 50.0)})

    def cancel(machine: Machine) -> None:
        if len(model.called) == 2 and machine.walker.state.cancel is None:
            machine.cancel("enough", "me")

    result = run(AGENT, "x", model, steer=cancel)
    assert result.events[-1].type == EventType.CANCELLED
    ends = {body["path"]: body["outcome"] for body in bodies(result, EventType.EFFECT_FINISHED)}
    assert ends["main.0.turn[0].1[0].0"] == "cancelled"
    assert len(model.asked) == 1


def test_an_agent_in_each_item_of_a_map_has_a_conversation_of_its_own() -> None:
    step = 'agent: "Find {{ _ }}", tools: [lookup], unwrap: true'
    task = f"name: t\nmain:\n  - over: $ _\n    map: [{{{step}}}]\n"
    model = Model([LOOK], [LOOK], "a", "b")
    assert outcome(run(task, ["x", "y"], model)) == ["a", "b"]
    assert len({params.context.key for params in model.asked}) == 4


# --- without a server ----------------------------------------------------------------------------------------------


def test_a_dry_run_follows_a_script_and_makes_calls_up_where_one_is_forced() -> None:
    plan = compiled(AGENT + "    label: find\n")
    told = dry_run(plan, "x", replies={"find": [{"$calls": [{"lookup": {"name": "a"}}]}, "done"], "lookup": "gold"})
    assert outcome(told) == "done"
    forced = dry_run(compiled(AGENT + "    rules: {book: {required: true}}\n"), "x")
    calls: list[Any] = [body["name"] for body in bodies(forced, EventType.EFFECT_STARTED)]
    assert "book" in calls
    assert outcome(forced)
