"""Retries, time limits, error handling and waits, told by running tasks in memory on a virtual clock."""

from __future__ import annotations

import pytest

from engine.core.contracts.execution import AnswerSignal
from engine.core.run.effects import Ok, Stopped
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import chat_reply, failed
from tests.support.memory import compiled, echo, error_of, output_of, run, script, seen


def keys_of(result):
    return [event.body["effect_id"] for event in seen(result, "effect.started")]


def test_a_model_call_is_tried_four_times_with_growing_pauses():
    busy = failed("backend.overloaded")
    result = run("name: t\nmain: [{prompt: hi, unwrap: true}]", None, script(busy, busy, busy, "ok"))
    assert result.finished is not None
    assert result.finished.outcome == Ok("ok")
    assert [event.body["retry_in_s"] for event in seen(result, "attempt.failed")] == [1, 2, 4]
    assert keys_of(result) == ["main.0#1", "main.0#2", "main.0#3", "main.0#4"]
    error = error_of("name: t\nmain: [{prompt: hi}]", None, script(busy, busy, busy, busy))
    assert (error.code, error.details["attempts"]) == ("backend.overloaded", 4)


def test_a_retry_waits_as_long_as_the_backend_asks():
    limited = failed("backend.rate_limited")
    limited.error.details["retry_after_s"] = 17.0
    result = run("name: t\nmain: [{prompt: hi}]", None, script(limited, "ok"))
    assert seen(result, "attempt.failed")[0].body["retry_in_s"] == 17


def test_errors_that_will_come_again_are_not_retried():
    assert error_of("name: t\nmain: [{prompt: hi}]", None, script(failed("backend.auth", retryable=False)))


def test_reads_and_idempotent_tools_are_retried_others_get_one_attempt():
    down = failed("tool.unreachable")
    assert output_of("name: t\nmain: [{tool: lookup, arguments: {name: x}}]", None, script(down, 1)) == 1
    assert output_of("name: t\nmain: [{tool: book, arguments: {}}]", None, script(down, 1)) == 1
    error = error_of("name: t\nmain: [{tool: pay, arguments: {}}]", None, script(down))
    assert (error.code, error.details["attempts"]) == ("tool.unreachable", 1)


def test_an_authors_policy_wins_but_a_lost_outcome_is_never_repeated_unless_it_is_named():
    task = "name: t\nmain: [{tool: pay, arguments: {}, retry: {attempts: 3, initial: 5, factor: 3, max: 10}}]"
    result = run(task, None, script(failed("tool.failed"), failed("tool.failed"), "paid"))
    assert [event.body["retry_in_s"] for event in seen(result, "attempt.failed")] == [5, 10]
    assert error_of(task, None, script(failed("effect.outcome_unknown"))).code == "effect.outcome_unknown"
    named = "name: t\nmain: [{tool: pay, arguments: {}, retry: {attempts: 2, on: [effect.outcome_unknown]}}]"
    assert output_of(named, None, script(failed("effect.outcome_unknown"), "paid")) == "paid"


def test_every_attempt_of_a_step_carries_the_same_idempotency_key():
    keys = []

    def handler(call):
        keys.append((call.params.context.key, call.params.context.attempt))
        return Answered(failed("tool.unreachable") if len(keys) < 3 else Ok(1))

    output_of("name: t\nmain: [{tool: book, arguments: {}}]", None, handler)
    assert [attempt for _, attempt in keys] == [1, 2, 3]
    assert len({key for key, _ in keys}) == 1
    assert keys[0][0].endswith(":main.0")


def test_loop_rounds_have_keys_of_their_own_and_a_repeated_block_keeps_them():
    keys = []

    def handler(call):
        keys.append(call.params.context.key.split(":", 1)[1])
        broken = len(keys) == 2
        return Answered(failed("tool.failed", retryable=False) if broken else Ok(1))

    task = """
name: t
main:
  - foreach: {in: "$ [1, 2]", do: {tool: book, arguments: {}}}
    retry: {attempts: 2, initial: 1}
"""
    assert output_of(task, None, handler) == [1, 1]
    assert keys == ["main.0.do[0].0", "main.0.do[1].0", "main.0.do[0].0", "main.0.do[1].0"]


def test_on_error_sees_the_error_and_gives_the_steps_output():
    task = """
name: t
main:
  - tool: pay
    arguments: {}
    on_error:
      - evaluate: {code: $ error.code, step: $ error.step, attempts: $ error.attempts, given: $ _}
  - evaluate: {after: $ _}
"""
    result = output_of(task, "in", script(failed("tool.failed")))
    assert result == {"after": {"code": "tool.failed", "step": "main.0", "attempts": 1, "given": "in"}}


def test_an_error_inside_on_error_goes_up():
    task = "name: t\nmain: [{tool: pay, arguments: {}, on_error: {error: worse}}]"
    assert error_of(task, None, script(failed("tool.failed"))).code == "task.error"


def test_a_retry_on_a_block_restores_the_blocks_state():
    task = """
name: t
main:
  - set: {n: 1}
  - if: $ True
    then: [{set: {n: $ state.n + 1}}, {tool: pay, arguments: {}}, {get: n}]
    retry: {attempts: 3, initial: 1}
"""
    assert output_of(task, None, script(failed("tool.failed"), failed("tool.failed"), "ok")) == 2


def test_timeout_of_a_block_ends_one_attempt_and_total_timeout_ends_all():
    slow = Answered(Ok("late"), after_s=100)
    task = "name: t\nmain: [{if: $ True, then: {tool: lookup, arguments: {name: x}}, timeout: 10}]"
    error = error_of(task, None, script(slow))
    assert error.code == "step.timeout"
    retried = task.replace("timeout: 10", "timeout: 10, retry: {attempts: 2, initial: 1}")
    assert output_of(retried, None, script(slow, "in time")) == "in time"
    total = task.replace("timeout: 10", "timeout: 10, total_timeout: 15, retry: {attempts: 9, initial: 1}")
    result = run(total, None, script(slow, slow, slow))
    assert result.finished is not None
    assert result.finished.outcome.error.code == "step.total_timeout"  # type: ignore[union-attr]
    took_s = (result.events[-1].now_us - result.events[0].now_us) / 1e6
    assert took_s == pytest.approx(15, abs=0.1)


def test_total_timeout_is_not_caught_by_the_steps_own_on_error():
    task = "name: t\nmain: [{sleep: {minutes: 5}, total_timeout: 10, on_error: {evaluate: caught}}]"
    assert error_of(task).code == "step.total_timeout"


def test_the_executions_time_limit_cancels_everything_and_cannot_be_caught():
    task = """
name: t
limits: {time: 30s}
main:
  - parallel: [{tool: lookup, arguments: {name: x}}, {sleep: {hours: 1}}, {wait_for_input: {info: {}}}]
    on_error: {evaluate: caught}
"""
    result = run(task, None, script(Answered(Ok(1), after_s=1_000)))
    assert result.finished is not None
    assert result.finished.outcome.error.code == "limit.time"  # type: ignore[union-attr]


def test_a_wait_gives_the_answer_and_one_without_answer_expires():
    assert output_of("name: t\nmain: [{wait_for_input: {info: {q: $ _}}}]", 1, answers=[{"ok": True}]) == {"ok": True}
    waiting = run("name: t\nmain: [{wait_for_input: {info: {}}}]")
    assert (waiting.finished, list(waiting.waits)) == (None, ["main.0"])
    assert error_of("name: t\nmain: [{wait_for_input: {info: {}}, timeout: 2d}]").code == "wait.expired"
    handled = "name: t\nmain: [{wait_for_input: {info: {}}, timeout: 2d, on_error: {evaluate: default}}]"
    assert output_of(handled) == "default"


def machine_of(text: str) -> tuple[Machine, MemoryEffects]:
    effects = MemoryEffects(echo)
    machine = Machine(compiled(text), effects, Identity(execution_id="e"))
    machine.start(None)
    assert machine.run() is Pace.WAITING
    return machine, effects


def last(effects: MemoryEffects, event_type: str) -> dict[str, object]:
    return next(event.body for event in reversed(effects.events) if event.type == event_type)


def test_an_answer_goes_to_the_oldest_wait_unless_it_names_one():
    machine, _ = machine_of(
        "name: t\nmain: [{parallel: [{wait_for_input: {info: {n: 1}}}, {wait_for_input: {info: {n: 2}}}]}]"
    )
    machine.answer(AnswerSignal(key="a", value="second", wait_id="main.0[1].0"))
    machine.answer(AnswerSignal(key="b", value="first"))
    machine.run()
    assert machine.result is not None
    assert machine.result.outcome == Ok(["first", "second"])


def test_an_answer_that_does_not_fit_its_schema_is_refused_and_the_wait_stays_open():
    machine, effects = machine_of("name: t\nmain: [{wait_for_input: {info: {}, schema: {type: integer}}}]")
    machine.answer(AnswerSignal(key="a", value="x"))
    assert last(effects, "answer.refused")["code"] == "input.rejected"
    machine.answer(AnswerSignal(key="b", value=5))
    machine.run()
    assert machine.result is not None
    assert machine.result.outcome == Ok(5)


def test_a_known_key_gets_its_first_outcome_again():
    machine, effects = machine_of("name: t\nmain: [{wait_for_input: {info: {}}}, {wait_for_input: {info: {}}}]")
    machine.answer(AnswerSignal(key="a", value=1))
    machine.run()
    machine.answer(AnswerSignal(key="a", value=2))
    machine.run()
    assert last(effects, "answer.accepted")["repeated"] is True
    assert machine.result is None, "the second wait is still open"


def test_an_answer_to_nothing_is_refused():
    machine, effects = machine_of("name: t\nmain: [{sleep: {hours: 1}}]")
    machine.answer(AnswerSignal(key="a", value=1))
    assert last(effects, "answer.refused")["code"] == "answer.not_waiting"


def test_cancel_stops_calls_timers_and_waits_and_cannot_be_caught():
    task = """
name: t
main:
  - parallel: [{tool: lookup, arguments: {name: x}}, {sleep: {hours: 1}}, {wait_for_input: {info: {}}}]
    on_error: {evaluate: caught}
"""
    effects = MemoryEffects(lambda call: Answered(Ok(1), after_s=1_000))
    machine = Machine(compiled(task), effects, Identity(execution_id="e"))
    machine.start(None)
    machine.run()
    machine.cancel("enough", "ann")
    machine.run()
    assert not machine.result, "it waits for the end of the running call"
    kind, name, outcome = effects.pop() or ("", "", None)
    assert (kind, outcome) == ("call", Stopped())
    machine.call_done(name, Stopped())
    machine.run()
    assert machine.result is not None
    assert machine.result.outcome == Stopped()
    assert last(effects, "cancelled") == {"reason": "enough", "actor": "ann"}
    assert effects.pop() is None, "no timer is left"


EVERYTHING = """
name: t
main:
  - set: {n: $ _}
  - over: $ [3, 1, 2]
    parallelism: 2
    map:
      - tool: lookup
        arguments: {name: $ str(_)}
      - sleep: {seconds: 2}
      - set: {n: $ state.n + 1}
      - evaluate: [$ _, $ state.n, $ uuid()]
  - foreach:
      in: $ _
      do: [{tool: book, arguments: {}, retry: {attempts: 3, initial: 1}}, {evaluate: $ _}]
  - parallel:
      - {wait_for_input: {info: {}}, label: asked}
      - {workflow: sub, arguments: {x: 1}, total_timeout: 100}
  - evaluate: {all: $ _, n: $ state.n, steps: '$ len(steps[1].output)'}
sub:
  - {sleep: {seconds: 1}}
  - if: $ _.x
    then: {return: {x: $ _.x + 1}}
"""


@pytest.mark.parametrize("carry_every", [1, 2, 3, 5, 7])
def test_continue_as_new_at_any_moment_changes_nothing(carry_every: int):
    def handler(call):
        fail_first = call.params.context.attempt == 1 and "do[1]" in call.params.context.path
        return Answered(failed("tool.unreachable") if fail_first else Ok({"key": call.params.context.key}), 0.5)

    def story(result):
        return sorted((event.type, str(event.body.get("path")), str(event.body)) for event in result.events)

    plain = run(EVERYTHING, 5, handler, answers=["yes"])
    carried = run(EVERYTHING, 5, handler, answers=["yes"], carry_every=carry_every)
    assert plain.finished is not None
    assert carried.runs > 1
    assert carried.finished is not None
    assert carried.finished.outcome == plain.finished.outcome
    assert story(carried) == story(plain)


def test_a_run_in_memory_ends_although_the_model_says_nothing_new():
    assert (
        output_of("name: t\nmain: [{prompt: x, unwrap: true}]", None, lambda call: Answered(Ok(chat_reply("")))) == ""
    )
