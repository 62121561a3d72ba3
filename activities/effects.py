"""The shell around every effect activity: heartbeats, the time limit, and typed errors on their way to Temporal."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.keeping import keep_early
from activities.masking import text_without_secrets
from engine.core.contracts.activities import HEARTBEAT_TIMEOUT_S, POSTPONED
from engine.core.contracts.failures import clip, failure_body
from engine.core.errors import BugError, EngineError

T = TypeVar("T")

HEARTBEAT_EVERY_S = 1.0
"""A cancel is told in the answer to a heartbeat; five beats fit into the heartbeat timeout."""
assert HEARTBEAT_EVERY_S < HEARTBEAT_TIMEOUT_S


_BEATING: ContextVar[Heartbeat] = ContextVar("beating")


def note_progress(told: str | float) -> None:
    """Let the heartbeats of the present effect carry how far it is; threads of its context may call it too.

    Args:
        told: A text, or the part that is done.
    """
    beating = _BEATING.get(None)
    if beating is not None:
        beating.note({"progress": text_without_secrets(told) if isinstance(told, str) else told})


def keep_note(note: dict[str, Any]) -> None:
    """Let a further delivery of the present effect, should its worker be lost, know something; told at once."""
    beating = _BEATING.get(None)
    if beating is not None:
        beating.note(note)
        activity.heartbeat(note)


def kept_note() -> Any:
    """Return what an earlier delivery of the present effect noted last; None = nothing."""
    noted = activity.info().heartbeat_details
    return noted[0] if noted else None


class Postponed(Exception):
    """The work cannot be done yet and holds no slot until it can.

    Attributes:
        wait_s: When it is to be made again.
        note: What it wants to know then, as JSON.
    """

    def __init__(self, wait_s: float, note: Any) -> None:
        super().__init__(f"waits for its turn for {wait_s:.1f} s")
        self.wait_s = wait_s
        self.note = note


async def run_effect(work: Callable[[], Awaitable[T]], *, timeout_s: float, on_timeout: Callable[[], EngineError]) -> T:
    """Run the body of an effect activity.

    Args:
        work: Does the effect; cancelled when Temporal cancels the activity, the worker stops or the time is up.
        timeout_s: Longest time in seconds.
        on_timeout: Makes the error that says the time was up.

    Returns:
        What `work` returned.

    Raises:
        ApplicationError: Type = code, details = the failure body, never retried by Temporal. Errors that a task may
            handle are marked benign, so that the worker does not log them as its own. Type `effect.postponed` for a
            `Postponed`: Temporal makes the activity again when it is due.
        asyncio.CancelledError: The activity was cancelled or the worker stops.
    """
    beating = Heartbeat()
    _BEATING.set(beating)
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            result = await work()
        await keep_early(result)
        return result
    except TimeoutError as error:
        # only our own limit; a TimeoutError of the work itself is an error like any other
        raise application_error(on_timeout() if limit.expired() else unexpected(error)) from None
    except EngineError as error:
        raise application_error(error) from None
    except Postponed as later:
        beating.stop()
        activity.heartbeat(later.note)
        raise ApplicationError(
            str(later),
            type=POSTPONED,
            next_retry_delay=timedelta(seconds=later.wait_s),
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except asyncio.CancelledError as error:
        if _cancelled_from_outside():
            raise
        raise application_error(unexpected(error)) from None
    except Exception as error:
        # no Temporal retry would mend a defect of ours, and a workflow must end rather than wait for ever
        activity.logger.error("effect activity failed unexpectedly", exc_info=error)
        raise application_error(unexpected(error)) from None
    finally:
        beating.stop()


class Heartbeat:
    """Beats every second from the event loop until stopped, the first time after one second.

    A timer handle instead of a task: a call that takes less than a second pays for one handle and no beat.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # what an earlier try noted, or the next one would not know it
        self._noted = activity.info().heartbeat_details
        self._handle = self._loop.call_later(HEARTBEAT_EVERY_S, self._beat)

    def _beat(self) -> None:
        activity.heartbeat(*self._noted)
        self._handle = self._loop.call_later(HEARTBEAT_EVERY_S, self._beat)

    def note(self, noted: Any) -> None:
        """Let the beats from now on carry a note, in place of the one before."""
        self._noted = (noted,)

    def stop(self) -> None:
        """Beat no more."""
        self._handle.cancel()


def application_error(error: EngineError) -> ApplicationError:
    """Write an error in the shape in which the workflow reads it back (`engine.core.contracts.failures`).

    `details.retry_after_s`, where an adapter put what the server asked for, moves to its own place in the body.
    """
    after = error.details.pop("retry_after_s", None)
    return ApplicationError(
        error.message,
        failure_body(error, retry_after_s=after),
        type=error.code,
        non_retryable=True,
        category=(
            ApplicationErrorCategory.UNSPECIFIED if isinstance(error, BugError) else ApplicationErrorCategory.BENIGN
        ),
    )


def unexpected(error: BaseException) -> BugError:
    """Return the error for an exception that no adapter expects."""
    return BugError(
        clip(f"unexpected {type(error).__name__} in an activity: {error}", 500),
        details={"traceback": traceback_tail(error)},
    )


def traceback_tail(error: BaseException, *, frames: int = 5) -> str:
    """Return the last frames of an exception's traceback, bounded."""
    return clip("".join(traceback.format_tb(error.__traceback__)[-frames:]))


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
