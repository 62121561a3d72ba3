"""When a run continues as new, on the real Temporal server: early where that is free, never by holding others up."""

from __future__ import annotations

import asyncio

import pytest

from engine.tooling import tool
from tests.chaos.test_scale import sizes_of_runs
from tests.support.lab import Lab
from workflows import renewal

EARLY = 120


@tool(effect="read")
async def double(n: int) -> int:
    """Double a number."""
    return n * 2


@tool(effect="read")
async def slowly(seconds: float) -> str:
    """Take some time."""
    await asyncio.sleep(seconds)
    return "done"


@pytest.fixture
def tools(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(renewal, "EARLY_EVENTS", EARLY)
    lab.tools = (double, slowly)
    return lab


# a run does not continue as new in its first second
LOOP = "{sleep: 1.1}, {foreach: {in: $ list(range(40)), do: {tool: double, arguments: {n: $ _}}}}"


async def test_calls_one_after_another_continue_as_new_early_and_keep_histories_short(tools: Lab):
    async with tools.worker():
        handle = await tools.start(f"name: t\nmain: [{LOOP}]")
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert ended.output == [n * 2 for n in range(40)]
    sizes = await sizes_of_runs(tools, handle)
    assert len(sizes) == 2
    # the run goes on to the end of the call that is under way; four workflow tasks are more than that takes
    assert EARLY <= sizes[1][0] < EARLY + 24


async def test_a_large_state_is_not_copied_into_new_runs_all_the_time(tools: Lab):
    async with tools.worker():
        handle = await tools.start(f"name: t\nmain: [{LOOP}, {{evaluate: done}}]", "x" * 250_000)
        ended = await tools.end_of(handle)
    assert ended.output == "done"
    assert len(await sizes_of_runs(tools, handle)) == 1


async def test_slow_calls_one_after_another_do_not_keep_a_run_from_continuing_as_new(tools: Lab):
    task = """
name: t
main:
  - sleep: 1.1
  - foreach: {in: "$ [2.3, 0.1]", do: {tool: slowly, arguments: {seconds: $ _}}}
"""
    async with tools.worker():
        handle = await tools.start(task, continue_after_events=4)
        ended = await tools.end_of(handle)
    assert ended.output == ["done", "done"]
    # the first call takes longer than calls may be held back, but none is: there is no other
    assert len(await sizes_of_runs(tools, handle)) == 2
