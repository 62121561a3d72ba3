"""How an execution ends: its `finally` steps; and what a task requires before it begins."""

from __future__ import annotations

import pytest

from engine.core.errors import InvalidInput
from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import failed
from engine.dryrun.scripted import dry_run
from tests.support.memory import compiled, echo, error_of, output_of, run, seen

FINALLY = """
name: t
main:
  - set: {seat: $ _.seat}
  - tool: lookup
    arguments: {name: $ _.seat}
  - evaluate: $ 'sat on ' + state.seat
finally:
  - tool: book
    arguments: {seat: "{{ state.seat }} {{ output }} {{ error.code if error else 'fine' }}"}
    label: release
  - evaluate: $ steps.release.output
"""


def test_finally_runs_after_success_and_leaves_the_output_alone():
    calls: list[dict[str, object]] = []

    def handler(call: Call) -> Answered:
        calls.append(dict(call.params.arguments))  # type: ignore[union-attr]
        return echo(call)

    result = run(FINALLY, {"seat": "7a"}, handler)
    assert result.finished is not None
    assert result.finished.outcome == Ok("sat on 7a")
    assert calls[1:] == [{"seat": "7a sat on 7a fine"}]
    assert [event.type for event in result.events][-2:] == ["finish_branch", "finish"]
    assert result.events[-1].body["output"] == "sat on 7a"
    assert len(seen(result, "finish")) == 1


def test_finally_runs_after_an_error_and_sees_it():
    calls: list[dict[str, object]] = []

    def handler(call: Call) -> Answered:
        calls.append(dict(call.params.arguments))  # type: ignore[union-attr]
        return Answered(failed("tool.broken", retryable=False)) if len(calls) == 1 else echo(call)

    result = run(FINALLY, {"seat": "7a"}, handler)
    assert result.finished is not None
    assert isinstance(result.finished.outcome, Failed)
    assert result.finished.outcome.error.code == "tool.broken"
    assert calls[1] == {"seat": "7a  tool.broken"}
    assert result.events[-1].type == "error"


def test_an_error_in_finally_fails_an_execution_that_had_succeeded():
    assert error_of("name: t\nmain: [{evaluate: 1}]\nfinally: [{error: broken}]").message == "broken"


def test_an_error_in_finally_does_not_hide_the_error_before_it():
    error = error_of("name: t\nmain: [{error: first}]\nfinally: [{error: second}]")
    assert error.message == "first"
    assert error.details["finally"]["message"] == "second"


def test_finally_runs_after_a_limit_was_reached():
    task = """
name: t
limits: {steps: 20}
main: [{while: 'True', do: {evaluate: $ 1}}]
finally: [{foreach: {in: $ range(50), do: {tool: book, arguments: {}}}}]
"""
    result = run(task)
    assert len(seen(result, "effect.started")) == 50
    assert result.events[-1].body["error"]["code"] == "limit.steps"


def cancelled_at(task: str, moments: list[int]) -> tuple[Machine, MemoryEffects]:
    """Run a task and cancel it after so many things have happened."""
    effects = MemoryEffects(echo)
    machine = Machine(compiled(task), effects, Identity(execution_id="e"))
    machine.start(None)
    happened = 0
    while machine.run() is not Pace.DONE:
        if happened in moments:
            machine.cancel("enough", "ann")
            happened += 1
            continue
        happened += 1
        news = effects.pop()
        assert news is not None
        kind, name, outcome = news
        if kind == "timer":
            machine.timer_fired(name)
        elif outcome is not None:
            machine.call_done(name, outcome)
    return machine, effects


LONG = """
name: t
main: [{sleep: {hours: 1}}, {tool: lookup, arguments: {name: never}}]
finally:
  - {tool: book, arguments: {seat: $ error.reason}}
  - {tool: book, arguments: {seat: b}}
  - {tool: book, arguments: {}}
"""


@pytest.mark.parametrize("again", [[], [1], [2], [1, 2, 3]])
def test_finally_runs_after_a_cancel_and_no_further_cancel_stops_it(again: list[int]):
    machine, effects = cancelled_at(LONG, [0, *again])
    assert machine.result is not None
    assert isinstance(machine.result.outcome, Stopped)
    started = [event.body["request"] for event in effects.events if event.type == "effect.started"]
    assert [request["arguments"].get("seat") for request in started] == ["enough", "b", None]
    assert effects.events[-1].body["actor"] == "ann"


def test_an_error_in_finally_is_told_with_a_cancel_and_changes_nothing_about_it():
    machine, effects = cancelled_at("name: t\nmain: [{sleep: {hours: 1}}]\nfinally: [{error: broken}]", [0])
    assert machine.result is not None
    assert isinstance(machine.result.outcome, Stopped)
    told = effects.events[-1]
    assert (told.type, told.body["reason"], told.body["actor"]) == ("cancelled", "enough", "ann")
    assert told.body["finally"]["message"] == "broken"


def test_a_cancel_without_an_error_in_finally_tells_of_none():
    _, effects = cancelled_at("name: t\nmain: [{sleep: {hours: 1}}]\nfinally: [{log: bye}]", [0])
    assert effects.events[-1].body == {"reason": "enough", "actor": "ann"}


SHOWN = "{seat: '$ [error.message, error.code, error.step, error.attempts, error.details]'}"


@pytest.mark.parametrize(("reason", "told"), [("enough", "enough"), ("", "the execution was cancelled")])
def test_finally_sees_a_cancel_with_the_members_of_any_error(reason: str, told: str):
    task = f"name: t\nmain: [{{sleep: {{hours: 1}}}}]\nfinally: [{{tool: book, arguments: {SHOWN}}}]"
    effects = MemoryEffects(echo)
    machine = Machine(compiled(task), effects, Identity(execution_id="e"))
    machine.start(None)
    machine.run()
    machine.cancel(reason, "ann")
    machine.run()
    (started,) = [event.body["request"] for event in effects.events if event.type == "effect.started"]
    assert started["arguments"]["seat"] == [told, "execution.cancelled", "", 1, {}]


def test_finally_has_a_limit_of_time():
    task = "name: t\nmain: [{evaluate: 1}]\nfinally: [{sleep: {days: 1}}]"
    result = run(task)
    assert result.events[-1].body["error"]["code"] == "limit.finally"
    assert (result.events[-1].now_us - result.events[0].now_us) / 1e6 == pytest.approx(600, abs=1)


def test_the_time_limit_of_the_task_does_not_stop_finally():
    task = "name: t\nlimits: {time: 10}\nmain: [{sleep: {seconds: 5}}]\nfinally: [{sleep: {seconds: 60}}]"
    assert output_of(task, "kept") == "kept"


def test_finally_goes_on_after_continue_as_new():
    result = run(FINALLY.replace("finally:", "finally:\n  - sleep: 1\n  - sleep: 1"), {"seat": "1b"}, carry_every=1)
    assert result.finished is not None
    assert result.finished.outcome == Ok("sat on 1b")
    assert result.runs > 1


def test_return_in_main_leads_to_finally():
    task = "name: t\nmain: [{return: early}, {evaluate: never}]\nfinally: [{tool: book, arguments: {}}]"
    result = run(task)
    assert result.finished is not None
    assert result.finished.outcome == Ok("early")
    assert seen(result, "effect.started")


# --- require -------------------------------------------------------------------------------------------------------

REQUIRE = """
name: t
require:
  - {if: _.amount > 0, message: "the amount is {{ _.amount }}"}
  - {if: "'eur' in _.currencies"}
main: [{evaluate: $ _.amount}]
"""


def test_an_input_that_a_task_does_not_take_is_refused_with_all_its_messages():
    plan = compiled(REQUIRE)
    with pytest.raises(InvalidInput) as caught:
        dry_run(plan, {"amount": -1, "currencies": []})
    assert caught.value.code == "input.requirement"
    assert "the amount is -1; `'eur' in _.currencies` does not hold" in caught.value.message


def test_an_input_that_fits_goes_through():
    assert dry_run(compiled(REQUIRE), {"amount": 3, "currencies": ["eur"]}).finished is not None


def test_a_condition_that_fails_does_not_hold():
    with pytest.raises(InvalidInput, match="amount"):
        dry_run(compiled(REQUIRE), {"currencies": ["eur"]})
