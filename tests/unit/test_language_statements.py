"""What the language reference says in its prose of data flow, scopes, modifiers and texts holds when it is run."""

from __future__ import annotations

import json

import pytest

from engine.core.contracts.execution import EventSignal
from engine.core.errors import BackendError, DefinitionError, ToolError
from engine.core.plan.ir import AgentSnapshot
from engine.core.run.effects import Failed, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from tests.support.memory import compiled, error_of, output_of, run, seen

# --- how data flows ------------------------------------------------------------------------------------------------


def test_the_input_stays_readable_whichever_step_has_come_since():
    assert output_of("main: [{evaluate: 1}, {evaluate: '$ [_, input.x]'}]", {"x": 5}) == [1, 5]


@pytest.mark.parametrize(
    "step",
    [
        "{if: 'false', then: {evaluate: 1}}",
        "{switch: [{case: 'false', then: {evaluate: 1}}]}",
        "{when: 'false', evaluate: 1}",
        "{while: 'false', do: {evaluate: 1}}",
        "{log: said}",
        "{sleep: 1s}",
    ],
)
def test_what_does_nothing_passes_its_input_on(step: str):
    assert output_of(f"main: [{step}]", {"x": 5}) == {"x": 5}


def test_set_hands_on_what_it_has_set_and_not_the_whole_state():
    assert output_of("main: [{set: {a: 1}}, {set: {b: 2}}, {evaluate: '$ [_, state]'}]") == [{"b": 2}, {"a": 1, "b": 2}]


def test_set_replaces_a_member_as_a_whole():
    assert output_of("main: [{set: {a: {x: 1}}}, {set: {a: {y: 2}}}, {get: a}]") == {"y": 2}


def test_a_sub_workflow_sees_nothing_of_its_caller_but_its_arguments():
    text = """
    main: [{set: {a: 1}}, {workflow: sub, arguments: {n: 7}}, {evaluate: "$ [_, state]"}]
    sub: [{set: {b: 2}}, {evaluate: "$ [input, state]"}]
    """
    assert output_of(text, {"x": 0}) == [[{"n": 7}, {"b": 2}], {"a": 1}]


def test_what_a_round_sets_and_labels_is_there_after_the_loop():
    text = """
    main:
      - foreach: {in: "[1, 2]", do: [{label: last, evaluate: $ _ * 10}, {set: {sum: "$ state.get('sum', 0) + _"}}]}
      - evaluate: "$ [steps['last'].output, state.sum]"
    """
    assert output_of(text) == [20, 30]


def test_what_a_concurrent_branch_sets_and_labels_ends_with_it():
    text = """
    main:
      - set: {a: 1}
      - parallel:
          - [{label: x, evaluate: 1}, {set: {a: 2}}, {evaluate: "$ [state.a, steps['x'].output]"}]
          - {evaluate: $ state.a}
      - evaluate: "$ [_, state.a, steps.get('x')]"
    """
    assert output_of(text) == [[[2, 1], 1], 1, None]


def test_steps_are_counted_at_the_top_level_of_their_list():
    text = """
    main:
      - if: 'true'
        then: [{evaluate: 1}, {evaluate: 2}]
      - evaluate: 3
      - evaluate: "$ [steps[0].output, steps[1].output, steps[1].input]"
    """
    assert output_of(text) == [2, 3, 2]


def test_a_step_that_has_not_run_has_no_entry():
    text = 'main: [{if: _, then: {label: x, evaluate: 1}}, {evaluate: "$ EXPR"}]'
    assert error_of(text.replace("EXPR", "steps['x'].output"), False).code == "expression.no_key"
    assert output_of(text.replace("EXPR", "steps.get('x')"), False) is None


def test_values_become_json_when_a_step_ends():
    text = """
    main:
      - evaluate: {a: "$ {1, 2}", b: "$ (1, 2)", c: "$ datetime.datetime(2026, 1, 1)", d: $ timedelta(minutes=1)}
    """
    assert output_of(text) == {"a": [1, 2], "b": [1, 2], "c": "2026-01-01T00:00:00Z", "d": 60}
    assert error_of("main: [{evaluate: $ float('nan')}]").code == "expression.not_json"


def test_task_execution_and_agent_say_who_runs():
    found = output_of("name: who\nmain: [{evaluate: '$ [task.name, len(execution.id), agent.name]'}]")
    assert found == ["who", 36, ""]


def test_an_object_in_a_loop_is_its_keys():
    assert output_of("main: [{foreach: {in: _, do: {evaluate: $ _}}}]", {"b": 1, "a": 2}) == ["b", "a"]


# --- texts ---------------------------------------------------------------------------------------------------------


def test_texts_are_expressions_templates_or_themselves():
    text = "main: [{evaluate: {a: $ 1 + 1, b: '{{ 1 + 1 }}', c: '{1 + 1}', d: $1}}]"
    assert output_of(text) == {"a": 2, "b": "2", "c": "{1 + 1}", "d": "$1"}


@pytest.mark.parametrize("mark", ["", "$ "])
def test_conditions_are_expressions_with_or_without_a_mark(mark: str):
    text = f"main: [{{if: '{mark}_ > 1', then: {{evaluate: more}}, else: {{evaluate: less}}}}]"
    assert output_of(text, 2) == "more"


def test_yes_and_dates_are_text():
    assert output_of("main: [{evaluate: [yes, on, 2026-01-01, true]}]") == ["yes", "on", "2026-01-01", True]


def test_now_is_the_time_at_which_the_step_began():
    text = (
        "main: [{evaluate: '$ now().isoformat()'}, {sleep: 1h}, {evaluate: '$ [steps[0].output, now().isoformat()]'}]"
    )
    assert output_of(text) == ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"]


@pytest.mark.parametrize("start", ["{", "[", '"', "'", "*", "&", "!", "%", "@", "`", "|", ">", "#"])
def test_a_text_that_starts_with_a_sign_of_yaml_needs_quotes(start: str):
    plain = f"main:\n  - evaluate: {start}x y\n"
    try:
        found = output_of(plain)
    except DefinitionError:
        found = None
    assert found != f"{start}x y"
    assert output_of(f"main:\n  - evaluate: {json.dumps(f'{start}x y')}\n") == f"{start}x y"


@pytest.mark.parametrize("text", ["Name: {{ _ }}", "Nr #1", "a #b"])
def test_a_text_with_a_colon_or_a_hash_behind_a_blank_needs_quotes(text: str):
    try:
        found = output_of(f"main:\n  - evaluate: {text}\n", "x")
    except DefinitionError:
        found = None
    assert found not in (text, text.replace("{{ _ }}", "x"))


@pytest.mark.parametrize("text", ["$ [1, 2][0]", "$ [1, 2]", "$ max(1, 2)", "$ {'a': 1}"])
def test_an_expression_with_commas_or_brackets_needs_quotes_inside_of_braces(text: str):
    with pytest.raises(DefinitionError):
        output_of(f"main: [{{evaluate: {{a: {text}}}}}]")
    output_of(f'main: [{{evaluate: {{a: "{text}"}}}}]')


def test_folded_and_literal_texts_need_no_quotes():
    text = "main:\n  - evaluate: >-\n      Name: {{ _ }}\n      and # more\n"
    assert output_of(text, "x") == "Name: x and # more"


# --- modifiers -----------------------------------------------------------------------------------------------------


def busy(times: int):
    left = [BackendError("busy", code="backend.overloaded", retryable=True)] * times

    def handler(call):
        return Answered(Failed(left.pop()))

    return handler


def test_a_prompt_has_four_attempts_on_errors_that_may_pass():
    result = run("main: [{prompt: x}]", handler=busy(9))
    assert [event.body["retry_in_s"] for event in seen(result, "attempt.failed")] == [1.0, 2.0, 4.0, None]


@pytest.mark.parametrize(("tool", "attempts"), [("lookup", 4), ("book", 4), ("pay", 1)])
def test_a_tool_is_tried_again_only_if_it_may_be_repeated(tool: str, attempts: int):
    arguments = {"lookup": "{name: x}", "book": "{}", "pay": "{}"}[tool]
    result = run(f"main: [{{tool: {tool}, arguments: {arguments}}}]", handler=busy(9))
    assert len(seen(result, "attempt.failed")) == attempts


@pytest.mark.parametrize(
    ("code", "on", "attempts"),
    [
        ("tool.failed", "", 3),
        ("effect.outcome_unknown", "", 1),
        ("effect.outcome_unknown", ", on: effect.outcome_unknown", 3),
    ],
)
def test_with_a_retry_of_its_own_every_tool_is_tried_again_but_not_after_an_unknown_outcome(
    code: str, on: str, attempts: int
):
    def handler(call):
        return Answered(Failed(ToolError("no", code=code)))

    result = run(f"main: [{{tool: pay, arguments: {{}}, retry: {{attempts: 3{on}}}}}]", handler=handler)
    assert len(seen(result, "attempt.failed")) == attempts


def test_on_names_the_errors_after_which_a_step_is_tried_again_and_no_others():
    text = "main: [{retry: {attempts: 3, on: CODE}, error: x}]"
    assert len(seen(run(text.replace("CODE", "tool")), "attempt.failed")) == 1
    assert len(seen(run(text.replace("CODE", "task")), "attempt.failed")) == 3


def test_a_block_that_is_tried_again_gets_the_state_back():
    text = """
    main:
      - set: {n: 0}
      - retry: {attempts: 3}
        on_error: {evaluate: $ state.n}
        if: 'true'
        then: [{set: {n: $ state.n + 1}}, {if: state.n < 2, then: {error: again}}]
    """
    assert output_of(text) == 1


def test_an_error_inside_of_on_error_goes_on_upwards():
    assert error_of("main: [{error: one, on_error: {error: two}}]").message == "two"


def test_on_error_sees_the_steps_input_and_the_error():
    found = output_of("main: [{error: no, on_error: {evaluate: '$ [_, sorted(error.keys())]'}}]", 7)
    assert found == [7, ["attempts", "code", "details", "message", "retryable", "step"]]


def test_a_step_saved_by_on_error_is_not_undone():
    text = """
    main:
      - {label: x, error: no, on_error: {evaluate: 1}, undo: {log: undone}}
      - {label: y, evaluate: 2, undo: {log: "y {{ _ }}"}}
      - {when: 'false', evaluate: 3, undo: {log: undone}}
      - error: end
    """
    logs = [event.body["log"] for event in run(text).events if "log" in event.body]
    assert logs == ["y 2"]


def test_steps_are_undone_in_reverse_order_before_finally_runs():
    text = """
    main:
      - {evaluate: 1, undo: {log: first}}
      - {evaluate: 2, undo: {log: second}}
      - error: end
    finally: {log: finally}
    """
    logs = [event.body["log"] for event in run(text).events if "log" in event.body]
    assert logs == ["second", "first", "finally"]


def test_a_limit_cannot_be_caught():
    text = "limits: {rounds: 1}\nmain: [{foreach: {in: '[1, 2]', do: {evaluate: 1}}, on_error: {evaluate: caught}}]"
    assert error_of(text).code == "limit.rounds"


def test_on_an_item_a_reached_limit_fails_the_map_always():
    text = "limits: {steps: 3}\nmain: [{over: '[1, 2, 3, 4]', map: {evaluate: $ _}, on_item_error: skip}]"
    assert error_of(text).code == "limit.steps"


# --- waits, races, prompts -----------------------------------------------------------------------------------------


def test_an_answer_that_does_not_fit_is_refused_and_the_step_goes_on_waiting():
    text = "main: [{wait_for_input: {schema: {type: integer}}}]"
    result = run(text, answers=["no", 5])
    assert [event.type for event in seen(result, "answer.refused", "answer.accepted")] == [
        "answer.refused",
        "answer.accepted",
    ]
    assert output_of(text, answers=["no", 5]) == 5


@pytest.mark.parametrize("step", ["wait_for_input: null", "approve: Well?", "wait_for_event: paid"])
def test_a_timeout_on_a_wait_is_a_deadline(step: str):
    assert error_of(f"main: [{{{step}, timeout: 1h}}]").code == "wait.expired"


def test_what_a_person_does_not_accept_fails_the_step():
    text = "main: [{tool: lookup, arguments: {name: x}, check: {if: 'false', on_fail: ask}}]"
    assert error_of(text, answers=[{"accept": False}]).code == "check.failed"
    assert output_of(text, answers=[{"accept": True}]) == {"name": "x"}


def test_an_event_that_comes_before_its_step_is_kept_and_counts_once():
    text = """
    main:
      - sleep: 1h
      - {wait_for_event: paid, key: A7}
      - {wait_for_event: paid, key: A7, deadline: 1h, default: no}
    """
    paid = EventSignal(id="e1", name="paid", key="A7", value=20)
    other = EventSignal(id="e2", name="paid", key="B1", value=30)
    result = run(text, outside=[other, paid, paid])
    assert [event.body["output"] for event in seen(result, "resume")] == [20, "no"]


def test_a_branch_of_a_race_that_fails_starts_the_next_one_at_once():
    text = "main: [{race: [{error: no}, [{sleep: 1s}, {evaluate: second}]], stagger: 1h}]"
    result = run(text)
    assert output_of(text) == "second"
    assert result.events[-1].now_us - result.events[0].now_us < 2_000_000


def test_a_return_in_a_concurrent_branch_ends_its_named_list_only():
    text = """
    main: [{workflow: sub}, {evaluate: "main got {{ _ }}"}]
    sub: [{over: "[1, 2]", map: [{if: _ == 2, then: {return: two}}, {sleep: 1h}]}, {evaluate: not reached}]
    """
    assert output_of(text) == "main got two"


def test_the_agents_instructions_come_first_unless_there_is_a_system_message():
    agent = AgentSnapshot(id="a", name="Ada", instructions="Be kind.")
    asked: list[list[str]] = []

    def handler(call):
        asked.append([message["role"] for message in call.params.messages])
        return Answered(Ok(chat_reply("ok")))

    run("main: [{prompt: x}, {prompt: [{role: system, content: y}]}]", handler=handler, agent=agent)
    assert asked == [["system", "user"], ["system"]]


def test_a_servers_wish_for_a_longer_pause_is_respected():
    def handler(call):
        asked = {"retry_after_s": 60.0}
        return Answered(Failed(BackendError("busy", code="backend.rate_limited", retryable=True, details=asked)))

    result = run("main: [{prompt: x, retry: {attempts: 2}}]", handler=handler)
    assert [event.body["retry_in_s"] for event in seen(result, "attempt.failed")] == [60.0, None]


def test_without_arguments_the_input_is_passed_on():
    assert output_of("main: [{tool: lookup}]", {"name": "x"}) == {"name": "x"}
    assert output_of("main: [{workflow: sub}]\nsub: [{evaluate: $ input}]", {"name": "x"}) == {"name": "x"}
    assert output_of("main: [{tool: pay}]") == {}


# --- the end -------------------------------------------------------------------------------------------------------


def test_finally_sees_the_output_the_state_and_the_input_of_main():
    text = """
    main: [{set: {a: 1}}, {evaluate: done}]
    finally: {log: "{{ output }} {{ error }} {{ _ }} {{ state.a }} {{ input.x }}"}
    """
    result = run(text, {"x": 5})
    assert [event.body["log"] for event in result.events if "log" in event.body] == ["done  done 1 5"]
    assert output_of(text, {"x": 5}) == "done"


def test_an_error_in_finally_fails_a_success_and_is_added_to_a_failure():
    assert error_of("main: [{evaluate: 1}]\nfinally: {error: late}").message == "late"
    found = error_of("main: [{error: first}]\nfinally: {error: late}")
    assert (found.message, found.details["finally"]["message"]) == ("first", "late")


def test_defaults_of_the_input_schema_are_not_filled_in():
    text = "input_schema: {type: object, properties: {a: {default: 1}}}\nmain: [{evaluate: $ _.get('a')}]"
    assert output_of(text, {}) is None


def test_a_task_without_a_limit_may_run_a_million_steps():
    limits = compiled("main: [{evaluate: 1}]").limits
    assert (limits.steps, limits.rounds, limits.seconds, limits.tokens) == (1_000_000, None, None, None)
