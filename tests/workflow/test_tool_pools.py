"""Pools of workers, functions of the client and approvals, on a real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from activities.polling import build_pool_worker
from activities.tools.runner import ToolActivities
from engine.control import scan as scan_module
from engine.control import stuck as stuck_module
from engine.control.connect import ensure_search_attributes
from engine.control.definitions import DefinitionService
from engine.control.toolrules import ruled
from engine.core.plan.agent_rules import Approval
from engine.core.plan.codec import plan_from_json
from engine.core.plan.computed import Expr
from engine.core.plan.ir import Plan
from engine.settings import ToolsConfig
from engine.store.definitions import Definitions
from engine.tooling import Tool, ToolCatalog, ToolContext, tool
from tests.backends import process_tools
from tests.support.lab import Lab, plan_of
from tests.support.patience import PATIENCE_S
from tests.workflow.test_reindex import start_as_api
from tests.workflow.test_stuck import scan_until_stuck

DRAW = "name: draw\nmain: [{tool: near, arguments: {}}, {tool: draw, arguments: {text: cat}}]"


@tool(effect="read")
async def near() -> str:
    """Run where executions run."""
    return "near"


def drawing(place: str) -> Tool[..., Any]:
    """Return the tool of the pool `gpu`, as a worker at some place has it."""

    @tool(effect="read", pool="gpu")
    async def draw(text: str, context: ToolContext) -> str:
        return f"{text} drawn by the {place} worker with {context.idempotency_key.rpartition(':')[2]}"

    return draw


@contextlib.asynccontextmanager
async def pool_worker(lab: Lab, pool: str, *tools: Tool[..., Any]) -> AsyncIterator[None]:
    """Run a worker of a pool for the length of the block."""
    activities = ToolActivities(ToolCatalog.of(*tools), lab.http)
    async with build_pool_worker(lab.client, task_queue=lab.queue, pool=pool, tools=activities):
        yield
    await activities.aclose()


async def test_the_calls_of_a_pool_are_made_by_its_workers_alone(lab: Lab) -> None:
    lab.tools = (near, drawing("usual"))
    async with lab.worker(), pool_worker(lab, "gpu", drawing("gpu")):
        ended = await lab.run(DRAW)
    assert ended.output == "cat drawn by the gpu worker with main.1"


async def test_everstep_toml_puts_tools_into_pools(lab: Lab) -> None:
    plan = plan_of("name: t\nmain: [{tool: near, arguments: {}}]", (near,))
    rules = ToolsConfig(pools={"ne*": "zone-a", "*": "zone-b"})
    placed = dataclasses.replace(plan, tools=ruled(plan.tools, rules))
    lab.tools = (near,)
    async with lab.worker():
        handle = await lab.start(placed)
        async with pool_worker(lab, "zone-b", near):
            await lab.until(handle, "effect.started")
            waiting = await handle.describe()
            async with pool_worker(lab, "zone-a", near):
                assert (await lab.end_of(handle)).output == "near"
    queues = [item.activity_options.task_queue.name for item in waiting.raw_description.pending_activities]
    assert queues == [f"{lab.queue}-zone-a"]


async def test_a_call_whose_pool_has_no_worker_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "QUIET_US", 300_000)
    monkeypatch.setattr(stuck_module, "WAITING_S", 1.0)
    await ensure_search_attributes(lab.client)
    lab.tools = (near, drawing("usual"))
    async with lab.worker():
        handle = await start_as_api(lab, DRAW)
        found = await scan_until_stuck(lab, handle, "stuck.no_worker")
        assert "pool 'gpu'" in found["message"]
        assert "everstep worker --pool gpu" in found["hint"]
        async with pool_worker(lab, "gpu", drawing("gpu")):
            await lab.end_of(handle)
            assert await scan_until_stuck(lab, handle, None) == {}


async def test_a_person_sees_how_far_a_tool_is(lab: Lab) -> None:
    release = asyncio.Event()

    @tool(effect="read")
    async def long(context: ToolContext) -> str:
        context.progress("3 of 7 pages")
        await release.wait()
        return "done"

    lab.tools = (long,)
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{tool: long, arguments: {}}]")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                pending = (await handle.describe()).raw_description.pending_activities
                if pending and pending[0].heartbeat_details.payloads:
                    break
                await asyncio.sleep(0.1)
        release.set()
        await lab.end_of(handle)
    told = await lab.client.data_converter.decode(list(pending[0].heartbeat_details.payloads))
    assert told == [{"progress": "3 of 7 pages"}]


async def test_a_cancelled_execution_kills_the_process_of_its_tool(lab: Lab) -> None:
    lab.tools = (process_tools.hang,)
    file = lab.folder / "ids"
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{tool: hang, arguments: {file: $ _}}]", str(file))
        pid = (await process_tools.ids_in(file))[0]
        os.kill(pid, 0)
        await lab.cancel(handle)
        assert (await lab.end_of(handle)).cancelled
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


WAITS = """
name: t
tools:
  - {name: near, approve: true}
  - {name: pick, type: function}
main:
  - {tool: near, arguments: {}}
  - {tool: pick, arguments: {}}
"""


async def test_approvals_and_functions_outlive_the_worker(lab: Lab) -> None:
    lab.tools = (near,)
    async with lab.worker(cached_workflows=0):
        plan: Plan = plan_of(WAITS, lab.tools)
        handle = await lab.start(plan)
        asked = await lab.until(handle, "wait")
        assert asked["info"] == {"kind": "approval", "tool": "near", "arguments": {}}
    async with lab.worker(cached_workflows=0):
        await lab.answer(handle, {"approved": True}, wait_id=asked["wait_id"])
        called = await lab.until(handle, "wait", count=2)
        assert called["info"]["kind"] == "function_call"
    async with lab.worker(cached_workflows=0):
        await lab.answer(handle, {"picked": 3}, wait_id=called["wait_id"])
        assert (await lab.end_of(handle)).output == {"picked": 3}
    assert len([event for event in await lab.events(handle) if event.type == "effect.started"]) == 1


async def test_the_operators_rules_hold_for_stored_tasks_and_the_tasks_own_stay(lab: Lab) -> None:
    lab.tools = (near,)
    text = "name: stored\ntools: [{name: near, approve: _.far}]\nmain: [{tool: near, arguments: {}}]"
    task = (await lab.definitions.create_task(text, tenant="default")).task
    contracts = ruled({"near": near.contract()}, ToolsConfig.model_validate({"approve": {"n*": {"if": "_.x > 1"}}}))
    present = DefinitionService(Definitions(lab.store.database), contracts)
    tool_now = plan_from_json(await present.plan_for_start(task)).tools["near"]
    assert tool_now.approve == (Approval(condition=Expr("_.x > 1")),)
    assert tool_now.own_approve == (Approval(condition=Expr("_.far")),)


def test_rules_that_mean_nothing_are_refused() -> None:
    for rule in ({"approve": {"x": {"if": "_.a >"}}}, {"approve": {"x": {"if": "state.a"}}}, {"pools": {"x": "Big"}}):
        with pytest.raises(ValidationError):
            ToolsConfig.model_validate(rule)
