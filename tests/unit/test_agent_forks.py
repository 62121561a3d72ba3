"""Forks that begin inside an agent: the turns before are taken over, and no tool of theirs is called again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.control.forkpoints import Survey, choose_point
from engine.core.contracts.execution import Fork
from engine.core.kinds import EventType
from engine.core.plan.paths import Places
from engine.core.run.events import EventRecord
from engine.core.run.walker import Identity
from engine.core.values import compact_json
from engine.dryrun import DryRun, SeenEvent, failed, run_in_memory
from tests.support.agents import Model, too_long
from tests.support.forks import fork_at
from tests.support.memory import compiled
from tests.unit.test_run_agents import bodies, outcome

TASK = """
name: t
main:
  - evaluate: $ _ + 1
  - agent: "Find {{ _ }}"
    tools: [lookup, pay, book]
    rules: {pay: {at_most: 1}, lookup: {next: [{tool: pay, if: _ == 'go'}, lookup]}}
    parallelism: 1
    on_overflow: truncate
    unwrap: true
"""
ID = "00000000-0000-4000-8000-000000000000"


def first(*says: Any, tools: dict[str, Any] | None = None) -> tuple[DryRun, Model]:
    model = Model(*says, tools=tools)
    return run_in_memory(compiled(TASK), 1, model), model


def forked(events: Sequence[SeenEvent], path: str, model: Model) -> DryRun:
    """Fork an execution at a path."""
    fork: Fork = fork_at(events, path, ID)
    return run_in_memory(compiled(TASK), 1, model, identity=Identity(execution_id="again", fork=fork))


LOOK = [{"lookup": {"name": "x"}}]


def test_a_retry_goes_on_with_the_turn_that_failed_and_calls_no_tool_again() -> None:
    refused = failed("backend.refused", "no", retryable=False)
    before, model = first(LOOK, [{"pay": {"amount": 5}}, {"nothing": {}}], refused, tools={"lookup": "go"})
    error = outcome(before)
    assert error.details["step"] == "main.1.turn[2].0"
    again = Model([{"pay": {"amount": 7}}, {"book": {}}], "done")
    result = forked(before.events, "main.1.turn[2].0", again)
    assert outcome(result) == "done"
    assert again.asked[0].messages == model.asked[2].messages, "the conversation is the same"
    assert again.called == [("book", {})], "the rules remember what was called"
    recorded = [body["path"] for body in bodies(result, EventType.STEP) if body.get("recorded")]
    assert recorded == ["main.0", "main.1.turn[0].0", "main.1.turn[1].0"]


@pytest.mark.parametrize("path", ["main.1.turn[0].0", "main.1.turn[0].1", "main.1.turn[1].0", "main.1.turn[1].1"])
def test_it_may_begin_with_any_step_of_a_turn(path: str) -> None:
    said = [LOOK, [{"pay": {"amount": 5}}], [{"book": {"seat": "z"}}], "done"]
    before, model = first(*said, tools={"lookup": "go"})
    turn, step = int(path[12]), int(path[-1])
    again = Model(*said[turn + step :], tools={"lookup": "go"})
    result = forked(before.events, path, again)
    assert outcome(result) == outcome(before)
    assert again.asked[-1].messages == model.asked[-1].messages
    assert again.called == model.called[turn:]


def test_one_call_of_a_turn_may_be_made_again_beside_the_others() -> None:
    before, _ = first([{"book": {"seat": "a"}}, {"book": {"seat": "b"}}], "done")
    again = Model("done")
    result = forked(before.events, "main.1.turn[0].1[1].0", again)
    assert outcome(result) == "done"
    assert again.called == [("book", {"seat": "b"})]


def test_what_was_left_out_of_a_conversation_is_left_out_again() -> None:
    looks = [[{"book": {"seat": f"{number}" * 50}}] for number in range(4)]
    before, model = first(*looks, too_long(), [{"book": {"seat": "z"}}], "done")
    again = Model("done")
    result = forked(before.events, "main.1.turn[5].0", again)
    assert outcome(result) == "done"
    assert again.asked[0].messages == model.asked[-1].messages
    assert again.called == []


def test_steps_of_turns_are_places_of_their_agent() -> None:
    places = Places(compiled(TASK))
    for path in ("main.1.turn[0].0", "main.1.turn[12].1", "main.1.turn[0].1[3].0"):
        assert places.op_at(path) is places.op_at("main.1")
        assert places.fingerprint(path) == places.fingerprint("main.1")
    for path in ("main.0.turn[0].0", "main.1.turn[0]", "main.1.turn", "main.1.turn[0].1[3]", "main.1.turn[x].0"):
        assert places.op_at(path) is None


def test_a_retry_begins_with_the_step_of_the_turn_that_failed() -> None:
    before, _ = first(LOOK, failed("backend.refused", "no", retryable=False))
    survey = Survey()
    for event in before.events:
        survey.apply(EventRecord(ID, "run", event.seq, event.now_us, event.type, compact_json(event.body)))
    facts: Any = type("Facts", (), {"id": ID, "error": bodies(before, EventType.ERROR)[0]["error"], "settled": True})
    assert choose_point(facts, survey, "", compiled(TASK)) == "main.1.turn[1].0"
