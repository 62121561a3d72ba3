"""DESIGN §3, "Modifiers nest": when → cache → on_error(retry(timeout per attempt)), total_timeout around all."""

from __future__ import annotations

from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from tests.language.words import Noting, seconds
from tests.support.memory import error_of, output_of, run, script, seen


def test_when_stands_outside_of_everything_else():
    """`when` is looked at first: if it is false, nothing else of the step happens."""
    desk = Noting(lambda call: Answered(failed("tool.failed")))
    more = "retry: {attempts: 3}, timeout: 1s, total_timeout: 2s, on_error: {evaluate: handled}, undo: {tool: book}"
    result = run(f"name: t\nmain: [{{tool: pay, when: $ False, {more}}}, {{error: stop}}]", "kept", desk)
    assert desk.calls == []
    assert seen(result, "step")[0].body["output"] == "kept"


def test_when_is_looked_at_once_for_all_attempts():
    """`when` is looked at once, not for every attempt."""
    task = "name: t\nmain: [{tool: pay, when: now().second == 0, retry: {attempts: 3, initial: 5}}]"
    assert output_of(task, None, script(failed("tool.failed"), failed("tool.failed"), "third")) == "third"


def test_an_error_that_when_raises_is_handled_by_nobody_of_the_step():
    """An error in `when` itself goes past the step's own handler."""
    task = "name: t\nmain: [{evaluate: 1, when: _.a, on_error: {evaluate: handled}}]"
    assert error_of(task, {}).code == "expression.no_key"


def test_the_handler_comes_after_the_last_attempt():
    """`on_error` stands around `retry`: it runs once, after the last attempt."""
    desk = Noting(lambda call: Answered(failed("tool.failed")))
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 3, initial: 1}, on_error: {evaluate: $ error.attempts}}]"
    assert output_of(task, None, desk) == 3
    assert len(desk.calls) == 3


def test_every_attempt_has_the_whole_timeout():
    """`timeout` stands inside of `retry`: it counts for each attempt."""
    task = "name: t\nmain: [{if: $ True, then: {tool: pay}, timeout: 10s, retry: {attempts: 3, initial: 5, factor: 1}}]"
    late = Answered(Ok("late"), 100.0)
    result = run(task, None, script(late, late, Answered(Ok("in time"), 9.0)))
    assert result.finished is not None
    assert result.finished.outcome == Ok("in time")
    assert seconds(result) == 10 + 5 + 10 + 5 + 9


def test_total_timeout_holds_for_attempts_and_pauses():
    """`total_timeout` stands around all attempts and pauses."""
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 9, initial: 8, factor: 1}, total_timeout: 20s}]"
    desk = Noting(lambda call: Answered(failed("tool.failed"), 1.0))
    assert seconds(run(task, None, desk)) == 20
    assert len(desk.calls) == 3


def test_total_timeout_holds_for_the_handler_too():
    """`total_timeout` stands around `on_error` too, which therefore does not see it."""
    task = "name: t\nmain: [{tool: pay, total_timeout: 10s, on_error: [{sleep: 60}, {evaluate: handled}]}]"
    result = run(task, None, script(failed("tool.failed")))
    assert result.events[-1].body["error"]["code"] == "step.total_timeout"
    assert seconds(result) == 10
    never = "name: t\nmain: [{sleep: 60, total_timeout: 10s, on_error: {evaluate: handled}}]"
    assert error_of(never).code == "step.total_timeout"


def test_error_has_five_members_for_the_task():
    """`error` = {code, message, step, attempts, details}."""
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 2, initial: 1}, on_error: {evaluate: $ error}}]"
    broken = failed("tool.failed", "no money")
    broken.error.details["account"] = 7
    error = output_of(task, None, script(broken, broken))
    assert {key: error[key] for key in ("code", "message", "step", "attempts", "details")} == {
        "code": "tool.failed",
        "message": "no money",
        "step": "main.0",
        "attempts": 2,
        "details": {"account": 7},
    }


def test_a_repeated_block_begins_with_the_state_it_began_with():
    """A retry on a block restores the block's state."""
    task = """
name: t
main:
  - set: {n: 1}
  - if: $ True
    then: [{set: {n: $ state.n + 1, other: 2}}, {tool: pay, arguments: {}}, {evaluate: $ state}]
    retry: {attempts: 3, initial: 1}
"""
    broken = failed("tool.failed")
    assert output_of(task, None, script(broken, broken, "ok")) == {"n": 2, "other": 2}


def test_what_surrounds_a_repeated_block_keeps_its_state():
    """A retry of a step inside restores nothing of the block around it."""

    def third(call: Call) -> Answered:
        return Answered(Ok("ok") if call.params.context.attempt == 3 else failed("tool.failed"))

    pay = "{tool: pay, arguments: {}, retry: {attempts: 3}}"
    task = f"name: t\nmain: [{{if: $ True, then: [{{set: {{n: 5}}}}, {pay}, {{get: n}}]}}]"
    assert output_of(task, None, third) == 5
