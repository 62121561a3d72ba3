"""A worker that is given what it cannot run ends the execution at once, with a word that says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from temporalio.client import WorkflowFailureError

from engine.core.plan.ir import STDLIB_VERSION, Plan
from tests.support.lab import TENANT, Lab, plan_of

AGENT = plan_of("name: asks\nmain: [{evaluate: 1}, {agent: who wrote it?}]")
NEWER = replace(plan_of("name: newer\nmain: [{evaluate: 1}]"), stdlib=STDLIB_VERSION + 1)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (AGENT, "this version does not run an `agent` step (main.1)"),
        (NEWER, f"the plan needs version {STDLIB_VERSION + 1} of the expression library"),
    ],
    ids=["planned only", "newer library"],
)
async def test_a_worker_refuses_a_plan_that_only_a_newer_one_runs(lab: Lab, plan: Plan, told: str) -> None:
    async with lab.worker():
        with pytest.raises(WorkflowFailureError) as caught:
            await (await lab.start(plan)).result()
    assert told in str(caught.value.cause)


async def test_a_task_that_can_only_be_planned_is_not_run_by_another_one(lab: Lab) -> None:
    await lab.definitions.create_task("name: asks\nmain: {agent: who wrote it?}", tenant=TENANT)
    parent = "name: parent\nmain:\n  - task: asks\n    on_error: {evaluate: $ error.code}"
    async with lab.worker():
        ended = await lab.run(parent)
    assert ended.output == "task.not_runnable"
