"""Tool steps that wait: for the client that runs a function, and for a person who approves a call."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from engine.core.errors import CompileError, ToolError
from engine.core.plan.agent_rules import Approval
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.computed import Expr, Lit
from engine.core.plan.ir import Plan
from engine.core.run.effects import Call, Failed, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.running import DryRun, run_in_memory
from tests.support.memory import compiled, echo, run, script, seen

FUNCTION = """
name: t
tools:
  - {name: pick, type: function, parameters: {type: object, properties: {color: {type: string}}, required: [color]}}
main:
  - tool: pick
    arguments: {color: $ _.color}
    label: picked
  - evaluate: {got: $ _}
"""

PAY = """
name: t
tools:
  - {name: pay, approve: %s}
main:
  - {tool: pay, arguments: {amount: $ _.amount}}
"""


def ended(result: DryRun) -> Any:
    assert result.finished is not None, f"still waiting: {result.waits}"
    return result.finished.outcome


def calls_of(result: DryRun) -> list[Any]:
    return [event.body["request"]["arguments"] for event in seen(result, "effect.started")]


# --- functions of the client -----------------------------------------------------------------------------------------


def test_a_step_waits_for_the_client_that_runs_its_function():
    result = run(FUNCTION, {"color": "red"}, answers=[{"seat": 7}])
    assert ended(result) == Ok({"got": {"seat": 7}})
    wait = seen(result, "wait")[0].body
    assert wait["info"] == {"kind": "function_call", "tool": "pick", "arguments": {"color": "red"}}
    assert (wait["label"], wait["schema"], wait["deadline_us"]) == ("picked", None, None)
    assert seen(result, "effect.started") == [], "no worker was asked"


def test_nobody_is_asked_for_a_function_whose_arguments_do_not_fit():
    result = run(FUNCTION, {"color": 7}, answers=["x"])
    assert result.events[-1].body["error"]["code"] == "tool.bad_arguments"
    assert seen(result, "wait") == []


@pytest.mark.parametrize("place", ["{name: pick, type: function, timeout: 5s}", "{name: pick, type: function}"])
def test_a_function_with_a_timeout_is_not_waited_for_any_longer(place: str):
    own = "" if "timeout" in place else ", timeout: 5s"
    text = f"name: t\ntools: [{place}]\nmain: [{{tool: pick, arguments: {{}}{own}}}]"
    result = run(text, None)
    assert isinstance(ended(result), Failed)
    assert result.events[-1].body["error"]["code"] == "wait.expired"


def test_what_the_client_returns_is_checked_and_may_be_asked_for_again():
    text = FUNCTION.replace("label: picked", "check: {if: _ == 'good'}\n    retry: {attempts: 2, initial: 1s}")
    result = run(text, {"color": "red"}, answers=["bad", "good"])
    assert ended(result) == Ok({"got": "good"})
    assert len({event.body["wait_id"] for event in seen(result, "wait")}) == 2


def test_a_function_is_waited_for_across_continue_as_new():
    text = FUNCTION.replace("main:", "main:\n  - sleep: {seconds: 1}\n  - sleep: {seconds: 1}")
    result = run(text, {"color": "red"}, answers=["x"], carry_every=1)
    assert ended(result) == Ok({"got": "x"})


def test_an_execution_that_waits_for_its_client_can_be_stopped_by_a_race():
    text = """
name: t
tools: [{name: pick, type: function, effect: none}]
main:
  - race: [[{tool: pick, arguments: {}}], [{sleep: {seconds: 3}}, {evaluate: $ 1}]]
"""
    assert ended(run(text)) == Ok(1)


# --- approvals -------------------------------------------------------------------------------------------------------


def test_a_call_that_was_approved_is_made():
    result = run(PAY % "true", {"amount": 5}, answers=[{"approved": True}])
    assert ended(result) == Ok({"amount": 5})
    assert seen(result, "wait")[0].body["info"] == {"kind": "approval", "tool": "pay", "arguments": {"amount": 5}}
    assert calls_of(result) == [{"amount": 5}]


def test_a_person_may_change_the_arguments():
    result = run(PAY % "true", {"amount": 5}, answers=[{"approved": True, "arguments": {"amount": 2}}])
    assert ended(result) == Ok({"amount": 2})


def test_a_call_that_was_denied_is_never_made_and_says_why():
    result = run(PAY % "true", {"amount": 5}, answers=[{"approved": False, "reason": "too much"}])
    error = result.events[-1].body["error"]
    assert (error["code"], error["details"]["reason"]) == ("tool.denied", "too much")
    assert "too much" in error["message"]
    assert calls_of(result) == []


def test_a_condition_says_which_calls_wait():
    text = PAY % "_.amount > 10"
    assert seen(run(text, {"amount": 5}), "wait") == []
    assert ended(run(text, {"amount": 11}, answers=[{"approved": True}])) == Ok({"amount": 11})


def test_arguments_that_the_condition_cannot_judge_wait():
    result = run(PAY % "_.currency == 'EUR'", {"amount": 5}, answers=[{"approved": False}])
    assert result.events[-1].body["error"]["code"] == "tool.denied"


@pytest.mark.parametrize(
    ("default", "code"), [("", "tool.denied"), (", default: {approved: false, reason: closed}", "tool.denied")]
)
def test_nobodys_answer_at_the_deadline_denies_the_call(default: str, code: str):
    result = run(PAY % f"{{deadline: 1h{default}}}", {"amount": 5})
    error = result.events[-1].body["error"]
    assert error["code"] == code
    assert ("closed" if default else "before the deadline") in error["message"]


def test_a_default_may_let_the_call_pass():
    assert ended(run(PAY % "{deadline: 1h, default: {approved: true}}", {"amount": 5})) == Ok({"amount": 5})


TWICE = """
name: t
tools: [{name: pay, approve: true}]
main:
  - {tool: pay, arguments: {amount: 1}}
  - {tool: pay, arguments: {amount: 2}, on_error: {evaluate: $ error.code}}
"""


def test_a_decision_may_hold_for_all_later_calls_of_the_tool():
    result = run(TWICE, None, answers=[{"approved": True, "remember": True, "arguments": {"amount": 9}}])
    assert ended(result) == Ok({"amount": 2})
    assert calls_of(result) == [{"amount": 9}, {"amount": 2}], "other arguments were meant for one call"
    assert len(seen(result, "wait")) == 1
    text = TWICE.replace("amount: 1}}", "amount: 1}, on_error: {evaluate: $ 0}}")
    denied = run(text, None, answers=[{"approved": False, "remember": True}])
    assert ended(denied) == Ok("tool.denied")
    assert calls_of(denied) == []
    again = run(TWICE, None, answers=[{"approved": True}, {"approved": True}])
    assert len(seen(again, "wait")) == 2


def test_what_was_remembered_survives_continue_as_new():
    text = TWICE.replace(
        "\n  - {tool: pay, arguments: {amount: 2}",
        "\n  - sleep: {seconds: 1}\n" + "  - {tool: pay, arguments: {amount: 2}",
    )
    result = run(text, None, answers=[{"approved": True, "remember": True}], carry_every=1)
    assert ended(result) == Ok({"amount": 2})
    assert len(seen(result, "wait")) == 1


def test_an_approved_call_that_fails_is_tried_again_without_asking_again():
    text = "name: t\ntools: [{name: book, approve: true}]\nmain: [{tool: book, arguments: {seat: b}}]"
    trouble = Failed(ToolError("later", code="tool.unreachable", retryable=True))
    result = run(text, None, script(trouble, "ok"), answers=[{"approved": True, "arguments": {"seat": "c"}}])
    assert ended(result) == Ok("ok")
    assert calls_of(result) == [{"seat": "c"}, {"seat": "c"}]
    assert len(seen(result, "wait")) == 1


def test_a_function_of_the_client_can_need_an_approval():
    text = FUNCTION.replace("{name: pick,", "{name: pick, approve: true,")
    result = run(text, {"color": "red"}, answers=[{"approved": True, "arguments": {"color": "blue"}}, "done"])
    assert ended(result) == Ok({"got": "done"})
    first, second = seen(result, "wait")
    assert first.body["wait_id"] != second.body["wait_id"]
    assert second.body["info"]["arguments"] == {"color": "blue"}


# --- what the operator demands ---------------------------------------------------------------------------------------


def with_rule(plan: Plan, *approvals: Approval) -> Plan:
    tools = {name: dataclasses.replace(contract, approve=approvals) for name, contract in plan.tools.items()}
    return dataclasses.replace(plan, tools=tools)


def test_the_operators_rule_holds_though_the_task_says_nothing_and_no_worker_hears_of_it():
    heard: list[Call] = []

    def handler(call: Call) -> Answered:
        heard.append(call)
        return echo(call)

    rule = Approval(condition=Expr("_.amount > 10"), deadline=Lit(60.0))
    plan = with_rule(compiled("name: t\nmain: [{tool: pay, arguments: {amount: 11}}]"), rule)
    result = run_in_memory(plan, None, handler, answers=[{"approved": True}])
    assert ended(result) == Ok({"amount": 11})
    assert heard[0].params.tool.approve == ()  # type: ignore[union-attr]
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_remembered_yes_does_not_come_from_a_call_that_needed_none():
    plan = with_rule(
        compiled("name: t\nmain: [{tool: pay, arguments: {amount: 1}}]"), Approval(condition=Expr("_.amount > 10"))
    )
    assert ended(run_in_memory(plan, None, echo)) == Ok({"amount": 1})


def test_an_approval_sees_only_the_arguments():
    with pytest.raises(CompileError) as caught:
        compiled(PAY % "state.rich")
    assert "state" in str(caught.value.diagnostics[0].message)
