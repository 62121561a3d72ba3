"""Forks that begin inside an agent: the turns before are taken over, and no tool of theirs is called again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.control.forkpoints import Survey, choose_point
from engine.control.recorded import Recorder
from engine.control.recorded import before as recorded_before
from engine.core.contracts.execution import Fork
from engine.core.kinds import EventType
from engine.core.plan.paths import Places
from engine.core.run.events import EventRecord
from engine.core.run.walker import Identity
from engine.core.values import compact_json
from engine.dryrun.effects import SeenEvent
from engine.dryrun.replies import failed
from engine.dryrun.running import DryRun, run_in_memory
from engine.testing.memory import MemoryClient
from tests.support.agents import Model, asks, too_long
from tests.support.forks import fork_at
from tests.support.memory import TOOLS, compiled
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


def engines_fork(events: Sequence[SeenEvent], path: str, execution_id: str) -> Fork:
    """Build a fork as the engine does."""
    recorder = Recorder(path, frozenset())
    for record in records_of(events):
        recorder.apply(record)
    recorded = recorded_before(recorder, path, frozenset())
    same: dict[str, Any] = {"execution_id": execution_id, "seed": execution_id, "keys": execution_id}
    return Fork(kind="retry", path=path, began_us=recorder.first_us, recorded=recorded, **same)


def records_of(events: Sequence[SeenEvent]) -> list[EventRecord]:
    return [EventRecord(ID, "run", item.seq, item.now_us, item.type, compact_json(item.body)) for item in events]


BUILDERS = pytest.mark.parametrize("build", [fork_at, engines_fork])
Build = Callable[[Sequence[SeenEvent], str, str], Fork]


def forked(events: Sequence[SeenEvent], path: str, model: Model, build: Build = engines_fork) -> DryRun:
    """Fork an execution at a path."""
    return run_fork(build(events, path, ID), model)


def run_fork(fork: Fork, model: Model, carry_every: int | None = None) -> DryRun:
    """Run a fork."""
    identity = Identity(execution_id="again", fork=fork)
    return run_in_memory(compiled(TASK), 1, model, identity=identity, carry_every=carry_every)


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


@BUILDERS
@pytest.mark.parametrize("path", ["main.1.turn[0].0", "main.1.turn[0].1", "main.1.turn[1].0", "main.1.turn[1].1"])
def test_it_may_begin_with_any_step_of_a_turn(path: str, build: Build) -> None:
    said = [LOOK, [{"pay": {"amount": 5}}], [{"book": {"seat": "z"}}], "done"]
    before, model = first(*said, tools={"lookup": "go"})
    turn, step = int(path[12]), int(path[-1])
    again = Model(*said[turn + step :], tools={"lookup": "go"})
    result = forked(before.events, path, again, build)
    assert outcome(result) == outcome(before)
    assert again.asked[-1].messages == model.asked[-1].messages
    assert again.called == model.called[turn:]


@BUILDERS
def test_one_call_of_a_turn_may_be_made_again_beside_the_others(build: Build) -> None:
    before, _ = first([{"book": {"seat": "a"}}, {"book": {"seat": "b"}}], "done")
    again = Model("done")
    result = forked(before.events, "main.1.turn[0].1[1].0", again, build)
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


def test_what_a_model_said_may_be_replaced() -> None:
    before, _ = first([{"book": {"seat": "a"}}], [{"book": {"seat": "b"}}], "done")
    fork = engines_fork(before.events, "main.1.turn[1].1", ID)
    said = asks(("book", {"seat": "z"}), ids="n")
    entry = fork.recorded["main.1.turn[1].0"]
    patched = replace(entry, output={"choices": [{"message": said}]})
    again = Model("done")
    result = run_fork(replace(fork, recorded={**fork.recorded, "main.1.turn[1].0": patched}), again)
    assert outcome(result) == "done"
    assert again.called == [("book", {"seat": "z"})]


def test_a_replaced_output_that_is_no_reply_ends_the_fork() -> None:
    before, _ = first([{"book": {"seat": "a"}}], "done")
    fork = engines_fork(before.events, "main.1.turn[1].0", ID)
    patched = replace(fork.recorded["main.1.turn[0].0"], output=5)
    result = run_fork(replace(fork, recorded={**fork.recorded, "main.1.turn[0].0": patched}), Model("done"))
    assert outcome(result).code == "fork.diverged"


def test_a_fork_may_continue_as_new_among_what_it_takes_over() -> None:
    before, model = first(LOOK, [{"pay": {"amount": 5}}], [{"book": {}}], "done", tools={"lookup": "go"})
    again = Model("done")
    result = run_fork(engines_fork(before.events, "main.1.turn[2].1", ID), again, carry_every=1)
    assert outcome(result) == "done"
    assert again.asked[-1].messages == model.asked[-1].messages


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
    for record in records_of(before.events):
        survey.apply(record)
    facts: Any = type("Facts", (), {"id": ID, "error": bodies(before, EventType.ERROR)[0]["error"], "settled": True})
    assert choose_point(facts, survey, "", compiled(TASK)) == "main.1.turn[1].0"


def test_the_client_retries_the_turn_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(TASK)
    refused = failed("backend.refused", "no", retryable=False)
    model = Model([{"book": {"seat": "a"}}], refused, [{"book": {"seat": "b"}}], "done")
    with MemoryClient(tools=TOOLS, sources=[model]) as memory:
        memory.apply(file)
        origin = memory.start("t", 1)
        assert origin.status == "failed"
        again = memory.retry(origin.id)
        assert (again.status, again.output) == ("succeeded", "done")
    assert model.called == [("book", {"seat": "a"}), ("book", {"seat": "b"})]
    assert len(set(model.keys)) == 2
