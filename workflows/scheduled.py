"""The workflow of one run of a schedule: starts an execution and ends with it, for the overlaps. Workflow-safe."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from engine.core.contracts.doors import (
    ENDED_ACTIVITY,
    SCHEDULED_START,
    SCHEDULED_WORKFLOW,
    SIGNAL_ENDED,
    START_ACTIVITY,
    STOP_ACTIVITY,
    ScheduledEnd,
    ScheduledParams,
    ScheduledStart,
    failure_of,
)
from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError

LOOK_TIMEOUT = timedelta(seconds=60)
FIRST_LOOK_S = 60.0
MOST_LOOK_S = 6 * 3_600.0
"""The end is told by a signal; it is looked for all the same, less and less often."""
AGAIN = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))


@workflow.defn(name=SCHEDULED_WORKFLOW)
class ScheduledWorkflow:
    """One run of a schedule."""

    def __init__(self) -> None:
        self._told = False
        self._stopping = False

    @workflow.signal(name=SIGNAL_ENDED)
    def ended(self, execution_id: str) -> None:
        """Learn that the execution has ended."""
        del execution_id
        self._told = True

    @workflow.run
    async def run(self, params: ScheduledParams) -> str:
        """Start the execution and wait for its end.

        Args:
            params: The schedule.

        Returns:
            The execution's id.

        Raises:
            ApplicationError: It could not be started, or it failed; then a schedule may pause.
        """
        info = workflow.info()
        planned = info.typed_search_attributes.get(SearchAttributeKey.for_datetime(SCHEDULED_START))
        start = ScheduledStart(
            tenant=params.tenant,
            schedule_id=params.schedule_id,
            nominal_us=round((planned or info.start_time).timestamp() * 1e6),
            workflow_id=info.workflow_id,
        )
        try:
            found = await self._unstoppable(START_ACTIVITY, start)
        except ActivityError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else None
            told = failure_of(cause.details if cause is not None else ())
            message = told["message"] or str(error.cause or error)
            raise ApplicationError(message, told, type=told["code"], non_retryable=True) from error
        if not found.ended:
            found = await self._until_ended(start, found.execution_id)
        if self._stopping:
            raise asyncio.CancelledError
        if found.error is not None:
            code, message = str(found.error["code"]), str(found.error["message"])
            raise ApplicationError(message, found.error, type=code, non_retryable=True)
        return found.execution_id

    async def _until_ended(self, start: ScheduledStart, execution_id: str) -> ScheduledEnd:
        pause, stopped = FIRST_LOOK_S, False
        while True:
            if self._stopping and not stopped:
                await self._unstoppable(STOP_ACTIVITY, start, execution_id)
                stopped = True
            try:
                await workflow.wait_condition(lambda: self._told, timeout=timedelta(seconds=pause))
            except TimeoutError:
                pause = min(pause * 2, MOST_LOOK_S)
            except asyncio.CancelledError:
                self._be_stopped()
                continue
            self._told = False
            found = await self._unstoppable(ENDED_ACTIVITY, start, execution_id)
            if found.ended:
                return found

    async def _unstoppable(self, name: str, *arguments: object) -> ScheduledEnd:
        """Run an activity to its end; a cancel waits meanwhile, so that no execution is left that nobody waits for."""
        asked: workflow.ActivityHandle[ScheduledEnd] = workflow.start_activity(
            name,
            args=list(arguments),
            result_type=ScheduledEnd,
            start_to_close_timeout=LOOK_TIMEOUT,
            retry_policy=AGAIN,
        )
        while True:
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                self._be_stopped()

    def _be_stopped(self) -> None:
        if workflow.time_ns() <= 0:
            raise asyncio.CancelledError  # the worker drops this run from its cache
        self._stopping = True
