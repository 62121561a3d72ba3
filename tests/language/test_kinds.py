"""DESIGN §3, "Kinds": what each kind of step does."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.contracts.children import ChildParams
from engine.core.contracts.execution import EventSignal, MessageSignal
from engine.core.kinds import StepKind
from engine.core.run.effects import Call, Failed, Ok
from engine.core.spec.vocabulary import MARKERS
from engine.dryrun.effects import Answered
from engine.dryrun.scripted import dry_run
from tests.language.words import Noting, compile_in, seconds
from tests.support.agents import Model
from tests.support.memory import echo, error_of, output_of, run, seen

JULEP_KINDS = {
    "evaluate",
    "tool_call",
    "prompt",
    "get",
    "set",
    "log",
    "return",
    "yield",
    "error",
    "sleep",
    "wait_for_input",
    "if_else",
    "switch",
    "foreach",
    "map_reduce",
    "parallel",
}


def test_every_kind_of_julep_has_a_key_that_marks_it():
    """All of Julep's kinds are there."""
    assert {kind.value for kind in MARKERS.values()} >= JULEP_KINDS
    assert {kind.value for kind in StepKind} >= JULEP_KINDS


def test_evaluate_computes_its_members():
    """A step `evaluate` computes a value."""
    assert output_of("name: t\nmain: [{evaluate: {sum: $ _.a + 1, text: plain}}]", {"a": 2}) == {
        "sum": 3,
        "text": "plain",
    }


def test_tool_calls_a_tool_with_its_arguments():
    """A step `tool` calls a tool; what it gives is the step's output."""
    desk = Noting(lambda call: Answered(Ok("booked")))
    assert output_of("name: t\nmain: [{tool: book, arguments: {seat: $ _}}]", "7a", desk) == "booked"
    assert desk.arguments("seat") == ["7a"]


def test_prompt_asks_a_model_and_gives_its_chat_completion():
    """A step `prompt` asks a model; its output is the whole reply."""
    reply = output_of("name: t\nmain: [{prompt: 'say {{ _ }}'}]", "hi")
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "say hi"}


def test_set_and_get_write_and_read_the_state():
    """A step `set` merges into the state, and `get` reads a key of it."""
    assert output_of("name: t\nmain: [{set: {a: 1, b: 2}}, {set: {a: $ state.a + 5}}, {get: a}]") == 6
    assert output_of("name: t\nmain: [{set: {a: 1, b: 2}}, {set: {a: 3}}, {get: b}]") == 2


def test_log_tells_its_text_in_the_transition():
    """A step `log` says something in the history."""
    result = run("name: t\nmain: [{log: 'got {{ _ }}'}, {evaluate: $ _}]", 3)
    assert [event.body["log"] for event in seen(result, "step")] == ["got 3"]


def test_return_ends_the_list_with_its_value():
    """A step `return` ends the surrounding named list."""
    assert output_of("name: t\nmain: [{return: {x: $ _}}, {evaluate: never}]", 1) == {"x": 1}
    nested = "name: t\nmain: [{foreach: {in: '$ [1, 2]', do: {if: _ == 2, then: {return: found}}}}, {evaluate: never}]"
    assert output_of(nested) == "found"


def test_workflow_runs_a_named_list_with_arguments_as_its_input():
    """A step `workflow` (Julep's yield) runs a sub-workflow; its output is the list's."""
    task = "name: t\nmain: [{workflow: double, arguments: {n: $ _}}, {evaluate: $ _ + 1}]\n"
    assert output_of(task + "double: [{return: $ _.n * 2}]", 5) == 11


def test_error_fails_the_execution_with_its_message():
    """A step `error` fails the execution."""
    error = error_of("name: t\nmain: [{error: 'no {{ _ }}'}]", "stock")
    assert (error.code, error.message) == ("task.error", "no stock")


def test_sleep_lasts_as_long_as_its_parts_together():
    """A step `sleep` waits for a time."""
    assert seconds(run("name: t\nmain: [{sleep: {minutes: 1, seconds: 30}}]")) == 90
    assert seconds(run("name: t\nmain: [{sleep: 2h}]")) == 7200


def test_wait_for_input_gives_the_answer():
    """A step `wait_for_input` waits for an answer and tells who is asked."""
    task = "name: t\nmain: [{wait_for_input: {info: {question: 'really {{ _ }}?'}}}]"
    result = run(task, "go", answers=["yes"])
    assert result.finished is not None
    assert result.finished.outcome == Ok("yes")
    assert seen(result, "wait")[0].body["info"] == {"question": "really go?"}


@pytest.mark.parametrize(("given", "output"), [(5, "large"), (1, "small")])
def test_if_runs_then_or_else(given: int, output: str):
    """A step `if` runs one of two ways."""
    assert output_of("name: t\nmain: [{if: _ > 3, then: {evaluate: large}, else: {evaluate: small}}]", given) == output


@pytest.mark.parametrize(("given", "output"), [("a", 1), ("b", 2), ("c", 3)])
def test_switch_runs_the_first_case_that_holds(given: str, output: int):
    """A step `switch` runs the first case that holds; `_` is the default."""
    task = """
name: t
main:
  - switch:
      - {case: _ == 'a', then: {evaluate: 1}}
      - {case: _ in 'ab', then: {evaluate: 2}}
      - {case: _, then: {evaluate: 3}}
"""
    assert output_of(task, given) == output


def test_foreach_runs_its_steps_for_one_item_after_another():
    """A step `foreach` runs sequentially; `_` is the item, the output is the list of outputs."""
    desk = Noting(lambda call: Answered(Ok(call.params.arguments["seat"] * 2), 5.0))  # type: ignore[union-attr]
    result = run("name: t\nmain: [{foreach: {in: _, do: {tool: book, arguments: {seat: $ _}}}}]", ["a", "b"], desk)
    assert result.finished is not None
    assert result.finished.outcome == Ok(["aa", "bb"])
    assert seconds(result) == 10


def test_map_runs_as_many_items_at_a_time_as_its_parallelism():
    """A step `over`/`map` runs items concurrently, `parallelism` at a time, and keeps their order."""
    task = "name: t\nmain: [{over: _, parallelism: 2, map: {tool: book, arguments: {seat: $ _}}}]"
    times = {"a": 30.0, "b": 10.0, "c": 10.0}

    def desk(call: Call) -> Answered:
        seat = str(call.params.arguments["seat"])  # type: ignore[union-attr]
        return Answered(Ok(seat.upper()), times[seat])

    result = run(task, ["a", "b", "c"], desk)
    assert result.finished is not None
    assert result.finished.outcome == Ok(["A", "B", "C"])
    assert seconds(result) == 30
    assert seconds(run(task.replace("parallelism: 2", "parallelism: 1"), ["a", "b", "c"], desk)) == 50


def test_map_folds_its_outputs_when_it_has_a_reduce():
    """A map takes `initial` and `reduce`."""
    task = "name: t\nmain: [{over: _, map: {evaluate: $ _ * 10}, initial: 1000, reduce: results + _}]"
    assert output_of(task, [1, 2, 3]) == 1060


def test_parallel_runs_its_branches_at_the_same_time():
    """A step `parallel` runs branches concurrently on the same input."""
    task = "name: t\nmain: [{parallel: [[{sleep: 10}, {evaluate: $ _ + 1}], [{sleep: 20}, {evaluate: $ _ + 2}]]}]"
    result = run(task, 1)
    assert result.finished is not None
    assert result.finished.outcome == Ok([2, 3])
    assert seconds(result) == 20


def test_while_goes_on_as_long_as_its_condition_holds():
    """A step `while` runs as long as its condition holds."""
    assert output_of("name: t\nmain: [{while: _ < 10, do: {evaluate: $ _ * 2}}]", 3) == 12


def test_until_goes_on_until_its_condition_holds():
    """A step `until` runs its steps and then looks."""
    assert output_of("name: t\nmain: [{until: _ >= 3, do: {evaluate: $ _ + 1}}]", 7) == 8


@pytest.mark.parametrize("loop", ["while: 'True'", "until: 'False'"])
def test_a_loop_that_passes_its_limit_is_an_error(loop: str):
    """The loops `while` and `until` have a loop limit."""
    desk = Noting()
    error = error_of(f"name: t\nmain: [{{{loop}, do: {{tool: book}}, max_rounds: 3}}]", None, desk)
    assert error.code == "loop.too_many_rounds"
    assert len(desk.calls) == 3


def test_embed_and_search_are_steps_of_their_own():
    """Steps `embed` and `search`, which Julep only named, are there and run."""
    found = {"docs": [{"id": "d"}]}
    text = "main: [{embed: $ _, label: v}, {search: {vector: '$ _.vectors[0]'}, label: s}]"
    run = dry_run(compile_in(text).plan, "x", replies={"v": {"vectors": [[1.0]]}, "s": found})
    assert run.finished is not None
    assert run.finished.outcome == Ok(found)


def test_agent_is_a_loop_of_a_model_and_its_tools():
    """A step `agent` is a tool loop."""
    model = Model([{"lookup": {"name": "a"}}, {"book": {}}], [{"book": {"seat": "b"}}], "It was Ada.")
    task = "name: t\nmain: {agent: 'Find out who wrote {{ _ }}.', tools: [lookup, book], max_rounds: 7, unwrap: true}"
    assert output_of(task, "x", model) == "It was Ada."
    assert [name for name, _ in model.called] == ["lookup", "book", "book"]
    assert len(model.asked) == 3


def test_task_runs_another_task_as_a_child_execution():
    """A step `task` runs another task as a child execution."""
    desk = Noting(lambda call: Answered(Ok({"said": "hello"})))
    task = "name: t\nmain: [{task: greet, version: 3, arguments: {name: $ _}}, {evaluate: $ _.said}]"
    assert output_of(task, "Ann", desk) == "hello"
    (call,) = desk.calls
    assert isinstance(call.params, ChildParams)
    assert (call.params.task.name, call.params.task.version, call.params.input) == ("greet", 3, {"name": "Ann"})
    assert call.params.execution_id != call.params.context.execution_id


def test_race_gives_what_its_fastest_branch_gives():
    """A step `race` runs branches against each other."""
    task = "name: t\nmain: [{race: [[{sleep: 20}, {evaluate: slow}], [{sleep: 5}, {evaluate: fast}]]}]"
    result = run(task)
    assert result.finished is not None
    assert result.finished.outcome == Ok("fast")
    assert seconds(result) == 5


def test_approve_waits_for_a_decision_that_fits_its_schema():
    """A step `approve` waits with a schema."""
    task = "name: t\nmain: [{approve: 'Pay {{ _ }}?'}, {evaluate: $ _.approved}]"
    assert run(task, 5, answers=["maybe"]).waits == ["main.0"]
    result = run(task, 5, answers=["maybe", {"approved": True}])
    assert result.finished is not None
    assert result.finished.outcome == Ok(True)
    assert [event.body["code"] for event in seen(result, "answer.refused")] == ["input.rejected"]


def test_approve_ends_at_its_deadline_with_its_default():
    """A step `approve` has a deadline and a default."""
    result = run("name: t\nmain: [{approve: {info: Sure?, deadline: 1h, default: {approved: false}}}]")
    assert result.finished is not None
    assert result.finished.outcome == Ok({"approved": False})
    assert seconds(result) == 3600


def test_wait_for_event_takes_the_event_of_its_own_key():
    """A step `wait_for_event` takes an event with its correlation key."""
    task = "name: t\nmain: [{wait_for_event: order.paid, key: $ _.order}]"
    events = [
        EventSignal(id="1", name="order.paid", key="other", value="not mine"),
        EventSignal(id="2", name="order.sent", key="A7", value="not this"),
        EventSignal(id="3", name="order.paid", key="A7", value="mine"),
    ]
    assert output_of(task, {"order": "A7"}, outside=events) == "mine"
    assert run(task, {"order": "A7"}, outside=events[:2]).waits == ["main.0"]


def test_listen_runs_its_steps_for_each_message():
    """A step `listen` runs its steps for each message, until its condition holds or no message comes for long."""
    task = "name: t\nmain: [{listen: {do: {evaluate: $ _ + _}, until: len(_) > 2, idle: 1h}}]"
    words = [MessageSignal(id=str(number), value=word) for number, word in enumerate(("a", "b", "cd"))]
    assert output_of(task, outside=words) == "cdcd"
    result = run(task, outside=words[:2])
    assert (output_of(task, outside=words[:2]), seconds(result)) == ("bb", 3600)


@pytest.mark.parametrize(
    ("busy", "expected", "turns"),
    [
        ("reject", ["a"], ["a"]),
        ("enqueue", ["a", "b"], ["a", "b"]),
        ("join", [["a"], ["b"]], [["a"], ["b"]]),
        ("interrupt", ["a", "b"], ["b"]),
        ("rollback", ["b"], ["b"]),
    ],
)
def test_a_message_that_comes_while_a_turn_runs_goes_by_policy(busy: str, expected: list[Any], turns: list[Any]):
    """A message that comes while a turn runs is refused, queued, joined, or stops or takes back the turn."""
    task = f"""
    name: t
    main:
      - set: {{begun: [], ended: []}}
      - listen:
          busy: {busy}
          idle: 1h
          do:
            - set: {{begun: "$ [*state.begun, _]"}}
            - sleep: 1m
            - set: {{ended: "$ [*state.ended, state.begun[-1]]"}}
      - evaluate: $ [state.begun, state.ended]
    """
    words = [MessageSignal(id=word, value=word) for word in "ab"]
    assert output_of(task, outside=words) == [expected, turns]


@pytest.mark.parametrize("main", ["{evaluate: fine}", "{error: broken}"])
def test_finally_runs_however_the_task_ended(main: str):
    """A task may have `finally` steps, which run after success and after failure."""
    desk = Noting()
    ending = "finally: [{tool: book, arguments: {seat: '{{ error.code if error else output }}'}}]"
    task = f"name: t\nmain: [{main}]\n{ending}"
    result = run(task, None, desk)
    assert result.finished is not None
    failed = isinstance(result.finished.outcome, Failed)
    assert desk.arguments("seat") == ["task.error" if failed else "fine"]
    assert failed is (main == "{error: broken}")
    assert failed or result.finished.outcome == Ok("fine"), "what finally gives is not the task's output"


def test_a_prompt_takes_a_list_of_messages():
    """A prompt is a text or a list of messages."""
    desk = Noting(echo)
    messages = "[{role: system, content: be brief}, {role: user, content: 'hi {{ _ }}'}]"
    task = f"name: t\nmain: [{{prompt: {messages}, unwrap: true}}]"
    assert output_of(task, "Ann", desk) == "hi Ann"
    assert desk.calls[0].params.messages == [  # type: ignore[union-attr]
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi Ann"},
    ]
