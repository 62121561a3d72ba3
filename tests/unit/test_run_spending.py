"""Limits of costs, budgets and kept outcomes as the interpreter sees them, told by running tasks in memory."""

from __future__ import annotations

from typing import Any

from engine.core.contracts.activities import CallLimits, ChatParams, Keep, ToolParams
from engine.core.errors import BudgetError, run_error_from_json
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.events import EventRecord
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.story import Story
from engine.core.run.story_views import attempt_view
from engine.core.run.story_words import entry
from engine.core.run.times import iso_time
from engine.core.values import compact_json
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from engine.edge.cli.tree import RunTree
from tests.support.memory import error_of, output_of, run, script, seen
from tests.support.stepping import Stepper

ROW = "name: t\nlimits: {cost: 0.000025}\nmain: [{foreach: {in: '$ [1,2,3,4,5]', do: {prompt: hi}}}]"


def priced(cost: str, tokens: int = 1, **more: Any) -> Answered:
    return Answered(Ok(chat_reply("x", tokens=tokens) | {"cost": cost}, **more))


def test_costs_are_counted_to_the_thousand_millionth_and_their_limit_ends_the_execution() -> None:
    result = run(ROW, None, lambda call: priced("0.00001"))
    assert result.finished is not None
    assert isinstance(result.finished.outcome, Failed)
    error = result.finished.outcome.error
    assert error.code == "limit.cost"
    assert error.message == "the model calls of the execution have cost $0.00003 of its $0.000025"
    assert len(seen(result, "effect.started")) == 3


def test_a_limit_of_costs_cannot_be_caught() -> None:
    caught = ROW.replace("{prompt: hi}", "{prompt: hi, on_error: {evaluate: 1}}")
    assert error_of(caught, None, lambda call: priced("1")).code == "limit.cost"


def test_each_call_is_told_what_is_left_and_what_was_used() -> None:
    told: list[CallLimits | None] = []

    def answer(call: Call) -> Answered:
        assert isinstance(call.params, ChatParams)
        told.append(call.params.limits)
        return priced("0.1", tokens=7)

    output_of("name: t\nlimits: {cost: 0.3, tokens: 100}\nmain: [{prompt: hi}, {prompt: hi}]", None, answer)
    output_of("name: t\nmain: [{prompt: hi}]", None, answer)
    assert told == [
        CallLimits(tokens=100, cost_nano=300_000_000),
        CallLimits(tokens=100, cost_nano=300_000_000, tokens_used=7, cost_nano_used=100_000_000),
        None,
    ]


def test_what_was_spent_travels_over_continue_as_new() -> None:
    task = "name: t\nmain: [{prompt: hi}, {prompt: hi}, {wait_for_input: {info: x}}]"
    stepper = Stepper(task, handler=lambda call: priced("0.00001"))
    stepper.go()
    body = state_to_json(stepper.machine.carry())
    assert state_from_json(body).cost_nano_used == 20_000
    del body["cost_nano_used"]  # as an older engine carried it
    assert state_from_json(body).cost_nano_used == 0


def test_a_used_up_budget_is_not_tried_again_unless_the_author_says_so() -> None:
    gone = run_error_from_json({"code": "budget.exhausted", "message": "gone", "details": {"retry_after_s": 7_200.0}})
    assert isinstance(gone, BudgetError)
    error = error_of("name: t\nmain: [{prompt: hi}]", None, script(Failed(gone), "ok"))
    assert (error.code, error.details["attempts"]) == ("budget.exhausted", 1)
    waits = "name: t\nmain: [{prompt: hi, unwrap: true, retry: {attempts: 2, on: budget.exhausted}}]"
    result = run(waits, None, script(Failed(gone), "ok"))
    assert seen(result, "attempt.failed")[0].body["retry_in_s"] == 7_200


def test_a_call_may_take_a_kept_outcome_in_its_first_attempt_only() -> None:
    told: list[Keep | None] = []

    def answer(call: Call) -> Answered:
        assert isinstance(call.params, ChatParams | ToolParams)
        told.append(call.params.keep)
        return Answered(Ok(chat_reply("bad" if len(told) == 1 else "good")))

    check = "check: {if: _ == 'good', on_fail: error}, retry: {attempts: 2, on: check.failed}"
    task = f"name: t\nmain: [{{prompt: hi, unwrap: true, cache: {{ttl: 1h, key: [$ _.n]}}, {check}}}, {{prompt: hi}}]"
    output_of(task, {"n": 5}, answer)
    assert told == [Keep(ttl_s=3_600, key=[5]), Keep(ttl_s=3_600, key=[5], is_fresh=True), None]


def test_a_kept_outcome_is_told_as_such_and_one_that_was_made_as_before() -> None:
    cached = [priced("0", tokens=0, cached=True), priced("0.1")]
    result = run("name: t\nmain: [{prompt: hi, cache: 1h}, {prompt: hi}]", None, lambda call: cached.pop(0))
    first, second = (event.body for event in seen(result, "effect.finished"))
    assert first["cached"] is True
    assert "cached" not in second


def test_people_are_told_what_was_kept() -> None:
    result = run("name: t\nmain: [{label: ask, prompt: hi, cache: 1h}]", None, lambda call: priced("0", 0, cached=True))
    events = result.events
    records = [EventRecord("e", "r", item.seq, item.now_us, item.type, compact_json(item.body)) for item in events]
    told = [entry(record)["what"] for record in records]
    assert any(what.startswith("nothing was called: the reply of model") for what in told)
    story = Story().extend(records)
    assert attempt_view(story.steps["main.0"].attempts[0])["cached"] is True
    tree = RunTree()
    for item in result.events:
        tree.apply({"seq": item.seq, "type": item.type, "at": iso_time(item.now_us), "body": item.body})
    assert tree.main.steps[0].usage == "cached  $0"
