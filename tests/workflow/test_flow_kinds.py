"""The newer kinds and modifiers on the real Temporal server, over continue-as-new, signals and cancels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from engine.core.contracts.execution import SIGNAL_EVENT, EventSignal
from engine.core.run.events import body_of
from engine.tooling import tool
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

SEATS: list[str] = []


@tool(effect="write", idempotent=True)
async def book(seat: str) -> str:
    """Book a seat; `-seat` gives it back."""
    SEATS.append(seat)
    if seat == "broken":
        raise RuntimeError("no such seat")
    return seat


@tool(effect="read")
async def slowly(seconds: float) -> float:
    """Take some time."""
    await asyncio.sleep(seconds)
    return seconds


@pytest.fixture
def tools(lab: Lab) -> Lab:
    SEATS.clear()
    lab.tools = (book, slowly)
    return lab


async def send(handle: WorkflowHandle[Any, Any], name: str, value: Any, key: Any = None) -> None:
    await handle.signal(SIGNAL_EVENT, EventSignal(id=f"{name}-{key}", name=name, key=key, value=value))


async def test_a_race_ends_with_its_winner_and_cancels_the_call_that_lost(tools: Lab):
    task = (
        "name: t\nmain: [{race: [{tool: slowly, arguments: {seconds: 99}}, {tool: slowly, arguments: {seconds: 0.1}}]}]"
    )
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.output == 0.1


async def test_a_loop_goes_on_over_continue_as_new(tools: Lab):
    task = (
        "name: t\nmain: [{until: _ >= 40, do: [{tool: book, arguments: {seat: $ str(_)}}, {evaluate: $ int(_) + 1}]}]"
    )
    async with tools.worker():
        ended = await tools.run(task, 0, continue_after_events=60)
    assert ended.output == 40
    assert [str(number) for number in range(40)] == SEATS


async def test_a_deadline_passes_on_the_clock_of_temporal(tools: Lab):
    task = "name: t\nmain: [{approve: {info: sure?, deadline: 300ms, default: {approved: false}}}]"
    async with tools.worker():
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.output == {"approved": False}


async def test_an_event_that_comes_before_its_wait_is_kept_and_one_after_it_wakes_it(tools: Lab):
    task = """
name: t
main:
  - wait_for_event: go
  - wait_for_event: paid
    key: $ _
"""
    async with tools.worker():
        handle = await tools.start(task)
        await send(handle, "paid", 5, key="o1")
        await tools.until(handle, "event.received")
        await send(handle, "go", "o1")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
    assert ended.output == 5


async def test_what_was_done_is_undone_and_finally_runs_when_an_execution_is_cancelled(tools: Lab):
    task = """
name: t
main:
  - tool: book
    arguments: {seat: a}
    undo: {tool: book, arguments: {seat: "-a"}}
  - wait_for_input: {info: go on?}
finally:
  - tool: book
    arguments: {seat: last}
"""
    async with tools.worker():
        handle = await tools.start(task)
        await tools.until(handle, "wait")
        await tools.cancel(handle, "enough")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        told = await tools.until(handle, "cancelled")
    assert ended.cancelled
    assert told["reason"] == "enough"
    assert SEATS == ["a", "-a", "last"]


async def test_finally_and_undo_survive_the_loss_of_the_run_in_the_middle_of_them(tools: Lab):
    task = """
name: t
main:
  - tool: book
    arguments: {seat: a}
    undo: [{sleep: 0.2}, {tool: book, arguments: {seat: "-a"}}]
  - tool: book
    arguments: {seat: broken}
finally:
  - sleep: 0.2
  - tool: book
    arguments: {seat: last}
"""
    async with tools.worker(cached_workflows=0):
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.error is not None
    assert ended.error["code"] == "tool.failed"
    assert SEATS == ["a", "broken", "-a", "last"]


async def test_the_text_of_a_log_step_stands_in_its_event(tools: Lab):
    async with tools.worker():
        handle = await tools.start("name: t\nmain: [{log: 'got {{ _ }}'}, {evaluate: $ _}]", 3)
        await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert [body_of(event).get("log") for event in await tools.events(handle)][1] == "got 3"
