"""An agent that goes on for hundreds of turns: its history grows with what is said, and the model is told all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import WorkflowHandle

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from engine.store.schema_conversations import conversations
from engine.tooling import tool
from tests.support.lab import Lab

TURNS = 300
RESULT_CHARS = 2_000
MOST_BYTES = 5_000_000
TASK = """
name: long
main:
  - agent: Look everything up.
    tools: [look_up]
    max_rounds: 400
    unwrap: true
"""


@tool(effect="read")
async def look_up(n: int) -> str:
    """Look something up."""
    return f"{n}: " + "word " * (RESULT_CHARS // 5)


def script(turns: int) -> MockScript:
    calls = [
        MockRule(turn=turn, tool_calls=[MockToolCall(name="look_up", arguments={"n": turn})]) for turn in range(turns)
    ]
    return MockScript(rules=[*calls, MockRule(reply="that was all")])


async def bytes_of_all_runs(lab: Lab, handle: WorkflowHandle[Any, Any]) -> list[int]:
    """Return the size of the history of every run, the last run first."""
    sizes: list[int] = []
    run_id = (await handle.describe()).run_id or ""
    while run_id:
        execution = WorkflowExecution(workflow_id=handle.id, run_id=run_id)
        request = DescribeWorkflowExecutionRequest(namespace=lab.client.namespace, execution=execution)
        described = await lab.client.workflow_service.describe_workflow_execution(request)
        sizes.append(described.workflow_execution_info.history_size_bytes)
        async for event in lab.client.get_workflow_handle(handle.id, run_id=run_id).fetch_history_events(page_size=1):
            run_id = event.workflow_execution_started_event_attributes.continued_execution_run_id
            break
    return sizes


def texts_of_results(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"].partition(":")[0] for message in messages if message["role"] == "tool"]


@pytest.mark.timeout(300)
async def test_three_hundred_turns_with_results_of_tools_stay_below_five_megabytes(lab: Lab):
    lab.tools = (look_up,)
    lab.mock.use(script(TURNS))
    async with lab.worker():
        handle = await lab.start(TASK)
        ended = await asyncio.wait_for(lab.end_of(handle), 240)
        await lab.until(handle, "finish")
    assert ended.output == "that was all"
    last = lab.mock.calls[-1]["messages"]
    assert texts_of_results(last) == [str(turn) for turn in range(TURNS)], "the model is told everything"
    assert len(lab.mock.calls) == TURNS + 1
    sizes = await bytes_of_all_runs(lab, handle)
    assert TURNS * RESULT_CHARS < sum(sizes) < MOST_BYTES, sizes
    assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)


async def test_a_conversation_that_the_store_has_lost_is_told_again_and_uses_up_no_attempt(lab: Lab):
    lab.tools = (look_up,)
    lab.mock.use(script(6))
    approve = TASK.replace(
        "    unwrap: true\n", "    unwrap: true\n    rules: {look_up: {approve: {if: $ _.n == 3}}}\n"
    )
    async with lab.worker():
        handle = await lab.start(approve)
        await lab.until(handle, "wait")
        async with lab.store.database.engine.begin() as connection:
            lost = await connection.execute(delete(conversations).where(conversations.c.execution_id == handle.id))
        assert lost.rowcount > 0
        await lab.answer(handle, {"approved": True})
        assert (await lab.end_of(handle)).output == "that was all"
    last = lab.mock.calls[-1]["messages"]
    assert texts_of_results(last) == [str(turn) for turn in range(6)]
    assert len(lab.mock.calls) == 7
    assert not [event for event in await lab.events(handle) if event.type == "attempt.failed"]
