"""What a fork takes over: which steps of an execution, with which outputs, state and labels, and where it begins."""

from __future__ import annotations

from typing import Any

import pytest

from engine.control.forkpoints import Survey, choose_point
from engine.control.recorded import Recorder, before
from engine.control.steppaths import position
from engine.control.tracking import Tracker
from engine.core.contracts.execution import Recorded
from engine.core.errors import Conflict, InvalidInput, ToolError
from engine.core.kinds import ExecutionStatus
from engine.core.run.effects import Failed, Ok
from engine.core.run.events import EventRecord
from engine.core.run.projection import ExecutionFacts
from engine.core.values import compact_json
from engine.dryrun.effects import Answered
from engine.dryrun.running import DryRun
from tests.support.memory import compiled, run


def records(result: DryRun) -> list[EventRecord]:
    """Return the events of a run in memory as the store has them, one microsecond apart."""
    return [
        EventRecord("e", "r", number, 1_000 + number, event.type, compact_json(event.body))
        for number, event in enumerate(result.events, 1)
    ]


def failing(*paths: str, times: int = 100) -> Any:
    """Return a handler that fails the calls of some steps so many times and echoes all others."""
    left = dict.fromkeys(paths, times)

    def handler(call: Any) -> Answered:
        path = call.params.context.path
        if left.get(path, 0) > 0:
            left[path] -= 1
            return Answered(Failed(ToolError("no", code="tool.refused")))
        return Answered(Ok(dict(call.params.arguments)))

    return handler


def surveyed(result: DryRun, label: str = "") -> Survey:
    survey = Survey(label)
    for record in records(result):
        survey.apply(record)
    return survey


def taken(result: DryRun, point: str) -> dict[str, Recorded]:
    """Return what a fork of a run takes over."""
    never = frozenset(surveyed(result).undone)
    recorder = Recorder(point, never)
    for record in records(result):
        recorder.apply(record)
    return before(recorder, point, never)


def outputs(result: DryRun, point: str) -> dict[str, Any]:
    return {path: item.output for path, item in taken(result, point).items()}


def facts(result: DryRun, **more: Any) -> ExecutionFacts:
    """Return what the store would know of a run."""
    outcome = None if result.finished is None else result.finished.outcome
    error: dict[str, Any] | None = None
    if isinstance(outcome, Failed):
        error = {"code": outcome.error.code, "message": "", "step": outcome.error.details.get("step", "")}
    known: dict[str, Any] = {
        "id": "e",
        "tenant": "t",
        "task_id": "k",
        "task_name": "k",
        "task_version": 1,
        "agent_id": "",
        "status": ExecutionStatus.RUNNING if outcome is None else ExecutionStatus.FAILED,
        "input": None,
        "output": None,
        "error": error,
        "metadata": {},
        "created_us": 1,
        "updated_us": 1,
        "closed_us": None,
        "transition_count": 0,
        "last_seq": len(result.events),
        "terminal_seen": outcome is not None,
        "settled": outcome is not None,
        "verified": None,
    }
    return ExecutionFacts(**{**known, **more})


def chosen(text: str, result: DryRun, named: str = "", **more: Any) -> str:
    return choose_point(facts(result, **more), surveyed(result, named), named, compiled(text))


# --- which steps -----------------------------------------------------------------------------------------------------

NESTED = """
name: nested
main:
  - evaluate: $ _ + 1
  - if: $ True
    then:
      - evaluate: $ _ * 10
      - evaluate: $ _ + 5
      - evaluate: $ _ + 6
  - foreach:
      in: $ [1, 2, 3]
      do: [{evaluate: $ _ * 2}, {evaluate: $ _ + 1}]
  - workflow: sub
    arguments: {n: $ len(_)}
  - evaluate: $ 'end'
sub:
  - evaluate: $ _.n
  - evaluate: $ _ + 100
"""


def test_steps_are_taken_over_as_wholes_up_to_the_point() -> None:
    result = run(NESTED, 1)
    assert outputs(result, "main.4") == {"main.0": 2, "main.1": 31, "main.2": [3, 5, 7], "main.3": 103}
    assert outputs(result, "main.2") == {"main.0": 2, "main.1": 31}
    assert outputs(result, "main.0") == {}


def test_steps_around_the_point_are_entered_anew_with_what_ended_inside_them() -> None:
    result = run(NESTED, 1)
    assert outputs(result, "main.1.then.1") == {"main.0": 2, "main.1.then.0": 20}
    assert outputs(result, "main.2.do[1].1") == {
        "main.0": 2,
        "main.1": 31,
        "main.2.do[0].0": 2,
        "main.2.do[0].1": 3,
        "main.2.do[1].0": 4,
    }
    assert outputs(result, "main.3.sub.1") == {"main.0": 2, "main.1": 31, "main.2": [3, 5, 7], "main.3.sub.0": 3}


def test_a_running_execution_gives_what_has_ended_so_far() -> None:
    text = "name: w\nmain: [{evaluate: 1}, {wait_for_input: {info: x}}, {evaluate: 2}]"
    result = run(text)
    assert result.finished is None
    assert outputs(result, "main.1") == {"main.0": 1}


def test_times_are_those_at_which_the_steps_ended() -> None:
    result = run(NESTED, 1)
    ends = {event.body["path"]: number for number, event in enumerate(result.events, 1) if "next" in event.body}
    found = taken(result, "main.4")
    assert {path: item.at_us - 1_000 for path, item in found.items()} == {path: ends[path] for path in found}


# --- concurrent branches ----------------------------------------------------------------------------------------------

MAP = """
name: m
main:
  - over: $ range(4)
    map: [{evaluate: $ _ + 1}, {tool: lookup, arguments: {name: $ str(_)}}, {evaluate: $ _.name}]
  - evaluate: $ 'end'
"""


def test_the_other_items_of_a_map_are_taken_over_whole_and_its_rest_is_left_to_run() -> None:
    result = run(MAP, handler=failing("main.0.map[2].1"))
    found = outputs(result, "main.0.map[2].1")
    others = {f"main.0.map[{n}].{step}" for n in (0, 1, 3) for step in range(3) if f"main.0.map[{n}].{step}" in found}
    assert found["main.0.map[2].0"] == 3
    assert set(found) == {*others, "main.0.map[2].0"}
    assert {"main.0.map[0].0", "main.0.map[1].0", "main.0.map[3].0"} <= others


def test_items_that_ended_after_the_point_began_are_taken_over_too() -> None:
    result = run(MAP)
    found = outputs(result, "main.0.map[0].1")
    assert found["main.0.map[3].2"] == "4"
    assert "main.0.map[0].1" not in found
    assert "main.0.map[0].2" not in found


RACE = """
name: r
main:
  - race:
      - [{evaluate: 1}, {tool: lookup, arguments: {name: slow}}]
      - [{evaluate: 2}, {evaluate: 3}]
"""


def test_in_a_race_only_what_was_known_when_the_point_began_is_taken_over() -> None:
    result = run(RACE)
    assert outputs(result, "main.0[0].1") == {"main.0[0].0": 1}
    assert outputs(result, "main.0[1].1") == {"main.0[0].0": 1, "main.0[1].0": 2}


@pytest.mark.parametrize(
    ("path", "point", "where"),
    [
        ("main.1", "main.2", "before"),
        ("main.2", "main.1.then.0", "after"),
        ("main.1", "main.1.then.0", "around"),
        ("main.1.then.0", "main.1", "around"),
        ("main.1.do[2].5", "main.1.do[10].0", "before"),
        ("main.1.do[10].0", "main.1.do[9].3", "after"),
        ("main.1.map[3].0", "main.1.map[2].0", "beside"),
        ("main.1[0].4", "main.1[1].0", "beside"),
        ("main.10", "main.9", "after"),
        ("main.1.sub.0", "main.1.sub.1", "before"),
    ],
)
def test_places_are_compared_by_what_runs_after_what(path: str, point: str, where: str) -> None:
    assert position(path, point) == where


# --- attempts, handlers, returns -------------------------------------------------------------------------------------

REPEATED = """
name: again
main:
  - if: $ True
    then:
      - evaluate: $ 'first'
      - tool: book
        arguments: {seat: b}
        retry: {attempts: 1}
      - tool: lookup
        arguments: {name: c}
        retry: {attempts: 1}
    retry: {attempts: 2, initial: 1s, on: [tool]}
"""


def test_of_a_repeated_block_only_its_last_attempt_counts() -> None:
    result = run(REPEATED, handler=failing("main.0.then.2", "main.0~2.then.1"))
    assert chosen(REPEATED, result) == "main.0.then.1"
    assert outputs(result, "main.0.then.1") == {"main.0.then.0": "first"}
    # what the first attempt had given would be made again by the second one as well
    assert outputs(result, "main.0.then.2") == {"main.0.then.0": "first"}


HANDLED = """
name: handled
main:
  - tool: pay
    arguments: {amount: 1}
    on_error: [{evaluate: 7}, {evaluate: $ _ + 1}]
  - evaluate: $ _ + 1
"""


def test_a_step_whose_error_was_handled_is_taken_over_with_what_the_handler_gave() -> None:
    assert outputs(run(HANDLED, handler=failing("main.0")), "main.1") == {"main.0": 8}


LEFT = """
name: left
main:
  - workflow: sub
    arguments: {n: 4}
  - evaluate: $ _ + 1
sub:
  - if: $ True
    then: [{evaluate: $ _.n}, {if: $ True, then: [{evaluate: 5}, {return: 6}]}]
  - evaluate: never
"""


def test_what_a_return_has_left_is_entered_anew_so_that_it_leaves_again() -> None:
    left = LEFT.replace("if: $ True, then", "if: '$ True', then")
    result = run(left)
    assert outputs(result, "main.1") == {"main.0": 6}
    assert outputs(result, "main.0.sub.0.then.1.then.0") == {"main.0.sub.0.then.0": 4}
    text = """
name: par
main:
  - parallel:
      - [{evaluate: 1}, {tool: lookup, arguments: {name: a}}]
      - [{evaluate: 2}, {if: $ True, then: [{evaluate: 3}, {return: 4}]}]
""".replace("{if: $ True,", "{if: '$ True',")
    result = run(text)
    assert outputs(result, "main.0[0].1") == {"main.0[0].0": 1, "main.0[1].0": 2, "main.0[1].1.then.0": 3}


# --- state and labels ------------------------------------------------------------------------------------------------

STATE = """
name: state
main:
  - set: {a: 1}
  - if: $ True
    then:
      - set: {b: 2, a: 5}
      - foreach: {in: $ range(3), do: [{set: {c: $ _}}]}
      - parallel: [[{set: {hidden: 1}}], [{evaluate: 1}]]
      - workflow: sub
        arguments: {n: 1}
  - evaluate: $ state.a
  - evaluate: $ state.c
sub:
  - set: {other: 1}
  - evaluate: 1
""".replace("in: $ range(3)", "in: '$ range(3)'").replace("{c: $ _}", "{c: '$ _'}")


def test_a_step_is_taken_over_with_what_it_wrote_into_the_state_of_its_list() -> None:
    found = taken(run(STATE), "main.3")
    assert {path: item.state for path, item in found.items()} == {
        "main.0": {"a": 1},
        "main.1": {"b": 2, "a": 5, "c": 2},
        "main.2": {},
    }


def test_what_a_failed_attempt_wrote_is_not_taken_over() -> None:
    text = """
name: s
main:
  - if: $ True
    then:
      - set: {n: $ state.get('n', 0) + 1, tries: [1]}
      - tool: lookup
        arguments: {name: c}
        retry: {attempts: 1}
    retry: {attempts: 2, initial: 1s, on: [tool]}
  - evaluate: 1
""".replace("$ state.get('n', 0) + 1, tries: [1]", "\"$ state.get('n', 0) + 1\"")
    found = taken(run(text, handler=failing("main.0.then.1")), "main.1")
    assert found["main.0"].state == {"n": 1}


def test_a_set_whose_error_was_handled_wrote_nothing() -> None:
    text = "name: s\nmain: [{set: {n: '$ 1 / _'}, on_error: [{evaluate: {m: 1}}]}, {evaluate: 1}]"
    found = taken(run(text, 0), "main.1")
    assert (found["main.0"].output, found["main.0"].state) == ({"m": 1}, {})


def test_a_set_that_may_have_been_left_out_is_run_again() -> None:
    text = """
name: s
main:
  - evaluate: {n: 1}
  - if: $ True
    then:
      - evaluate: {n: 1}
      - set: $ _
        when: $ False
      - evaluate: 3
  - evaluate: 1
"""
    assert outputs(run(text), "main.2") == {"main.0": {"n": 1}, "main.1.then.0": {"n": 1}, "main.1.then.2": 3}


def test_labels_inside_a_step_are_taken_over_as_far_as_they_are_seen_behind_it() -> None:
    text = """
name: labels
main:
  - evaluate: 1
  - if: $ True
    then:
      - {evaluate: $ _ + 1, label: inner}
      - parallel: [[{evaluate: 5, label: hidden}], [{evaluate: 6}]]
      - foreach: {in: $ range(3), do: [{evaluate: $ _ * 2, label: round}]}
    label: outer
  - evaluate: $ steps.inner.output
""".replace("{evaluate: $ _ + 1, label", "{evaluate: '$ _ + 1', label").replace("in: $ range(3)", "in: '$ range(3)'")
    text = text.replace("{evaluate: $ _ * 2,", "{evaluate: '$ _ * 2',")
    found = taken(run(text), "main.2")
    assert found["main.1"].labels == {"inner": {"input": 1, "output": 2}, "round": {"input": 2, "output": 4}}
    assert found["main.0"].labels == {}


# --- undone ----------------------------------------------------------------------------------------------------------

UNDONE = """
name: undone
main:
  - evaluate: 1
  - tool: book
    arguments: {seat: a}
    undo: [{evaluate: back}]
  - tool: lookup
    arguments: {name: a}
  - tool: pay
    arguments: {amount: 1}
"""


def test_what_was_undone_is_not_taken_over_and_is_where_a_retry_begins() -> None:
    result = run(UNDONE, handler=failing("main.3"))
    survey = surveyed(result)
    assert (list(survey.undone), survey.anything_undone) == (["main.1"], True)
    assert chosen(UNDONE, result) == "main.1"
    assert outputs(result, "main.1") == {"main.0": 1}
    assert set(outputs(result, "main.3")) == {"main.0", "main.2"}


def test_what_was_undone_and_made_again_by_a_later_attempt_counts_as_made() -> None:
    text = """
name: u
main:
  - if: $ True
    then:
      - tool: book
        arguments: {seat: a}
        undo: [{evaluate: back}]
      - tool: pay
        arguments: {amount: 1}
        retry: {attempts: 1}
    retry: {attempts: 2, initial: 1s, on: [tool]}
  - wait_for_input: {info: x}
"""
    result = run(text, handler=failing("main.0.then.1"))
    survey = surveyed(result)
    assert (list(survey.undone), survey.anything_undone) == ([], True)
    assert set(outputs(result, "main.1")) == {"main.0"}


def test_a_step_is_not_taken_over_whole_if_something_inside_it_was_undone() -> None:
    text = """
name: u
main:
  - if: $ True
    then:
      - evaluate: 1
      - tool: book
        arguments: {seat: a}
        undo: [{evaluate: back}]
      - evaluate: 2
  - tool: pay
    arguments: {amount: 1}
"""
    result = run(text, handler=failing("main.1"))
    assert chosen(text, result) == "main.0.then.1"
    assert outputs(result, "main.0.then.1") == {"main.0.then.0": 1}


# --- where it begins -------------------------------------------------------------------------------------------------


def test_a_retry_begins_with_the_step_that_failed() -> None:
    assert chosen(NESTED, run(NESTED, 1), settled=True, error={"step": "main.2.do[1].0"}) == "main.2.do[1].0"


def test_a_step_that_handled_a_failure_stands_for_the_one_it_belongs_to() -> None:
    text = "name: h\nmain: [{tool: pay, arguments: {amount: 1}, on_error: [{tool: book, arguments: {seat: a}}]}]"
    result = run(text, handler=failing("main.0", "main.0.on_error.0"))
    assert chosen(text, result) == "main.0"


def test_without_a_failed_step_a_retry_begins_with_what_was_under_way() -> None:
    text = "name: w\nmain: [{evaluate: 1}, {if: $ True, then: [{evaluate: 2}, {wait_for_input: {info: x}}]}]"
    text = text.replace("{if: $ True,", "{if: '$ True',")
    result = run(text)
    cancelled: dict[str, Any] = {"settled": True, "error": {"code": "execution.cancelled"}}
    assert chosen(text, result, **cancelled) == "main.1.then.1"
    with pytest.raises(Conflict) as refused:
        chosen(text, result)
    assert refused.value.code == "fork.no_failed_step"


def test_a_failure_of_the_finally_steps_is_no_place_to_begin() -> None:
    text = "name: f\nmain: [{evaluate: 1}]\nfinally: [{tool: pay, arguments: {amount: 1}}]"
    result = run(text, handler=failing("finally.0"))
    with pytest.raises(Conflict) as refused:
        chosen(text, result)
    assert refused.value.code == "fork.no_failed_step"
    assert "finally.0" in refused.value.message


LABELLED = """
name: l
main:
  - {evaluate: 1, label: one}
  - over: $ range(2)
    map: [{evaluate: 2, label: each}]
  - parallel:
      - [{evaluate: 3}]
      - [{evaluate: 4}, {evaluate: 5, label: slot}]
"""


def test_a_step_is_named_by_its_label_if_that_says_which() -> None:
    result = run(LABELLED)
    assert chosen(LABELLED, result, "one") == "main.0"
    assert chosen(LABELLED, result, "slot") == "main.2[1].1"
    with pytest.raises(InvalidInput) as several:
        chosen(LABELLED, result, "each")
    assert (several.value.code, several.value.details) == (
        "fork.bad_point",
        {"paths": ["main.1.map[0].0", "main.1.map[1].0"]},
    )


@pytest.mark.parametrize("named", ["main.9", "nobody", "finally.0", "main.0.undo.0", "main.1.map[0].7"])
def test_what_no_execution_can_begin_with_is_refused(named: str) -> None:
    text = LABELLED + "finally: [{evaluate: 9}]\n"
    with pytest.raises(InvalidInput) as refused:
        chosen(text, run(text), named)
    assert refused.value.code == "fork.bad_point"


# --- gaps ------------------------------------------------------------------------------------------------------------


def test_events_that_are_missing_are_noticed() -> None:
    told = records(run(NESTED, 1))
    tracker = Tracker()
    for record in [*told[:3], *told[4:]]:
        tracker.apply(record)
    assert tracker.missing == 4
