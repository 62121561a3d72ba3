"""Tools that run another task, in memory: steps and agents call them, people approve them, bounds hold for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.core.contracts.children import ChildParams
from engine.core.errors import CompileError
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.reach import reach_of
from engine.core.run.effects import Call, Failed, Ok, Stopped
from engine.core.run.machine import Machine
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, MemoryEffects
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun, run_in_memory
from engine.dryrun.scripted import dry_run
from tests.support.agents import Model
from tests.support.memory import compiled, error_of, output_of, run, seen

TOOL = """
name: t
tools:
  - name: refund
    type: task
    description: Pays an order back.
    task: give-back@prod
    parameters: {type: object, properties: {order: {type: integer}}, required: [order]}
"""
STEP = TOOL + "main: [{tool: refund, arguments: {order: $ _}, label: refunded}]\n"
AGENT = TOOL + "main: [{agent: Help, tools: [refund], unwrap: true}]\n"


def watched(answer: Callable[[Call], Answered]) -> tuple[list[ChildParams], Callable[[Call], Answered]]:
    """Return a list that fills with the children that are started, and a handler that answers them with their number.

    Args:
        answer: Answers all other calls.
    """
    started = list[ChildParams]()

    def handler(call: Call) -> Answered:
        if not isinstance(call.params, ChildParams):
            return answer(call)
        started.append(call.params)
        return Answered(Ok({"paid": len(started)}), 1.0)

    return started, handler


def nobody(call: Call) -> Answered:
    raise AssertionError(f"{call.summary} was called")


def ended(result: DryRun) -> Any:
    assert result.finished is not None, f"still waiting: {result.waits}"
    return result.finished.outcome


# --- calls ---------------------------------------------------------------------------------------------------------


def test_a_step_that_calls_such_a_tool_runs_the_task_with_the_arguments_as_its_input() -> None:
    started, handler = watched(nobody)
    result = run(STEP, 7, handler)
    assert ended(result) == Ok({"paid": 1})
    (child,) = started
    assert (child.task.name, child.input) == ("give-back", {"order": 7})
    assert (child.origin.path, child.origin.depth) == ("main.0", 1)
    (told,) = seen(result, "effect.started")
    assert (told.body["kind"], told.body["name"], told.body["child_id"]) == ("tool_call", "refund", child.execution_id)
    assert told.body["request"] == {"task": "give-back@prod", "arguments": {"order": 7}}


def test_a_model_calls_a_task_and_is_told_its_output() -> None:
    model = Model([{"refund": {"order": 7}}, {"refund": {"order": 8}}], "done")
    started, handler = watched(model)
    assert ended(run(AGENT, None, handler)) == Ok("done")
    assert [child.input for child in started] == [{"order": 7}, {"order": 8}]
    assert [json.loads(text) for text in model.heard()] == [{"paid": 1}, {"paid": 2}]
    assert len({child.execution_id for child in started}) == 2
    shape = model.asked[0].tools[0]["function"]
    assert (shape["description"], shape["parameters"]["required"]) == ("Pays an order back.", ["order"])


@pytest.mark.parametrize("every", [1, 2])
def test_carried_over_at_any_moment_it_does_the_same(every: int) -> None:
    plan = compiled(AGENT)
    whole_started, whole = watched(Model([{"refund": {"order": 7}}], "done"))
    parts_started, parts = watched(Model([{"refund": {"order": 7}}], "done"))
    assert ended(run_in_memory(plan, None, whole)) == Ok("done")
    carried = run_in_memory(plan, None, parts, carry_every=every)
    assert (ended(carried), carried.runs > 1) == (Ok("done"), True)
    assert [child.execution_id for child in parts_started] == [child.execution_id for child in whole_started]


def test_arguments_that_do_not_fit_start_no_child() -> None:
    task = STEP.replace("order: $ _", "order: $ _.x")
    assert error_of(task, {"x": "seven"}, nobody).code == "tool.bad_arguments"
    model = Model([{"refund": {}}], "done")
    started, handler = watched(model)
    run(AGENT, None, handler)
    assert started == []
    assert "tool.bad_arguments" in model.heard()[0]


def test_a_child_that_fails_fails_the_call_with_its_code_and_the_model_is_told() -> None:
    def fails(call: Call) -> Answered:
        return Answered(failed("tool.http_status", retryable=False))

    error = error_of(STEP, 7, fails)
    assert error.code == "tool.http_status"
    assert (error.details["task"], bool(error.details["execution_id"])) == ("give-back", True)
    model = Model([{"refund": {"order": 7}}], "done")
    run(AGENT, None, lambda call: fails(call) if isinstance(call.params, ChildParams) else model(call))
    assert json.loads(model.heard()[0])["error"]["code"] == "tool.http_status"


def test_a_tool_that_writes_is_not_tried_again_but_one_that_reads_is() -> None:
    for more, calls in (("", 1), ("    effect: read\n", 2)):
        started: list[Call] = []

        def once(call: Call, started: list[Call] = started) -> Answered:
            started.append(call)
            return Answered(failed("tool.unreachable") if len(started) == 1 else Ok("paid"))

        run(STEP.replace("main:", f"{more}main:"), 7, once)
        assert len(started) == calls
        assert len({call.id for call in started}) == calls, "each attempt is an execution of its own"


@pytest.mark.parametrize(
    "task",
    [
        STEP.replace("main:", "    timeout: 5s\nmain:").replace(
            "label: refunded", "on_error: {evaluate: $ error.code}"
        ),
        STEP.replace("label: refunded", "timeout: 5s, on_error: {evaluate: $ error.code}"),
    ],
)
def test_a_timeout_stops_the_child(task: str) -> None:
    assert output_of(task, 7, lambda _: Answered(Ok("late"), 60.0)) == "step.timeout"


def test_another_attempt_at_what_surrounds_an_agent_has_other_keys_for_other_calls() -> None:
    task = (
        TOOL
        + """
main:
  - workflow: w
    retry: {attempts: 2, initial: 1s}
w:
  - {agent: Help, tools: [refund], unwrap: true}
  - if: _ == 'bad'
    then: [{error: again}]
"""
    )
    for second, keys in ((8, 2), (7, 1)):
        model = Model([{"refund": {"order": 7}}], "bad", [{"refund": {"order": second}}], "good")
        started, handler = watched(model)
        assert ended(run(task, None, handler)) == Ok("good")
        assert len({child.context.key for child in started}) == keys
        assert len({child.execution_id for child in started}) == 2


def test_a_cancel_reaches_the_child() -> None:
    cancelled: list[str] = []

    class Watching(MemoryEffects):
        def cancel_call(self, call_id: str) -> None:
            cancelled.append(call_id)

    effects = Watching(lambda _: Answered(Ok(1), 60.0))
    machine = Machine(compiled(STEP), effects, Identity(execution_id="11111111-1111-4111-8111-111111111111"))
    machine.start(7)
    machine.run()
    found = effects.pop()
    assert found is not None
    machine.call_done(found[1], found[2] or Stopped())
    machine.run()
    machine.cancel("enough", "test")
    machine.run()
    assert cancelled == ["main.0#1"]
    assert machine.result is None, "it waits until the child has ended"


# --- people --------------------------------------------------------------------------------------------------------


def test_a_call_that_was_denied_starts_no_child() -> None:
    task = STEP.replace("main:", "    approve: true\nmain:")
    outcome = ended(run(task, 7, nobody, answers=[{"approved": False, "reason": "too late"}]))
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "tool.denied"
    model = Model([{"refund": {"order": 7}}], "sorry")
    started, handler = watched(model)
    agent = AGENT.replace("tools: [refund]", "tools: [refund], rules: {refund: {approve: true}}")
    assert ended(run(agent, None, handler, answers=[{"approved": False}])) == Ok("sorry")
    assert started == []
    assert json.loads(model.heard()[0])["error"]["code"] == "tool.denied"


def test_a_child_begins_once_its_call_is_approved_with_the_arguments_that_the_person_wrote() -> None:
    task = STEP.replace("main:", "    approve: true\nmain:")
    started, handler = watched(nobody)
    waiting = run(task, 7, handler)
    assert (waiting.finished, len(waiting.waits), started) == (None, 1, [])
    result = run(task, 7, handler, answers=[{"approved": True, "arguments": {"order": 8}}])
    assert ended(result) == Ok({"paid": 1})
    assert [child.input for child in started] == [{"order": 8}]


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [STEP, AGENT])
def test_the_task_counts_as_reached_by_whoever_calls_or_offers_the_tool(task: str) -> None:
    reach = reach_of(compiled(task))
    assert (reach.tools, reach.tasks) == (("refund",), ("give-back@prod",))
    with pytest.raises(CompileError, match=r"does not permit to run the task 'give-back@prod'"):
        compiled(task + "allow: {tasks: []}\n")
    compiled(task + "allow: {tasks: [give-back], tools: [refund]}\n")


def test_a_plan_whose_bound_was_narrowed_starts_no_child() -> None:
    text = plan_to_json(compiled(STEP))
    text["allow"] = {"tasks": []}
    outcome = ended(run_in_memory(plan_from_json(text), 7, nobody))
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "authority.denied"


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("{name: a, type: task}", "has no 'task'"),
        ("{name: a, type: task, task: {}}", "task has no 'name'"),
        ("{name: a, type: task, task: ''}", "has an empty 'task'"),
        ("{name: a, task: {name: null}}", "task has an empty 'name'"),
        ("{name: a, type: task, task: [b]}", "must be text"),
        ("{name: a, type: task, task: {name: b, versions: 2}}", "task has no key 'versions'"),
        ("{name: a, task: '{{ _ }}'}", "cannot be computed"),
        ("{name: a, type: function, task: b}", "'task'"),
    ],
)
def test_a_definition_that_names_no_task_is_refused(tool: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compiled(f"name: t\ntools: [{tool}]\nmain: [{{evaluate: 1}}]\n")


def test_a_call_of_a_task_is_not_kept() -> None:
    task = STEP.replace("main:", "    effect: read\nmain:").replace("label: refunded", "cache: 1h")
    with pytest.raises(CompileError, match="runs a task, whose output is not kept"):
        compiled(task)


def test_a_dry_run_takes_replies_by_the_name_of_the_tool_or_of_its_task() -> None:
    plan = compiled(STEP.replace("task: give-back@prod", "task: {name: give-back}"))
    for name in ("refunded", "refund", "give-back"):
        assert ended(dry_run(plan, 7, replies={name: "paid"})) == Ok("paid")
    assert ended(dry_run(plan, 7)) == Ok({"dry_run": True, "task": "give-back", "arguments": {"order": 7}})


def test_no_secret_goes_into_the_input_of_a_child() -> None:
    with pytest.raises(CompileError, match="kept as the input of an execution"):
        compiled(STEP.replace("order: $ _", "order: $ secrets.KEY"))
