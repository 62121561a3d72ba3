"""Asks Temporal how an execution ended and writes its answer into the store, with the word whether the events agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypedDict

import structlog
from temporalio.api.enums.v1 import EventType as HistoryEventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistoryEventFilterType
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.adopting import adopt_many, unknown
from engine.control.connect import RPC_TIMEOUT
from engine.control.describing import describe
from engine.core.kinds import ExecutionStatus
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore

_End = Callable[..., ExecutionEnd]


class _Counted(TypedDict, total=False):
    """What a workflow tells of its events; see `ExecutionEnd`."""

    events: int
    digest: str
    times: int | None


TERMINATED_BY = "everstep_actor"
NO_REASON = "an operator terminated the execution"
"""What is told of a termination for which nobody gave a reason."""
"""Member of the details with which the API terminates a workflow: who asked for it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settled:
    """How an execution ended.

    Attributes:
        status: A terminal status.
        matches: Whether the stored events are those of the workflow; None = the workflow did not say (it was
            terminated, or timed out).
    """

    status: ExecutionStatus
    matches: bool | None


async def settle_from_temporal(client: Client, store: ProjectionStore, execution_id: str) -> Settled | None:
    """Read how an execution ended and store it.

    Args:
        client: A connected client.
        store: The projection.
        execution_id: The execution.

    Returns:
        How it ended, or None if it has not.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it (any more).
        RPCError: If Temporal does not answer.
    """
    end = await read_end(client, execution_id)
    return None if end is None else (await store_ends(client, store, [end])).get(execution_id)


async def read_end(client: Client, execution_id: str) -> ExecutionEnd | None:
    """Ask Temporal how an execution ended; None if it has not.

    The close event is asked for only when there is one: for a run that is open, that question waits for its end.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it (any more).
        RPCError: If Temporal does not answer.
    """
    found = await describe(client, execution_id)
    if not found.is_closed:
        return None
    event = await _close_event(client, execution_id, found.run_id)
    end = None if event is None else await _read_close(client, execution_id, event)
    return None if end is None else replace(end, tenant=found.tenant)


async def store_ends(client: Client, store: ProjectionStore, ends: Sequence[ExecutionEnd]) -> dict[str, Settled]:
    """Store how executions ended, adopting those that the store has never heard of.

    Returns:
        How they ended, by execution; one that cannot be adopted is left out, and why is logged.
    """
    matches = await store.settle(ends)
    strangers = [end for end in ends if end.execution_id not in matches]
    if strangers:
        try:
            await adopt_many(client, store, [end.execution_id for end in strangers])
        except RPCError as error:
            log.warning("ended executions cannot be adopted", executions=len(strangers), error=str(error))
        matches |= await store.settle(strangers)
    return {
        end.execution_id: Settled(end.status, matches[end.execution_id]) for end in ends if end.execution_id in matches
    }


async def _close_event(client: Client, execution_id: str, run_id: str) -> HistoryEvent | None:
    """Return the last event of a run that has ended."""
    handle = client.get_workflow_handle(execution_id, run_id=run_id)
    try:
        async for event in handle.fetch_history_events(
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, rpc_timeout=RPC_TIMEOUT
        ):
            return event
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise unknown(execution_id) from error
        raise
    return None


async def _read_close(client: Client, execution_id: str, event: HistoryEvent) -> ExecutionEnd | None:
    end = partial(ExecutionEnd, execution_id, closed_us=event.event_time.ToMicroseconds())
    match event.event_type:
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            result = event.workflow_execution_completed_event_attributes.result
            return _completed(end, await client.data_converter.decode(list(result.payloads)))
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            failure = event.workflow_execution_failed_event_attributes.failure
            return _failed(end, await client.data_converter.decode_failure(failure))
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            details = event.workflow_execution_canceled_event_attributes.details
            counted = _counted(await client.data_converter.decode(list(details.payloads)))
            return end(ExecutionStatus.CANCELLED, **counted)
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            return end(ExecutionStatus.FAILED, error=await _terminated(client, event))
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            message = "Temporal's time limit of the execution passed"
            return end(ExecutionStatus.FAILED, error={"code": "execution.timed_out", "message": message})
        case _:
            return None


async def _terminated(client: Client, event: HistoryEvent) -> dict[str, Any]:
    """Say who terminated an execution and why, as far as Temporal was told."""
    told = event.workflow_execution_terminated_event_attributes
    error: dict[str, Any] = {
        "code": "execution.terminated",
        "message": told.reason or NO_REASON,
    }
    actor = await _actor_of(client, event) or told.identity
    if actor:
        error["details"] = {"actor": actor}
    return error


async def _actor_of(client: Client, event: HistoryEvent) -> str:
    """Return who asked our API for the end of an execution; empty if other hands made it."""
    details = event.workflow_execution_terminated_event_attributes.details
    if not details.payloads:
        return ""
    try:
        told = await client.data_converter.decode(list(details.payloads))
    except (ValueError, RuntimeError, KeyError):
        # what other hands give as details may be anything
        return ""
    body = told[0] if told and isinstance(told[0], dict) else {}
    return str(body.get(TERMINATED_BY) or "")


def _counted(details: list[Any]) -> _Counted:
    """Find what a workflow told at its end of its events; empty if it told nothing of them."""
    body = details[0] if details and isinstance(details[0], dict) else {}
    count, times = body.get("events"), body.get("times")
    if not isinstance(count, int):
        return {}
    return _Counted(events=count, digest=str(body.get("digest", "")), times=times if isinstance(times, int) else None)


def _completed(end: _End, values: list[Any]) -> ExecutionEnd:
    counted = _counted(values)
    value: Any = values[0] if values else None
    output = value.get("output") if counted else value
    return end(ExecutionStatus.SUCCEEDED, output=output, **counted)


def _failed(end: _End, failure: BaseException) -> ExecutionEnd:
    if not isinstance(failure, ApplicationError):
        return end(ExecutionStatus.FAILED, error={"code": "execution.failed", "message": str(failure)})
    details = list(failure.details)
    body = dict(details[0]) if details and isinstance(details[0], dict) else {}
    error = {key: value for key, value in body.items() if key not in ("events", "digest", "times", "undone")}
    error.setdefault("code", failure.type or "execution.failed")
    error.setdefault("message", failure.message)
    return end(ExecutionStatus.FAILED, error=error, **_counted(details))
