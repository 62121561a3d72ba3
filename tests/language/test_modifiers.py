"""DESIGN §3, "Kinds": what may stand on any step, and what each of these modifiers does."""

from __future__ import annotations

import pytest

from engine.core.kinds import StepKind
from engine.core.plan.computed import Expr
from engine.core.plan.policies import Cache
from engine.core.run.effects import Call, Ok, Stopped
from engine.core.spec.vocabulary import CHECKED_KINDS, MARKERS
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply, failed
from tests.language.words import Noting, codes, compile_in, finish, seconds, started
from tests.support.memory import error_of, output_of, run, script, seen

STEP_OF = {
    StepKind.EVALUATE: "evaluate: 1",
    StepKind.PROMPT: "prompt: hi",
    StepKind.TOOL_CALL: "tool: book",
    StepKind.AGENT: "agent: hi",
    StepKind.EMBED: "embed: hi",
    StepKind.SEARCH: "search: hi",
    StepKind.TASK: "task: other",
    StepKind.IF_ELSE: "if: _, then: {evaluate: 1}",
    StepKind.SWITCH: "switch: [{case: _, then: {evaluate: 1}}]",
    StepKind.FOREACH: "foreach: {in: _, do: {evaluate: 1}}",
    StepKind.MAP_REDUCE: "over: _, map: {evaluate: 1}",
    StepKind.PARALLEL: "parallel: [{evaluate: 1}]",
    StepKind.RACE: "race: [{evaluate: 1}]",
    StepKind.WHILE: "while: _, do: {evaluate: 1}",
    StepKind.UNTIL: "until: _, do: {evaluate: 1}",
    StepKind.LISTEN: "listen: {do: {evaluate: 1}}",
    StepKind.YIELD: "workflow: sub",
    StepKind.RETURN: "return: 1",
    StepKind.WAIT_FOR_INPUT: "wait_for_input: {info: a}",
    StepKind.APPROVE: "approve: a",
    StepKind.WAIT_FOR_EVENT: "wait_for_event: a",
    StepKind.SLEEP: "sleep: 1",
    StepKind.SET: "set: {a: 1}",
    StepKind.GET: "get: a",
    StepKind.LOG: "log: a",
    StepKind.ERROR: "error: a",
}
ON_ANY_STEP = (
    "label: here, when: _, retry: {attempts: 2, initial: 1, on: tool}, timeout: 5s, total_timeout: 9s, "
    "on_error: {evaluate: 2}, undo: {evaluate: 3}"
)


@pytest.mark.parametrize("kind", MARKERS.values())
def test_every_kind_of_step_takes_the_modifiers(kind: StepKind):
    """On any step: label, when, retry, timeout, total_timeout, on_error and undo."""
    plan = compile_in(f"main: [{{{STEP_OF[kind]}, {ON_ANY_STEP}}}]\nsub: [{{evaluate: 1}}]").plan
    op = plan.blocks[plan.workflows["main"]].ops[0]
    assert (op.op, op.label, op.mods.timeout_s, op.mods.total_timeout_s) == (kind, "here", 5, 9)
    assert op.mods.when is not None
    assert op.mods.retry is not None
    assert None not in (op.mods.on_error, op.mods.undo)


BROKEN = {
    StepKind.EVALUATE: "evaluate: $ _.nowhere",
    StepKind.PROMPT: "prompt: $ _.nowhere",
    StepKind.TOOL_CALL: "tool: book, arguments: {seat: $ _.nowhere}",
    StepKind.IF_ELSE: "if: _.nowhere, then: {evaluate: 1}",
    StepKind.SWITCH: "switch: [{case: _.nowhere, then: {evaluate: 1}}]",
    StepKind.FOREACH: "foreach: {in: _.nowhere, do: {evaluate: 1}}",
    StepKind.MAP_REDUCE: "over: '$ [1]', map: {evaluate: 1}, reduce: input.nowhere",
    StepKind.PARALLEL: "parallel: [{evaluate: $ _.nowhere}, {sleep: 1}]",
    StepKind.WHILE: "while: _.nowhere, do: {evaluate: 1}",
    StepKind.UNTIL: "until: input.nowhere, do: {evaluate: 1}",
    StepKind.LISTEN: "listen: {do: {evaluate: 1}, idle: $ _.nowhere}",
    StepKind.YIELD: "workflow: sub, arguments: $ _.nowhere",
    StepKind.TASK: "task: other, arguments: $ _.nowhere",
    StepKind.RETURN: "return: $ _.nowhere",
    StepKind.WAIT_FOR_INPUT: "wait_for_input: {info: $ _.nowhere}",
    StepKind.APPROVE: "approve: {info: sure?, deadline: $ _.nowhere}",
    StepKind.WAIT_FOR_EVENT: "wait_for_event: a, key: $ _.nowhere",
    StepKind.SLEEP: "sleep: $ _.nowhere",
    StepKind.SET: "set: {a: $ _.nowhere}",
    StepKind.GET: "get: nowhere",
    StepKind.LOG: "log: '{{ _.nowhere }}'",
    StepKind.ERROR: "error: '{{ _.nowhere }}'",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_of_any_kind_of_step_is_handled_by_its_own_handler(kind: StepKind):
    """`on_error` works on any step."""
    step = f"{BROKEN[kind]}, on_error: {{evaluate: $ error.code}}"
    assert output_of(f"name: t\nmain: [{{{step}}}, {{evaluate: [$ _]}}]\nsub: [{{evaluate: 1}}]", {}) == [
        "expression.no_key"
    ]


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_of_any_kind_of_step_is_tried_again_by_its_own_policy(kind: StepKind):
    """`retry` works on any step."""
    step = f"{BROKEN[kind]}, retry: {{attempts: 3, initial: 2, factor: 1, on: [expression]}}"
    result = run(f"name: t\nmain: [{{{step}}}]\nsub: [{{evaluate: 1}}]", {})
    assert (seconds(result), result.events[-1].body["error"]["code"]) == (4, "expression.no_key")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_step_of_any_kind_is_left_out_if_its_when_does_not_hold(kind: StepKind):
    """`when` works on any step."""
    task = f"name: t\nmain: [{{{BROKEN[kind]}, when: len(_) > 0}}, {{evaluate: [$ _]}}]\nsub: [{{evaluate: 1}}]"
    assert output_of(task, {}) == [{}]


def test_a_label_names_a_step_for_those_after_it():
    """A `label` names a step."""
    steps = "{evaluate: 7, label: first}, {evaluate: 0}, {evaluate: $ steps.first.output}"
    assert output_of(f"name: t\nmain: [{steps}]") == 7


@pytest.mark.parametrize(("given", "output"), [(1, "ran"), (0, 0)])
def test_when_decides_whether_a_step_runs(given: int, output: object):
    """A step runs only if its `when` holds."""
    assert output_of("name: t\nmain: [{evaluate: ran, when: _ > 0}]", given) == output


def test_retry_makes_as_many_attempts_as_it_says():
    """A `retry` says how many attempts there are."""
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 3}}]"
    broken = failed("tool.failed")
    assert output_of(task, None, script(broken, broken, "third")) == "third"
    error = error_of(task, None, script(broken, broken, broken))
    assert (error.code, error.details["attempts"]) == ("tool.failed", 3)


def test_retry_pauses_longer_and_longer():
    """A `retry` has a backoff."""
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 5, initial: 2, factor: 3, max: 10}}]"
    result = run(task, None, lambda call: Answered(failed("tool.failed")))
    assert [event.body["retry_in_s"] for event in seen(result, "attempt.failed")] == [2, 6, 10, 10, None]


def test_retry_repeats_only_the_errors_it_names():
    """A `retry` says on which error codes."""
    task = "name: t\nmain: [{tool: pay, retry: {attempts: 3, on: [tool.busy, backend]}}]"
    assert output_of(task, None, script(failed("tool.busy"), failed("backend.any"), "done")) == "done"
    error = error_of(task, None, script(failed("tool.failed")))
    assert (error.code, error.details["attempts"]) == ("tool.failed", 1)


def test_cache_says_for_how_long_and_by_what_an_output_is_kept():
    """A `cache` keeps what a model or a reading tool answered for some time."""
    made = compile_in("main: [{prompt: hi, cache: {ttl: 1h30m, key: $ _.id}}]")
    assert made.plan.blocks[0].ops[0].mods.cache == Cache(5400.0, Expr("_.id"))
    assert not made.warnings


@pytest.mark.parametrize("kind", [kind for kind in MARKERS.values() if kind is not StepKind.PROMPT])
def test_what_does_something_else_than_answer_has_no_cache(kind: StepKind):
    """A step that waits, changes something, or holds others, cannot be kept; its calls can."""
    assert codes(f"main: [{{{STEP_OF[kind]}, cache: 1h}}]\nsub: [{{evaluate: 1}}]")[-1] == "E509"


def test_timeout_ends_an_attempt():
    """A `timeout` is the time of one attempt."""
    task = "name: t\nmain: [{while: 'True', do: {sleep: 4}, timeout: 10s, retry: {attempts: 2, initial: 1}}]"
    result = run(task)
    assert result.events[-1].body["error"]["code"] == "step.timeout"
    assert seconds(result) == 21


def test_total_timeout_ends_a_step_with_all_its_attempts():
    """A `total_timeout` is the time of all attempts together."""
    task = "name: t\nmain: [{tool: book, total_timeout: 15s, retry: {attempts: 99, initial: 4}}]"
    result = run(task, None, lambda call: Answered(failed("tool.failed"), 2.0))
    assert result.events[-1].body["error"]["code"] == "step.total_timeout"
    assert seconds(result) == 15


def test_on_error_sees_what_went_wrong():
    """The steps of `on_error` see `error`."""
    task = "name: t\nmain: [{tool: pay, on_error: {evaluate: '{{ error.code }} at {{ error.step }}'}}]"
    assert output_of(task, None, script(failed("tool.failed"))) == "tool.failed at main.0"


def test_error_is_known_in_handlers_and_nowhere_else():
    """Outside of `on_error` no step sees `error`."""
    assert codes("main: [{tool: pay, on_error: {evaluate: $ error.code}}]") == []
    assert codes("main: [{tool: pay, on_error: {evaluate: 1}}, {evaluate: $ error.code}]") == ["E401"]


# --- check ---------------------------------------------------------------------------------------------------------

CHECKED = """
name: t
main:
  - prompt: hi
    unwrap: true
    check:
      - {if: len(_) < 6, message: "{{ _ }} is long"}
      - {if: _ != 'no'}
"""


def test_all_checks_must_hold_for_a_result():
    """A `check` is a list of conditions on the result of a step."""
    assert output_of(CHECKED, None, script("fine")) == "fine"
    assert output_of(CHECKED, None, script("too long", "no", "yes")) == "yes"


def test_what_is_wrong_goes_to_the_model_in_the_repair_round():
    """The message of a check goes into the repair round."""
    desk = Noting(script("too long", "fine"))
    assert output_of(CHECKED, None, desk) == "fine"
    said = desk.calls[1].params.messages  # type: ignore[union-attr]
    assert said[-2] == {"role": "assistant", "content": "too long"}
    assert "too long is long" in said[-1]["content"]


def test_a_check_may_fail_the_attempt():
    """A check with `on_fail: error` fails the attempt."""
    task = "name: t\nmain: [{prompt: hi, unwrap: true, check: {if: _ == 'good', on_fail: error}}]"
    desk = Noting(script("bad"))
    assert error_of(task, None, desk).code == "check.failed"
    assert len(desk.calls) == 1


@pytest.mark.parametrize(
    ("answer", "output"), [({"accept": True}, 120), ({"accept": True, "output": 99}, 99), ({"accept": False}, None)]
)
def test_a_check_may_ask_a_person(answer: object, output: object):
    """A check with `on_fail: ask` asks a person."""
    task = "name: t\nmain: [{tool: pay, check: {if: _ < 100, on_fail: ask}, on_error: {evaluate: null}}]"
    assert output_of(task, None, script(120), answers=[answer]) == output


@pytest.mark.parametrize("kind", [kind for kind in STEP_OF if kind not in CHECKED_KINDS])
def test_a_check_stands_on_results_from_outside_only(kind: StepKind):
    """A check is made on the result of a prompt, an agent, a tool or a task, and of nothing else."""
    assert "E509" in codes(f"main: [{{{STEP_OF[kind]}, check: {{if: _}}}}]\nsub: [{{evaluate: 1}}]")


@pytest.mark.parametrize("kind", CHECKED_KINDS)
def test_a_check_stands_on_prompts_agents_and_tools(kind: StepKind):
    """A `check` stands on a prompt, an agent or a tool, and on another task."""
    plan = compile_in(f"main: [{{{STEP_OF[kind]}, check: [{{if: _, message: no, on_fail: ask}}]}}]").plan
    (check,) = plan.blocks[0].ops[0].mods.checks
    assert (check.condition, check.on_fail) == (Expr("_"), "ask")


def test_a_check_on_a_tool_is_made_on_its_result():
    """A tool's result is checked like a prompt's."""
    task = "name: t\nmain: [{tool: pay, check: {if: _ > 3}}]"
    assert output_of(task, None, script(5)) == 5
    assert error_of(task, None, script(2)).code == "check.failed"


# --- undo ----------------------------------------------------------------------------------------------------------


def booked(seat: str) -> str:
    """Return a step that books a seat and undoes it with what it gave."""
    return f"{{tool: book, arguments: {{seat: {seat}}}, undo: {{tool: book, arguments: {{seat: 'undo {{{{ _ }}}}'}}}}}}"


def gives_twice(call: Call) -> Answered:
    """Answer a booking with its seat twice, and fail for the seat `x`."""
    seat = str(call.params.arguments["seat"])  # type: ignore[union-attr]
    return Answered(failed("tool.broken", retryable=False) if seat == "x" else Ok(seat * 2), 1.0)


def test_undo_sees_the_output_of_its_step():
    """The steps of `undo` see the step's output."""
    desk = Noting(gives_twice)
    run(f"name: t\nmain: [{booked('a')}, {booked('x')}]", None, desk)
    assert desk.arguments("seat") == ["a", "x", "undo aa"]


def test_what_was_done_is_undone_in_reverse_order_on_failure():
    """Undo steps run in reverse order when the task fails."""
    desk = Noting(gives_twice)
    result = run(f"name: t\nmain: [{booked('a')}, {booked('b')}, {booked('c')}, {{error: stop}}]", None, desk)
    assert desk.arguments("seat") == ["a", "b", "c", "undo cc", "undo bb", "undo aa"]
    assert result.events[-1].body["error"]["code"] == "task.error"


def test_what_was_done_is_undone_on_cancel():
    """Undo steps run in reverse order when the execution is cancelled."""
    desk = Noting(gives_twice)
    machine, effects = started(f"name: t\nmain: [{booked('a')}, {booked('b')}, {{wait_for_input: {{}}}}]", None, desk)
    for _ in range(2):
        kind, name, outcome = effects.pop() or ("", "", None)
        assert (kind, outcome is None) == ("call", False)
        machine.call_done(name, outcome)  # type: ignore[arg-type]
        machine.run()
    machine.cancel("enough", "ann")
    finish(machine, effects)
    assert desk.arguments("seat") == ["a", "b", "undo bb", "undo aa"]
    assert machine.result is not None
    assert machine.result.outcome == Stopped()


def test_undoing_is_not_stopped_by_another_cancel():
    """Undo is shielded like `finally`."""
    desk = Noting(gives_twice)
    ending = "finally: [{tool: book, arguments: {seat: end}}]"
    task = f"name: t\nmain: [{booked('a')}, {booked('b')}, {{error: stop}}]\n{ending}"
    machine, effects = started(task, None, desk)
    for _ in "ab":
        kind, name, outcome = effects.pop() or ("", "", None)
        assert (kind, outcome is None) == ("call", False)
        machine.call_done(name, outcome)  # type: ignore[arg-type]
        machine.run()
    assert desk.arguments("seat") == ["a", "b", "undo bb"], "the undoing has begun"
    machine.cancel("enough", "ann")
    finish(machine, effects)
    assert desk.arguments("seat") == ["a", "b", "undo bb", "undo aa", "end"]
    assert "branch.failed" not in [event.type for event in effects.events], "no call of an undoing was stopped"


@pytest.mark.parametrize("carry_every", [1, 2, 3])
def test_what_is_to_be_undone_lives_in_the_carried_state(carry_every: int):
    """What has to be undone is kept in the frames, so it survives continue-as-new."""
    desk = Noting(gives_twice)
    task = f"name: t\nmain: [{booked('a')}, {{sleep: 1}}, {booked('b')}, {{sleep: 1}}, {{error: stop}}]"
    assert run(task, None, desk, carry_every=carry_every).runs > 1
    assert desk.arguments("seat") == ["a", "b", "undo bb", "undo aa"]


# --- a step or a list of steps -------------------------------------------------------------------------------------

PLACES = {
    "main": "main: STEPS",
    "then": "main: [{if: _, then: STEPS}]",
    "else": "main: [{if: _, then: {evaluate: 0}, else: STEPS}]",
    "case": "main: [{switch: [{case: _, then: STEPS}]}]",
    "foreach": "main: [{foreach: {in: _, do: STEPS}}]",
    "while": "main: [{while: _, do: STEPS}]",
    "until": "main: [{until: _, do: STEPS}]",
    "listen": "main: [{listen: {do: STEPS}}]",
    "map": "main: [{over: _, map: STEPS}]",
    "parallel": "main: [{parallel: [STEPS, {evaluate: 0}]}]",
    "race": "main: [{race: [STEPS, {evaluate: 0}]}]",
    "on_error": "main: [{evaluate: 0, on_error: STEPS}]",
    "undo": "main: [{evaluate: 0, undo: STEPS}]",
    "finally": "main: [{evaluate: 0}]\nfinally: STEPS",
    "sub-workflow": "main: [{workflow: sub}]\nsub: STEPS",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_step_and_a_list_of_one_step_are_the_same_everywhere(place: str):
    """Every place that takes a step takes a step or a list of steps."""
    one = compile_in(PLACES[place].replace("STEPS", "{evaluate: 1}"))
    listed = compile_in(PLACES[place].replace("STEPS", "[{evaluate: 1}]"))
    several = compile_in(PLACES[place].replace("STEPS", "[{evaluate: 1}, {evaluate: 2}]"))
    assert one.plan == listed.plan
    assert sum(len(block.ops) for block in several.plan.blocks) == sum(len(block.ops) for block in one.plan.blocks) + 1


def test_a_chat_reply_is_the_shape_that_checks_see_without_unwrap():
    """A check sees what the step would give."""
    task = "name: t\nmain: [{prompt: hi, check: {if: \"_.choices[0].message.content == 'b'\"}}, {evaluate: $ _.id}]"
    assert output_of(task, None, script(chat_reply("a"), "b")) == "dry-run"
