"""Binds the interpreter's effects to Temporal: activities, timers, attributes, the way of events. Workflow-safe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from engine.core.contracts.activities import CHAT_ACTIVITY, HEARTBEAT_TIMEOUT_S, TOOL_ACTIVITY, ChatParams, ToolParams
from engine.core.contracts.children import RESOLVE_ACTIVITY, ChildParams, ResolveParams
from engine.core.contracts.execution import ATTRIBUTE_STATUS, SINK_EXTERN
from engine.core.contracts.failures import OUTCOME_UNKNOWN, run_error_of
from engine.core.contracts.lookups import EMBED_ACTIVITY, SEARCH_ACTIVITY, EmbedParams, SearchParams
from engine.core.contracts.patches import Patch
from engine.core.contracts.pools import pool_queue
from engine.core.errors import BackendError, RunError, ToolError
from engine.core.kinds import ExecutionStatus
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from engine.core.values import Json
from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError, is_cancelled_exception

from workflows.children import ChildRun, read_child
from workflows.patches import is_patched

REPEAT = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=5)
)
"""For calls that may be made again: Temporal repeats them until a worker brings an outcome, free for the author."""
ONCE = RetryPolicy(maximum_attempts=1)
"""For all others: one attempt, whatever happens to the worker."""

NOT_REGISTERED = "NotFoundError"
"""What a worker says to an activity that it does not have; the call was not made then."""

UNREAD = ("PayloadUnreadable", "Unavailable")
"""What a worker says whose key ring or place of large payloads does not give it the arguments of a call."""
UNREAD_PAUSE_S = 5.0

TIMEOUT_MARGIN_S = 10.0
"""The activity ends itself at its time limit; Temporal's own limit stands behind it for a worker that hangs."""
SHORTEST_TIMER_S = 0.001

_STATUS = SearchAttributeKey.for_keyword(ATTRIBUTE_STATUS)


@dataclass(frozen=True, slots=True)
class CallNews:
    """A call ended."""

    call_id: str
    outcome: CallOutcome


@dataclass(frozen=True, slots=True)
class TimerNews:
    """A timer fired."""

    timer_id: str


class TemporalEffects:
    """Effects of one run of an execution's workflow.

    Args:
        execution_id: The execution; stands in every event.
        tenant: Its tenant; goes with every event.
    """

    def __init__(self, execution_id: str, tenant: str) -> None:
        info = workflow.info()
        self._tenant = tenant
        self._execution_id = execution_id
        self._run_id = info.run_id
        self._sink: Callable[[tuple[Any, ...], bool], None] | None = workflow.extern_functions().get(SINK_EXTERN)
        self._calls: dict[str, workflow.ActivityHandle[Any] | ChildRun | asyncio.Task[None]] = {}
        self._call_started_us: dict[str, int] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self.news: deque[CallNews | TimerNews] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._waiting: tuple[str, ...] = ()
        self._paused = False
        self._status = ExecutionStatus.RUNNING
        self._now_us = 0
        self._replaying = False
        self.look()

    def look(self) -> None:
        """Read the time and whether this is a replay; both stay the same until the workflow waits again."""
        self._now_us = workflow.time_ns() // 1_000
        self._replaying = workflow.unsafe.is_replaying()

    @property
    def torn_down(self) -> bool:
        """Whether the worker is dropping this run from its cache, which it does at time 0; no cancel then."""
        return self._now_us <= 0

    # --- waiting for news --------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let `wait_for_news` return."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait_for_news(self) -> None:
        """Return when a call ended, a timer fired or `wake` was called; at once if news lies there already."""
        if self.news:
            return
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    # --- the Effects protocol ----------------------------------------------------------------------------------

    def now_us(self) -> int:
        """See `Effects.now_us`."""
        return self._now_us

    def emit(self, seq: int, event_type: str, body: str) -> None:
        """See `Effects.emit`."""
        # what a run says while it is torn down never happened
        if self._sink is not None and not self.torn_down:
            # the members of an EventRecord
            record = (self._execution_id, self._run_id, seq, self._now_us, event_type, body, self._tenant)
            self._sink(record, self._replaying)

    def start_call(self, call: Call) -> None:
        """See `Effects.start_call`."""
        if isinstance(call.params, ChildParams):
            self._keep_call(call, ChildRun(call.params))
            return
        # Temporal keeps the summary of the first time and compares none; to make it again is 3 % of a replay
        summary = None if self._replaying else call.summary or None
        pool = call.params.tool.pool if isinstance(call.params, ToolParams) else ""
        handle: workflow.ActivityHandle[Any] = workflow.start_activity(
            activity_of(call),
            call.params,
            task_queue=pool_queue(workflow.info().task_queue, pool) if pool else None,
            activity_id=call.id,
            result_type=dict,
            start_to_close_timeout=timedelta(seconds=call.timeout_s + TIMEOUT_MARGIN_S),
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
            retry_policy=REPEAT if call.repeatable else ONCE,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
        )
        self._keep_call(call, handle)

    def _keep_call(self, call: Call, handle: workflow.ActivityHandle[Any] | ChildRun) -> None:
        self._calls[call.id] = handle
        self._call_started_us[call.id] = self.now_us()
        handle.add_done_callback(lambda done: self._call_ended(call, done))

    def _call_ended(self, call: Call, done: asyncio.Task[Any]) -> None:
        if not call.repeatable and was_unread(done):
            # it was never made: it waits until its arguments can be read, as Temporal lets those that it may repeat
            pause = self._calls[call.id] = asyncio.create_task(workflow.sleep(UNREAD_PAUSE_S))
            pause.add_done_callback(lambda over: self._call_again(call, over))
            return
        del self._calls[call.id]
        del self._call_started_us[call.id]
        self.news.append(CallNews(call.id, read_outcome(call, done)))
        self.wake()

    def _call_again(self, call: Call, pause: asyncio.Task[None]) -> None:
        if pause.cancelled():
            self._call_ended(call, pause)
        else:
            self.start_call(call)

    def cancel_call(self, call_id: str) -> None:
        """See `Effects.cancel_call`."""
        handle = self._calls.get(call_id)
        if handle is not None:
            handle.cancel()

    def start_timer(self, timer_id: str, deadline_us: int, summary: str) -> None:
        """See `Effects.start_timer`."""
        seconds = max((deadline_us - self.now_us()) / 1e6, SHORTEST_TIMER_S)
        task: asyncio.Task[None] = asyncio.create_task(workflow.sleep(seconds, summary=summary[:200] or None))
        self._timers[timer_id] = task
        task.add_done_callback(lambda done: self._timer_ended(timer_id, done))

    def _timer_ended(self, timer_id: str, done: asyncio.Task[None]) -> None:
        if self._timers.get(timer_id) is done:
            del self._timers[timer_id]
            if not done.cancelled():
                self.news.append(TimerNews(timer_id))
                self.wake()

    def cancel_timer(self, timer_id: str) -> None:
        """See `Effects.cancel_timer`."""
        task = self._timers.pop(timer_id, None)
        if task is not None:
            task.cancel()
        self.news = deque(item for item in self.news if not (isinstance(item, TimerNews) and item.timer_id == timer_id))

    def patched(self, patch: Patch) -> bool:
        """See `Effects.patched`."""
        return is_patched(patch)

    def set_waiting(self, wait_ids: tuple[str, ...]) -> None:
        """See `Effects.set_waiting`."""
        self._waiting = wait_ids
        self._show()

    def set_paused(self, *, paused: bool) -> None:
        """See `Effects.set_paused`."""
        self._paused = paused
        self._show()

    def _show(self) -> None:
        """Tell Temporal how the execution stands, for its own UI and for lists by status."""
        lines = ["- is paused"] if self._paused else []
        lines += [f"- waits for input at `{wait_id}`" for wait_id in self._waiting[:20]]
        workflow.set_current_details("\n".join(lines))
        status = ExecutionStatus.AWAITING_INPUT if self._waiting else ExecutionStatus.RUNNING
        status = ExecutionStatus.PAUSED if self._paused else status
        if status is not self._status:
            self._status = status
            workflow.upsert_search_attributes([_STATUS.value_set(status.value)])

    # --- for continue-as-new -----------------------------------------------------------------------------------

    def oldest_call_s(self) -> float:
        """Return for how many seconds the oldest running call has been under way; 0 if none is."""
        started = min(self._call_started_us.values(), default=None)
        return 0.0 if started is None else (self.now_us() - started) / 1e6


def activity_of(call: Call) -> str:
    """Return the type of the activity that makes a call."""
    match call.params:
        case ChatParams():
            return CHAT_ACTIVITY
        case EmbedParams():
            return EMBED_ACTIVITY
        case SearchParams():
            return SEARCH_ACTIVITY
        case ResolveParams():
            return RESOLVE_ACTIVITY
        case _:
            return TOOL_ACTIVITY


def was_unread(done: asyncio.Task[Any]) -> bool:
    """Whether a worker could not read the arguments of a call, and so did not make it."""
    error = None if done.cancelled() else done.exception()
    told = error.cause if isinstance(error, ActivityError) else None
    # an error of the call itself has a type; that of reading the arguments has what went wrong as its cause
    if not isinstance(told, ApplicationError) or told.type or told.details:
        return False
    return isinstance(told.cause, ApplicationError) and told.cause.type in UNREAD


def read_outcome(call: Call, done: asyncio.Task[Any]) -> CallOutcome:
    """Turn the end of an activity, or of a child, into the outcome of a call."""
    if isinstance(call.params, ChildParams):
        return read_child(call, done)
    if done.cancelled():
        return Stopped()
    error = done.exception()
    if error is None:
        result: Json = done.result()
        if isinstance(call.params, ResolveParams):
            return Ok(result)
        value = result if isinstance(call.params, ChatParams | EmbedParams | SearchParams) else result["output"]
        return Ok(value, result.get("took_s") or 0.0, result.get("deliveries") or 1, bool(result.get("cached")))
    if is_cancelled_exception(error):
        return Stopped()
    cause = error.cause if isinstance(error, ActivityError) else error
    return Failed(_read_error(call, cause))


def _read_error(call: Call, cause: BaseException | None) -> RunError:
    name = call.summary
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return run_error_of(cause.details[0])
    kind = BackendError if isinstance(call.params, ChatParams | EmbedParams) else ToolError
    # a failure without our body was written by Temporal or its SDK: the worker stopped, or could not send the outcome
    never_ran = isinstance(cause, ApplicationError) and cause.type == NOT_REGISTERED
    untold = isinstance(cause, ApplicationError) and not call.repeatable and not never_ran
    if isinstance(cause, (TimeoutError, CancelledError)) or cause is None or untold:
        if not call.repeatable:
            return kind(
                f"the worker was lost while '{name}' ran; whether it had its effect is unknown",
                code=OUTCOME_UNKNOWN,
                hint="settle it with on_error, or declare the tool idempotent",
            )
        prefix = "backend" if kind is BackendError else "tool"
        return kind(f"'{name}' gave no sign of life within its time limit", code=f"{prefix}.timeout", retryable=True)
    prefix = "backend" if kind is BackendError else "tool"
    return kind(f"'{name}' failed: {cause}"[:2000], code=f"{prefix}.failed")
