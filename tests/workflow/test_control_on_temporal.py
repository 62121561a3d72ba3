"""Pause, continue, breaks, deadlines and forks on the real Temporal server, over continue-as-new and in replay."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from engine.core.contracts.execution import ATTRIBUTE_STATUS, SIGNAL_CONTROL, ControlSignal
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import body_of
from engine.dryrun.effects import SeenEvent
from engine.tooling import tool
from tests.support.forks import fork_at, is_inside
from tests.support.lab import TENANT, Lab, plan_of
from tests.support.patience import PATIENCE_S
from workflows.execution import ExecutionWorkflow


@tool(effect="read")
async def slow(name: str) -> str:
    """Take some time."""
    await asyncio.sleep(0.5)
    return name


@tool(effect="read")
async def quick(name: str) -> str:
    """Take no time."""
    return name


TOOLS = (slow, quick)
Handle = WorkflowHandle[Any, Any]


@pytest.fixture
def tools(lab: Lab) -> Lab:
    lab.tools = TOOLS
    return lab


async def control(lab: Lab, handle: Handle, kind: Any, event: str, *, count: int = 1, **members: Any) -> dict[str, Any]:
    """Send what an operator wants and return the event that tells the outcome."""
    key = members.pop("key", "") or uuid.uuid4().hex
    await handle.signal(SIGNAL_CONTROL, ControlSignal(kind=kind, key=key, actor="ann", **members))
    told = await lab.until(handle, event, count=count)
    assert told["key"] == key
    return told


async def status_becomes(handle: Handle, status: ExecutionStatus) -> None:
    """Wait until Temporal lists an execution with a status."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        attributes = (await handle.describe()).search_attributes
        if attributes.get(ATTRIBUTE_STATUS) == [status.value]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"Temporal does not say that {handle.id} is {status}")


async def renewed(lab: Lab, handle: Handle) -> None:
    """Wait until a paused execution has continued as new, which it does when it is woken after its first second."""
    deadline = time.monotonic() + PATIENCE_S
    key = uuid.uuid4().hex
    while (await lab.client.get_workflow_handle(handle.id).describe()).run_id == handle.first_execution_run_id:
        assert time.monotonic() < deadline, "it does not continue as new"
        # the same key again and again changes nothing
        await handle.signal(SIGNAL_CONTROL, ControlSignal(kind="breaks", key=key, breaks=[]))
        await asyncio.sleep(0.3)


async def seen_by(lab: Lab, handle: Handle) -> Sequence[SeenEvent]:
    return [SeenEvent(event.seq, event.now_us, event.type, body_of(event)) for event in await lab.events(handle)]


def called(events: Sequence[SeenEvent]) -> list[str]:
    return [event.body["path"] for event in events if event.type == EventType.EFFECT_STARTED]


PARALLEL = """
name: paused
main:
  - parallel:
      - [{tool: slow, arguments: {name: a}}, {tool: quick, arguments: {name: b}}]
      - [{tool: slow, arguments: {name: c}}, {wait_for_input: {info: x}}, {tool: quick, arguments: {name: $ str(_)}}]
"""


@pytest.mark.parametrize("events", [None, 1])
async def test_a_pause_while_calls_run_lets_them_end_and_starts_nothing_new(tools: Lab, events: int | None) -> None:
    async with tools.worker():
        handle = await tools.start(PARALLEL, continue_after_events=events)
        await tools.until(handle, "effect.started", count=2)
        await control(tools, handle, "pause", "execution.paused", reason="deploy")
        await tools.until(handle, "effect.finished", count=2)
        await status_becomes(handle, ExecutionStatus.PAUSED)
        facts = await tools.store.get_execution(handle.id, tenant=TENANT)
        assert facts.status is ExecutionStatus.PAUSED
        if events is not None:
            await renewed(tools, handle)
        assert len(called(await seen_by(tools, handle))) == 2
        await control(tools, handle, "continue", "execution.continued")
        await status_becomes(handle, ExecutionStatus.AWAITING_INPUT)
        runs = {event.type: event.run_id for event in await tools.events(handle)}
        assert (runs["execution.paused"] != runs["execution.continued"]) is (events is not None)
        await control(tools, handle, "pause", "execution.paused", count=2)
        await tools.answer(handle, "yes")
        await tools.until(handle, "resume")
        await control(tools, handle, "continue", "execution.continued", count=2)
        ended = await tools.end_of(handle)
    assert ended.output == ["b", "yes"]


async def test_a_repeated_key_does_nothing_twice(tools: Lab) -> None:
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{wait_for_input: {info: x}}]")
        await tools.until(handle, "wait")
        await control(tools, handle, "pause", "execution.paused", key="one")
        await control(tools, handle, "continue", "execution.continued", key="two")
        told = await control(tools, handle, "pause", "execution.paused", key="one", count=2)
        assert told["repeated"] is True
        refused = await control(tools, handle, "continue", "control.refused")
        assert refused["code"] == "control.not_paused"
        await tools.answer(handle, 1)
        assert (await tools.end_of(handle)).output == 1


async def test_an_execution_stops_before_a_nested_step_in_every_round(tools: Lab) -> None:
    task = """
name: broken
main:
  - foreach:
      in: $ [1, 2]
      do:
        - if: $ True
          then:
            - tool: quick
              arguments: {name: $ str(_)}
              label: here
"""
    async with tools.worker():
        handle = await tools.start(task, breaks=["main.0.do.0.then.0"])
        for number in range(2):
            paused = await tools.until(handle, "execution.paused", count=number + 1)
            assert paused["at"] == f"main.0.do[{number}].0.then.0"
            assert len(called(await seen_by(tools, handle))) == number
            await control(tools, handle, "continue", "execution.continued", count=number + 1)
        assert (await tools.end_of(handle)).output == ["1", "2"]


async def test_the_deadline_of_a_wait_and_of_a_sleep_can_be_moved(tools: Lab) -> None:
    task = (
        "name: t\nmain: [{wait_for_input: {info: x, deadline: 1h, default: 7}}, {sleep: {hours: 1}}, {evaluate: $ _}]"
    )
    async with tools.worker():
        handle = await tools.start(task)
        await tools.until(handle, "wait")
        later = time.time_ns() // 1_000 + 1_800_000_000
        await control(tools, handle, "deadline", "deadline.changed", wait_id="main.0", deadline_us=later)
        [wait] = (await tools.store.open_waits([handle.id], tenant=TENANT))[handle.id]
        assert wait.deadline_us == later
        soon = time.time_ns() // 1_000
        await control(tools, handle, "deadline", "deadline.changed", count=2, wait_id="main.0", deadline_us=soon)
        resumed = await tools.until(handle, "resume")
        assert resumed["expired"] is True
        await control(tools, handle, "deadline", "deadline.changed", count=3, wait_id="main.1", deadline_us=soon)
        assert (await tools.end_of(handle)).output == 7


async def test_an_execution_ends_at_its_deadline_although_it_is_paused(tools: Lab) -> None:
    async with tools.worker():
        deadline_us = time.time_ns() // 1_000 + 1_500_000
        handle = await tools.start("name: t\nmain: [{wait_for_input: {info: x}}]", deadline_us=deadline_us)
        await control(tools, handle, "pause", "execution.paused")
        ended = await tools.end_of(handle)
    assert ended.error is not None
    assert ended.error["code"] == "limit.time"


async def test_a_cancel_ends_a_pause(tools: Lab) -> None:
    task = "name: t\nmain: [{wait_for_input: {info: x}}]\nfinally: [{tool: quick, arguments: {name: bye}}]"
    async with tools.worker():
        handle = await tools.start(task)
        await tools.until(handle, "wait")
        await control(tools, handle, "pause", "execution.paused")
        await tools.cancel(handle, "enough")
        assert (await tools.end_of(handle)).cancelled
        told = await tools.until(handle, "execution.continued")
        assert (told["why"], told["actor"]) == ("cancel", "test")
        assert called(await seen_by(tools, handle)) == ["finally.0"]


FORKED = """
name: forked
main:
  - set: {seen: $ uuid()}
  - tool: quick
    arguments: {name: $ state.seen}
    label: first
  - over: $ [1, 2, 3]
    map:
      - tool: quick
        arguments: {name: $ str(_)}
      - sleep: {seconds: 0.01}
      - tool: quick
        arguments: {name: "$ 'again ' + str(_)"}
  - evaluate: "$ [state.seen, steps.first.output, *_, uuid()]"
"""


@pytest.mark.parametrize("events", [None, 12])
async def test_a_fork_calls_only_what_was_not_recorded_and_ends_as_the_origin(tools: Lab, events: int | None) -> None:
    plan = plan_of(FORKED, TOOLS)
    async with tools.worker():
        origin = await tools.start(plan)
        first = await tools.end_of(origin)
        await tools.until(origin, "finish")
        seen = await seen_by(tools, origin)
        for path in ("main.2.map[1].2", "main.3", "main.1"):
            fork = fork_at(seen, path, origin.id)
            handle = await tools.start(plan, fork=fork, continue_after_events=events)
            ended = await tools.end_of(handle)
            assert ended.output == first.output
            await tools.until(handle, "finish")
            copy = await seen_by(tools, handle)
            known = {
                call for call in called(seen) if any(call == each or is_inside(call, each) for each in fork.recorded)
            }
            assert set(called(copy)) == set(called(seen)) - known
            facts = await tools.store.get_execution(handle.id, tenant=TENANT)
            assert (facts.forked_from, facts.fork_kind, facts.fork_path) == (origin.id, "retry", fork.path)


async def test_what_was_steered_and_forked_replays(tools: Lab) -> None:
    plan = plan_of(FORKED, TOOLS)
    async with tools.worker():
        origin = await tools.start(plan, breaks=["main.2.map.1"])
        for number in range(3):
            await tools.until(origin, "execution.paused", count=number + 1)
            await control(tools, origin, "continue", "execution.continued", count=number + 1)
        await tools.end_of(origin)
        await tools.until(origin, "finish")
        fork = fork_at(await seen_by(tools, origin), "main.2.map[2].0", origin.id)
        copy = await tools.start(plan, fork=fork, breaks=["main.2"])
        await tools.until(copy, "execution.paused")
        await control(tools, copy, "continue", "execution.continued", breaks=[])
        await tools.end_of(copy)
        replayer = Replayer(
            workflows=[ExecutionWorkflow],
            data_converter=tools.client.data_converter,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        for handle in (origin, copy):
            replayed = await replayer.replay_workflow(await handle.fetch_history(), raise_on_replay_failure=False)
            assert replayed.replay_failure is None
