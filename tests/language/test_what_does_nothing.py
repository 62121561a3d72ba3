"""DESIGN §3, "What does nothing", and what the steps that hold others give."""

from __future__ import annotations

import pytest

from engine.core.plan.ir import AgentSnapshot
from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import failed
from tests.language.words import Noting, codes, findings, seconds
from tests.support.memory import echo, error_of, output_of, run, script, seen

NOTHING = {
    "no else": "{if: $ False, then: {evaluate: 1}}",
    "switch without match": "{switch: [{case: $ False, then: {evaluate: 1}}]}",
    "when false": "{evaluate: 1, when: $ False}",
    "zero rounds": "{while: $ False, do: {evaluate: 1}}",
    "log": "{log: said}",
    "sleep": "{sleep: 5}",
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_does_nothing_passes_its_input_through(what: str):
    """No else, switch without match, `when` false, zero rounds, log and sleep pass their input through unchanged."""
    given = {"kept": [1, {"deep": None}]}
    assert output_of(f"name: t\nmain: [{NOTHING[what]}]", given) == given


def test_loops_over_no_items_give_the_list_of_no_outputs():
    """A foreach or map over no items gives the empty list of its outputs."""
    assert output_of("name: t\nmain: [{foreach: {in: '$ []', do: {evaluate: 1}}}]", "x") == []
    assert output_of("name: t\nmain: [{over: '$ []', map: {evaluate: 1}}]", "x") == []


def test_parallel_gives_its_outputs_in_the_order_of_its_branches():
    """`parallel` gives a list in order."""
    task = "name: t\nmain: [{parallel: [[{sleep: 9}, {evaluate: a}], [{sleep: 1}, {evaluate: b}], {evaluate: c}]}]"
    assert output_of(task) == ["a", "b", "c"]


# --- race ----------------------------------------------------------------------------------------------------------

RACE = "name: t\nmain: [{race: [BRANCHES]MORE}]"


def race(*branches: str, more: str = "") -> str:
    steps = [f"{{tool: lookup, arguments: {{name: {name}}}}}" for name in branches]
    return RACE.replace("BRANCHES", ", ".join(steps)).replace("MORE", more)


def by_name(call: Call) -> Answered:
    """Answer `ok7` after 7 seconds with its name; what begins with `bad` fails."""
    name = str(call.params.arguments["name"])  # type: ignore[union-attr]
    after = float(name.lstrip("okbad"))
    return Answered(failed("tool.broken", name, retryable=False) if name.startswith("bad") else Ok(name), after)


def test_race_gives_the_first_branch_that_succeeds():
    """`race` gives the first branch that *succeeds*."""
    result = run(race("ok30", "bad1", "ok10"), None, by_name)
    assert result.finished is not None
    assert result.finished.outcome == Ok("ok10")
    assert seconds(result) == 10


def test_a_race_that_all_lose_is_one_error_with_all_of_theirs():
    """If all branches of a race failed, it is one aggregate error."""
    error = error_of(race("bad3", "bad1", "bad2"), None, by_name)
    assert error.code == "race.failed"
    assert [item["message"] for item in error.details["errors"]] == ["bad1", "bad2", "bad3"]


def test_a_race_may_take_several():
    """`take: k` takes the first k that succeed."""
    result = run(race("ok30", "bad1", "ok10", "ok20", more=", take: 2"), None, by_name)
    assert result.finished is not None
    assert result.finished.outcome == Ok(["ok10", "ok20"])
    assert seconds(result) == 20


def test_a_race_may_start_its_branches_one_after_another():
    """`stagger: 800ms` starts branches one after another."""
    result = run(race("ok30", "ok30", "ok30", more=", stagger: 800ms"), None, by_name)
    began = result.events[0].now_us
    assert [(event.now_us - began) / 1000 for event in seen(result, "effect.started")] == [0, 800, 1600]


def test_a_race_refuses_what_may_neither_be_stopped_nor_done_twice():
    """Branches of a race with unsafe effects are a diagnostic."""
    (found,) = findings("main:\n  - race:\n      - {tool: pay}\n      - {tool: book}\n")
    assert (found.code, found.position.line) == ("E510", 3)
    assert codes("main: [{race: [{workflow: sub}, {evaluate: 1}]}]\nsub: [{if: _, then: {tool: pay}}]") == ["E510"]


# --- what else gives what ------------------------------------------------------------------------------------------


def test_on_error_gives_the_output_of_its_last_step():
    """`on_error` gives the last output of its steps."""
    task = "name: t\nmain: [{tool: pay, on_error: [{evaluate: 1}, {evaluate: $ _ + 1}]}, {evaluate: [$ _]}]"
    assert output_of(task, None, script(failed("tool.failed"))) == [2]


def asked(task: str, agent: AgentSnapshot | None = None) -> list[object]:
    """Return the messages of the only prompt of a task."""
    desk = Noting(echo)
    run(task, "Ann", desk, agent=agent)
    (call,) = desk.calls
    return list(call.params.messages)  # type: ignore[union-attr]


def test_a_prompt_of_one_text_is_one_message_of_the_user():
    """A string prompt is one user message."""
    assert asked("name: t\nmain: [{prompt: 'hi {{ _ }}'}]") == [{"role": "user", "content": "hi Ann"}]
    assert asked("name: t\nmain: [{prompt: $ 'hi ' + _}]") == [{"role": "user", "content": "hi Ann"}]


AGENT = AgentSnapshot(instructions="be brief")


def test_the_agents_instructions_become_the_system_message():
    """The agent's instructions become the system message."""
    task = "name: t\nmain: [{prompt: hi}]"
    assert asked(task, AGENT) == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


def test_a_system_message_of_the_prompt_stands_instead_of_the_agents():
    """The agent's instructions are left out if a system message is given."""
    task = "name: t\nmain: [{prompt: [{role: system, content: mine}, {role: user, content: hi}]}]"
    assert asked(task, AGENT) == [{"role": "system", "content": "mine"}, {"role": "user", "content": "hi"}]


def test_unwrap_gives_the_text_of_a_reply():
    """`unwrap` gives the reply's text."""
    assert output_of("name: t\nmain: [{prompt: hi, unwrap: true}]", None, script("there")) == "there"


def test_unwrap_of_a_structured_reply_gives_the_object():
    """`unwrap` and `output_schema` together give the parsed object."""
    task = "name: t\nmain: [{prompt: hi, unwrap: true, output_schema: {type: object}}]"
    assert output_of(task, None, script('{"n": [1, null]}')) == {"n": [1, None]}
