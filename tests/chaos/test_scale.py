"""Long loops and wide maps: the right result, no limit of Temporal passed, and a slow item that holds up nothing."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import WorkflowHandle

from engine.core.run.events import body_of
from engine.edge.mockllm.script import MockRule, MockScript
from engine.tooling import tool
from tests.support.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MOST_EVENTS = 51_200
MOST_BYTES = 50 * 1024 * 1024
PARALLELISM = 50


@tool(effect="read")
async def square(n: int) -> int:
    """Square a number."""
    return n * n


async def sizes_of_runs(lab: Lab, handle: WorkflowHandle[Any, Any]) -> list[tuple[int, int]]:
    """Return (events, bytes) of the history of every run, the last run first."""
    sizes: list[tuple[int, int]] = []
    run_id = (await handle.describe()).run_id or ""
    while run_id:
        described = await lab.client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=lab.client.namespace,
                execution=WorkflowExecution(workflow_id=handle.id, run_id=run_id),
            )
        )
        info = described.workflow_execution_info
        sizes.append((info.history_length, info.history_size_bytes))
        async for event in lab.client.get_workflow_handle(handle.id, run_id=run_id).fetch_history_events(page_size=1):
            run_id = event.workflow_execution_started_event_attributes.continued_execution_run_id
            break
    return sizes


async def test_a_long_loop_continues_as_new_many_times_and_gives_the_right_result(lab: Lab, full: bool):
    rounds = 10_000 if full else 600
    lab.tools = (square,)
    task = (
        "name: loop\nmain: [{foreach: {in: $ list(range(_)), do: {tool: square, arguments: {n: $ _}}}}, "
        "{evaluate: {sum: $ sum(_), rounds: $ len(_)}}]"
    )
    async with lab.worker():
        handle = await lab.start(task, rounds, continue_after_events=None if full else 300)
        ended = await asyncio.wait_for(lab.end_of(handle), 1_500)
        await lab.until(handle, "finish")
    assert ended.output == {"sum": sum(n * n for n in range(rounds)), "rounds": rounds}
    sizes = await sizes_of_runs(lab, handle)
    # a run lives for a second at least, so a fast machine gets further in each run of the short form
    assert len(sizes) - 1 >= (10 if full else 3), "continue-as-new happens many times"
    assert all(events < MOST_EVENTS and size < MOST_BYTES for events, size in sizes), sizes
    assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)


async def test_a_slow_item_of_a_wide_map_holds_up_nothing(lab: Lab, full: bool):
    items, slow_s = (5_000, 60.0) if full else (150, 8.0)
    lab.mock.use(MockScript(rules=[MockRule(match="^item 7$", reply="{last}", delay_s=slow_s)]))
    task = f"""
name: wide
main:
  - over: $ list(range(_))
    parallelism: {PARALLELISM}
    map: [{{prompt: "item {{{{ _ }}}}", unwrap: true}}, {{evaluate: "$ int(_[5:])"}}]
    reduce: $ results + _
    initial: 0
"""
    async with lab.worker():
        handle = await lab.start(task, items)
        ended = await asyncio.wait_for(lab.end_of(handle), 1_500)
        await lab.until(handle, "finish")
    assert ended.output == sum(range(items))
    assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
    assert all(events < MOST_EVENTS and size < MOST_BYTES for events, size in await sizes_of_runs(lab, handle))

    events = await lab.events(handle)
    began_us = events[0].now_us
    done_s = {
        body["path"].split(".do")[0].rsplit(".", 1)[0]: (event.now_us - began_us) / 1e6
        for event in events
        if event.type == "finish_branch" and ".map[" in (body := body_of(event))["path"]
    }
    slow = done_s.pop("main.0.map[7]")
    assert len(done_s) == items - 1
    assert slow >= slow_s
    # no pause between the others has to do with the slow one, and even on a busy machine most end before it
    times = sorted(done_s.values())
    assert max(after - before for before, after in pairwise(times)) < slow_s / 2
    late = [name for name, at in done_s.items() if at > slow]
    assert len(late) < (1 if full else items / 2), f"{len(late)} ended after {slow:.1f} s"
