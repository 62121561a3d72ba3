"""The activities of scheduled runs: start the execution, say how it stands, stop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import activity

from activities.effects import application_error, unexpected
from engine.control.scheduled import ScheduledStarts
from engine.core.contracts.doors import ENDED_ACTIVITY, START_ACTIVITY, STOP_ACTIVITY, ScheduledEnd, ScheduledStart
from engine.core.errors import EngineError, Unavailable

T = TypeVar("T")


class ScheduleActivities:
    """The activities `schedule.start`, `schedule.ended` and `schedule.stop`.

    Args:
        starts: Starts what schedules want.
    """

    def __init__(self, starts: ScheduledStarts) -> None:
        self._starts = starts

    @activity.defn(name=START_ACTIVITY)
    async def start(self, params: ScheduledStart) -> ScheduledEnd:
        """Start the task of a schedule for one time.

        Args:
            params: The schedule and the time.

        Raises:
            ApplicationError: It cannot be started.
        """
        return await _typed(lambda: self._starts.start(params))

    @activity.defn(name=ENDED_ACTIVITY)
    async def ended(self, params: ScheduledStart, execution_id: str) -> ScheduledEnd:
        """Say how the execution stands.

        Args:
            params: The schedule and the time.
            execution_id: The execution.
        """
        return await _typed(lambda: self._starts.ended(params, execution_id))

    @activity.defn(name=STOP_ACTIVITY)
    async def stop(self, params: ScheduledStart, execution_id: str) -> ScheduledEnd:
        """Cancel the execution.

        Args:
            params: The schedule and the time.
            execution_id: The execution.
        """

        async def stop() -> ScheduledEnd:
            await self._starts.stop(params, execution_id)
            return ScheduledEnd(execution_id=execution_id)

        return await _typed(stop)


async def _typed(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except EngineError as error:
        if isinstance(error, Unavailable) or error.retryable:
            raise  # Temporal asks again
        raise application_error(error) from None
    except OSError:
        raise
    except Exception as error:
        activity.logger.error("a scheduled run failed unexpectedly", exc_info=error)
        raise application_error(unexpected(error)) from None
