"""DESIGN §3, "Concurrency": how branches end each other, and what a cancel cannot stop."""

from __future__ import annotations

import pytest

from engine.core.contracts.execution import AnswerSignal
from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.core.run.machine import Pace
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from tests.language.words import Noting, codes, finish, seconds, started
from tests.support.memory import error_of, output_of, run, script, seen

ENDS = {
    "return": ("{return: early}", "finish"),
    "error": ("{error: broken}", "error"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "fan",
    [
        "parallel: [[{sleep: 5}, END, {evaluate: 1}], {sleep: 1h}, {wait_for_input: {}}]",
        "over: '$ [1, 2, 3]', map: [{sleep: $ _ * 5}, {if: _ == 1, then: END}, {sleep: 1h}]",
    ],
)
def test_a_branch_that_returns_or_fails_stops_the_others(fan: str, end: str):
    """`return` or an error in a branch cancels its siblings."""
    step, event = ENDS[end]
    result = run(f"name: t\nmain: [{{{fan.replace('END', step)}}}, {{evaluate: never}}]")
    assert (result.events[-1].type, result.waits) == (event, [])
    assert seconds(result) == 5


@pytest.mark.parametrize("end", ENDS)
def test_what_a_branch_did_takes_effect_after_its_siblings_have_ended(end: str):
    """It waits for the siblings, and then acts."""
    step, event = ENDS[end]
    task = f"name: t\nmain: [{{parallel: [{{tool: book}}, [{{wait_for_input: {{}}}}, {step}, {{evaluate: 1}}]]}}]"
    machine, effects = started(task, None, lambda call: Answered(Ok(1), 1000.0))
    machine.answer(AnswerSignal(key="a", value=1))
    assert machine.run() is Pace.WAITING, "the sibling's call has not ended yet"
    assert not machine.result
    finish(machine, effects)
    assert effects.events[-1].type == event
    ended = "early" if end == "return" else "task.error"
    assert machine.result is not None
    outcome = machine.result.outcome
    assert (outcome.value if isinstance(outcome, Ok) else outcome.error.code) == ended  # type: ignore[union-attr]


@pytest.mark.parametrize(("order", "winner"), [((0, 1), "first"), ((1, 0), "second")])
def test_of_two_that_end_at_once_the_earlier_in_history_counts(order: tuple[int, int], winner: str):
    """Ties are decided by history order."""
    task = "name: t\nmain: [{parallel: [{tool: book, label: first}, {tool: book, label: second}]}]"
    machine, _ = started(task)
    for number in order:
        name = ("first", "second")[number]
        machine.call_done(f"main.0[{number}].0#1", failed("tool.broken", name, retryable=False))
    while machine.run() is Pace.BREATHER:
        pass
    assert machine.result is not None
    assert isinstance(machine.result.outcome, Failed)
    assert machine.result.outcome.error.message == winner


FANS = {
    "map": "over: '$ [1, 2, 3]', map: {if: _ == 2, then: {error: two}, else: {evaluate: $ _}}",
    "parallel": "parallel: [{evaluate: 1}, {error: two}, {evaluate: 3}]",
}


@pytest.mark.parametrize("fan", FANS)
def test_an_item_that_fails_fails_all_by_default(fan: str):
    """Map and parallel take `on_item_error: fail`, which is the default."""
    for more in ("", ", on_item_error: fail"):
        assert error_of(f"name: t\nmain: [{{{FANS[fan]}{more}}}]").message == "two"


@pytest.mark.parametrize("fan", FANS)
def test_an_item_that_fails_may_be_collected(fan: str):
    """Map and parallel take `on_item_error: collect`."""
    output = output_of(f"name: t\nmain: [{{{FANS[fan]}, on_item_error: collect}}]")
    assert (output[0], output[1]["error"]["message"], output[2]) == (1, "two", 3)
    assert (sorted(output[1]), output[1]["index"]) == (["error", "index"], 1)


@pytest.mark.parametrize("fan", FANS)
def test_an_item_that_fails_may_be_skipped(fan: str):
    """Map and parallel take `on_item_error: skip`."""
    assert output_of(f"name: t\nmain: [{{{FANS[fan]}, on_item_error: skip}}]") == [1, 3]


ENDING = "finally: [{tool: book, arguments: {seat: one}}, {tool: book, arguments: {seat: two}}]"


def test_finally_runs_on_cancel():
    """`finally` runs on cancel."""
    desk = Noting()
    machine, effects = started(f"name: t\nmain: [{{sleep: 1h}}, {{tool: pay}}]\n{ENDING}", None, desk)
    machine.cancel("enough", "ann")
    finish(machine, effects)
    assert desk.arguments("seat") == ["one", "two"]
    assert machine.result is not None
    assert machine.result.outcome == Stopped()


def test_a_second_cancel_does_not_stop_finally():
    """`finally` is shielded: a cancel does not stop it."""
    desk = Noting()
    machine, effects = started(f"name: t\nmain: [{{sleep: 1h}}]\n{ENDING}", None, desk)
    machine.cancel("enough", "ann")
    machine.run()
    assert desk.arguments("seat") == ["one"], "the finally steps have begun"
    machine.cancel("now!", "ben")
    finish(machine, effects)
    assert desk.arguments("seat") == ["one", "two"]
    assert effects.events[-1].body == {"reason": "enough", "actor": "ann"}


def test_finally_ends_within_a_limit():
    """`finally` runs within a limit."""
    result = run("name: t\nmain: [{evaluate: 1}]\nfinally: [{sleep: 3d}]")
    assert result.events[-1].body["error"]["code"] == "limit.finally"
    assert seconds(result) == 600


@pytest.mark.parametrize(
    "steps", ["[{return: 1}]", "{if: _, then: {return: 1}}", "[{workflow: sub}, {foreach: {in: _, do: {return: 1}}}]"]
)
def test_return_in_finally_is_refused(steps: str):
    """`return` in `finally` is refused."""
    assert codes(f"main: [{{evaluate: 1}}]\nfinally: {steps}\nsub: [{{return: 2}}]").count("E511") == 1


@pytest.mark.parametrize(
    "step",
    [
        "tool: book, on_error: {evaluate: caught}, retry: {attempts: 9, on: [effect, execution]}",
        "sleep: 1h, on_error: {evaluate: caught}",
        "wait_for_input: {deadline: 1d, default: caught}, on_error: {evaluate: caught}",
        "over: '$ [1]', map: {sleep: 1h}, on_item_error: collect, on_error: {evaluate: caught}",
        "race: [{sleep: 1h}, {sleep: 2h}], on_error: {evaluate: caught}",
    ],
)
def test_nothing_catches_a_cancel(step: str):
    """Cancel cannot be caught."""
    desk = Noting(lambda call: Answered(Ok(1), 1000.0))
    machine, effects = started(f"name: t\nmain: [{{{step}}}, {{tool: pay}}]", None, desk)
    machine.cancel("enough", "ann")
    finish(machine, effects)
    assert machine.result is not None
    assert machine.result.outcome == Stopped()
    assert "pay" not in [call.params.tool.name for call in desk.calls]  # type: ignore[union-attr]


# --- reduce --------------------------------------------------------------------------------------------------------


def test_reduce_folds_in_input_order_whatever_ends_first():
    """Reduce is one fold over the items in input order."""

    def slow_first(call: Call) -> Answered:
        seat = str(call.params.arguments["seat"])  # type: ignore[union-attr]
        return Answered(Ok(seat), 10.0 - int(seat))

    step = "over: _, map: {tool: book, arguments: {seat: $ str(_)}}, initial: '', reduce: results + _"
    task = f"name: t\nmain: [{{{step}}}]"
    assert output_of(task, [1, 2, 3, 4], slow_first) == "1234"


def test_reduce_begins_after_all_have_ended():
    """Reduce happens after all items have ended."""
    times = iter([30.0, 10.0, 20.0])
    fold = "map: {tool: book, arguments: {}}, initial: [], reduce: '[*results, str(now())]'"
    task = f"name: t\nmain: [{{over: '$ [1, 2, 3]', {fold}}}]"
    assert output_of(task, None, lambda call: Answered(Ok(1), next(times))) == ["2026-01-01T00:00:30Z"] * 3


def test_results_starts_as_initial():
    """`results` starts as `initial`."""
    task = "name: t\nmain: [{over: _, map: {evaluate: $ _}, initial: INITIAL, reduce: '[results, _]'}]"
    assert output_of(task.replace("INITIAL", "{a: $ _}"), [1]) == [{"a": [1]}, 1]
    assert output_of(task.replace("INITIAL", "zero"), [1, 2]) == [["zero", 1], 2]
    assert output_of(task.replace("INITIAL", "zero"), []) == "zero"
    assert output_of(task.replace(", initial: INITIAL", ""), [1]) == [[], 1]


def test_reduce_sees_the_output_of_the_item():
    """In reduce `_` is the item's output."""
    task = "name: t\nmain: [{over: _, map: [{evaluate: 0}, {evaluate: {seen: $ _}}], reduce: '[*results, _]'}]"
    assert output_of(task, ["item"]) == [{"seen": 0}]


def test_a_fold_that_fails_is_an_error_of_the_map():
    """An error in the fold is an error of its step."""
    task = "name: t\nmain: [{over: _, map: {evaluate: $ _}, reduce: results / _, on_error: {evaluate: $ error.step}}]"
    result = run(task, [1], script())
    assert result.finished is not None
    assert result.finished.outcome == Ok("main.0")
    assert seen(result, "attempt.failed")
