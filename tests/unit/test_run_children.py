"""Steps that run another task, in memory: what the child gets, how its end is taken, what stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.core.contracts.children import MAX_DEPTH, ChildParams, ResolveParams
from engine.core.contracts.execution import Origin
from engine.core.errors import ChildError, LimitExceeded
from engine.core.plan.grant import Grant
from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.core.run.machine import Machine, Pace
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import failed
from engine.dryrun.running import run_in_memory
from tests.support.memory import compiled, error_of, output_of, run, script, seen

TASK = "name: t\nmain: [{task: greet, arguments: {name: $ _}}]"
WHO = Identity(execution_id="11111111-1111-4111-8111-111111111111", tenant="acme")


def children(*outcomes: Any) -> tuple[list[ChildParams], Callable[[Call], Answered]]:
    """Return a list that fills with the children that are started, and a handler that answers them in order."""
    answer, started = script(*outcomes), list[ChildParams]()

    def handler(call: Call) -> Answered:
        assert isinstance(call.params, ChildParams)
        started.append(call.params)
        return answer(call)

    return started, handler


def test_the_output_of_the_child_is_that_of_the_step():
    started, handler = children({"said": "hello Ada"})
    assert output_of(TASK, "Ada", handler) == {"said": "hello Ada"}
    assert started[0].input == {"name": "Ada"}


def test_without_arguments_the_child_gets_the_input_of_the_step():
    started, handler = children(1)
    output_of("name: t\nmain: [{evaluate: $ _ + 1}, {task: greet}]", 4, handler)
    assert started[0].input == 5


def test_the_name_of_the_task_is_looked_up_with_its_version_in_the_tenant_of_the_parent():
    asked: list[ResolveParams] = []

    class Watching(MemoryEffects):
        def start_call(self, call: Call) -> None:
            if isinstance(call.params, ResolveParams):
                asked.append(call.params)
            super().start_call(call)

    plan = compiled("name: t\nmain: [{task: greet, version: 3, arguments: {a: 1}}]")
    machine = Machine(plan, Watching(script("x")), WHO)
    machine.start(None)
    machine.run()
    assert [(item.task, item.input, item.context.tenant) for item in asked] == [("greet@3", {"a": 1}, "acme")]


def test_an_event_and_the_end_of_the_step_tell_the_id_of_the_child():
    started, handler = children("x")
    result = run("name: t\nmain: [{task: greet@prod, label: hi}, {evaluate: $ _}]", 1, handler, identity=WHO)
    told = seen(result, "effect.started")[0].body
    assert (told["kind"], told["name"], told["label"]) == ("task", "greet", "hi")
    assert told["child_id"] == started[0].execution_id
    assert told["request"] == {"task": "greet@prod", "arguments": 1}
    assert seen(result, "step")[0].body["child_id"] == started[0].execution_id
    assert "child_id" not in seen(result, "finish")[0].body


def test_a_child_knows_where_it_comes_from():
    started, handler = children("x")
    run(TASK, 1, handler, identity=WHO)
    origin = started[0].origin
    assert (origin.execution_id, origin.path, origin.depth) == (WHO.execution_id, "main.0", 1)


def test_an_execution_that_was_started_by_another_says_so_in_its_first_event():
    origin = Origin(execution_id="p", path="main.2", depth=1, keys="k")
    result = run_in_memory(
        compiled("main: {evaluate: 1}"), None, script(), identity=Identity(execution_id="c", origin=origin)
    )
    assert result.events[0].body["parent"] == {"execution_id": "p", "path": "main.2"}


# --- failures ------------------------------------------------------------------------------------------------------


def test_the_step_fails_with_the_code_of_the_child_and_tells_its_id():
    started, handler = children(failed("tool.http_status", "503", retryable=False))
    error = error_of(TASK, 1, handler)
    assert error.code == "tool.http_status"
    assert error.message == "the task 'greet' failed: 503"
    assert error.details["execution_id"] == started[0].execution_id
    assert (error.details["task"], error.details["step"]) == ("greet", "main.0")


def test_on_error_sees_the_step_of_the_parent_and_the_place_in_the_child():
    broken = failed("task.error", "no")
    broken.error.details |= {"step": "main.7", "attempts": 3, "why": "because"}
    task = "name: t\nmain: [{task: greet, on_error: {evaluate: '$ [error.step, error.attempts, error.details.at]'}}]"
    assert output_of(task, 1, children(broken)[1]) == ["main.0", 1, "main.7"]


@pytest.mark.parametrize("code", ["limit.steps", "limit.depth", "limit.time"])
def test_a_limit_of_the_child_can_be_caught_by_its_parent(code: str):
    task = "name: t\nmain: [{task: greet, on_error: {evaluate: $ error.code}}]"
    assert output_of(task, 1, children(failed(code, retryable=False))[1]) == code


def test_a_child_that_others_cancel_fails_the_step():
    error = error_of(TASK, 1, children(Stopped())[1])
    assert isinstance(error, ChildError)
    assert error.code == "task.cancelled"


def test_a_failed_child_is_not_repeated_unless_its_parent_says_so():
    started, handler = children(failed("backend.overloaded"))
    error_of(TASK, 1, handler)
    assert len(started) == 1


def test_a_retry_is_a_new_execution_that_makes_the_same_calls():
    started, handler = children(failed("backend.overloaded"), "x")
    assert output_of("name: t\nmain: [{task: greet, retry: {attempts: 2}}]", 1, handler) == "x"
    first, second = started
    assert first.execution_id != second.execution_id
    assert first.origin.keys == second.origin.keys


def test_after_the_child_took_back_what_it_did_a_retry_makes_new_calls():
    undone = failed("backend.overloaded")
    undone.error.details["undone"] = True
    started, handler = children(undone, "x")
    assert output_of("name: t\nmain: [{task: greet, retry: {attempts: 2}}]", 1, handler) == "x"
    assert started[0].origin.keys != started[1].origin.keys


def test_a_repeated_block_runs_its_child_again_as_another_execution():
    started, handler = children("x", failed("tool.failed"), "y", "z")
    block = "{if: $ True, then: [{task: a}, {task: b}], retry: {attempts: 2}}"
    assert output_of(f"name: t\nmain: [{block}]", 1, handler) == "z"
    assert [item.task.name for item in started] == ["a", "b", "a", "b"]
    assert started[0].execution_id != started[2].execution_id
    assert started[0].origin.keys == started[2].origin.keys


def test_each_item_of_a_map_is_a_child_of_its_own():
    started, handler = children("x", "y", "z")
    task = "name: t\nmain: [{over: $ _, map: {task: greet, arguments: {n: $ _}}}]"
    assert output_of(task, [1, 2, 3], handler) == ["x", "y", "z"]
    assert len({item.execution_id for item in started}) == 3
    assert len({item.origin.keys for item in started}) == 3


def test_the_calls_of_a_child_have_keys_of_their_own_and_not_its_id():
    keys: list[str] = []

    def handler(call: Call) -> Answered:
        keys.append(call.params.context.key)
        return Answered(Ok(1))

    origin = Origin(execution_id="p", path="main.2", depth=1, keys="of-the-step")
    run_in_memory(compiled("main: [{tool: book}]"), {}, handler, identity=Identity(execution_id="child", origin=origin))
    assert keys == ["of-the-step:main.0"]


def test_a_check_that_does_not_hold_ends_the_attempt():
    task = "name: t\nmain: [{task: greet, check: {if: _ > 3, message: too small}}]"
    error = error_of(task, 1, children(2)[1])
    assert error.code == "check.failed"
    assert "too small" in error.message
    assert output_of(task, 1, children(4)[1]) == 4


def test_a_child_is_undone_like_any_step():
    started, handler = children("x", failed("task.error"), "back")
    task = "name: t\nmain: [{task: book, undo: {task: give-back}}, {task: pay}]"
    error_of(task, 1, handler)
    assert [(item.task.name, item.input) for item in started] == [("book", 1), ("pay", "x"), ("give-back", "x")]


def test_executions_that_start_each_other_end_at_a_depth():
    origin = Origin(execution_id="p", path="main.0", depth=MAX_DEPTH, keys="k")
    started, handler = children()
    result = run(TASK, 1, handler, identity=Identity(execution_id="c", origin=origin))
    assert result.finished is not None
    assert isinstance(result.finished.outcome, Failed)
    assert isinstance(result.finished.outcome.error, LimitExceeded)
    assert result.finished.outcome.error.code == "limit.depth"
    assert started == []


# --- time and stops ------------------------------------------------------------------------------------------------


def test_a_timeout_stops_the_child_and_fails_the_step():
    task = "name: t\nmain: [{task: greet, timeout: 5s, on_error: {evaluate: $ error.code}}]"
    assert output_of(task, 1, script(Answered(Ok("late"), 60.0))) == "step.timeout"
    assert output_of(task, 1, script(Answered(Ok("in time"), 4.0))) == "in time"


def test_a_race_stops_the_child_that_lost():
    task = "name: t\nmain: [{race: [{task: slow}, {task: quick}]}]"
    result = run(task, 1, lambda call: Answered(Ok(call.summary), 60.0 if call.summary == "slow" else 1.0))
    assert result.finished is not None
    assert result.finished.outcome == Ok("quick")
    assert result.events[-1].now_us - result.events[0].now_us < 2_000_000


class Slow(MemoryEffects):
    """Effects that find tasks at once, and whose children end only when the test says so."""

    def __init__(self) -> None:
        super().__init__(script())
        self.started: list[Call] = []
        self.stopped: list[str] = []

    def start_call(self, call: Call) -> None:
        self.started.append(call)
        if isinstance(call.params, ResolveParams):
            super().start_call(call)

    def cancel_call(self, call_id: str) -> None:
        self.stopped.append(call_id)


def found_by(effects: Slow) -> Machine:
    """Begin an execution and let its task be found."""
    machine = Machine(compiled(TASK), effects, WHO)
    machine.start(1)
    machine.run()
    found = effects.pop()
    assert found is not None
    assert found[2] is not None
    machine.call_done(found[1], found[2])
    return machine


def test_a_cancel_waits_until_the_child_has_ended():
    effects = Slow()
    machine = found_by(effects)
    assert machine.run() is Pace.WAITING
    machine.cancel("enough", "test")
    assert machine.run() is Pace.WAITING
    assert effects.stopped == ["main.0#1"]
    machine.call_done("main.0#1", Stopped())
    assert machine.run() is Pace.DONE
    assert machine.result is not None
    assert isinstance(machine.result.outcome, Stopped)


def test_a_cancel_between_finding_the_task_and_starting_it_starts_nothing():
    effects = Slow()
    machine = found_by(effects)
    machine.cancel("enough", "test")
    assert machine.run() is Pace.DONE
    assert [type(call.params) for call in effects.started] == [ResolveParams]


def test_a_task_that_was_found_is_started_after_the_state_was_carried_over():
    started, handler = children("x", "y")
    task = "name: t\nmain: [{task: a}, {task: b}]"
    result = run(task, 1, handler, carry_every=1)
    assert result.runs > 1
    assert result.finished is not None
    assert result.finished.outcome == Ok("y")
    assert [item.task.name for item in started] == ["a", "b"]


# --- authority -----------------------------------------------------------------------------------------------------


def test_a_child_is_told_what_its_parent_permits():
    plan = compiled("name: t\nallow: {tasks: [greet], models: []}\nmain: [{task: greet}]")
    started, handler = children("x")
    run_in_memory(plan, 1, handler)
    assert started[0].origin.grant == Grant(tasks=("greet",), models=())
