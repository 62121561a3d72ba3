"""What an agent must observe about its tools: order, number, ends, what is required; approvals and functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.core.kinds import EventType
from engine.core.run.approvals import decision_schema
from engine.core.schemas import value_problems
from engine.dryrun.effects import START_US, Answer
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun
from tests.support.agents import Model, asks
from tests.support.memory import run
from tests.unit.test_run_agents import bodies, outcome

AGENT = """
name: t
main:
  - agent: Do it
    tools: [lookup, pay, book]
    unwrap: true
    max_rounds: 8
    rules:
      RULES
"""

LOOK: dict[str, Any] = {"lookup": {"name": "x"}}
PAY: dict[str, Any] = {"pay": {}}
BOOK: dict[str, Any] = {"book": {}}


def ruled(rules: str) -> str:
    return AGENT.replace("RULES", rules.replace("; ", "\n      "))


def told_errors(model: Model, number: int = -1) -> list[str]:
    found = [json.loads(text) for text in model.heard(number) if text.startswith('{"error"')]
    return [item["error"]["code"] for item in found]


# --- order ---------------------------------------------------------------------------------------------------------


def test_a_first_tool_is_all_that_is_offered_and_must_be_called() -> None:
    model = Model([LOOK], [PAY], "done")
    run(ruled("lookup: {first: true}"), "x", model)
    assert model.offered == [["lookup"], ["lookup", "pay", "book"], ["lookup", "pay", "book"]]
    assert [params.tool_choice for params in model.asked] == ["required", None, None]


def test_what_comes_before_a_first_tool_is_not_called() -> None:
    model = Model([PAY, LOOK], [PAY], "done")
    run(ruled("lookup: {first: true}"), "x", model)
    assert [name for name, _ in model.called] == ["lookup", "pay"]
    assert told_errors(model, 1) == ["tool.not_allowed"]


def test_only_what_a_tool_names_may_follow_it() -> None:
    model = Model([LOOK], [PAY], [BOOK], "done")
    run(ruled("lookup: {next: book}"), "x", model)
    assert model.offered[1] == ["book"]
    assert [name for name, _ in model.called] == ["lookup", "book"]
    assert model.asked[1].tool_choice == "required"
    assert json.loads(model.heard(2)[0])["error"]["you_may_call"] == ["book"]


def test_what_may_follow_can_depend_on_the_result() -> None:
    rules = "lookup: {next: [{if: _ == 'found', tool: pay}, {if: _ == 'none', tool: book}]}"
    for given, expected in (("found", ["pay"]), ("none", ["book"]), ("?", [])):
        model = Model([LOOK], "done", tools={"lookup": given})
        run(ruled(rules), "x", model)
        assert model.offered[1] == expected


def test_a_condition_on_the_result_says_nothing_of_a_failure() -> None:
    rules = "lookup: {next: [{if: _.status == 1, tool: pay}, book]}"
    model = Model([LOOK], "done", tools={"lookup": failed("tool.failed", "x", retryable=False)})
    assert outcome(run(ruled(rules), "x", model)) == "done"
    assert model.offered[1] == ["book"]


def test_nothing_is_called_beside_a_tool_whose_result_decides_what_follows() -> None:
    model = Model([LOOK, PAY], [BOOK], "done")
    run(ruled("lookup: {next: book}"), "x", model)
    assert [name for name, _ in model.called] == ["lookup", "book"]
    assert told_errors(model, 1) == ["tool.not_allowed"]


def test_a_tool_may_be_called_only_right_after_another_one() -> None:
    model = Model([PAY], [LOOK], [PAY], [PAY], "done")
    run(ruled("pay: {only_after: lookup}"), "x", model)
    assert [name for name, _ in model.called] == ["lookup", "pay"]
    assert model.offered[:4] == [["lookup", "book"], ["lookup", "book"], ["lookup", "pay", "book"], ["lookup", "book"]]


def test_a_tool_is_called_at_most_so_often_also_within_a_turn() -> None:
    model = Model([PAY, PAY, PAY], [PAY], "done")
    run(ruled("pay: {at_most: 2}"), "x", model)
    assert len(model.called) == 2
    assert told_errors(model, 1) == ["tool.not_allowed"]
    assert model.offered[1] == ["lookup", "book"]


# --- ends ----------------------------------------------------------------------------------------------------------


def test_a_tool_that_ends_the_loop_gives_its_output() -> None:
    model = Model([LOOK], [BOOK], tools={"book": {"seat": 7}})
    assert outcome(run(ruled("book: {ends: true}"), "x", model)) == {"seat": 7}
    assert len(model.asked) == 2


def test_the_whole_output_tells_which_tool_ended_it() -> None:
    model = Model([BOOK], tools={"book": 7})
    output = outcome(run(ruled("book: {ends: true}").replace("unwrap: true", "unwrap: false"), "x", model))
    assert output["ended_by"] == {"tool": "book", "output": 7}
    assert output["choices"][0]["message"]["tool_calls"]


def test_a_tool_that_ends_the_loop_and_fails_does_not_end_it() -> None:
    model = Model([BOOK], "sorry", tools={"book": failed("tool.failed", "full", retryable=False)})
    assert outcome(run(ruled("book: {ends: true}"), "x", model)) == "sorry"


def test_the_last_round_still_runs_a_tool_that_ends_the_loop() -> None:
    model = Model([BOOK], tools={"book": 7})
    task = ruled("book: {ends: true}").replace("max_rounds: 8", "max_rounds: 1")
    assert outcome(run(task, "x", model)) == 7


def test_the_loop_does_not_end_before_what_is_required() -> None:
    model = Model("I am done", [PAY], "now I am")
    assert outcome(run(ruled("pay: {required: true}"), "x", model)) == "now I am"
    assert model.heard(1) == ["You cannot finish yet: first call pay."]
    assert (model.offered[1], model.asked[1].tool_choice) == (["pay"], "required")


def test_what_ends_the_loop_waits_for_what_is_required() -> None:
    model = Model([BOOK], [PAY], [BOOK], tools={"book": 7})
    assert outcome(run(ruled("pay: {required: true}; book: {ends: true}"), "x", model)) == 7
    assert [name for name, _ in model.called] == ["pay", "book"]


def test_a_model_that_never_calls_what_is_required_runs_out_of_rounds() -> None:
    model = Model(*["no"] * 8)
    assert outcome(run(ruled("pay: {required: true}"), "x", model)).code == "agent.max_rounds"


# --- approvals -----------------------------------------------------------------------------------------------------

APPROVED = ruled("pay: {approve: {if: _.amount > 10, info: Look at it, deadline: 1h}}")


def big(amount: float = 99) -> list[dict[str, Any]]:
    return [{"pay": {"amount": amount}}]


def waits(result: DryRun) -> list[dict[str, Any]]:
    return bodies(result, EventType.WAIT)


def test_a_call_that_needs_approval_waits_in_its_own_place() -> None:
    model = Model([*big(), LOOK], "done")
    result = run(APPROVED, "x", model)
    (wait,) = waits(result)
    assert wait["path"] == "main.0.turn[0].1[0].0"
    assert wait["info"] == {"kind": "approval", "tool": "pay", "arguments": {"amount": 99}, "info": "Look at it"}
    assert wait["deadline_us"] == START_US + 3_600_000_000 + 1_000
    assert [name for name, _ in model.called] == ["lookup"], "others of the turn do not wait"


@pytest.mark.parametrize(
    ("answer", "called"),
    [
        ({"approved": True}, [("pay", {"amount": 99})]),
        ({"approved": True, "arguments": {"amount": 5}}, [("pay", {"amount": 5})]),
        ({"approved": False, "reason": "too much"}, []),
    ],
)
def test_a_person_approves_changes_or_denies(answer: dict[str, Any], called: list[Any]) -> None:
    model = Model(big(), "done")
    assert outcome(run(APPROVED, "x", model, [answer])) == "done"
    assert model.called == called
    if not called:
        (told,) = map(json.loads, model.heard())
        assert told["error"]["code"] == "tool.denied"
        assert "too much" in told["error"]["message"]


def test_other_arguments_must_be_such_that_the_tool_takes_them() -> None:
    model = Model(big(), "done")
    answers = [{"approved": True, "arguments": {"amount": "much"}}, {"approved": True, "arguments": {"amount": 5}}]
    result = run(APPROVED, "x", model, answers)
    assert outcome(result) == "done"
    (refused,) = bodies(result, EventType.ANSWER_REFUSED)
    assert (refused["code"], "arguments/amount" in refused["message"]) == ("input.rejected", True)
    assert model.called == [("pay", {"amount": 5})]


def test_references_in_the_schema_of_a_tool_still_lead_to_its_parts() -> None:
    parameters = {
        "type": "object",
        "properties": {"part": {"$ref": "#/$defs/part"}},
        "$defs": {"part": {"type": "object", "properties": {"inner": {"$ref": "#"}, "n": {"type": "integer"}}}},
    }
    schema = decision_schema(parameters)
    right = {"approved": True, "arguments": {"part": {"n": 1, "inner": {"part": {"n": 2}}}}}
    wrong = {"approved": True, "arguments": {"part": {"n": 1, "inner": {"part": {"n": "two"}}}}}
    assert value_problems(right, schema) == []
    assert value_problems(wrong, schema) == ["arguments/part/inner/part/n: 'two' is not of type 'integer'"]
    assert value_problems({"approved": False}, schema) == []


def test_small_amounts_need_nobody() -> None:
    model = Model(big(3), "done")
    assert outcome(run(APPROVED, "x", model)) == "done"
    assert model.called == [("pay", {"amount": 3})]


def test_arguments_that_the_condition_cannot_judge_need_a_person() -> None:
    model = Model([{"pay": {}}], "done")
    assert waits(run(APPROVED, "x", model))
    assert model.called == []


@pytest.mark.parametrize(("default", "made"), [("", 0), (", default: {approved: true}", 1)])
def test_at_the_deadline_the_default_counts_and_without_one_the_call_is_denied(default: str, made: int) -> None:
    model = Model(big(), "done")
    result = run(APPROVED.replace("deadline: 1h", f"deadline: 1h{default}"), "x", model, answerer=lambda _: None)
    assert outcome(result) == "done"
    assert len(model.called) == made
    assert bodies(result, EventType.RESUME)[0]["expired"] is True


def test_a_decision_may_be_remembered() -> None:
    model = Model(big(), big(50), [*big(60)], "done")
    result = run(APPROVED, "x", model, [{"approved": True, "remember": True}])
    assert outcome(result) == "done"
    assert [given["amount"] for _, given in model.called] == [99, 50, 60]
    assert len(waits(result)) == 1


def test_what_was_denied_is_not_forced_again_and_does_not_count_as_called() -> None:
    rules = "lookup: {approve: true, first: true, at_most: 1, required: true}"
    model = Model([LOOK], "then not")
    assert outcome(run(ruled(rules), "x", model, [{"approved": False}])) == "then not"
    assert model.offered[1] == ["lookup"]
    assert model.asked[1].tool_choice is None


def test_an_approval_survives_continue_as_new() -> None:
    model = Model([*big(), LOOK], [PAY], "done")
    answer = Answer({"approved": True}, after_s=60.0)
    result = run(APPROVED, "x", model, answerer=lambda _: answer, carry_every=1)
    assert outcome(result) == "done"
    assert ("pay", {"amount": 99}) in model.called


# --- functions of the client ---------------------------------------------------------------------------------------

FUNCTIONS = """
name: t
main:
  - agent: Do it
    unwrap: true
    total_timeout: 1h
    tools:
      - lookup
      - name: ask_user
        description: Ask.
        parameters: {type: object, properties: {q: {type: string}}, required: [q]}
"""


def test_a_function_of_the_client_is_a_wait_whose_answer_is_its_result() -> None:
    model = Model([{"ask_user": {"q": "why?"}}], "done")
    result = run(FUNCTIONS, "x", model, ["because"])
    assert outcome(result) == "done"
    (wait,) = waits(result)
    assert wait["info"] == {"kind": "function_call", "tool": "ask_user", "arguments": {"q": "why?"}}
    assert model.heard() == ["because"]
    assert model.called == []
    assert model.offered[0] == ["lookup", "ask_user"]


def test_arguments_of_a_function_are_checked_before_anybody_is_asked() -> None:
    model = Model(asks(("ask_user", {})), "done")
    result = run(FUNCTIONS, "x", model)
    assert outcome(result) == "done"
    assert waits(result) == []
    assert told_errors(model) == ["tool.bad_arguments"]


def test_a_function_that_nobody_runs_ends_with_the_time_of_the_step() -> None:
    model = Model([{"ask_user": {"q": "why?"}}])
    assert outcome(run(FUNCTIONS, "x", model, answerer=lambda _: None)).code == "step.total_timeout"
