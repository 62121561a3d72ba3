"""The activities of jobs over many executions: collect the set, and work on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import activity

from activities.effects import Heartbeat, application_error
from engine.control.bulkwork import BulkWork
from engine.core.contracts.doors import COLLECT_ACTIVITY, WORK_ACTIVITY, BulkParams
from engine.core.errors import EngineError, Unavailable


class BulkActivities:
    """The activities `bulk.collect` and `bulk.work`.

    Args:
        work: Works on jobs.
    """

    def __init__(self, work: BulkWork) -> None:
        self._work = work

    @activity.defn(name=COLLECT_ACTIVITY)
    async def collect(self, params: BulkParams) -> str:
        """Fix the set of a job.

        Args:
            params: The job.

        Returns:
            The state of the job.
        """
        return await _beating(lambda: self._work.collect(params.tenant, params.job_id))

    @activity.defn(name=WORK_ACTIVITY)
    async def work(self, params: BulkParams) -> str:
        """Work on a job until it ends, or somebody pauses it.

        Args:
            params: The job.

        Returns:
            The state of the job.
        """
        return await _beating(lambda: self._work.work(params.tenant, params.job_id))


async def _beating(work: Callable[[], Awaitable[str]]) -> str:
    beating = Heartbeat()
    try:
        return await work()
    except EngineError as error:
        if isinstance(error, Unavailable) or error.retryable:
            raise  # Temporal tries again, and it goes on where it was
        raise application_error(error) from None
    finally:
        beating.stop()
