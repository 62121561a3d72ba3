"""What each kind of step does, told by running tasks in memory."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.contracts.activities import ChatParams
from engine.core.errors import ExpressionError, LimitExceeded, TaskError, ToolError
from engine.core.plan.ir import AgentSnapshot
from engine.core.run.calls import parse_reply
from engine.core.run.effects import Call, Ok, Stopped
from engine.core.spec.vocabulary import MAX_MODELS
from engine.dryrun.effects import Answered, Handler
from engine.dryrun.replies import chat_reply, failed
from tests.support.memory import echo, error_of, output_of, run, script, seen


def test_evaluate_computes_nested_values_and_leaves_plain_text_alone():
    task = """
name: t
main:
  - evaluate: {sum: $ _.a + 1, text: "braces {stay}", greeting: "hi {{ _.name }}", list: [$ _.a, b]}
"""
    expected = {"sum": 2, "text": "braces {stay}", "greeting": "hi Ann", "list": [1, "b"]}
    assert output_of(task, {"a": 1, "name": "Ann"}) == expected


def test_each_step_gets_the_output_of_the_one_before():
    assert output_of("name: t\nmain: [{evaluate: $ _ + 1}, {evaluate: $ _ * 10}]", 1) == 20


def test_steps_counts_the_top_level_of_its_list_and_knows_labels():
    task = """
name: t
main:
  - evaluate: $ _ + 1
    label: first
  - if: $ True
    then: [{evaluate: $ 100}, {evaluate: $ 200}]
  - evaluate:
      - $ steps[0].output
      - $ steps[1].output
      - $ steps['first'].input
      - $ steps.first.output
      - $ outputs[1]
      - $ inputs[0]
"""
    assert output_of(task, 1) == [2, 200, 1, 2, 200, 1]


def test_labels_inside_if_and_foreach_are_visible_afterwards_but_not_those_of_map():
    task = """
name: t
main:
  - if: $ _
    then: {evaluate: $ 1, label: inner}
  - foreach: {in: "$ [5, 6]", do: {evaluate: $ _ * 2, label: round}}
  - evaluate: [$ steps.inner.output, $ steps.round.output]
"""
    assert output_of(task, True) == [1, 12]
    hidden = """
name: t
main:
  - over: $ [1, 2]
    map: {evaluate: $ _, label: item}
  - evaluate: $ steps['it' + 'em'].output
"""
    assert error_of(hidden).code.startswith("expression.")


@pytest.mark.parametrize(
    "step",
    [
        "{if: $ False, then: {evaluate: $ 1}}",
        "{evaluate: $ 1, when: $ False}",
        "{sleep: {seconds: 5}}",
    ],
)
def test_what_does_nothing_passes_its_input_through(step: str):
    assert output_of(f"name: t\nmain: [{step}]", {"kept": True}) == {"kept": True}


def test_loops_of_no_rounds_give_empty_lists():
    assert output_of("name: t\nmain: [{foreach: {in: '$ []', do: {evaluate: $ 1}}}]") == []
    assert output_of("name: t\nmain: [{over: '$ []', map: {evaluate: $ 1}}]") == []


def test_if_takes_conditions_with_or_without_the_mark_and_lists_of_steps():
    task = "name: t\nmain: [{if: _.x > 1, then: [{evaluate: $ _.x}, {evaluate: $ _ + 1}], else: {evaluate: $ 0}}]"
    assert output_of(task, {"x": 2}) == 3
    assert output_of(task, {"x": 1}) == 0


def test_set_merges_into_the_state_and_get_reads_it():
    task = """
name: t
main:
  - set: {a: $ _ + 1}
  - set: {b: $ state.a + 1}
  - get: b
"""
    assert output_of(task, 1) == 3


def test_get_of_an_unknown_key_is_an_error_that_names_what_there_is():
    error = error_of("name: t\nmain: [{set: {a: 1}}, {get: b}]")
    assert isinstance(error, ExpressionError)
    assert (error.code, error.hint) == ("expression.no_key", "it has a")


def test_concurrent_branches_get_a_copy_of_the_state_and_their_writes_end_with_them():
    task = """
name: t
main:
  - set: {n: 1}
  - over: $ [10, 20]
    map: [{set: {n: $ state.n + _}}, {get: n}]
  - evaluate: [$ _, $ state.n]
"""
    assert output_of(task) == [[11, 21], 1]


def test_map_keeps_the_order_of_its_items_whatever_ends_first():
    def slow_first(call):
        item = int(call.params.arguments["name"])
        return Answered(Ok(item * 10), after_s=10.0 - item)

    task = "name: t\nmain: [{over: $ _, parallelism: 5, map: {tool: lookup, arguments: {name: $ str(_)}}}]"
    assert output_of(task, [1, 2, 3, 4, 5], slow_first) == [10, 20, 30, 40, 50]


def test_map_never_runs_more_branches_at_a_time_than_its_parallelism_and_a_slow_item_holds_up_nothing():
    running, most = set(), []
    started: dict[str, int] = {}

    def handler(call):
        running.add(call.id)
        most.append(len(running))
        name = call.params.arguments["name"]
        started[name] = len(started)
        return Answered(Ok(name), after_s=100.0 if name == "0" else 1.0)

    task = "name: t\nmain: [{over: $ _, parallelism: 3, map: {tool: lookup, arguments: {name: $ str(_)}}}]"
    result = run(task, list(range(20)), handler)
    took_s = (result.events[-1].now_us - result.events[0].now_us) / 1e6
    assert took_s == pytest.approx(100, abs=1), "the other nineteen ran while the slow one did"
    assert sum(1 for event in result.events if event.type == "effect.started") == 20


def test_reduce_is_one_fold_in_input_order_that_starts_with_initial():
    task = "name: t\nmain: [{over: $ _, map: {evaluate: $ _ * 2}, initial: $ 100, reduce: $ results + _}]"
    assert output_of(task, [1, 2, 3]) == 112


def test_reduce_reads_keys_with_underscores():
    task = """
name: t
main:
  - over: $ _
    map: {evaluate: {my_key: $ _}}
    initial: {}
    reduce: "$ {**results, str(_['my_key']): _.my_key}"
"""
    assert output_of(task, [1, 2]) == {"1": 1, "2": 2}


def test_parallel_gives_the_outputs_in_order_and_each_branch_may_be_a_list():
    task = "name: t\nmain: [{parallel: [{evaluate: $ _ + 1}, [{evaluate: $ _ + 2}, {evaluate: $ _ * 2}]]}]"
    assert output_of(task, 1) == [2, 6]


def test_an_item_that_fails_ends_the_map_or_is_collected_or_skipped():
    def handler(call):
        name = call.params.arguments["name"]
        return Answered(failed("tool.failed", retryable=False) if name == "2" else Ok(name))

    task = "name: t\nmain: [{over: $ _, on_item_error: MODE, map: {tool: lookup, arguments: {name: $ str(_)}}}]"
    assert error_of(task.replace("MODE", "fail"), [1, 2, 3], handler).code == "tool.failed"
    collected = output_of(task.replace("MODE", "collect"), [1, 2, 3], handler)
    assert [collected[0], collected[2]] == ["1", "3"]
    assert collected[1]["error"]["code"] == "tool.failed"
    assert output_of(task.replace("MODE", "skip"), [1, 2, 3], handler) == ["1", "3"]


def test_an_error_in_a_branch_cancels_its_siblings_and_waits_for_them():
    def handler(call):
        name = call.params.arguments["name"]
        if name == "bad":
            return Answered(failed("tool.failed", retryable=False), after_s=1)
        return Answered(Ok(name), after_s=1_000)

    task = "name: t\nmain: [{over: $ _, map: {tool: lookup, arguments: {name: $ _}}}]"
    result = run(task, ["a", "bad", "b"], handler)
    took_s = (result.events[-1].now_us - result.events[0].now_us) / 1e6
    assert took_s == pytest.approx(1, abs=0.5)
    assert result.finished is not None
    assert result.events[-1].type == "error"


def test_return_ends_the_surrounding_list_even_from_inside_branches():
    task = """
name: t
main:
  - workflow: sub
    arguments: $ _
  - evaluate: {from_sub: $ _}
sub:
  - over: $ [1, 2]
    map:
      - if: $ _ == 1
        then: {return: "$ 'early'"}
      - tool: lookup
        arguments: {name: slow}
  - evaluate: never
"""
    assert output_of(task) == {"from_sub": "early"}
    assert output_of("name: t\nmain: [{if: $ True, then: {return: {x: $ _}}}, {evaluate: $ 0}]", 5) == {"x": 5}


def test_a_sub_workflow_has_fresh_state_and_its_own_steps():
    task = """
name: t
main:
  - set: {secret: 1}
  - workflow: sub
    arguments: {n: 5}
  - evaluate: [$ _, $ state]
sub:
  - set: {own: $ _.n}
  - evaluate: {state: $ state, first: '$ steps[0].output', input: $ input}
"""
    assert output_of(task) == [
        {"state": {"own": 5}, "first": {"own": 5}, "input": {"n": 5}},
        {"secret": 1},
    ]


def test_a_sub_workflow_may_call_itself_until_done():
    task = """
name: t
main: [{workflow: down, arguments: {n: $ _}}]
down:
  - if: $ _.n > 0
    then: {workflow: down, arguments: {n: $ _.n - 1}}
    else: {evaluate: bottom}
"""
    assert output_of(task, 300) == "bottom"
    error = error_of(task, 5_000)
    assert isinstance(error, LimitExceeded)
    assert error.code == "limit.depth"


def test_an_error_step_fails_the_execution_with_its_message():
    error = error_of("name: t\nmain: [{error: 'no {{ _ }}'}]", "stock")
    assert isinstance(error, TaskError)
    assert (error.code, error.message) == ("task.error", "no stock")


def test_too_many_steps_end_the_execution_with_a_limit_that_cannot_be_caught():
    task = """
name: t
limits: {steps: 50}
main:
  - foreach: {in: $ list(range(100)), do: {evaluate: $ _}}
    on_error: {evaluate: caught}
"""
    error = error_of(task)
    assert isinstance(error, LimitExceeded)
    assert error.code == "limit.steps"


def test_a_prompt_gives_the_chat_response_and_unwrap_gives_its_text():
    reply = output_of("name: t\nmain: [{prompt: 'say {{ _ }}'}]", "hi")
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "say hi"}
    assert reply["usage"]["total_tokens"] == 10
    assert output_of("name: t\nmain: [{prompt: 'say {{ _ }}', unwrap: true}]", "hi") == "say hi"


def test_the_agents_instructions_become_the_system_message_unless_one_is_given():
    calls = []

    def handler(call):
        calls.append(call.params)
        return echo(call)

    agent = AgentSnapshot(instructions="be brief", model="m1", settings={"temperature": 0.5, "seed": 1})
    output_of("name: t\nmain: [{prompt: hi, settings: {temperature: 0}}]", None, handler, agent=agent)
    own = "name: t\nmain: [{prompt: [{role: system, content: mine}, {role: user, content: hi}], model: m2}]"
    output_of(own, None, handler, agent=agent)
    assert calls[0].messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert (calls[0].model, calls[0].settings) == ("m1", {"temperature": 0, "seed": 1})
    assert calls[1].messages[0] == {"role": "system", "content": "mine"}
    assert calls[1].model == "m2"


SCHEMA_TASK = """
name: t
main:
  - prompt: give
    output_schema: {type: object, required: [n], properties: {n: {type: integer}}}
    repair: 2
    unwrap: true
"""


def test_a_structured_reply_is_parsed_checked_and_repaired():
    result = run(SCHEMA_TASK, None, script("no json", '```json\n{"n": "x"}\n```', '{"n": 3}'))
    assert result.finished is not None
    assert result.finished.outcome == Ok({"n": 3})
    failures = seen(result, "attempt.failed")
    assert [event.body["repair"] for event in failures] == [1, 2]
    last = seen(result, "effect.started")[-1].body["request"]["messages"]
    assert "n: 'x' is not of type 'integer'" in last[-1]["content"]
    assert len(last) == 5


def test_a_structured_reply_that_never_fits_is_a_bad_reply():
    error = error_of(SCHEMA_TASK, None, script("a", "b", "c"))
    assert error.code == "backend.bad_reply"
    assert error.details["rounds"] == 2


def test_arguments_that_do_not_fit_the_tools_schema_are_refused_before_the_call():
    def never(call):
        raise AssertionError("called")

    error = error_of("name: t\nmain: [{tool: lookup, arguments: {name: $ _}}]", 5, never)
    assert isinstance(error, ToolError)
    assert error.code == "tool.bad_arguments"


def test_tokens_are_counted_and_their_limit_ends_the_execution():
    task = "name: t\nlimits: {tokens: 25}\nmain: [{foreach: {in: '$ [1,2,3,4,5]', do: {prompt: hi}}}]"
    result = run(task, None, lambda call: Answered(Ok(chat_reply("x", tokens=10))))
    assert result.finished is not None
    assert result.finished.outcome.error.code == "limit.tokens"  # type: ignore[union-attr]
    assert len(seen(result, "effect.started")) == 3


def test_random_and_uuid_are_the_same_in_every_run_and_differ_between_places():
    task = "name: t\nmain: [{evaluate: {a: $ uuid(), b: $ uuid(), r: $ random.random()}}, {evaluate: [$ _, $ uuid()]}]"
    first, second = output_of(task), output_of(task)
    assert first == second
    assert len({first[0]["a"], first[0]["b"], first[1]}) == 3


def test_a_call_that_other_hands_cancelled_is_an_error_of_the_step():
    assert error_of("name: t\nmain: [{tool: pay}]", None, script(Stopped())).code == "effect.cancelled"


def _replying(*rounds: tuple[str, float], finish: str = "stop", tokens: int = 0) -> tuple[list[Call], Handler]:
    """Answer with texts that take so many seconds; return what was called, too."""
    calls: list[Call] = []
    left = list(rounds)

    def handler(call: Call) -> Answered:
        calls.append(call)
        text, after_s = left.pop(0)
        return Answered(Ok({**chat_reply(text, tokens=tokens), "finish_reason": finish}), after_s)

    return calls, handler


def test_a_reply_that_was_cut_off_says_so_and_names_max_tokens():
    calls, handler = _replying(('{"n": "lo', 1), ('{"n": "lo', 1), ('{"n": "lo', 1), finish="length", tokens=200)
    error = error_of(SCHEMA_TASK, None, handler)
    assert error.message == (
        "the model's reply does not fit the output schema: the reply was cut off after 200 tokens (max_tokens)"
    )
    assert error.hint == "raise max_tokens in the settings of the step, or ask for less"
    assert isinstance(calls[1].params, ChatParams)
    assert "cut off after 200 tokens" in calls[1].params.messages[-1]["content"]


def test_a_reply_that_fits_although_it_was_cut_off_is_taken():
    _, handler = _replying(('{"n": 3}', 1), finish="length")
    assert output_of(SCHEMA_TASK, None, handler) == {"n": 3}


def test_a_computed_list_of_models_is_no_longer_than_one_that_is_written_out():
    source = "name: t\nmain: [{prompt: hi, model: \"$ ['m' + str(n) for n in range(_)]\", unwrap: true}]"
    sent: list[int] = []

    def handler(call: Call) -> Answered:
        assert isinstance(call.params, ChatParams)
        assert call.params.wants is not None
        sent.append(1 + len(call.params.wants.models))
        return Answered(Ok(chat_reply("yes")))

    assert output_of(source, MAX_MODELS, handler) == "yes"
    error = error_of(source, MAX_MODELS + 1, handler)
    assert (error.code, error.message) == ("input.rejected", "the model of main.0 is a list of 51")
    assert sent == [MAX_MODELS]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"n": 3}\n```', {"n": 3}),
        (' \n```\n\n{"n": 3}```  ', {"n": 3}),
        ('{"n": 3}', {"n": 3}),
        ('```{"n": 3}```', None),
        ('```json\n{"n": 3}', None),
        ("```json\n```", None),
        ("```\n`", None),
        # a workflow may think for two seconds, and a pattern that tries blanks over and over takes hours for this
        ("```json\n{" + " " * 2_000_000, None),
        ("```json" + " \n" * 1_000_000 + "```", None),
    ],
)
def test_the_json_of_a_reply_may_stand_in_a_code_fence(text: str, value: Any):
    found, problem = parse_reply(text)
    assert (found, problem == "") == (value, value is not None)


def test_repair_rounds_share_the_time_of_their_attempt():
    calls, handler = _replying(("a", 40), ("b", 15), ('{"n": 3}', 1))
    assert output_of(f"{SCHEMA_TASK}    timeout: 1m\n", None, handler) == {"n": 3}
    assert [call.timeout_s for call in calls] == [60, 20, 5]
    assert [call.params.timeout_s for call in calls if isinstance(call.params, ChatParams)] == [60, 20, 5]


def test_a_repair_round_has_a_second_at_least_and_each_attempt_its_whole_time():
    calls, handler = _replying(("a", 59.9), ("b", 1), ("c", 1), ("d", 1))
    task = SCHEMA_TASK.replace("repair: 2", "repair: 1\n    timeout: 1m\n    retry: {attempts: 2, on: [backend]}")
    error = error_of(task, None, handler)
    assert error.code == "backend.bad_reply"
    assert [call.timeout_s for call in calls] == [60, 1, 60, 59]


def test_repair_rounds_without_a_timeout_have_the_longest_time_each():
    calls, handler = _replying(("a", 500), ('{"n": 3}', 500))
    assert output_of(SCHEMA_TASK, None, handler) == {"n": 3}
    assert [call.timeout_s for call in calls] == [600, 600]
