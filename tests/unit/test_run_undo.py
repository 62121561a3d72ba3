"""What `undo` does: steps that succeeded are undone in reverse order when what surrounds them fails or is stopped."""

from __future__ import annotations

import pytest

from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun
from tests.support.memory import compiled, run


class Desk:
    """Answers `book`: notes every call; the seat `broken` fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, call: Call) -> Answered:
        seat = str(call.params.arguments["seat"])  # type: ignore[union-attr]
        self.calls.append(seat)
        if seat.startswith("broken"):
            return Answered(failed("tool.broken", f"{seat} is broken", retryable=False))
        return Answered(Ok(seat), 1.0)


def step(seat: str, more: str = "") -> str:
    """Return a step that books a seat and undoes it by booking `-seat`."""
    return (
        f'{{tool: book, arguments: {{seat: {seat}}}, undo: {{tool: book, arguments: {{seat: "-{{{{ _ }}}}"}}}}{more}}}'
    )


def calls_of(task: str, **options: object) -> tuple[list[str], DryRun]:
    desk = Desk()
    return desk.calls, run(task, None, desk, **options)  # type: ignore[arg-type]


def error_code(result: DryRun) -> str:
    assert result.finished is not None
    assert isinstance(result.finished.outcome, Failed), result.finished
    return result.finished.outcome.error.code


def test_what_succeeded_is_undone_in_reverse_order_when_a_later_step_fails():
    task = f"name: t\nmain: [{step('a')}, {step('b')}, {step('broken')}]"
    calls, result = calls_of(task)
    assert calls == ["a", "b", "broken", "-b", "-a"]
    assert error_code(result) == "tool.broken"


def test_nothing_is_undone_after_success():
    calls, result = calls_of(f"name: t\nmain: [{step('a')}, {step('b')}]")
    assert calls == ["a", "b"]
    assert result.finished is not None
    assert result.finished.outcome == Ok("b")


def test_a_step_that_did_nothing_is_not_undone():
    skipped = step("a", ", when: $ False")
    handled = step("broken", ", on_error: {evaluate: fine}")
    calls, _ = calls_of(f"name: t\nmain: [{skipped}, {handled}, {{error: stop}}]")
    assert calls == ["broken"]


def test_only_what_the_failed_part_did_is_undone_when_its_error_is_handled():
    task = f"""
name: t
main:
  - {step("outside")}
  - if: $ True
    then: [{step("inside")}, {{tool: book, arguments: {{seat: broken}}}}]
    on_error: {{evaluate: handled}}
"""
    calls, result = calls_of(task)
    assert calls == ["outside", "inside", "broken", "-inside"]
    assert result.finished is not None
    assert result.finished.outcome == Ok("handled")


def test_rounds_that_succeeded_belong_to_the_loop_that_fails():
    task = f"""
name: t
main:
  - foreach:
      in: $ ['a', 'b', 'broken']
      do: {step('"{{ _ }}"')}
    on_error: {{evaluate: handled}}
"""
    calls, result = calls_of(task)
    assert calls == ["a", "b", "broken", "-b", "-a"]
    assert result.finished is not None
    assert result.finished.outcome == Ok("handled")


def test_a_block_that_is_tried_again_is_undone_before():
    task = f"""
name: t
main:
  - if: $ True
    then: [{step("a")}, {{tool: book, arguments: {{seat: broken}}}}, {{error: never}}]
    retry: {{attempts: 2, initial: 0, on: [tool]}}
"""
    calls, _ = calls_of(task)
    assert calls == ["a", "broken", "-a", "a", "broken", "-a"]


def test_what_was_undone_is_done_again_under_a_new_key():
    keys: list[str] = []

    def desk(call: Call) -> Answered:
        keys.append(call.params.context.key)
        seat = str(call.params.arguments["seat"])  # type: ignore[union-attr]
        return Answered(failed("tool.broken", retryable=False) if seat == "broken" else Ok(seat))

    task = f"""
name: t
main:
  - parallel:
      - [{step("a")}, {{sleep: 1}}]
      - [{{sleep: 5}}, {{tool: book, arguments: {{seat: broken}}}}]
    retry: {{attempts: 3, initial: 0, on: [tool]}}
"""
    run(task, None, desk)
    assert len(keys) == 9
    assert len(set(keys)) == 9


def test_what_was_not_undone_keeps_its_key_when_it_is_tried_again():
    keys: list[str] = []

    def desk(call: Call) -> Answered:
        keys.append(call.params.context.key)
        return Answered(failed("tool.broken", retryable=False))

    task = "name: t\nmain: [{if: $ True, then: {tool: book}, retry: {attempts: 3, initial: 0, on: [tool]}}]"
    run(task, None, desk)
    assert (len(keys), len(set(keys))) == (3, 1)


def test_what_a_sub_workflow_did_is_undone_by_its_caller():
    task = f"name: t\nmain: [{{workflow: sub}}, {{error: stop}}]\nsub: [{step('a')}, {{return: 1}}]"
    calls, _ = calls_of(task)
    assert calls == ["a", "-a"]


def test_branches_are_undone_whether_they_had_ended_or_were_stopped():
    task = f"""
name: t
main:
  - parallel:
      - {step("a")}
      - [{step("b")}, {{sleep: {{hours: 1}}}}]
      - [{{sleep: {{seconds: 5}}}}, {{tool: book, arguments: {{seat: broken}}}}]
"""
    calls, result = calls_of(task)
    assert sorted(calls[:2]) == ["a", "b"]
    assert calls[2] == "broken"
    assert sorted(calls[3:]) == ["-a", "-b"]
    assert error_code(result) == "tool.broken"


def test_the_branches_that_lose_a_race_are_undone_and_the_winner_is_not():
    task = f"""
name: t
main:
  - race:
      - [{step("winner")}, {{sleep: {{seconds: 2}}}}, {{evaluate: won}}]
      - [{step("loser")}, {{sleep: {{seconds: 60}}}}]
"""
    calls, result = calls_of(task)
    assert sorted(calls[:2]) == ["loser", "winner"]
    assert calls[2:] == ["-loser"]
    assert result.finished is not None
    assert result.finished.outcome == Ok("won")


def test_an_undoing_that_fails_does_not_stop_the_others():
    task = f"""
name: t
main:
  - {step("a")}
  - tool: book
    arguments: {{seat: b}}
    undo: {{tool: book, arguments: {{seat: broken undo}}}}
  - {step("c")}
  - error: stop
"""
    calls, result = calls_of(task)
    assert calls == ["a", "b", "c", "-c", "broken undo", "-a"]
    assert error_code(result) == "task.error"
    told = [event.body for event in result.events if event.type == "branch.failed"]
    assert [(body["taken"], body["error"]["message"]) for body in told] == [("undo", "broken undo is broken")]


def test_undo_comes_before_finally():
    task = f"name: t\nmain: [{step('a')}, {{error: stop}}]\nfinally: [{{tool: book, arguments: {{seat: last}}}}]"
    calls, _ = calls_of(task)
    assert calls == ["a", "-a", "last"]


def test_a_limit_that_was_reached_does_not_keep_a_task_from_undoing():
    task = f"name: t\nlimits: {{steps: 10}}\nmain: [{step('a')}, {{while: 'True', do: {{evaluate: 1}}}}]"
    calls, result = calls_of(task)
    assert calls == ["a", "-a"]
    assert error_code(result) == "limit.steps"


@pytest.mark.parametrize("again", [(), (2,), (3,), (2, 3, 4)])
def test_a_cancel_undoes_and_no_further_cancel_stops_that(again: tuple[int, ...]):
    desk = Desk()
    effects = MemoryEffects(desk)
    task = f"name: t\nmain: [{step('a')}, {step('b')}, {{sleep: {{hours: 1}}}}]"
    machine = Machine(compiled(task), effects, Identity(execution_id="e"))
    machine.start(None)
    happened = 0
    while machine.run() is not Pace.DONE:
        happened += 1
        if happened == 3 or happened - 2 in again:
            machine.cancel("enough", "ann")
            continue
        news = effects.pop()
        assert news is not None
        kind, name, outcome = news
        if kind == "timer":
            machine.timer_fired(name)
        elif outcome is not None:
            machine.call_done(name, outcome)
    assert desk.calls == ["a", "b", "-b", "-a"]
    assert machine.result is not None
    assert isinstance(machine.result.outcome, Stopped)


def test_undoing_gives_up_after_ten_minutes():
    task = "name: t\nmain: [{evaluate: 1, undo: {sleep: {days: 3}}}, {error: stop}]"
    _, result = calls_of(task)
    assert error_code(result) == "task.error"
    assert (result.events[-1].now_us - result.events[0].now_us) / 1e6 == pytest.approx(600, abs=1)


def test_undoing_goes_on_after_continue_as_new():
    task = f"name: t\nmain: [{step('a')}, {step('b')}, {step('c')}, {{error: stop}}]"
    for every in range(1, 5):
        calls, result = calls_of(task, carry_every=every)
        assert calls == ["a", "b", "c", "-c", "-b", "-a"]
        assert result.runs > 1
