"""An execution that does not go on says why, for as long as that is so."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from engine.control import scan as scan_module
from engine.control import stuck as stuck_module
from engine.control.connect import ensure_search_attributes
from engine.control.repair import Repair
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import execution_view
from engine.tooling import tool
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.patience import PATIENCE_S, rest_since
from tests.support.servers import temporal_process
from tests.support.temporal_cli import temporal_cli
from tests.workflow.test_reindex import start_as_api
from worker import replay_run
from workflows.execution import ExecutionWorkflow

WAITING = "name: waiting\nmain: [{evaluate: $ 1}, {wait_for_input: {info: go}}, {evaluate: $ _}]"


@tool(effect="read")
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "done"


@pytest.fixture
async def stuck_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(scan_module, "QUIET_US", 300_000)
    monkeypatch.setattr(stuck_module, "WAITING_S", 1.0)
    await ensure_search_attributes(lab.client)
    return lab


async def scan_until_stuck(lab: Lab, handle: WorkflowHandle[Any, Any], code: str | None) -> dict[str, Any]:
    """Let a repair look until the execution is stuck with a code; None = until it is not."""
    repair = Repair(lab.client, lab.store, replay_run)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        await repair.settle_ended()
        await repair.scan()
        facts = await lab.store.get_execution(handle.id, tenant=TENANT)
        view = execution_view(facts)["stuck"]
        if (view is None) if code is None else (view is not None and view["code"] == code):
            return view or {}
        assert began < deadline, view
        await rest_since(began, least_s=0.2)


async def test_without_a_worker_it_says_which_queue_nobody_asks(stuck_lab: Lab):
    handle = await start_as_api(stuck_lab, WAITING)
    found = await scan_until_stuck(stuck_lab, handle, "stuck.no_worker")
    assert stuck_lab.queue in found["message"]
    assert found["hint"]
    first = found["since"]
    await asyncio.sleep(0.2)
    assert (await scan_until_stuck(stuck_lab, handle, "stuck.no_worker"))["since"] == first
    async with stuck_lab.worker():
        await stuck_lab.until(handle, "wait")
        assert await scan_until_stuck(stuck_lab, handle, None) == {}


async def test_an_answer_that_no_worker_takes_makes_it_stuck(stuck_lab: Lab):
    async with stuck_lab.worker():
        handle = await start_as_api(stuck_lab, WAITING)
        await stuck_lab.until(handle, "wait")
    assert await scan_until_stuck(stuck_lab, handle, None) == {}, "whoever waits for an answer is well"
    await stuck_lab.answer(handle, 1)
    await scan_until_stuck(stuck_lab, handle, "stuck.no_worker")
    async with stuck_lab.worker():
        await stuck_lab.end_of(handle)
    assert await scan_until_stuck(stuck_lab, handle, None) == {}
    async with asyncio.timeout(PATIENCE_S):
        repair = Repair(stuck_lab.client, stuck_lab.store, replay_run)
        while not (await stuck_lab.store.get_execution(handle.id, tenant=TENANT)).settled:
            await repair.scan()
            await asyncio.sleep(0.1)


async def test_a_failing_workflow_task_tells_its_reason(stuck_lab: Lab, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Any, *arguments: Any) -> None:
        raise LookupError("the lamp went out")

    with monkeypatch.context() as breaking:
        breaking.setattr(ExecutionWorkflow, "_build", broken)
        # engine errors fail the execution; anything else is taken for a worker that must be mended
        breaking.setattr("workflows.execution.OUR_MISTAKES", ())
        async with stuck_lab.worker():
            handle = await start_as_api(stuck_lab, WAITING)
            found = await scan_until_stuck(stuck_lab, handle, "stuck.workflow_task_fails")
    assert "the lamp went out" in found["message"]
    async with stuck_lab.worker():
        await stuck_lab.until(handle, "wait")
        assert await scan_until_stuck(stuck_lab, handle, None) == {}


async def test_a_call_that_temporal_repeats_again_and_again_tells_its_failure(stuck_lab: Lab):
    stuck_lab.tools = (slow,)
    text = "name: calls\nmain: [{tool: slow, arguments: {seconds: 0.1}}]"
    # a worker of another make: it has the workflow, but not the call
    worker = stuck_lab.worker(activities=[_other])
    async with worker:
        handle = await start_as_api(stuck_lab, text)
        found = await scan_until_stuck(stuck_lab, handle, "stuck.activity_retries")
    assert "not registered" in found["message"]
    async with stuck_lab.worker():
        await stuck_lab.end_of(handle)
        await scan_until_stuck(stuck_lab, handle, None)


def _activity() -> Any:
    from temporalio import activity

    @activity.defn(name="something.else")
    async def other() -> None:
        return None

    return other


_other = _activity()


async def test_a_natively_paused_one_says_so_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan_module, "QUIET_US", 300_000)
    with temporal_process(tmp_path, ["frontend.WorkflowPauseEnabled=true"]) as server:
        async with open_lab(server.address, tmp_path) as lab:
            await ensure_search_attributes(lab.client)
            async with lab.worker():
                handle, other = await start_as_api(lab, WAITING), await start_as_api(lab, WAITING)
                await lab.until(handle, "wait")
                await lab.until(other, "wait")
                temporal_cli(lab, "workflow", "pause", "--workflow-id", handle.id, "--reason", "lunch")
                found = await scan_until_stuck(lab, handle, "stuck.paused")
                assert "lunch" in found["message"]
                await lab.answer(other, "x")
                await lab.end_of(other)
                await scan_until_stuck(lab, other, None)
                await _settled(lab, other)
                temporal_cli(lab, "workflow", "unpause", "--workflow-id", handle.id, "--reason", "back")
                await scan_until_stuck(lab, handle, None)
                await lab.answer(handle, "y")
                await lab.end_of(handle)
                await _settled(lab, handle)


async def _settled(lab: Lab, handle: WorkflowHandle[Any, Any]) -> None:
    repair = Repair(lab.client, lab.store, replay_run)
    async with asyncio.timeout(PATIENCE_S):
        while not (facts := await lab.store.get_execution(handle.id, tenant=TENANT)).settled:
            await repair.scan()
            await asyncio.sleep(0.1)
    assert facts.status is ExecutionStatus.SUCCEEDED
