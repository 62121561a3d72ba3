"""Planning contenox chains: blocks that jump, what handlers compute, and when branches are taken."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.core.errors import BugError
from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.plan.chains import compile_chain
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.computed import Expr
from engine.core.plan.ir import AgentSnapshot, Block, Exit, Plan, ToolContract
from engine.core.plan.ops import EvaluateOp, PromptOp
from engine.core.run.effects import Call, Failed, Ok
from engine.core.spec.dialects.contenox_read import read_chain
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import run_in_memory
from engine.source.parse import parse_source

CONTRACTS = {name: ToolContract(name, "python", effect="read") for name in ("crm.open", "crm.find")}  # type: ignore[arg-type]
END = "transition: {branches: [{operator: default, goto: end}]}"


def plan_of(text: str) -> Plan:
    spec, read = read_chain(parse_source(text, "chain"))
    plan, made = compile_chain(spec, contracts=CONTRACTS, agent=AgentSnapshot())
    assert (read.errors, made.errors) == ([], [])
    return plan


def ran(members: str, given: Any, reply: Any = "") -> Any:
    """Run the only task of a chain, without its jumps, and return how it ended."""
    plan = plan_of(f"tasks: [{{id: a, {members}, {END}}}]")
    plain = replace(plan, blocks=tuple(Block(block.name, block.ops) for block in plan.blocks), dialect="everstep")
    result = run_in_memory(plain, given, _answering(reply))
    assert result.finished is not None
    return result.finished.outcome


def _answering(reply: Any) -> Callable[[Call], Answered]:
    def answer(call: Call) -> Answered:
        if callable(reply):
            return Answered(Ok(reply(call)))
        return Answered(Ok(chat_reply(reply) if isinstance(reply, str) else reply))

    return answer


def output(members: str, given: Any, reply: Any = "") -> Any:
    outcome = ran(members, given, reply)
    assert isinstance(outcome, Ok), outcome
    return outcome.value


def failure(members: str, given: Any, reply: Any = "") -> str:
    outcome = ran(members, given, reply)
    assert isinstance(outcome, Failed), outcome
    return outcome.error.message


def taken(handler: str, branches: str, result: Any) -> int | None:
    """Return the number of the branch that a task with some output takes."""
    listing = "".join(f"\n    - {{{branch}}}" for branch in branches.split("; "))
    plan = plan_of(f"tasks:\n- id: a\n  handler: {handler}\n  transition:\n    branches:{listing}")
    context = EvalContext(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "seed")
    for number, way in enumerate(plan.blocks[0].exits):
        if way.when is None or compile_expression(way.when.source).truthy({"_": result, "state": {}}, context):
            return number
    return None


# --- the shape of the plan -----------------------------------------------------------------------------------------


def test_each_task_is_a_block_and_each_branch_an_exit_with_the_default_last() -> None:
    plan = plan_of(
        """
        id: loop
        tasks:
        - id: one
          handler: raw_string
          transition:
            on_failure: two
            branches:
            - {operator: default, goto: two}
            - {operator: equals, when: again, goto: one}
        - {id: two, handler: noop, transition: {branches: [{operator: default, goto: end}]}}
        """
    )
    assert plan.task == "loop"
    assert plan.workflows == {"main": 0}
    assert [block.name for block in plan.blocks] == ["one", "two"]
    assert plan.blocks[0].exits == (Exit(0, Expr("_ == 'again'")), Exit(1))
    assert plan.blocks[0].on_failure == 1
    assert plan.blocks[1].exits == (Exit(),)


def test_a_plan_with_jumps_is_the_same_after_writing_and_reading_it() -> None:
    plan = plan_of(f"tasks: [{{id: a, handler: parse_number, retry_on_failure: 1, {END}}}]")
    body = plan_to_json(plan)
    assert plan_from_json(body) == plan
    assert body["dialect"] == "contenox"


def test_jumps_stand_in_no_plan_that_has_none() -> None:
    plan = Plan("t", (Block("main", (EvaluateOp(value=Expr("1")),)),), {"main": 0})
    assert set(plan_to_json(plan)["blocks"][0]) == {"name", "ops"}


def test_the_interpreter_refuses_a_plan_with_jumps() -> None:
    plan = plan_of(f"tasks: [{{id: a, handler: noop, {END}}}]")
    with pytest.raises(BugError) as caught:
        run_in_memory(plan, 1, _answering(""))
    assert caught.value.code == "plan.not_runnable"


# --- handlers ------------------------------------------------------------------------------------------------------


def test_a_prompt_gets_the_instruction_and_the_trimmed_reply_is_the_output() -> None:
    asked: list[Any] = []

    def reply(call: Call) -> Any:
        asked.append((call.params.messages, call.params.model))  # type: ignore[union-attr]
        return chat_reply("  fine \n")

    members = "handler: raw_string, system_instruction: Be brief., execute_config: {model: m}"
    assert output(members, "hello", reply) == "fine"
    assert asked == [
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}], "m"),
    ]


@pytest.mark.parametrize("given", ["hello", {"messages": [{"role": "user", "content": "hello"}]}])
def test_what_is_asked_is_a_text_or_the_last_message_of_a_conversation(given: Any) -> None:
    assert output("handler: raw_string", given, lambda call: chat_reply(call.params.messages[-1]["content"])) == "hello"


@pytest.mark.parametrize(
    ("handler", "reply", "value"),
    [
        ("condition_key, valid_conditions: {sure: true, never: false}", " sure ", True),
        ("condition_key, valid_conditions: {sure: true, never: false}", "never", False),
        ("parse_number", "4 2", 42),
        ("parse_number", '"7"', 7),
        ("parse_number", "about 3.0 of them", 3),
        ("parse_score", "I say -2.5!", -2.5),
        ("parse_range", "3 - 7", "3-7"),
        ("parse_range", '"5"', "5-5"),
    ],
)
def test_a_reply_becomes_a_value(handler: str, reply: str, value: Any) -> None:
    assert output(f"handler: {handler}", "?", reply) == value


@pytest.mark.parametrize(
    ("handler", "reply", "message"),
    [
        (
            "condition_key, valid_conditions: {sure: true}",
            "Sure",
            'the reply "Sure" is none of sure',
        ),
        ("parse_number", "4.5", "the reply holds no whole number"),
        ("parse_number", "many", "the reply holds no whole number"),
        ("parse_score", "many", "the reply holds no number"),
        ("parse_range", "few", 'the reply "few" is no range of two numbers'),
    ],
)
def test_a_reply_that_does_not_fit_fails_the_task(handler: str, reply: str, message: str) -> None:
    assert failure(f"handler: {handler}", "?", reply) == message


def test_retries_cover_what_becomes_of_the_reply() -> None:
    replies = ["many", "none", "5"]
    members = "handler: parse_number, retry_on_failure: 2, timeout: 10s"
    assert output(members, "?", lambda _: chat_reply(replies.pop(0))) == 5
    assert replies == []


def test_the_input_is_a_template_over_the_variables_or_one_of_them() -> None:
    assert output("handler: noop, prompt_template: 'so {{.input}}'", "x") == "so x"
    assert output("handler: noop, input_var: input", "x") == "x"


def test_pairs_of_keys_and_values_become_an_object() -> None:
    given = "a=1; b: 2.5,c = true\nd: plain text=x; nothing; e="
    assert output("handler: parse_key_value", given) == {
        "a": 1,
        "b": 2.5,
        "c": True,
        "d: plain text": "x",
        "e": "",
    }


def test_an_error_task_fails_with_its_input() -> None:
    assert failure("handler: raise_error, prompt_template: 'no {{.input}}'", "luck") == "no luck"


def test_a_conversation_gets_the_reply_and_keeps_what_it_had() -> None:
    asked: list[Any] = []

    def reply(call: Call) -> Any:
        asked.append(call.params.messages)  # type: ignore[union-attr]
        return chat_reply("hi")

    given = {"messages": [{"role": "user", "content": "hello"}], "model": "m"}
    made = output("handler: model_execution, system_instruction: Be brief.", given, reply)
    assert made == {
        "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
        "model": "m",
    }
    assert asked == [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]]


def test_a_model_is_offered_the_tools_of_the_services_but_those_that_are_hidden() -> None:
    plan = plan_of(
        f"tasks: [{{id: a, handler: model_execution, execute_config: {{hooks: [crm], hide_tools: [crm.find]}}, {END}}}]"
    )
    (prompt,) = [op for op in plan.blocks[0].ops if isinstance(op, PromptOp)]
    assert [tool["function"]["name"] for tool in prompt.tools] == ["crm.open"]


CALLS = {
    "messages": [
        {"role": "user", "content": "find it"},
        {
            "role": "assistant",
            "content": "",
            "callTools": [
                {"id": "c1", "function": {"name": "crm.find", "arguments": '{"q": 1}'}},
                {"id": "c2", "function": {"name": "crm.open", "arguments": "{}"}},
            ],
        },
    ]
}


def test_the_calls_of_a_model_are_run_one_after_another_and_answered() -> None:
    made = output(
        "handler: execute_tool_calls, execute_config: {hooks: [crm]}",
        CALLS,
        lambda call: {"tool": call.params.tool.name, "arguments": call.params.arguments},
    )
    assert made["messages"][:2] == CALLS["messages"]
    assert [(message["role"], message["tool_call_id"]) for message in made["messages"][2:]] == [
        ("tool", "c1"),
        ("tool", "c2"),
    ]
    assert '"crm.find"' in made["messages"][2]["content"]


def test_a_tool_that_the_model_was_not_offered_is_not_called() -> None:
    message = failure("handler: execute_tool_calls", CALLS)
    assert message == "the model called the tool crm.find, which it was not offered"


def test_a_hook_gets_the_input_and_its_arguments_and_its_result_may_be_rendered() -> None:
    members = "handler: hook, hook: {name: crm, tool_name: open, args: {queue: support}}"

    def reply(call: Call) -> Any:
        return {"id": 7, "got": call.params.arguments}  # type: ignore[union-attr]

    assert output(members, "x", reply) == {"id": 7, "got": {"input": "x", "queue": "support"}}
    assert output(f"{members}, output_template: 'ticket {{{{.id}}}}'", "x", reply) == "ticket 7"


def test_a_conversation_becomes_a_completion() -> None:
    made = output("handler: convert_to_openai_chat_response", {**CALLS, "inputTokens": 3, "outputTokens": 4})
    assert made["choices"][0]["finish_reason"] == "tool_calls"
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    ("strategy", "template", "given", "value"),
    [
        (
            "append_string_to_chat_history",
            "note",
            {"messages": [{"role": "user", "content": "x"}]},
            {"messages": [{"role": "system", "content": "note"}, {"role": "user", "content": "x"}]},
        ),
        (
            "merge_chat_histories",
            "",
            {"messages": [{"role": "user", "content": "x"}], "inputTokens": 2},
            {"messages": [{"role": "user", "content": "x"}] * 2, "model": "", "inputTokens": 4, "outputTokens": 0},
        ),
        ("override", "", {"a": 1}, {"a": 1}),
        ("", "", {"a": 1}, {"a": 1}),
        (
            "",
            "",
            {"messages": [{"role": "user", "content": "x"}]},
            {
                "messages": [{"role": "user", "content": "x"}] * 2,
                "model": "",
                "inputTokens": 0,
                "outputTokens": 0,
            },
        ),
    ],
)
def test_an_output_is_put_together_with_a_variable(strategy: str, template: str, given: Any, value: Any) -> None:
    members = f"handler: noop, prompt_template: '{template}', compose: {{with_var: input, strategy: '{strategy}'}}"
    assert output(members, given) == value


# --- branches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "branch", "result", "yes"),
    [
        ("raw_string", "operator: equals, when: Yes", "Yes", True),
        ("raw_string", "operator: equals, when: Yes", "yes", False),
        ("raw_string", "operator: contains, when: b", "abc", True),
        ("raw_string", "operator: starts_with, when: a", "abc", True),
        ("raw_string", 'operator: ends_with, when: "c\'"', "abc'", True),
        ("raw_string", "operator: gt, when: '5'", "I say 6", True),
        ("raw_string", "operator: lt, when: ' 5 '", "-7", True),
        ("raw_string", "operator: in_range, when: 1-5", "5", True),
        ("raw_string", "operator: in_range, when: 1.5 - 5", "1", False),
        ("parse_number", "operator: '>', when: 5", 6, True),
        ("parse_number", "operator: equals, when: '6'", 6, True),
        ("parse_score", "operator: equals, when: '6.50'", 6.5, True),
        ("parse_range", "operator: gt, when: '2'", "3-7", True),
        ("parse_transition", "operator: equals, when: help", "/help me", True),
        ("parse_transition", "operator: equals, when: pass", "help me", True),
        ("parse_transition", "operator: equals, when: ''", "  ", True),
        ("parse_transition", "operator: equals, when: ''", "/", True),
        ("model_execution", "operator: equals, when: tool-call", CALLS, True),
        ("model_execution", "operator: equals, when: tool-call", {"messages": [{"content": "x"}]}, False),
        ("execute_tool_calls", "operator: equals, when: tools_executed", {"messages": [{"role": "tool"}]}, True),
        ("execute_tool_calls", "operator: equals, when: no_calls_found", {"messages": [{"role": "user"}]}, True),
    ],
)
def test_a_branch_compares_the_result_of_its_handler(handler: str, branch: str, result: Any, yes: bool) -> None:
    branch = branch.replace("when: 5", "when: '5'")
    assert (taken(handler, f"{branch}; operator: default", result) == 0) is yes


def test_the_first_branch_that_fits_is_taken_and_without_one_none() -> None:
    branches = "operator: contains, when: a; operator: contains, when: b"
    assert taken("raw_string", branches, "ba") == 0
    assert taken("raw_string", branches, "b") == 1
    assert taken("raw_string", branches, "c") is None
