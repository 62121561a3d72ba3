"""Pause, continue, breaks and other deadlines, as the interpreter takes them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.kinds import EventType
from tests.support.stepping import Stepper

TWO_CALLS = """
name: t
main:
  - parallel:
      - [{tool: lookup, arguments: {name: a}}, {tool: lookup, arguments: {name: b}}]
      - [{tool: lookup, arguments: {name: c}}]
  - evaluate: $ 'end'
"""

WAITS = """
name: t
main:
  - wait_for_input: {info: "?", deadline: 1h, default: nobody}
    label: ask
  - tool: lookup
    arguments: {name: $ str(_)}
"""

LOOP = """
name: t
main:
  - foreach:
      in: $ [1, 2, 3]
      do:
        - workflow: review
          arguments: $ _
  - evaluate: $ sum(_)
review:
  - evaluate: $ _ * 10
  - evaluate: $ _ + 1
    label: add
"""


def called(stepper: Stepper) -> list[str]:
    return [body["path"] for body in stepper.bodies(EventType.EFFECT_STARTED)]


# --- pause and continue --------------------------------------------------------------------------------------------


def test_calls_under_way_end_in_a_pause_and_nothing_new_starts() -> None:
    stepper = Stepper(TWO_CALLS)
    told = stepper.control("pause", reason="deploy")
    assert told.type == EventType.EXECUTION_PAUSED
    assert told.body == {"key": told.body["key"], "actor": "ann", "reason": "deploy"}
    stepper.go()
    assert stepper.paused
    assert not stepper.ended
    assert called(stepper) == ["main.0[0].0", "main.0[1].0"]
    assert [body["path"] for body in stepper.bodies(EventType.EFFECT_FINISHED)] == ["main.0[0].0", "main.0[1].0"]
    assert stepper.control("continue").type == EventType.EXECUTION_CONTINUED
    stepper.go()
    assert stepper.outcome == "end"
    assert stepper.statuses == [True, False]


@pytest.mark.parametrize("carries", [False, True])
def test_an_answer_in_a_pause_is_taken_and_has_its_effect_afterwards(carries: bool) -> None:
    stepper = Stepper(WAITS)
    stepper.control("pause")
    if carries:
        stepper.carry()
    stepper.answer("yes")
    assert stepper.types()[-2:] == [EventType.ANSWER_ACCEPTED, EventType.RESUME]
    if carries:
        stepper.carry()
    stepper.go()
    assert called(stepper) == []
    stepper.control("continue")
    stepper.go()
    assert stepper.outcome == {"name": "yes"}


@pytest.mark.parametrize("carries", [False, True])
def test_a_deadline_that_passes_in_a_pause_has_its_effect_afterwards(carries: bool) -> None:
    stepper = Stepper(WAITS)
    stepper.control("pause")
    assert stepper.go() == ["timer wait:main.0"]
    if carries:
        stepper.carry()
        stepper.go()
    assert EventType.RESUME not in stepper.types()
    stepper.control("continue")
    assert stepper.bodies(EventType.RESUME)[0]["expired"] is True
    stepper.go()
    assert stepper.outcome == {"name": "nobody"}


def test_an_answer_in_a_pause_wins_over_a_deadline_that_has_passed_in_it() -> None:
    stepper = Stepper(WAITS)
    stepper.control("pause")
    stepper.go()
    stepper.answer("late")
    stepper.control("continue")
    stepper.go()
    assert stepper.outcome == {"name": "late"}


def test_a_sleep_and_a_retry_that_end_in_a_pause_go_on_afterwards() -> None:
    task = """
name: t
main:
  - parallel:
      - [{sleep: {minutes: 1}}, {tool: lookup, arguments: {name: s}}]
      - [{error: no, retry: {attempts: 2, initial: 30, on: [task.error]}, on_error: {evaluate: $ error.attempts}}]
"""
    stepper = Stepper(task)
    stepper.control("pause")
    stepper.go()
    assert len(stepper.bodies(EventType.ATTEMPT_FAILED)) == 1
    stepper.control("continue")
    stepper.go()
    assert stepper.outcome == [{"name": "s"}, 2]


def test_a_pause_is_carried_over_with_branches_that_could_run() -> None:
    stepper = Stepper(TWO_CALLS)
    stepper.control("pause")
    stepper.go()
    stepper.carry()
    assert stepper.paused
    assert called(stepper) == ["main.0[0].0", "main.0[1].0"]
    stepper.control("continue")
    stepper.go()
    assert stepper.outcome == "end"
    assert called(stepper) == ["main.0[0].0", "main.0[1].0", "main.0[0].1"]


def test_a_cancel_ends_a_pause() -> None:
    stepper = Stepper(WAITS + "finally: [{tool: lookup, arguments: {name: bye}}]\n")
    stepper.control("pause")
    stepper.go()
    stepper.cancel()
    stepper.go()
    assert stepper.outcome is None
    assert called(stepper) == ["finally.0"]
    told = stepper.bodies(EventType.EXECUTION_CONTINUED)
    assert told == [{"key": "", "actor": "ann", "why": "cancel"}]
    # the deadline that had passed did not act any more
    assert EventType.RESUME not in stepper.types()


def test_the_time_limit_of_the_execution_ends_a_pause() -> None:
    stepper = Stepper(WAITS.replace("main:", "limits: {time: 10m}\nmain:"))
    stepper.control("pause")
    stepper.go()
    assert stepper.outcome == "limit.time"
    assert stepper.bodies(EventType.EXECUTION_CONTINUED) == [{"key": "", "actor": "", "why": "limit.time"}]


def test_clean_up_has_the_time_back_for_which_it_was_paused() -> None:
    task = """
name: t
main:
  - evaluate: $ 1
finally:
  - sleep: {minutes: 9}
  - sleep: {seconds: 30}
"""
    stepper = Stepper(task)
    stepper.control("pause")
    stepper.go()
    assert not stepper.ended
    stepper.control("continue")
    stepper.go()
    assert stepper.outcome == 1


def test_a_pause_of_a_paused_execution_says_so_and_a_continue_of_a_running_one_is_refused() -> None:
    stepper = Stepper(WAITS)
    assert stepper.control("continue").body["code"] == "control.not_paused"
    stepper.control("pause", key="one")
    assert stepper.control("pause", key="two").body["already"] is True
    assert stepper.statuses == [True]


def test_a_repeated_key_gets_the_first_outcome_again() -> None:
    stepper = Stepper(WAITS)
    stepper.control("pause", key="one")
    stepper.control("continue", key="two")
    again = stepper.control("pause", key="one")
    assert again.type == EventType.EXECUTION_PAUSED
    assert again.body["repeated"] is True
    assert not stepper.paused
    stepper.carry()
    assert stepper.control("continue", key="two").body["repeated"] is True
    refused = stepper.control("continue", key="three")
    assert refused.body["code"] == stepper.control("continue", key="three").body["code"] == "control.not_paused"


# --- breaks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "stops"),
    [
        ("main.0.do[1].0.review.1", ["main.0.do[1].0.review.1"]),
        ("main.0.do[].0.review.1", [f"main.0.do[{n}].0.review.1" for n in range(3)]),
        ("main.0.do.0", [f"main.0.do[{n}].0" for n in range(3)]),
        ("review.0", [f"main.0.do[{n}].0.review.0" for n in range(3)]),
        ("add", [f"main.0.do[{n}].0.review.1" for n in range(3)]),
        ("main.1", ["main.1"]),
    ],
)
@pytest.mark.parametrize("carries", [False, True])
def test_an_execution_stops_before_each_break_once(wanted: str, stops: list[str], carries: bool) -> None:
    stepper = Stepper(LOOP, breaks=(wanted,))
    for _ in stops:
        assert stepper.paused
        begun = {body["path"] for body in stepper.bodies("step", "finish_branch", "finish")}
        assert stepper.bodies(EventType.EXECUTION_PAUSED)[-1]["at"] not in begun
        if carries:
            stepper.carry()
        stepper.control("continue")
    assert stepper.outcome == 63
    told = stepper.bodies(EventType.EXECUTION_PAUSED)
    assert told == [{"key": "", "actor": "", "reason": "break", "at": path} for path in stops]


@pytest.mark.parametrize("name", ["do", "map", "then", "on_error"])
@pytest.mark.parametrize("wanted", ["main.0.do[].0.{}.1", "{}.1"])
def test_lists_of_any_name_can_be_stopped_in(name: str, wanted: str) -> None:
    task = LOOP.replace("workflow: review", f"workflow: '{name}'").replace("\nreview:", f"\n'{name}':")
    stepper = Stepper(task, breaks=(wanted.format(name),))
    assert stepper.control("breaks", breaks=[wanted.format(name)]).type == EventType.BREAKS_CHANGED
    for number in range(3):
        assert stepper.bodies(EventType.EXECUTION_PAUSED)[-1]["at"] == f"main.0.do[{number}].0.{name}.1"
        stepper.control("continue")
    assert stepper.outcome == 63


def test_a_continue_can_set_other_breaks() -> None:
    stepper = Stepper(LOOP, breaks=("add",))
    told = stepper.control("continue", breaks=["main.1"])
    assert told.body["breaks"] == ["main.1"]
    assert stepper.bodies(EventType.EXECUTION_PAUSED)[-1]["at"] == "main.1"
    assert stepper.control("breaks", breaks=[]).body["breaks"] == []
    stepper.control("continue")
    assert stepper.outcome == 63


def test_two_branches_stop_one_after_the_other() -> None:
    stepper = Stepper(TWO_CALLS, breaks=("main.0[0].0", "main.0.1.0"))
    stops = []
    while stepper.paused:
        stops.append(stepper.bodies(EventType.EXECUTION_PAUSED)[-1]["at"])
        stepper.control("continue")
    stepper.go()
    assert stops == ["main.0[0].0", "main.0[1].0"]
    assert stepper.outcome == "end"


@pytest.mark.parametrize(
    "wanted", ["main.7", "main.0.do[1].3", "nothing", "", "main", "main.0.do[x].0", "main.0.review.0", "review.0.1"]
)
def test_a_break_that_names_no_step_is_refused_whole(wanted: str) -> None:
    stepper = Stepper(LOOP, breaks=("main.1",))
    told = stepper.control("continue", breaks=["add", wanted])
    assert told.body["code"] == "control.bad_path"
    assert wanted in told.body["message"]
    assert stepper.paused
    stepper.control("continue")
    assert stepper.outcome == 63


def test_a_cancel_forgets_the_breaks() -> None:
    stepper = Stepper(WAITS + "finally: [{tool: lookup, arguments: {name: bye}}]\n", breaks=("finally.0",))
    stepper.cancel()
    stepper.go()
    assert stepper.outcome is None


def test_a_break_stands_before_the_step_of_a_pause_that_was_asked_for() -> None:
    stepper = Stepper(LOOP, breaks=("main.1",))
    assert stepper.control("pause").body == {
        "key": stepper.bodies(EventType.EXECUTION_PAUSED)[-1]["key"],
        "actor": "ann",
        "reason": "",
        "already": True,
        "at": "main.1",
    }


# --- deadlines -----------------------------------------------------------------------------------------------------


def test_the_deadline_of_a_wait_can_be_put_off_and_taken_away() -> None:
    stepper = Stepper(WAITS)
    later = stepper.effects.clock_us + 7_200_000_000
    told = stepper.control("deadline", wait_id="main.0", deadline_us=later)
    assert told.type == EventType.DEADLINE_CHANGED
    assert (told.body["wait_id"], told.body["deadline_us"]) == ("main.0", later)
    stepper.carry()
    assert stepper.happen() == "timer wait:main.0"
    assert stepper.effects.clock_us == later
    other = Stepper(WAITS)
    other.control("deadline", wait_id="main.0", deadline_us=None)
    assert other.go() == []


def test_the_timeout_of_a_wait_is_its_deadline_as_well() -> None:
    stepper = Stepper("name: t\nmain: [{wait_for_input: {info: x}, timeout: 1h, on_error: {evaluate: $ error.code}}]")
    later = stepper.effects.clock_us + 7_200_000_000
    stepper.control("deadline", wait_id="main.0", deadline_us=later)
    stepper.go()
    assert stepper.effects.clock_us == later
    assert stepper.outcome == "wait.expired"


def test_a_deadline_put_off_in_a_pause_takes_back_that_it_has_passed() -> None:
    stepper = Stepper(WAITS)
    stepper.control("pause")
    stepper.go()
    stepper.control("deadline", wait_id="main.0", deadline_us=stepper.effects.clock_us + 1_000_000)
    stepper.control("continue")
    assert EventType.RESUME not in stepper.types()
    stepper.go()
    assert stepper.outcome == {"name": "nobody"}


def test_a_sleep_can_be_ended_and_needs_an_end() -> None:
    stepper = Stepper("name: t\nmain: [{sleep: {hours: 5}}, {evaluate: $ 7}]")
    began = stepper.effects.clock_us
    assert stepper.control("deadline", wait_id="main.0").body["code"] == "control.sleep_needs_deadline"
    stepper.control("deadline", wait_id="main.0", deadline_us=began + 5_000_000)
    stepper.go()
    assert (stepper.outcome, stepper.effects.clock_us - began) == (7, 5_000_000)


@pytest.mark.parametrize("deadline_us", [-1, 10**20])
def test_a_deadline_is_within_ten_years(deadline_us: int) -> None:
    stepper = Stepper(WAITS)
    told = stepper.control("deadline", wait_id="main.0", deadline_us=deadline_us)
    assert told.body["code"] == "control.bad_deadline"


def test_there_must_be_a_wait_to_move_its_deadline() -> None:
    stepper = Stepper(WAITS)
    told = stepper.control("deadline", wait_id="main.1", deadline_us=1)
    assert (told.type, told.body["code"]) == (EventType.CONTROL_REFUSED, "control.no_wait")


# --- the deadline of an execution ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "ends"), [(60, 60), (7_200, 600)])
def test_the_earlier_of_deadline_and_limit_ends_an_execution(seconds: int, ends: int) -> None:
    task = WAITS.replace("main:", "limits: {time: 10m}\nmain:")
    begin = 1_700_000_000_000_000
    stepper = Stepper(task, clock_us=begin, deadline_us=begin + seconds * 1_000_000)
    stepper.go()
    assert stepper.outcome == "limit.time"
    assert stepper.effects.clock_us == begin + ends * 1_000_000
    message: Any = stepper.bodies(EventType.ERROR)[0]["error"]["message"]
    assert ("deadline" in message) is (seconds == 60)


def test_an_execution_that_is_past_its_deadline_ends_at_once() -> None:
    stepper = Stepper(WAITS, deadline_us=1)
    stepper.go()
    assert stepper.outcome == "limit.time"
