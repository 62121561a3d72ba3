"""Workflows that look after backends: check them, fetch models one after the other, delete some. Workflow-safe."""

from __future__ import annotations

from datetime import timedelta

from engine.core.contracts.registry import (
    CHECK_ACTIVITY,
    PRUNE_ACTIVITY,
    PRUNE_WORKFLOW,
    PULL_ACTIVITY,
    PULL_WORKFLOW,
    RECONCILE_WORKFLOW,
    SIGNAL_PULL,
    CheckParams,
    CheckResult,
    PruneParams,
    PruneResult,
    PullParams,
    PullResult,
)
from temporalio import workflow
from temporalio.common import RetryPolicy

CHECK_S = timedelta(seconds=120)
SILENCE = timedelta(seconds=10)
"""A worker that says nothing for so long is lost; another one goes on."""
LONGEST_PULL = timedelta(days=2)
ONCE_MORE = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3)
PULL_AGAIN = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=5))
"""The activity itself counts the attempts that failed, since a lost worker's are none."""
MOST_PULLS = 200
"""Of one run; the next one goes on with a short history."""


@workflow.defn(name=RECONCILE_WORKFLOW)
class ReconcileWorkflow:
    """One look at all backends, or at one."""

    @workflow.run
    async def run(self, params: CheckParams) -> CheckResult:
        """Look, and write what was found.

        Args:
            params: At which.

        Returns:
            How they are.
        """
        result: CheckResult = await workflow.execute_activity(
            CHECK_ACTIVITY,
            params,
            result_type=CheckResult,
            start_to_close_timeout=CHECK_S,
            heartbeat_timeout=SILENCE,
            retry_policy=ONCE_MORE,
        )
        return result


@workflow.defn(name=PULL_WORKFLOW)
class PullWorkflow:
    """Fetches what the queue of one backend holds; it ends when that is empty."""

    def __init__(self) -> None:
        self._is_wanted = True

    @workflow.signal(name=SIGNAL_PULL)
    def wanted(self) -> None:
        """Learn that there is more in the queue."""
        self._is_wanted = True

    @workflow.run
    async def run(self, params: PullParams) -> int:
        """Fetch models one after the other.

        Args:
            params: Whose.

        Returns:
            How many ended.
        """
        ended = 0
        while self._is_wanted:
            self._is_wanted = False
            while True:
                result: PullResult = await workflow.execute_activity(
                    PULL_ACTIVITY,
                    params,
                    result_type=PullResult,
                    start_to_close_timeout=LONGEST_PULL,
                    heartbeat_timeout=SILENCE,
                    retry_policy=PULL_AGAIN,
                )
                if not result.model:
                    break
                ended += 1
                if ended >= MOST_PULLS:
                    workflow.continue_as_new(params)
        return ended


@workflow.defn(name=PRUNE_WORKFLOW)
class PruneWorkflow:
    """Deletes models that nobody declared, because somebody asked for it."""

    @workflow.run
    async def run(self, params: PruneParams) -> PruneResult:
        """Delete them, or say which they are.

        Args:
            params: Whose, and which.

        Returns:
            Which they are, and which were deleted.
        """
        result: PruneResult = await workflow.execute_activity(
            PRUNE_ACTIVITY,
            params,
            result_type=PruneResult,
            start_to_close_timeout=CHECK_S,
            heartbeat_timeout=SILENCE,
            retry_policy=ONCE_MORE,
        )
        return result
