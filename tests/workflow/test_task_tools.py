"""Tools that run another task, on the real Temporal server: an agent and a step call one, people deny and cancel it."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.core.kinds import ExecutionStatus
from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from engine.tooling import tool
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.workflow.test_children import WAITING, child_of, row_of, stored

PAID: list[int] = []


@tool(effect="write")
async def pay(order: int) -> str:
    """Pay an order back."""
    PAID.append(order)
    return f"paid {order}"


@tool(effect="write", idempotent=True)
async def book(seat: str) -> str:
    """Book a seat."""
    return seat


CHILD = "name: give-back\nmain: [{tool: pay, arguments: {order: $ _.order}}]\n"
TOOL = """
name: t
tools:
  - name: refund
    task: give-back
    parameters: {type: object, properties: {order: {type: integer}}, required: [order]}
"""
AGENT = TOOL + "main: [{agent: Help, tools: [refund], unwrap: true}]\n"


@pytest.fixture
def tools(lab: Lab) -> Lab:
    PAID.clear()
    lab.tools = (pay, book)
    calls = [MockToolCall(name="refund", arguments={"order": 7})]
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=calls), MockRule(reply="done")]))
    return lab


def told(lab: Lab) -> list[str]:
    return [message["content"] for message in lab.mock.calls[-1]["messages"] if message["role"] == "tool"]


async def test_a_model_runs_a_task_as_a_child_and_is_told_its_output(tools: Lab) -> None:
    await stored(tools, CHILD)
    async with tools.worker():
        handle = await tools.start(AGENT)
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        # the end is told by Temporal, the events are stored a moment later
        await tools.until(handle, "finish")
        children = [item for item in await tools.events(handle) if '"child_id"' in item.body]
        child_id = json.loads(children[0].body)["child_id"]
        child = tools.client.get_workflow_handle(child_id)
        await tools.until(child, "finish")
    assert (ended.output, PAID, told(tools)) == ("done", [7], ["paid 7"])
    row = await row_of(tools, child_id)
    assert (row.task_name, row.input, row.parent_id) == ("give-back", {"order": 7}, handle.id)
    assert (row.parent_path, row.status, row.verified) == ("main.0.turn[0].1[0].0", ExecutionStatus.SUCCEEDED, True)


async def test_a_step_calls_it_as_any_tool(tools: Lab) -> None:
    await stored(tools, CHILD)
    async with tools.worker():
        handle = await tools.start(TOOL + "main: [{tool: refund, arguments: {order: 8}}]")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        child = await child_of(tools, handle)
        await tools.until(child, "finish")
    assert (ended.output, (await row_of(tools, child.id)).parent_id) == ("paid 8", handle.id)


async def test_a_call_that_a_person_denies_starts_no_child_and_one_that_is_approved_does(tools: Lab) -> None:
    await stored(tools, CHILD)
    task = TOOL + "    approve: true\nmain: [{tool: refund, arguments: {order: 9}, on_error: {evaluate: $ error.code}}]"
    async with tools.worker():
        ends = []
        for approved in (False, True):
            handle = await tools.start(task)
            await tools.until(handle, "wait")
            assert PAID == []
            await tools.answer(handle, {"approved": approved})
            ends.append((await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)).output)
    assert (ends, PAID) == (["tool.denied", "paid 9"], [9])


async def test_a_cancel_of_the_parent_cancels_the_child(tools: Lab) -> None:
    await stored(tools, WAITING)
    task = TOOL.replace("give-back", "waiting") + "main: [{tool: refund, arguments: {order: 1}}]"
    async with tools.worker():
        handle = await tools.start(task)
        child = await child_of(tools, handle)
        await tools.until(child, "wait")
        await tools.cancel(handle, "enough")
        ended = await asyncio.wait_for(tools.end_of(handle), PATIENCE_S)
        await tools.until(child, "cancelled")
    assert ended.cancelled
    assert (await row_of(tools, child.id)).status is ExecutionStatus.CANCELLED


async def test_a_child_of_a_tool_may_not_touch_more_than_its_parent(tools: Lab) -> None:
    await stored(tools, CHILD)
    async with tools.worker():
        task = TOOL + "allow: {tools: [refund]}\nmain: [{tool: refund, arguments: {order: 8}}]"
        ended = await asyncio.wait_for(tools.run(task), PATIENCE_S)
    assert ended.error is not None
    assert (ended.error["code"], PAID) == ("authority.denied", [])
