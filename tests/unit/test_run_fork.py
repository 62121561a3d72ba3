"""Executions that begin with the recorded steps of another one, as the interpreter runs them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.contracts.execution import Fork, Recorded
from engine.core.kinds import EventType
from engine.core.run.effects import Call
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from engine.tooling import tool
from tests.support.forks import fork_at
from tests.support.lab import plan_of
from tests.support.memory import book, echo
from tests.support.stepping import ID, Stepper

OTHER = "00000000-0000-4000-8000-0000000000ff"

TASK = """
name: t
main:
  - set: {seen: $ _}
  - tool: lookup
    arguments: {name: $ str(now()) + str(random.random()), n: $ _.seen}
    label: first
  - foreach:
      in: $ [1, 2, 3]
      do:
        - set: {last: $ _}
        - tool: lookup
          arguments: {n: $ _.last}
          label: inner
        - evaluate: $ _.n * 10
  - if: $ state.seen == 5
    then:
      - parallel:
          - [{tool: lookup, arguments: {n: 1}}, {tool: lookup, arguments: {n: 2}}]
          - [{tool: lookup, arguments: {n: 3}}]
      - evaluate: >-
          $ {'last': state.last, 'inner': steps['inner'].output, 'sum': sum(steps[2].output),
          'first': steps.first.output.name, 'p': _}
      - tool: lookup
        arguments: {n: $ _}
"""
END = "main.3.then.2"
CLOCK = 1_700_000_000_000_000
LATER = CLOCK + 400 * 86_400_000_000


@tool(effect="read")
async def lookup(n: Any = None, name: str = "") -> Any:
    """Read something."""
    return {"n": n, "name": name}


def first_run(task: str = TASK, given: Any = 5) -> Stepper:
    stepper = Stepper(plan_of(task, (lookup, book)), given, clock_us=CLOCK)
    stepper.go()
    return stepper


def forked(origin: Stepper, path: str, **members: Any) -> Stepper:
    fork = fork_at(origin.effects.events, path, ID, **members)
    stepper = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    stepper.go()
    return stepper


def called(stepper: Stepper) -> list[str]:
    return [body["path"] for body in stepper.bodies(EventType.EFFECT_STARTED)]


def test_a_fork_gives_what_was_recorded_and_calls_only_the_rest() -> None:
    origin = first_run()
    assert len(called(origin)) == 8
    for place, expected in {
        END: [END],
        "main.3.then.0[1].0": ["main.3.then.0[0].0", "main.3.then.0[1].0", "main.3.then.0[0].1", END],
        "main.2.do[2].1": ["main.2.do[2].1", "main.3.then.0[0].0", "main.3.then.0[1].0", "main.3.then.0[0].1", END],
    }.items():
        copy = forked(origin, place)
        assert copy.outcome == origin.outcome
        assert sorted(called(copy)) == sorted(expected), place


def test_now_random_and_uuid_go_on_with_what_was_recorded_until_the_first_step() -> None:
    task = """
name: t
main:
  - evaluate: $ 1
  - if: $ now().year == 2023
    then:
      - evaluate: "$ [now().year, random.random(), uuid()]"
      - evaluate: "$ [*_, now().year, random.random(), uuid()]"
"""
    origin = first_run(task)
    copy = forked(origin, "main.1.then.1")
    assert copy.outcome[:3] == origin.outcome[:3]
    assert (origin.outcome[3], copy.outcome[3]) == (2023, 2024)
    assert copy.outcome[4:] == origin.outcome[4:]


def test_the_init_event_says_where_it_comes_from_and_steps_that_they_are_recorded() -> None:
    copy = forked(first_run(), END)
    init = copy.bodies(EventType.INIT)[0]
    assert init["forked"] == {"kind": "retry", "execution_id": ID, "path": END, "seed": ID, "keys": ID}
    told = [body for body in copy.bodies("step", "finish_branch", "finish") if body.get("recorded")]
    assert [body["path"] for body in told] == ["main.0", "main.1", "main.2", "main.3.then.0", "main.3.then.1"]
    assert told[2]["state"] == {"last": 3}
    assert told[2]["labels"]["inner"] == {"input": {"last": 3}, "output": {"n": 3}}
    assert all(body["at_us"] < LATER for body in told)


def test_a_fork_of_a_fork_needs_only_its_own_events() -> None:
    origin = first_run()
    copy = forked(origin, "main.3.then.1")
    fork = fork_at(copy.effects.events, END, OTHER, seed=ID, keys=ID)
    again = Stepper(origin.plan, 5, clock_us=LATER, execution_id="00000000-0000-4000-8000-0000000000aa", fork=fork)
    again.go()
    assert again.outcome == origin.outcome
    assert called(again) == [END]


def test_calls_have_the_keys_of_the_origin_or_their_own() -> None:
    keys: list[str] = []

    def handler(call: Call) -> Answered:
        keys.append(call.params.context.key)
        return echo(call)

    origin = first_run()
    for given, owner in ((ID, ID), ("", OTHER)):
        fork = fork_at(origin.effects.events, END, ID, keys=given)
        Stepper(origin.plan, 5, handler, clock_us=LATER, execution_id=OTHER, fork=fork).go()
        assert keys.pop() == f"{owner}:{END}"
    assert keys == []


def test_state_is_written_just_before_the_first_step() -> None:
    origin = first_run()
    fork = fork_at(origin.effects.events, "main.3.then.1", ID, state={"last": "patched"})
    copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.go()
    assert copy.outcome["n"]["last"] == "patched"


def test_a_patched_output_is_what_the_steps_behind_it_see() -> None:
    origin = first_run()
    fork = fork_at(origin.effects.events, "main.3.then.1", ID)
    old = fork.recorded["main.1"]
    fork.recorded["main.1"] = Recorded(output={"name": "patched"}, at_us=old.at_us)
    copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.go()
    assert copy.outcome["n"]["first"] == "patched"


def test_a_patched_output_of_a_set_step_is_its_state() -> None:
    origin = first_run()
    fork = fork_at(origin.effects.events, "main.2", ID)
    fork.recorded["main.0"] = Recorded(output={"seen": 6}, at_us=CLOCK, state={"seen": 5})
    copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.go()
    # the condition on it does not hold any more
    assert copy.outcome == [10, 20, 30]


@pytest.mark.parametrize("handled", ["", ", on_error: {evaluate: $ 0}"])
def test_a_fork_that_goes_another_way_calls_nothing(handled: str) -> None:
    task = f"""
name: t
main:
  - tool: lookup
    arguments: {{n: 1}}
  - if: $ _.n == 1
    then: [{{tool: lookup, arguments: {{n: 2}}}}]
    else: [{{tool: lookup, arguments: {{n: 3}}{handled}}}]
finally:
  - tool: lookup
    arguments: {{n: 4}}
"""
    origin = first_run(task)
    fork = fork_at(origin.effects.events, "main.1.then.0", ID)
    fork.recorded["main.0"] = Recorded(output={"n": 2}, at_us=CLOCK)
    copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.go()
    assert copy.outcome == "fork.diverged"
    assert called(copy) == []
    error = copy.bodies(EventType.ERROR)[0]["error"]
    assert "main.1.else.0" in error["message"]


def test_what_stands_behind_a_block_that_does_not_lead_to_the_first_step_diverges() -> None:
    task = """
name: t
main:
  - tool: lookup
    arguments: {n: 1}
  - if: $ _.n == 1
    then: [{tool: lookup, arguments: {n: 2}}]
  - tool: lookup
    arguments: {n: 3}
"""
    origin = first_run(task)
    fork = fork_at(origin.effects.events, "main.1.then.0", ID)
    fork.recorded["main.0"] = Recorded(output={"n": 2}, at_us=CLOCK)
    copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.go()
    assert (copy.outcome, called(copy)) == ("fork.diverged", [])


def test_branches_beside_the_first_step_wait_for_it_and_are_not_called_if_it_is_not_reached() -> None:
    task = """
name: t
main:
  - tool: lookup
    arguments: {n: 1}
  - parallel:
      - [{tool: lookup, arguments: {n: 5}}]
      - - if: $ _.n == 1
          then: [{tool: lookup, arguments: {n: 2}}]
"""
    origin = first_run(task)
    for value, expected in ((1, ["main.1[0].0", "main.1[1].0.then.0"]), (2, [])):
        fork = fork_at(origin.effects.events, "main.1[1].0.then.0", ID)
        fork.recorded["main.0"] = Recorded(output={"n": value}, at_us=CLOCK)
        copy = Stepper(origin.plan, 5, clock_us=LATER, execution_id=OTHER, fork=fork)
        copy.go()
        assert sorted(called(copy)) == expected
        assert (copy.outcome == "fork.diverged") is (value == 2)


def test_recorded_steps_make_nothing_that_could_be_undone() -> None:
    task = """
name: t
main:
  - tool: lookup
    arguments: {n: 1}
    undo: {tool: lookup, arguments: {n: -1}}
  - tool: lookup
    arguments: {n: 2}
    undo: {tool: lookup, arguments: {n: -2}}
  - error: no
"""
    origin = first_run(task)
    assert called(origin) == ["main.0", "main.1", "main.1.undo.0", "main.0.undo.0"]
    copy = forked(origin, "main.1")
    assert called(copy) == ["main.1", "main.1.undo.0"]


def test_a_step_inside_a_repeated_block_is_reached_without_its_mark() -> None:
    task = """
name: t
main:
  - foreach:
      in: $ [1]
      do:
        - tool: lookup
          arguments: {n: 1}
        - tool: book
          arguments: {seat: b}
        - tool: lookup
          arguments: {n: 2}
    retry: {attempts: 2, initial: 1, on: [tool.failed]}
"""
    failures = [1, 2]

    def handler(call: Call) -> Answered:
        if call.params.context.path.endswith("do[0].1") and failures:
            failures.pop()
            return Answered(failed("tool.failed", retryable=False))
        return echo(call)

    origin = Stepper(plan_of(task, (lookup, book)), 5, handler, clock_us=CLOCK)
    origin.go()
    assert origin.outcome == "tool.failed"
    copy = Stepper(
        origin.plan,
        5,
        handler,
        clock_us=LATER,
        execution_id=OTHER,
        fork=fork_at(origin.effects.events, "main.0~2.do[0].1", ID),
    )
    copy.go()
    assert copy.outcome == [{"n": 2}]
    assert called(copy) == ["main.0.do[0].1", "main.0.do[0].2"]


@pytest.mark.parametrize("wanted", ["main.3.then.0[1].0", "main.3"])
def test_a_fork_is_carried_over_while_it_is_paused_before_its_first_step(wanted: str) -> None:
    origin = first_run()
    fork = fork_at(origin.effects.events, "main.3.then.0[1].0", ID)
    copy = Stepper(origin.plan, 5, breaks=(wanted,), clock_us=LATER, execution_id=OTHER, fork=fork)
    assert copy.paused
    assert called(copy) == []
    copy.identity = type(copy.identity)(
        execution_id=OTHER, fork=Fork(kind="retry", execution_id=ID, path=fork.path, seed=ID, keys=ID)
    )
    copy.carry()
    copy.control("continue")
    copy.go()
    assert copy.outcome == origin.outcome


def test_a_cancel_before_the_first_step_still_runs_finally() -> None:
    origin = first_run(TASK + "finally: [{tool: lookup, arguments: {n: 9}}]\n")
    fork = fork_at(origin.effects.events, END, ID)
    copy = Stepper(origin.plan, 5, breaks=(END,), clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.cancel()
    copy.go()
    assert copy.outcome is None
    assert called(copy) == ["finally.0"]


def test_nothing_of_a_fork_is_left_once_it_is_past_its_first_step() -> None:
    origin = first_run()
    copy = forked(origin, "main.3.then.0[1].0")
    assert copy.machine.walker.state.forked is None
    assert copy.machine.walker.evaluator.times is None


def test_a_break_before_a_step_that_waits_for_the_first_one_stops_once() -> None:
    origin = first_run()
    fork = fork_at(origin.effects.events, "main.3.then.0[1].0", ID)
    copy = Stepper(origin.plan, 5, breaks=("main.3.then.0[0].0",), clock_us=LATER, execution_id=OTHER, fork=fork)
    copy.control("continue")
    copy.go()
    assert copy.outcome == origin.outcome
    assert len(copy.bodies(EventType.EXECUTION_PAUSED)) == 1


# --- turns of a step that listens ----------------------------------------------------------------------------------

TALK = """
name: t
main:
  - listen:
      busy: BUSY
      do:
        - {set: {heard: $ _}, label: heard}
        - tool: lookup
          arguments: {name: $ _.heard}
        - evaluate: "$ [state.heard, steps['heard'].output.heard, now().minute]"
      until: _[0] == 'end'
"""


def talked(busy: str) -> Stepper:
    stepper = Stepper(TALK.replace("BUSY", busy), 5)
    stepper.message("one")
    stepper.go()
    stepper.message("two")
    stepper.message("three")
    stepper.go()
    stepper.message("end")
    stepper.go()
    return stepper


@pytest.mark.parametrize("busy", ["enqueue", "interrupt", "rollback"])
def test_a_fork_inside_a_turn_goes_through_the_turns_before_it_without_calls(busy: str) -> None:
    origin = talked(busy)
    copy = forked(origin, "main.0.do[3].1")
    assert copy.outcome[:2] == origin.outcome[:2] == ["end", "end"]
    assert called(copy) == ["main.0.do[3].1"]
    told = [body["input"] for body in copy.bodies(EventType.INIT_BRANCH)]
    assert told == ["one", "two", "three", "end"]
    stopped = [(body["path"], body["taken"]) for body in copy.bodies(EventType.BRANCH_FAILED)]
    assert stopped == ([] if busy == "enqueue" else [("main.0.do[1]", busy)])
    # a fork of it finds what it needs in its own events
    again = Stepper(
        origin.plan,
        5,
        clock_us=LATER,
        execution_id="00000000-0000-4000-8000-00000000000c",
        fork=fork_at(copy.effects.events, "main.0.do[3].2", OTHER),
    )
    again.go()
    assert (again.outcome[:2], called(again)) == (["end", "end"], [])


def test_a_fork_into_an_interrupted_turn_runs_it_on() -> None:
    origin = talked("interrupt")
    copy = forked(origin, "main.0.do[1].1")
    assert called(copy) == ["main.0.do[1].1"]
    assert not copy.ended
    copy.message("end")
    copy.go()
    assert copy.outcome[0] == "end"


def test_what_an_interrupted_turn_wrote_is_there_in_a_fork_and_what_was_rolled_back_is_not() -> None:
    task = """
    name: t
    main:
      - set: {heard: nothing}
      - listen:
          busy: BUSY
          do: [{if: _ != 'look', then: [{set: {heard: $ _}}, {sleep: 1h}]}, {evaluate: $ state.heard}]
          until: 'true'
    """
    for busy, heard in (("interrupt", "one"), ("rollback", "nothing")):
        origin = Stepper(task.replace("BUSY", busy), 5)
        origin.message("one")
        origin.message("look")
        origin.go()
        assert origin.outcome == heard
        assert forked(origin, "main.1.do[1].1").outcome == heard
