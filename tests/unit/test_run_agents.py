"""Agents in memory: turns, tool calls and their errors, answers, overflow, and what a call carries of the talk."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.core.contracts.conversations import CONVERSATION_MISSING, chain_all, kept_reply
from engine.core.kinds import EventType
from engine.core.plan.ir import AgentSnapshot
from engine.core.plan.ops import AgentOp
from engine.core.run.agent_talk import MOST_RESULT_CHARS
from engine.core.run.effects import Call, Failed, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun, run_in_memory
from engine.talks import Talks
from tests.support.agents import Model, asks, too_long
from tests.support.memory import compiled, run

AGENT = """
name: t
main:
  - agent: "Find {{ _ }}"
    tools: [lookup, pay, book]
    unwrap: true
"""


def outcome(result: DryRun) -> Any:
    """Return the output of a run, or its error."""
    assert result.finished is not None, result.waits
    ended = result.finished.outcome
    return ended.value if isinstance(ended, Ok) else ended.error  # type: ignore[union-attr]


def bodies(result: DryRun, kind: EventType) -> list[dict[str, Any]]:
    return [event.body for event in result.events if event.type == kind]


# --- the loop ------------------------------------------------------------------------------------------------------


def test_a_model_calls_tools_until_it_answers() -> None:
    model = Model([{"lookup": {"name": "gold"}}], [{"book": {"seat": "b"}}], "done")
    assert outcome(run(AGENT, "gold", model)) == "done"
    assert model.called == [("lookup", {"name": "gold"}), ("book", {"seat": "b"})]
    last = model.asked[-1].messages
    assert [message["role"] for message in last] == ["user", "assistant", "tool", "assistant", "tool"]
    assert last[0]["content"] == "Find gold"
    assert json.loads(last[2]["content"]) == {"name": "gold"}
    assert last[2]["tool_call_id"] == last[1]["tool_calls"][0]["id"]


def test_each_turn_is_a_block_of_steps_with_paths_of_their_own() -> None:
    result = run(AGENT, "x", Model([{"lookup": {"name": "a"}}, {"lookup": {"name": "b"}}], "done"))
    started = [(body["path"], body["kind"]) for body in bodies(result, EventType.EFFECT_STARTED)]
    assert started == [
        ("main.0.turn[0].0", "prompt"),
        ("main.0.turn[0].1[0].0", "tool_call"),
        ("main.0.turn[0].1[1].0", "tool_call"),
        ("main.0.turn[1].0", "prompt"),
    ]


def test_without_unwrap_the_output_is_the_last_reply_and_what_the_loop_did() -> None:
    output = outcome(run(AGENT.replace("unwrap: true", "label: a"), "x", Model([{"lookup": {"name": "a"}}], "done")))
    assert output["object"] == "chat.completion"
    assert output["choices"][0]["message"]["content"] == "done"
    assert output["turns"] == 2
    assert output["total_usage"] == {"prompt_tokens": 0, "completion_tokens": 20, "total_tokens": 20}
    assert [message["role"] for message in output["messages"]] == ["assistant", "tool", "assistant"]


def test_the_instructions_come_first_and_those_of_the_agent_if_there_are_none() -> None:
    own, others = Model("a"), Model("b")
    run(AGENT + '    instructions: "You find {{ _ }}."\n', "gold", own)
    run(AGENT, "gold", others, agent=AgentSnapshot(instructions="Be kind."))
    assert own.asked[0].messages[0] == {"role": "system", "content": "You find gold."}
    assert others.asked[0].messages[0] == {"role": "system", "content": "Be kind."}


def test_rounds_that_are_used_up_end_the_step_before_the_last_tools_are_called() -> None:
    model = Model([{"pay": {}}], [{"pay": {}}])
    error = outcome(run(AGENT + "    max_rounds: 2\n", "x", model))
    assert error.code == "agent.max_rounds"
    assert error.details["step"] == "main.0"
    assert len(model.called) == 1


def test_calls_of_a_turn_run_side_by_side_but_not_more_than_parallelism_at_once() -> None:
    under_way, most = 0, 0

    def lookup(_: dict[str, Any]) -> Answered:
        return Answered(Ok("x"), 10.0)

    model = Model([{"lookup": {"name": str(number)}} for number in range(5)], "done", tools={"lookup": lookup})
    result = run(AGENT + "    parallelism: 2\n", "x", model)
    for event in result.events:
        if event.body.get("kind") == "tool_call":
            under_way += {"effect.started": 1, "effect.finished": -1}.get(event.type, 0)
            most = max(most, under_way)
    assert (len(model.called), most) == (5, 2)


def test_results_stand_in_the_order_of_the_calls_whichever_ends_first() -> None:
    def lookup(given: dict[str, Any]) -> Answered:
        return Answered(Ok(given["name"]), 10.0 if given["name"] == "slow" else 1.0)

    model = Model([{"lookup": {"name": "slow"}}, {"lookup": {"name": "fast"}}], "done", tools={"lookup": lookup})
    run(AGENT, "x", model)
    assert model.heard() == ["slow", "fast"]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_carried_over_at_any_moment_it_does_the_same(every: int) -> None:
    said = [[{"lookup": {"name": "a"}}, {"book": {"seat": "b"}}], [{"lookup": {"name": "c"}}], "done"]
    plain, carried = Model(*said), Model(*said)
    one, other = run(AGENT, "x", plain), run(AGENT, "x", carried, carry_every=every)
    assert other.runs > 1
    assert carried.called == plain.called
    assert carried.keys == plain.keys
    assert [event.body for event in other.events] == [event.body for event in one.events]


# --- what a model may not do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rm -rf /", "lookup\n", "Lookup", "", "pay;lookup", "word_count", "__import__"])
def test_a_tool_that_is_not_offered_is_never_called_and_the_model_learns_which_are(name: str) -> None:
    model = Model(asks((name, {"name": "x"})), "done")
    result = run(AGENT.replace("[lookup, pay, book]", "[lookup]"), "x", model)
    assert outcome(result) == "done"
    assert model.called == []
    (told,) = map(json.loads, model.heard())
    assert told["error"]["code"] == "tool.unknown"
    assert told["error"]["you_may_call"] == ["lookup"]
    (failure,) = bodies(result, EventType.BRANCH_FAILED)
    assert (failure["path"], failure["error"]["code"]) == ("main.0.turn[0].1[0]", "tool.unknown")


def test_a_name_that_only_looks_like_a_tool_once_it_was_cleaned_is_not_called() -> None:
    model = Model(asks(("lo;kup", {})), "done")
    run(AGENT.replace("[lookup, pay, book]", "[lookup]"), "x", model)
    kept = model.asked[1].messages[1]["tool_calls"][0]["function"]["name"]
    assert kept == "lo_kup"
    assert model.called == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("{broken", "not JSON"),
        ("[1]", "no object"),
        ('{"name": 5}', "is not of type 'string'"),
        ("{}", "'name' is a required property"),
        ('{"name": NaN}', "not JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model_which_may_correct_them(given: str, problem: str) -> None:
    model = Model(asks(("lookup", given)), [{"lookup": {"name": "x"}}], "done")
    assert outcome(run(AGENT, "x", model)) == "done"
    assert model.called == [("lookup", {"name": "x"})]
    (told,) = map(json.loads, model.heard(1))
    assert told["error"]["code"] == "tool.bad_arguments"
    assert problem in told["error"]["message"]
    # no backend takes a conversation back in which arguments are no object
    kept = model.asked[1].messages[1]["tool_calls"][0]["function"]["arguments"]
    assert isinstance(json.loads(kept), dict)


def test_a_schema_that_applies_over_and_over_costs_a_turn_of_many_calls_no_more_than_one() -> None:
    parts = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(11)}
    parameters = {"properties": {"n": {"$ref": "#/$defs/d0"}}, "$defs": {**parts, "d11": {"type": "integer"}}}
    function = {"name": "ask", "parameters": {"type": "object", **parameters}}
    task = f"name: t\nmain:\n  - agent: x\n    unwrap: true\n    tools: [{json.dumps(function)}]\n"
    model = Model([{"ask": {"n": 1}}] * 50, "done")
    assert outcome(run(task, "x", model)) == "done"
    told = {json.loads(text)["error"]["message"] for text in model.heard()}
    assert {text.partition("takes more than ")[2].partition(";")[0] for text in told} == {"2,000 steps"}


def test_arguments_of_very_many_values_are_refused() -> None:
    model = Model([{"lookup": {"name": "x", "more": list(range(30_000))}}, {"lookup": {"name": "y"}}], "done")
    assert outcome(run(AGENT, "x", model)) == "done"
    assert model.called == [("lookup", {"name": "y"})]


def test_calls_without_ids_or_with_the_same_get_ids_of_their_own() -> None:
    model = Model(asks(("lookup", {"name": "a"}), ("lookup", {"name": "b"}), ids=""), "done")
    run(AGENT, "x", model)
    messages = model.asked[1].messages
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [message["tool_call_id"] for message in messages[2:]] == ids


# --- tools that fail -----------------------------------------------------------------------------------------------


def test_a_tool_that_fails_for_good_is_told_to_the_model_which_goes_on() -> None:
    broken = failed("tool.failed", "no such seat", retryable=False)
    model = Model([{"pay": {}}, {"lookup": {"name": "a"}}], "done", tools={"pay": broken})
    assert outcome(run(AGENT, "x", model)) == "done"
    first, second = model.heard()
    assert json.loads(first) == {"error": {"code": "tool.failed", "message": "no such seat"}}
    assert json.loads(second) == {"name": "a"}


def test_only_a_repeatable_tool_is_tried_again() -> None:
    again = failed("tool.unreachable", "down", retryable=True)
    model = Model([{"book": {}}, {"pay": {}}], "done", tools={"book": again, "pay": again})
    run(AGENT, "x", model)
    names = [name for name, _ in model.called]
    assert (names.count("book"), names.count("pay")) == (4, 1)
    book_keys = {key for (name, _), key in zip(model.called, model.keys, strict=True) if name == "book"}
    assert len(book_keys) == 1, "all attempts carry the same key"


def test_an_outcome_that_nobody_knows_is_told_as_such() -> None:
    lost = failed("effect.outcome_unknown", "whether it had its effect is unknown", retryable=False)
    model = Model([{"pay": {}}], "done", tools={"pay": lost})
    run(AGENT, "x", model)
    assert json.loads(model.heard()[0])["error"]["code"] == "effect.outcome_unknown"
    assert len(model.called) == 1


def test_a_model_error_is_tried_again_without_repeating_a_tool_of_an_earlier_turn() -> None:
    busy = failed("backend.overloaded", "busy", retryable=True)
    model = Model([{"pay": {}}], busy, busy, "done")
    assert outcome(run(AGENT, "x", model)) == "done"
    assert len(model.called) == 1


def test_the_retry_of_the_step_is_that_of_each_model_call() -> None:
    busy = failed("backend.overloaded", "busy", retryable=True)
    model = Model([{"pay": {}}], busy, busy)
    error = outcome(run(AGENT + "    retry: {attempts: 2}\n", "x", model))
    assert error.code == "backend.overloaded"
    assert (len(model.asked), len(model.called)) == (3, 1)
    assert error.details["step"] == "main.0.turn[1].0"


def test_on_error_takes_what_ends_the_loop() -> None:
    model = Model([{"pay": {}}], failed("backend.refused", "no", retryable=False))
    assert outcome(run(AGENT + "    on_error: [{evaluate: $ error.code}]\n", "x", model)) == "backend.refused"


def test_the_total_timeout_is_that_of_the_whole_step() -> None:
    def pay(_: dict[str, Any]) -> Answered:
        return Answered(Ok(1), 50.0)

    model = Model([{"pay": {}}], [{"pay": {}}], [{"pay": {}}], tools={"pay": pay})
    error = outcome(run(AGENT + "    timeout: 30s\n    total_timeout: 2m\n", "x", model))
    assert error.code == "step.total_timeout"
    assert {params.timeout_s for params in model.asked} == {30.0}


def test_another_attempt_at_what_surrounds_it_has_other_keys_for_other_calls() -> None:
    task = f"""
name: t
main:
  - workflow: w
    retry: {{attempts: 2, initial: 1s}}
w:
  - {AGENT.split("- ", 1)[1].replace(chr(10) + "    ", chr(10) + "    ")}
  - if: _ == 'bad'
    then: [{{error: again}}]
"""
    model = Model([{"book": {"seat": "a"}}], "bad", [{"book": {"seat": "b"}}], "good")
    run(task, "x", model)
    assert len(set(model.keys)) == 2
    same = Model([{"book": {"seat": "a"}}], "bad", [{"book": {"seat": "a"}}], "good")
    run(task, "x", same)
    assert len(set(same.keys)) == 1


def test_a_long_result_is_cut_and_says_so() -> None:
    model = Model([{"lookup": {"name": "x"}}], "done", tools={"lookup": "y" * 60_000})
    run(AGENT, "x", model)
    (told,) = model.heard()
    assert len(told) < MOST_RESULT_CHARS + 100
    assert "of 60,000 characters" in told


# --- answers -------------------------------------------------------------------------------------------------------

SCHEMA = AGENT + "    output_schema: {type: object, properties: {n: {type: integer}}, required: [n]}\n"


def test_an_answer_that_does_not_fit_is_repaired_without_tools() -> None:
    model = Model([{"lookup": {"name": "x"}}], "five", '{"n": 5}')
    result = run(SCHEMA, "x", model)
    assert outcome(result) == {"n": 5}
    assert [bool(params.tools) for params in model.asked] == [True, True, False]
    assert [params.output_schema is not None for params in model.asked] == [False, False, True]
    assert "JSON Schema" in model.asked[0].messages[0]["content"]
    assert [body["repair"] for body in bodies(result, EventType.ATTEMPT_FAILED)] == [1]


def test_an_answer_that_never_fits_ends_the_step() -> None:
    error = outcome(run(SCHEMA + "    repair: 1\n", "x", Model("a", "b")))
    assert error.code == "backend.bad_reply"


def test_without_tools_the_schema_is_asked_for_at_once() -> None:
    model = Model('{"n": 1}')
    task = SCHEMA.replace("    tools: [lookup, pay, book]\n", "")
    assert outcome(run(task, "x", model)) == {"n": 1}
    assert model.asked[0].output_schema is not None
    assert len(model.asked[0].messages) == 1


def test_a_check_that_does_not_hold_sends_the_answer_back_with_its_tools() -> None:
    check = "    check: {if: len(_) < 6, message: too long, on_fail: repair}\n"
    model = Model("much too long", [{"lookup": {"name": "x"}}], "short")
    assert outcome(run(AGENT + check, "x", model)) == "short"
    assert model.called == [("lookup", {"name": "x"})]


def test_a_check_may_ask_a_person() -> None:
    check = "    check: {if: len(_) < 6, message: too long, on_fail: ask}\n"
    assert outcome(run(AGENT + check, "x", Model("much too long"), [{"accept": True}])) == "much too long"


def test_limits_count_all_calls_of_the_model() -> None:
    model = Model([{"lookup": {"name": "x"}}], [{"lookup": {"name": "x"}}], "done")
    error = outcome(run("limits: {tokens: 15}" + AGENT, "x", model))
    assert error.code == "limit.tokens"
    assert len(model.asked) == 2


def test_each_turn_is_a_round_for_the_limits() -> None:
    model = Model([{"lookup": {"name": "x"}}], [{"lookup": {"name": "x"}}], "done")
    assert outcome(run("limits: {rounds: 2}" + AGENT, "x", model)).code == "limit.rounds"


# --- overflow ------------------------------------------------------------------------------------------------------


def looks(count: int) -> list[list[dict[str, Any]]]:
    return [[{"lookup": {"name": f"{number}" * 50}}] for number in range(count)]


def test_a_conversation_that_is_too_long_ends_the_step_if_nothing_else_is_said() -> None:
    model = Model(*looks(2), too_long())
    assert outcome(run(AGENT, "x", model)).code == "backend.context_too_long"
    assert len(model.asked) == 3, "it is not tried again as it is"


def test_truncate_leaves_the_oldest_turns_out_and_asks_again() -> None:
    model = Model(*looks(4), too_long(), "done")
    result = run(AGENT + "    on_overflow: truncate\n    instructions: Look.\n", "x", model)
    assert outcome(result) == "done"
    before, after = model.asked[-2].messages, model.asked[-1].messages
    assert after[:2] == before[:2]
    assert after[2:] == before[-len(after[2:]) :]
    assert 0 < len(after) < len(before)
    assert after[2]["role"] == "assistant"
    (told,) = bodies(result, EventType.ATTEMPT_FAILED)
    assert (told["overflow"], told["messages"]) == ("truncate", len(before) - len(after))
    assert len(model.called) == 4, "no tool was called again"


def test_truncate_shortens_results_once_there_is_nothing_else() -> None:
    model = Model([{"lookup": {"name": "x"}}], too_long(), too_long(), "done", tools={"lookup": "y" * 4_000})
    assert outcome(run(AGENT + "    on_overflow: truncate\n", "x", model)) == "done"
    sizes = [len(params.messages[-1]["content"]) for params in model.asked[1:]]
    assert sizes[0] == 4_000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 1_100


def test_a_conversation_that_cannot_be_shortened_ends_the_step() -> None:
    model = Model(too_long())
    assert outcome(run(AGENT + "    on_overflow: truncate\n", "x", model)).code == "backend.context_too_long"


def test_summarise_puts_a_summary_in_the_place_of_the_oldest_turns_by_a_step_of_its_own() -> None:
    model = Model(*looks(4), too_long(), "they were numbers", "done")
    result = run(AGENT + "    on_overflow: summarise\n", "x", model)
    assert outcome(result) == "done"
    asked, after = model.asked[-2].messages, model.asked[-1].messages
    assert "0" * 50 in asked[-1]["content"]
    assert not model.asked[-2].tools
    assert after[0]["content"] == "Find x"
    assert "they were numbers" in after[1]["content"]
    assert "0" * 50 not in json.dumps(after)
    assert "3" * 50 in json.dumps(after)
    paths = [body["path"] for body in bodies(result, EventType.EFFECT_STARTED)][-3:]
    assert paths == ["main.0.turn[4].0", "main.0.turn[4].1", "main.0.turn[4].2"]


@pytest.mark.parametrize("way", ["truncate", "summarise"])
def test_tools_are_called_after_an_overflow_as_well(way: str) -> None:
    says = [*looks(3), too_long(), *(["sum"] if way == "summarise" else []), [{"book": {"seat": "z"}}], "done"]
    model = Model(*says)
    assert outcome(run(AGENT + f"    on_overflow: {way}\n", "x", model, carry_every=1)) == "done"
    assert model.called[-1] == ("book", {"seat": "z"})


# --- deltas --------------------------------------------------------------------------------------------------------


def test_a_call_carries_only_what_is_new_and_a_hash_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = _watch(monkeypatch)
    run(AGENT, "x", Model(*looks(5), "done"))
    assert [len(params.messages) for params in sent] == [1, 1, 1, 1, 1, 1]
    assert [params.conversation.known for params in sent] == [0, 2, 4, 6, 8, 10]
    assert len({params.conversation.id for params in sent}) == 1
    assert len({params.conversation.hash for params in sent}) == 6


def test_a_conversation_that_is_kept_no_more_is_sent_whole_once_and_uses_up_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = _watch(monkeypatch, forget_at=2)
    model = Model(*looks(3), "done")
    result = run(AGENT + "    retry: {attempts: 1}\n", "x", model)
    assert outcome(result) == "done"
    assert [params.conversation.known for params in sent] == [0, 2, 4, 0, 6]
    assert len(sent[3].messages) == 5
    assert bodies(result, EventType.ATTEMPT_FAILED) == []
    ids = [body["effect_id"] for body in bodies(result, EventType.EFFECT_STARTED)]
    assert len(set(ids)) == len(ids)


def test_events_tell_of_a_call_what_is_new() -> None:
    result = run(AGENT, "x", Model(*looks(2), "done"))
    requests = [body["request"] for body in bodies(result, EventType.EFFECT_STARTED) if body["kind"] == "prompt"]
    assert [(len(request["messages"]), request["before"]) for request in requests] == [(1, 0), (1, 2), (1, 4)]
    assert requests[0]["tools"] == ["lookup", "pay", "book"]


def test_hashes_and_kept_replies_are_the_same_on_both_sides() -> None:
    message = asks(("odd name", "{broken"), ids="")
    kept = kept_reply(message, 3)
    assert kept_reply(kept, 3) == kept
    assert kept["tool_calls"][0]["function"]["name"] == "odd_name"
    assert chain_all("", [kept, message]) == chain_all(chain_all("", [kept]), [message])
    assert chain_all("", [message]) != chain_all("", [kept])
    assert kept_reply({"role": "assistant", "content": "x"}, 0) == {"role": "assistant", "content": "x"}
    assert chain_all("", [{"content": "\ud800"}])


def _watch(monkeypatch: pytest.MonkeyPatch, forget_at: int | None = None) -> list[Any]:
    """Return the calls to models as they are sent; before one of them all that was kept is forgotten."""
    sent: list[Any] = []
    whole = Talks.whole

    def watched(self: Talks, call: Call) -> Call:
        if hasattr(call.params, "messages"):
            if len(sent) == forget_at:
                self.kept.clear()
            sent.append(call.params)
        return whole(self, call)

    monkeypatch.setattr(Talks, "whole", watched)
    return sent


def test_a_model_that_has_nothing_kept_and_says_so_again_fails_the_step() -> None:
    model = Model(Failed(failed(CONVERSATION_MISSING, "gone", retryable=False).error))
    assert outcome(run(AGENT, "x", model)).code == CONVERSATION_MISSING


# --- functions that are handed over ----------------------------------------------------------------------------------


def handing_over(*says: Any, tools: dict[str, Any] | None = None) -> tuple[DryRun, Model]:
    """Run an agent that leaves the function `ask` to whoever started it, without waiting."""
    function = {"name": "ask", "parameters": {"type": "object", "required": ["what"]}}
    plan = compiled(f"name: t\nmain:\n  - agent: x\n    tools: [lookup, {json.dumps(function)}]\n")
    op = plan.blocks[0].ops[0]
    assert isinstance(op, AgentOp)
    blocks = (replace(plan.blocks[0], ops=(replace(op, hands_over=True),)), *plan.blocks[1:])
    model = Model(*says, tools=tools)
    return run_in_memory(replace(plan, blocks=blocks), None, model), model


def test_a_call_of_a_function_that_is_handed_over_ends_the_loop_and_waits_for_nobody() -> None:
    result, model = handing_over([{"ask": {"what": "age"}}])
    ended = outcome(result)
    assert (result.waits, model.called) == ([], [])
    assert ended["choices"][0]["finish_reason"] == "tool_calls"
    assert [message["role"] for message in ended["messages"]] == ["assistant"]


def test_tools_beside_it_are_run_before_the_loop_ends() -> None:
    result, model = handing_over([{"lookup": {"name": "a"}}, {"ask": {"what": "age"}}])
    ended = outcome(result)
    assert model.called == [("lookup", {"name": "a"})]
    assert [message["role"] for message in ended["messages"]] == ["assistant", "tool"]
    (first, _) = ended["messages"][0]["tool_calls"]
    assert ended["messages"][1]["tool_call_id"] == first["id"]


def test_a_call_that_does_not_fit_is_told_to_the_model_and_not_handed_over() -> None:
    result, _ = handing_over([{"ask": {}}], "I see")
    ended = outcome(result)
    assert ended["choices"][0]["message"]["content"] == "I see"
    assert "tool.bad_arguments" in ended["messages"][1]["content"]
