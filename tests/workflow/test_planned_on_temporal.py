"""A worker that is given what it cannot run ends the execution at once, with a word that says why."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError

from tests.support.lab import TENANT, Lab, plan_of

CHAIN = "dialect: contenox\nid: asks\ntasks: [{id: a, handler: noop, transition: {branches: [{operator: default}]}}]"


async def test_a_worker_refuses_a_plan_that_only_a_newer_one_runs(lab: Lab) -> None:
    async with lab.worker():
        with pytest.raises(WorkflowFailureError) as caught:
            await (await lab.start(plan_of(CHAIN))).result()
    assert "this version does not run a contenox chain (main)" in str(caught.value.cause)


async def test_a_task_that_can_only_be_planned_is_not_run_by_another_one(lab: Lab) -> None:
    await lab.definitions.create_task(CHAIN, tenant=TENANT)
    parent = "name: parent\nmain:\n  - task: asks\n    on_error: {evaluate: $ error.code}"
    async with lab.worker():
        ended = await lab.run(parent)
    assert ended.output == "task.not_runnable"
