"""Steps that listen on the real Temporal server: policies under calls, continue-as-new, repeated ids, replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from engine.core.contracts.execution import ATTRIBUTE_STATUS, SIGNAL_MESSAGE, MessageSignal
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import body_of
from engine.tooling import tool
from tests.support.lab import TENANT, Ended, Lab
from tests.support.patience import PATIENCE_S
from workflows.execution import ExecutionWorkflow

Handle = WorkflowHandle[Any, Any]
DONE: list[str] = []
STOPPED: list[str] = []


@tool(effect="write", idempotent=True)
async def book(seat: str) -> str:
    """Book a seat; `-seat` gives it back."""
    DONE.append(seat)
    return seat


@tool(effect="read")
async def think(about: str) -> str:
    """Think of something; of `long` for longer than a test lasts."""
    if about == "long":
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            STOPPED.append(about)
            raise
    return f"thought of {about}"


@pytest.fixture
def tools(lab: Lab) -> Lab:
    DONE.clear()
    STOPPED.clear()
    lab.tools = (book, think)
    return lab


async def message(lab: Lab, handle: Handle, value: Any, *, count: int, id: str = "", busy: str = "") -> dict[str, Any]:
    """Send a message and return the event that tells what becomes of it, the so many-th of its kind."""
    final_id = id or f"message-{count}"
    await handle.signal(SIGNAL_MESSAGE, MessageSignal(id=final_id, value=value, busy=busy, actor="ann"))
    told = await lab.until(handle, "message.taken", count=count)
    assert told["message_id"] == final_id
    return told


async def end_of(lab: Lab, handle: Handle) -> Ended:
    """Wait for the end of an execution and for its last event, which the worker writes a moment later."""
    ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    await lab.until(handle, "finish")
    return ended


async def seen(lab: Lab, handle: Handle, kind: str) -> list[dict[str, Any]]:
    return [body_of(event) for event in await lab.events(handle) if event.type == kind]


async def replayed(handle: Handle) -> None:
    """Replay the history, which must give the same commands."""
    replayer = Replayer(workflows=[ExecutionWorkflow], workflow_runner=UnsandboxedWorkflowRunner())
    await replayer.replay_workflow(await handle.fetch_history())


THINKING = """
name: talk
main:
  - listen:
      busy: BUSY
      do:
        - tool: book
          arguments: {seat: $ _}
          undo: {tool: book, arguments: {seat: $ '-' + _}}
        - set: {last: $ _}
        - tool: think
          arguments: {about: $ _.last}
      until: len(_) > 0
  - evaluate: $ [_, state.last]
"""


@pytest.mark.parametrize("busy", ["interrupt", "rollback"])
async def test_a_message_stops_the_call_of_the_turn_that_runs(tools: Lab, busy: str) -> None:
    async with tools.worker():
        handle = await tools.start(THINKING.replace("BUSY", busy))
        await tools.until(handle, "wait")
        assert (await message(tools, handle, "long", count=1))["disposition"] == "started"
        await tools.until(handle, "effect.started", count=2)
        told = await message(tools, handle, "short", count=2)
        assert told["disposition"] == {"interrupt": "interrupting", "rollback": "rolling_back"}[busy]
        ended = await end_of(tools, handle)
        finished = await seen(tools, handle, "effect.finished")
        failed = await seen(tools, handle, "branch.failed")
    assert ended.output == ["thought of short", "short"]
    assert STOPPED == ["long"]
    assert [body["outcome"] for body in finished if body["kind"] == "tool_call"].count("cancelled") == 1
    assert [(body["path"], body["taken"]) for body in failed] == [("main.0.do[0]", busy)]
    expected = ["long", "short"] if busy == "interrupt" else ["long", "-long", "short"]
    assert expected == DONE
    await replayed(handle)


async def test_queued_messages_and_known_ids_go_over_continue_as_new(tools: Lab) -> None:
    task = """
name: talk
main:
  - set: {said: "$ []"}
  - listen:
      do:
        - tool: book
          arguments: {seat: $ _}
        - set: {said: "$ [*state.said, _]"}
        - sleep: 1500ms
      until: len(state.said) == 3
  - evaluate: $ state.said
"""
    async with tools.worker():
        handle = await tools.start(task, continue_after_events=1)
        await tools.until(handle, "wait")
        for number, seat in enumerate(("a", "b", "c"), 1):
            await message(tools, handle, seat, count=number)
        again = await message(tools, handle, "a", count=4, id="message-1")
        assert again["repeated"] is True
        assert again["disposition"] == "started"
        ended = await end_of(tools, handle)
        events = await tools.events(handle)
        told = await seen(tools, handle, "message.taken")
    assert ended.output == DONE == ["a", "b", "c"]
    assert [body["disposition"] for body in told] == ["started", "queued", "queued", "started"]
    queued_in = {event.run_id for event in events if body_of(event).get("disposition") == "queued"}
    last_turn_in = [event.run_id for event in events if event.type == "effect.started"][-1]
    assert last_turn_in not in queued_in


async def test_between_turns_it_waits_for_input_and_a_known_id_of_an_earlier_run_begins_nothing(tools: Lab) -> None:
    task = "name: talk\nmain: [{listen: {do: [{tool: book, arguments: {seat: $ _}}], until: _ == 'end'}}]"
    async with tools.worker():
        handle = await tools.start(task, continue_after_events=1)
        await tools.until(handle, "wait")
        facts = await tools.store.get_execution(handle.id, tenant=TENANT)
        assert facts.status is ExecutionStatus.AWAITING_INPUT
        await message(tools, handle, "first", count=1)
        await tools.until(handle, "wait", count=2)
        # the run has continued as new since, as soon as it was a second old
        while len({event.run_id for event in await tools.events(handle)}) < 2:
            await asyncio.sleep(0.3)
            await message(
                tools, handle, "first", id="message-1", count=len(await seen(tools, handle, "message.taken")) + 1
            )
        assert (await handle.describe()).search_attributes[ATTRIBUTE_STATUS] == [ExecutionStatus.AWAITING_INPUT.value]
        await message(tools, handle, "end", id="last", count=len(await seen(tools, handle, "message.taken")) + 1)
        ended = await end_of(tools, handle)
    assert ended.output == "end"
    assert DONE == ["first", "end"]


async def test_messages_that_no_worker_has_seen_are_taken_in_their_order(tools: Lab) -> None:
    task = """
name: talk
main:
  - listen:
      busy: join
      do: [{sleep: 100ms}, {evaluate: $ _}]
      until: "'c' in _"
"""
    handle = await tools.start(task)
    for number, word in enumerate("abc"):
        await handle.signal(SIGNAL_MESSAGE, MessageSignal(id=str(number), value=word))
    async with tools.worker():
        ended = await end_of(tools, handle)
        told = await seen(tools, handle, "message.taken")
    assert [body["disposition"] for body in told] == ["started", "joined", "joined"]
    assert ended.output == ["b", "c"]
    await replayed(handle)


async def test_a_step_that_hears_nothing_ends_on_the_clock_of_temporal(tools: Lab) -> None:
    task = "name: talk\nmain: [{listen: {do: {evaluate: $ _}, idle: 300ms, default: nobody}}]"
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.output == "nobody"
