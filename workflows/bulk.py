"""The workflow of a job over many executions: collects its set, works on it, rests while paused. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta

from engine.core.contracts.doors import BULK_WORKFLOW, COLLECT_ACTIVITY, SIGNAL_BULK, WORK_ACTIVITY, BulkParams
from temporalio import workflow
from temporalio.common import RetryPolicy

LONGEST = timedelta(days=7)
SILENCE = timedelta(seconds=20)
"""A worker that says nothing for so long is lost; another one goes on where it was."""
AGAIN = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
PAUSED = "paused"


@workflow.defn(name=BULK_WORKFLOW)
class BulkWorkflow:
    """One job."""

    def __init__(self) -> None:
        self._changed = False

    @workflow.signal(name=SIGNAL_BULK)
    def changed(self) -> None:
        """Learn that somebody has paused, continued or aborted the job."""
        self._changed = True

    @workflow.run
    async def run(self, params: BulkParams) -> str:
        """Work on the job until it has ended.

        Args:
            params: The job.

        Returns:
            How it ended: `done` or `aborted`.
        """
        state = await self._do(COLLECT_ACTIVITY, params)
        while True:
            self._changed = False
            state = await self._do(WORK_ACTIVITY, params)
            if state != PAUSED:
                return state
            await workflow.wait_condition(lambda: self._changed)

    async def _do(self, name: str, params: BulkParams) -> str:
        state: str = await workflow.execute_activity(
            name,
            params,
            result_type=str,
            start_to_close_timeout=LONGEST,
            heartbeat_timeout=SILENCE,
            retry_policy=AGAIN,
        )
        return state
