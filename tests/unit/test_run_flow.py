"""What switch, while, until, race, log, approve and deadlines of waits do, told by running tasks in memory."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply, failed
from tests.support.memory import error_of, output_of, run, seen

START_US_TO_S = 1e6


# --- switch --------------------------------------------------------------------------------------------------------

SWITCH = """
name: t
main:
  - switch:
      - case: _.kind == 'tea'
        then: {evaluate: leaves}
      - case: $ _.kind == 'coffee'
        then: [{evaluate: beans}, {evaluate: "{{ _ }} ground"}]
      - case: _
        then: {evaluate: water}
"""


@pytest.mark.parametrize(("kind", "output"), [("tea", "leaves"), ("coffee", "beans ground"), ("milk", "water")])
def test_switch_runs_the_first_case_that_holds_and_the_default_if_none_does(kind: str, output: str):
    assert output_of(SWITCH, {"kind": kind}) == output


def test_switch_without_a_match_passes_its_input_through():
    task = "name: t\nmain: [{switch: [{case: $ False, then: {evaluate: never}}]}]"
    assert output_of(task, {"kept": 1}) == {"kept": 1}


def test_labels_inside_a_switch_are_visible_afterwards():
    task = """
name: t
main:
  - switch: [{case: _, then: {evaluate: $ 7, label: inner}}]
  - evaluate: $ steps.inner.output
"""
    assert output_of(task) == 7


def test_return_inside_a_switch_ends_the_named_list():
    task = "name: t\nmain: [{switch: [{case: _, then: {return: done}}]}, {evaluate: never}]"
    assert output_of(task) == "done"


def test_the_place_of_a_case_stands_in_its_transitions():
    events = seen(run(SWITCH, {"kind": "coffee"}), "init_branch")
    assert [(event.body["path"], event.body["construct"]) for event in events] == [("main.0.case[1]", "switch[1]")]


# --- while and until -----------------------------------------------------------------------------------------------


def test_while_runs_as_long_as_its_condition_holds_and_hands_each_output_to_the_next_round():
    assert output_of("name: t\nmain: [{while: _ < 10, do: {evaluate: $ _ * 2}}]", 3) == 12


def test_while_of_no_rounds_passes_its_input_through():
    assert output_of("name: t\nmain: [{while: $ False, do: {evaluate: never}}]", "in") == "in"


def test_until_runs_its_steps_before_it_looks():
    assert output_of("name: t\nmain: [{until: _ >= 1, do: [{evaluate: $ _ + 1}, {evaluate: $ _}]}]", 100) == 101
    assert output_of("name: t\nmain: [{until: _ >= 5, do: {evaluate: $ _ + 1}}]", 0) == 5


def test_a_loop_that_does_not_end_is_an_error_that_the_task_can_catch():
    task = "name: t\nmain: [{while: 'True', do: {evaluate: $ _ + 1}, max_rounds: 7}]"
    error = error_of(task, 0)
    assert (error.code, error.hint != "") == ("loop.too_many_rounds", True)
    caught = "name: t\nmain: [{while: 'True', do: {evaluate: $ _}, max_rounds: 7, on_error: {evaluate: $ error.code}}]"
    assert output_of(caught, 0) == "loop.too_many_rounds"


def test_the_limit_of_rounds_counts_all_loops_together_and_cannot_be_caught():
    task = """
name: t
limits: {rounds: 9}
main:
  - foreach: {in: "$ [1, 2, 3, 4, 5]", do: {evaluate: $ _}}
  - evaluate: $ 0
  - while: _ < 5
    do: {evaluate: $ _ + 1}
    on_error: {evaluate: caught}
"""
    assert error_of(task).code == "limit.rounds"
    assert output_of(task.replace("9", "10")) == 5


def test_labels_inside_a_loop_show_its_last_round():
    task = """
name: t
main:
  - while: _ < 3
    do: {evaluate: $ _ + 1, label: round}
  - evaluate: $ steps.round.input
"""
    assert output_of(task, 0) == 2


def test_a_loop_with_calls_goes_on_after_continue_as_new_at_any_step():
    task = "name: t\nmain: [{until: len(_.seat) >= 6, do: {tool: book, arguments: {seat: $ _.seat + 'x'}}}]"
    for every in range(1, 4):
        result = run(task, {"seat": ""}, carry_every=every)
        assert result.finished is not None
        assert result.finished.outcome == Ok({"seat": "xxxxxx"})
        assert result.runs > 1


# --- race ----------------------------------------------------------------------------------------------------------

RACE = """
name: t
main:
  - race:
      - {tool: lookup, arguments: {name: slow}}
      - {tool: lookup, arguments: {name: fast}}
      - {tool: lookup, arguments: {name: middle}}
"""
TIMES_S = {"slow": 30.0, "middle": 20.0, "fast": 10.0}


def by_name(call: Call) -> Answered:
    """Answer a lookup with its name after its time; names in capitals fail."""
    name = str(call.params.arguments["name"])  # type: ignore[union-attr]
    if name.isupper():
        return Answered(failed("tool.broken", f"{name} broke", retryable=False), TIMES_S[name.lower()])
    return Answered(Ok(name), TIMES_S[name])


def test_race_gives_the_output_of_the_first_branch_that_succeeds_and_stops_the_others():
    result = run(RACE, None, by_name)
    assert result.finished is not None
    assert result.finished.outcome == Ok("fast")
    began, ended = result.events[0].now_us, result.events[-1].now_us
    assert (ended - began) / START_US_TO_S == pytest.approx(10, abs=1)


def test_race_takes_as_many_as_it_is_told_in_order_of_success():
    assert output_of(RACE + "    take: 2\n", None, by_name) == ["fast", "middle"]
    assert output_of(RACE + "    take: 3\n", None, by_name) == ["fast", "middle", "slow"]


def test_a_branch_that_fails_loses_the_race_and_only_all_together_fail_it():
    assert output_of(RACE.replace("fast", "FAST"), None, by_name) == "middle"
    lost = RACE.replace("fast", "FAST").replace("slow", "SLOW").replace("middle", "MIDDLE")
    error = error_of(lost, None, by_name)
    assert error.code == "race.failed"
    assert [item["message"] for item in error.details["errors"]] == ["FAST broke", "MIDDLE broke", "SLOW broke"]


def test_a_race_for_more_than_can_still_succeed_fails_at_once():
    task = RACE.replace("fast", "FAST").replace("middle", "MIDDLE") + "    take: 2\n"
    result = run(task, None, by_name)
    last = result.events[-1]
    assert (last.type, last.body["error"]["code"]) == ("error", "race.failed")
    assert (last.now_us - result.events[0].now_us) / START_US_TO_S == pytest.approx(20, abs=1)


def test_a_lost_race_is_handled_like_any_other_error():
    task = RACE.replace("fast", "FAST").replace("slow", "SLOW").replace("middle", "MIDDLE")
    assert output_of(task + "    on_error: {evaluate: $ len(error.details.errors)}\n", None, by_name) == 3


def starts_of(task: str) -> list[float]:
    result = run(task, None, by_name)
    began = result.events[0].now_us
    return [round((event.now_us - began) / START_US_TO_S) for event in seen(result, "effect.started")]


def test_stagger_starts_branches_one_after_another_and_none_after_the_end():
    assert starts_of(RACE + "    stagger: 4s\n") == [0, 4, 8]
    assert starts_of(RACE + "    stagger: 12s\n") == [0, 12]


def test_a_branch_that_fails_lets_the_next_one_start_at_once():
    assert starts_of(RACE.replace("slow", "FAST").replace("name: fast", "name: fast") + "    stagger: 60s\n") == [0, 10]


def test_return_in_a_branch_of_a_race_ends_the_named_list():
    task = "name: t\nmain: [{race: [{return: out}, {sleep: {seconds: 5}}]}, {evaluate: never}]"
    assert output_of(task) == "out"


def test_a_race_goes_on_after_continue_as_new():
    task = """
name: t
main:
  - race:
      - [{sleep: {seconds: 9}}, {evaluate: late}]
      - [{sleep: {seconds: 1}}, {sleep: {seconds: 1}}, {evaluate: soon}]
      - [{sleep: {seconds: 50}}, {evaluate: never}]
    stagger: 3s
"""
    for every in (1, 2, 3):
        result = run(task, carry_every=every)
        assert result.finished is not None
        assert result.finished.outcome == Ok("soon")


# --- log -----------------------------------------------------------------------------------------------------------


def test_log_passes_its_input_through_and_its_text_stands_in_the_transition():
    task = 'name: t\nmain: [{log: "got {{ _.n }}"}, {log: $ _}, {evaluate: $ _.n}]'
    result = run(task, {"n": 3})
    steps = seen(result, "step")
    assert [event.body["log"] for event in steps] == ["got 3", '{"n":3}']
    assert [event.body["output"] for event in steps] == [{"n": 3}, {"n": 3}]
    assert "log" not in result.events[-1].body


# --- waits with a deadline, and approve ----------------------------------------------------------------------------


def test_a_wait_past_its_deadline_goes_on_with_its_default():
    task = "name: t\nmain: [{wait_for_input: {info: ask, deadline: 2h, default: {by: $ _.who}}}]"
    result = run(task, {"who": "nobody"})
    assert result.finished is not None
    assert result.finished.outcome == Ok({"by": "nobody"})
    resumed = seen(result, "resume")[0]
    assert resumed.body["expired"] is True
    assert (resumed.now_us - result.events[0].now_us) / START_US_TO_S == pytest.approx(7200, abs=1)


def test_null_is_a_default_like_any_other():
    assert output_of("name: t\nmain: [{wait_for_input: {info: ask, deadline: 1s, default: null}}]", 5) is None


def test_a_wait_past_its_deadline_without_default_is_an_error():
    task = "name: t\nmain: [{wait_for_input: {info: ask, deadline: $ _ * 60}}]"
    assert error_of(task, 2).code == "wait.expired"


def test_an_answer_before_the_deadline_counts_and_the_deadline_then_means_nothing():
    task = "name: t\nmain: [{wait_for_input: {deadline: 1h, default: none}}, {sleep: {hours: 2}}]"
    assert output_of(task, None, answers=["yes"]) == "yes"


def test_the_deadline_stands_in_the_event_of_the_wait():
    result = run("name: t\nmain: [{wait_for_input: {info: ask, deadline: 30s}}]", None)
    wait = seen(result, "wait")[0]
    assert wait.body["deadline_us"] == wait.now_us + 30_000_000


def test_a_wait_keeps_its_deadline_over_continue_as_new():
    task = """
name: t
main:
  - parallel:
      - {wait_for_input: {deadline: 90s, default: late}}
      - [{sleep: {seconds: 10}}, {sleep: {seconds: 10}}, {evaluate: slept}]
"""
    result = run(task, carry_every=1)
    assert result.runs > 1
    assert result.finished is not None
    assert result.finished.outcome == Ok(["late", "slept"])
    assert (result.events[-1].now_us - result.events[0].now_us) / START_US_TO_S == pytest.approx(90, abs=1)


def test_approve_waits_for_a_decision_in_its_own_shape():
    task = "name: t\nmain: [{approve: 'Pay {{ _.sum }}?', label: ok}, {evaluate: $ _.approved}]"
    result = run(task, {"sum": 5}, answers=[{"approved": True, "reason": "fine"}])
    assert result.finished is not None
    assert result.finished.outcome == Ok(True)
    wait = seen(result, "wait")[0]
    assert wait.body["info"] == "Pay 5?"
    assert wait.body["schema"]["required"] == ["approved"]


def test_approve_refuses_an_answer_that_is_no_decision():
    result = run("name: t\nmain: [{approve: sure?}]", None, answers=["maybe"])
    assert result.finished is None
    assert seen(result, "answer.refused")


def test_approve_takes_its_default_at_the_deadline():
    task = "name: t\nmain: [{approve: {info: x, deadline: 1d, default: {approved: false}}}]"
    assert output_of(task) == {"approved": False}


def test_approve_with_a_schema_of_its_own_takes_what_fits_it():
    task = "name: t\nmain: [{approve: {schema: {enum: [a, b]}}}]"
    assert output_of(task, None, answers=["b"]) == "b"


# --- together ------------------------------------------------------------------------------------------------------


def test_modifiers_hold_for_the_new_kinds_too():
    task = """
name: t
main:
  - while: 'True'
    do: {sleep: {seconds: 10}}
    timeout: 35s
    on_error: {evaluate: $ error.code}
"""
    assert output_of(task) == "step.timeout"


def test_a_prompt_in_a_race_may_be_stopped():
    task = "name: t\nmain: [{race: [{prompt: a, unwrap: true}, {prompt: b, unwrap: true}], take: 1}]"

    def handler(call: Call) -> Answered:
        text = str(call.params.messages[0]["content"])  # type: ignore[union-attr]
        return Answered(Ok(chat_reply(text)), 5.0 if text == "a" else 1.0)

    assert output_of(task, None, handler) == "b"


# --- small things ---------------------------------------------------------------------------------------------------


def test_the_start_value_of_a_fold_sees_the_input_of_its_step():
    task = "name: t\nmain: [{over: _.xs, map: {evaluate: $ _}, initial: $ _.start, reduce: results + _}]"
    assert output_of(task, {"xs": [1, 2], "start": 10}) == 13


def test_an_error_that_is_no_text_is_told_as_json():
    assert error_of("name: t\nmain: [{error: $ _}]", {"a": [1, None]}).message == '{"a":[1,null]}'


@pytest.mark.parametrize("given", ["5m", "300s", 300, 300.0])
def test_a_computed_time_is_seconds_or_a_duration_like_a_literal_one(given: Any) -> None:
    slept = run("name: t\nmain: [{sleep: $ _}]", given)
    assert slept.events[-1].now_us - slept.events[0].now_us == 300_000_000
    wait = seen(run("name: t\nmain: [{wait_for_input: {deadline: $ _, default: none}}]", given), "wait")[0]
    assert wait.body["deadline_us"] == wait.now_us + 300_000_000


@pytest.mark.parametrize(
    ("given", "shown"),
    [(None, "null"), ("soon", '"soon"'), ([1], "[1]"), (True, "true"), (-1, "-1 seconds"), ("x" * 99, "text")],
)
def test_what_is_no_time_is_told_in_the_words_of_json(given: Any, shown: str) -> None:
    error = error_of("name: t\nmain: [{sleep: $ _}]", given)
    assert error.message.endswith(f"cannot sleep for {shown}")
    assert "5m" in error.hint


@pytest.mark.parametrize(("given", "shown"), [("abc", "text"), (None, "null"), (7, "a number"), (True, "a boolean")])
def test_what_a_loop_cannot_go_through_is_told_in_the_words_of_json(given: Any, shown: str) -> None:
    error = error_of("name: t\nmain: [{foreach: {in: $ _, do: {evaluate: 1}}}]", given)
    assert f"is {shown}, not a list" in error.message
