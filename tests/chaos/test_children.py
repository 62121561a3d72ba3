"""A worker that is killed while executions run each other: parents and children end, are settled and told in full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from engine.control.replaying import repair_execution
from engine.control.settling import settle_from_temporal
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import body_of
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess, worker_process
from worker import replay_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CHILD = "name: kid\nmain: [{sleep: 0.3}, {evaluate: $ _ + 1}, {sleep: 0.2}]\nfinally: [{sleep: 0.1}]"
PARENT = """
name: parent
main:
  - sleep: 0.1
  - {over: $ range(3), map: {task: kid, arguments: $ _}}
  - {task: kid, arguments: "$ _[2]"}
"""
CHILDREN = 4
SHORT = (5, 13)
"""Events of the parent's history after which the short form kills the worker: while tasks are looked up, and while
children are started."""
LONG = tuple(range(2, 34))


async def run_and_kill(lab: Lab, worker: WorkerProcess, at: int) -> tuple[Any, set[tuple[Any, ...]], int]:
    """Kill the worker once the parent has so many events; return its result, its children's states and their number."""
    handle: WorkflowHandle[Any, Any] = await lab.start(PARENT)
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_id >= at:
            break
    worker.kill()
    worker.start()
    await worker.ready()
    ended = await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)
    await repair_execution(lab.client, lab.store, handle.id, replay_run)
    told = [body_of(event) for event in await lab.events(handle) if event.type == "effect.started"]
    children = {body["child_id"] for body in told}
    states: set[tuple[Any, ...]] = set()
    for child_id in sorted(children):
        await repair_execution(lab.client, lab.store, child_id, replay_run)
        await settle_from_temporal(lab.client, lab.store, child_id)
        row = await lab.store.get_execution(child_id, tenant=TENANT)
        states.add((row.status, row.verified, row.parent_id == handle.id))
    return ended.output, states, len(children)


async def test_executions_that_run_each_other_survive_their_worker(lab: Lab, full: bool):
    await lab.definitions.create_task(CHILD, tenant=TENANT)
    async with worker_process(lab) as worker:
        for at in LONG if full else SHORT:
            output, states, children = await run_and_kill(lab, worker, at)
            assert (at, output, children) == (at, 4, CHILDREN)
            assert (at, states) == (at, {(ExecutionStatus.SUCCEEDED, True, True)})
