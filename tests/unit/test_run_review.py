"""Corners of the interpreter: what happens at once, what is cut off in the middle, what is very wide, long or deep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.core.errors import ExpressionError
from engine.core.ids import shorten_path, unmarked_path
from engine.core.run.effects import Ok, Stopped
from engine.core.run.machine import MOST_CALLS, Machine, Pace
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.walker import Identity
from engine.core.values import to_json_value
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import failed
from tests.support.memory import compiled, error_of, output_of, run, script


def slow(call: Any) -> Answered:
    return Answered(Ok(call.params.arguments["name"]), after_s=5)


def started(task: str, given: Any = None, handler: Any = slow) -> tuple[Machine, MemoryEffects]:
    effects = MemoryEffects(handler)
    machine = Machine(compiled(task), effects, Identity(execution_id="x"))
    machine.start(given)
    settle(machine)
    return machine, effects


def settle(machine: Machine) -> int:
    """Run until nothing can go on and return how many activations it took."""
    activations = 1
    while machine.run() is Pace.BREATHER:
        activations += 1
    return activations


def wide(count: int) -> str:
    return f"""
name: t
main: [{{over: $ list(range({count})), parallelism: 5000, map: {{tool: lookup, arguments: {{name: $ str(_)}}}}}}]
"""


def test_the_pause_of_a_growing_retry_never_overflows():
    task = """
name: t
main:
  - tool: lookup
    arguments: {name: a}
    retry: {attempts: 1000, initial: 0.001, factor: 100, max: 0.01}
"""
    assert error_of(task, handler=lambda _: Answered(failed("tool.failed"))).code == "tool.failed"


def test_a_server_cannot_ask_for_a_pause_that_no_execution_survives():
    busy = failed("backend.rate_limited")
    busy.error.details["retry_after_s"] = 1e30
    assert output_of("name: t\nmain: [{prompt: hi, unwrap: true}]", handler=script(busy, "ok")) == "ok"


def test_a_repeated_attempt_sees_the_time_at_which_it_begins():
    seen: list[str] = []

    def handler(call: Any) -> Answered:
        seen.append(call.params.arguments["name"])
        return Answered(failed("tool.failed") if len(seen) == 1 else Ok(1))

    output_of(
        """
name: t
main: [{tool: lookup, arguments: {name: $ str(now())}, retry: {attempts: 2, initial: 60, max: 60}}]
""",
        handler=handler,
    )
    assert [text[:16] for text in seen] == ["2026-01-01T00:00", "2026-01-01T00:01"]


def test_an_error_keeps_the_attempts_of_its_step_when_it_passes_a_guard_around_it():
    task = "name: t\nmain: [{if: $ True, then: [{tool: lookup, arguments: {name: a}}], timeout: 1h}]"
    error = error_of(task, handler=lambda _: Answered(failed("tool.failed")))
    assert (error.details["step"], error.details["attempts"]) == ("main.0.then.0", 4)


def test_a_call_that_ended_in_the_moment_of_its_total_timeout_keeps_its_result():
    machine, _ = started("name: t\nmain: [{tool: lookup, arguments: {name: a}, total_timeout: 5}]")
    machine.call_done("main.0#1", Ok("done"))
    machine.timer_fired("total:main.0")
    settle(machine)
    assert machine.result is not None
    assert machine.result.outcome == Ok("done")


def test_a_total_timeout_of_a_block_still_ends_it_when_a_call_inside_just_ended():
    task = (
        "name: t\nmain: [{if: $ True, then: [{tool: lookup, arguments: {name: a}}, {evaluate: 1}], total_timeout: 5}]"
    )
    machine, _ = started(task)
    machine.call_done("main.0.then.0#1", Ok("done"))
    machine.timer_fired("total:main.0")
    settle(machine)
    assert machine.result is not None
    assert machine.result.outcome.error.code == "step.total_timeout"  # type: ignore[union-attr]


def test_a_long_fold_lets_others_breathe(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.core.run.machine.FUEL_PER_ACTIVATION", 20_000)
    task = "name: t\nmain: [{over: $ list(range(1000)), map: [{evaluate: $ _}], reduce: '$ results + [_]'}]"
    machine = Machine(compiled(task), MemoryEffects(slow), Identity(execution_id="x"))
    machine.start(None)
    breathers = settle(machine)
    assert machine.result is not None
    assert machine.result.outcome == Ok(list(range(1000)))
    assert breathers > 4


def test_steps_that_only_pass_large_values_on_let_others_breathe():
    task = "name: t\nmain: [{foreach: {in: $ list(range(200)), do: [{if: $ True, then: [{get: big}]}]}}]"
    task = task.replace("main: [", "main: [{set: {big: $ _}}, ")
    effects = MemoryEffects(slow)
    machine = Machine(compiled(task), effects, Identity(execution_id="x"))
    machine.start("x" * 100_000)
    assert settle(machine) > 2


def test_no_more_calls_run_at_one_time_than_temporal_takes():
    machine, effects = started(wide(MOST_CALLS + 500))
    assert machine.calls_under_way == MOST_CALLS
    most = 0
    while machine.result is None:
        happened = effects.pop()
        assert happened is not None
        _, name, outcome = happened
        assert outcome is not None
        machine.call_done(name, outcome)
        settle(machine)
        most = max(most, machine.calls_under_way)
    assert machine.result.outcome == Ok([str(number) for number in range(MOST_CALLS + 500)])
    assert most == MOST_CALLS


def test_calls_that_wait_for_their_turn_are_not_forgotten_when_those_before_them_fail():
    width = MOST_CALLS + 300
    task = f"""
name: t
main:
  - over: $ list(range({width}))
    parallelism: 5000
    map: {{tool: lookup, arguments: {{name: $ str(_) if _ < {MOST_CALLS} or _ > {width - 10} else _}}}}
    on_item_error: skip
"""
    machine, effects = started(task)
    while machine.result is None:
        happened = effects.pop()
        assert happened is not None, "calls were forgotten"
        machine.call_done(happened[1], happened[2] or Stopped())
        settle(machine)
    assert len(machine.result.outcome.value) == MOST_CALLS + 9  # type: ignore[union-attr]


def test_stopping_a_wide_map_takes_time_in_proportion_to_its_width():
    machine, _ = started(wide(1000))
    machine.cancel("", "")
    settle(machine)
    moves = 0
    move = machine._move

    def counted(branch: Any) -> bool:
        nonlocal moves
        moves += 1
        return move(branch)

    machine._move = counted  # type: ignore[method-assign]
    for call_id in list(machine.walker.calls):
        machine.call_done(call_id, Stopped())
        settle(machine)
    assert machine.result is not None
    assert moves < 10_000


def test_what_a_wide_map_carries_over_does_not_repeat_the_scope_for_every_branch():
    task = """
name: t
main:
  - evaluate: $ [str(i) * 20 for i in range(500)]
    label: texts
  - set: {seen: 1}
  - over: $ outputs[0]
    map:
      - set: {own: $ _}
      - evaluate: $ _
        label: mine
      - tool: lookup
        arguments: {name: a}
      - evaluate: $ [state, len(steps['texts'].output), steps['mine'].output['own'], len(steps), len(outputs)]
"""
    machine, effects = started(task)
    machine.begin_drain()
    while machine.calls_under_way:
        _, name, outcome = effects.pop() or ("", "", None)
        machine.call_done(name, outcome or Stopped())
        settle(machine)
    carried = json.dumps(state_to_json(machine.carry()))
    assert len(carried) < 1_000_000
    whole = run(task, handler=slow)
    pieces = run(task, handler=slow, carry_every=40)
    assert pieces.runs > 1
    assert whole.finished == pieces.finished
    assert state_to_json(state_from_json(json.loads(carried))) == json.loads(carried)


def test_an_execution_that_an_older_engine_began_says_nothing_of_the_times_of_its_events():
    machine, _ = started("name: t\nmain: [{sleep: 5}]")
    own = state_to_json(machine.walker.state)
    assert state_from_json(own).times not in (0, None)
    del own["times"]
    assert state_from_json(own).times is None


@pytest.mark.parametrize("text", ["\ud83d", {"a": ["\ud83d"]}, {"\ud83d": 1}])
def test_half_a_character_is_no_value(text: Any):
    with pytest.raises(ExpressionError, match="surrogate"):
        to_json_value(text)


def test_a_structured_reply_with_half_a_character_is_asked_for_again():
    task = "name: t\nmain: [{prompt: hi, unwrap: true, output_schema: {type: object}, repair: 1}]"
    assert output_of(task, handler=script('{"a": "\\ud83d"}', '{"a": "b"}')) == {"a": "b"}


def test_an_answer_with_half_a_character_is_refused_and_the_wait_stays_open():
    result = run("name: t\nmain: [{wait_for_input: {info: x}}]", answers=["\ud83d"])
    assert (result.finished, list(result.waits)) == (None, ["main.0"])


def test_a_step_visit_deep_in_sub_workflows_has_one_key_over_all_repetitions_and_shares_it_with_no_other():
    keys: dict[str, list[str]] = {}

    def handler(call: Any) -> Answered:
        name = call.params.arguments["name"]
        keys.setdefault(name, []).append(call.params.context.key)
        return Answered(failed("tool.refused", retryable=False) if name == "0" else Ok(1))

    task = """
name: t
main:
  - if: $ True
    then: [{workflow: deeper, arguments: {n: 60}}]
    retry: {attempts: 3, initial: 0.01, on: [tool.refused]}
deeper:
  - tool: lookup
    arguments: {name: $ str(_.n)}
    retry: {attempts: 1}
  - if: $ inputs[0].n > 0
    then: [{workflow: deeper, arguments: {n: '$ inputs[0].n - 1'}}]
"""
    run(task, handler=handler)
    assert len(keys) == 61
    assert all(len(of_visit) == 3 for of_visit in keys.values())
    assert len({key for of_visit in keys.values() for key in of_visit}) == 61


def test_a_shortened_path_is_unique_and_loses_only_its_marks():
    long = "main.0.then" * 60
    paths = [f"{long}.{n}.a" for n in range(300)] + [f"{long}~2.{n}.a" for n in range(300)]
    short = [shorten_path(path, 400) for path in paths]
    assert len(set(short)) == 600
    assert [unmarked_path(text) for text in short[:300]] == [unmarked_path(text) for text in short[300:]]
    assert len({unmarked_path(text) for text in short}) == 300
