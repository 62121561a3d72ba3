"""Asks Temporal how an execution ended and writes its answer into the store, with the word whether the events agree."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType as HistoryEventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistoryEventFilterType
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT
from engine.core.contracts.execution import ExecutionParams
from engine.core.errors import NotFound
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import body_of
from engine.core.values import Json
from engine.store.projection import ProjectionStore


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


@dataclass(frozen=True, slots=True)
class _Close:
    status: ExecutionStatus
    output: Json = None
    error: dict[str, Any] | None = None
    events: int | None = None
    digest: str = ""


async def settle_from_temporal(
    client: Client, store: ProjectionStore, execution_id: str, *, patience_s: float | None = None
) -> Settled | None:
    """Read how an execution ended and store it.

    One call to Temporal for an execution that the store knows. It does not describe the workflow: temporalio 1.35
    raises ValueError for one that the operator paused natively.

    Args:
        client: A connected client.
        store: The projection.
        execution_id: The execution.
        patience_s: Longest wait for Temporal in seconds; None = as long as one call may take.

    Returns:
        How it ended, or None if it has not.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it (any more).
        RPCError: If Temporal does not answer.
        TimeoutError: If it does not answer within `patience_s`.
    """
    async with asyncio.timeout(patience_s):
        event = await _last_event(client, execution_id)
    close = None if event is None else await _read_close(client, event)
    if event is None or close is None:
        return None
    tenant = await store.tenant_of(execution_id) or await adopt_from_temporal(client, store, execution_id)
    if close.status is ExecutionStatus.CANCELLED:
        close = _Close(close.status, None, await _cancel_error(store, execution_id, tenant), close.events, close.digest)
    matches = None if close.events is None else await store.digest(execution_id) == (close.events, close.digest)
    await store.settle(
        execution_id,
        tenant=tenant,
        status=close.status,
        output=close.output,
        error=close.error,
        closed_at_us=event.event_time.ToMicroseconds(),
        verified=matches,
    )
    return Settled(close.status, matches)


async def adopt_from_temporal(client: Client, store: ProjectionStore, execution_id: str) -> str:
    """Make the row of an execution that the store has never heard of, from the input of its workflow.

    Returns:
        Its tenant.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it, or if it is no execution of this engine.
        RPCError: If Temporal does not answer.
    """
    event = await _first_event(client, execution_id)
    started = event.workflow_execution_started_event_attributes
    if started.first_execution_run_id != started.original_execution_run_id:
        # only the first run of a chain carries the input
        event = await _first_event(client, execution_id, started.first_execution_run_id)
        started = event.workflow_execution_started_event_attributes
    try:
        decoded = await client.data_converter.decode(list(started.input.payloads), [ExecutionParams])
    except (ValueError, RuntimeError) as error:  # what converters raise for a payload of another shape
        raise _unknown(execution_id) from error
    params = decoded[0] if decoded else None
    if not isinstance(params, ExecutionParams):
        raise _unknown(execution_id)
    agent = params.plan.get("agent") or {}
    await store.ensure_execution(
        execution_id,
        tenant=params.tenant,
        task_id=params.task_id,
        task_name=started.workflow_type.name,
        task_version=params.task_version,
        agent_id=str(agent.get("id") or ""),
        input=params.input,
        metadata=params.metadata,
        created_us=event.event_time.ToMicroseconds(),
    )
    return params.tenant


def _unknown(execution_id: str) -> NotFound:
    return NotFound(f"Temporal knows no execution {execution_id}", code="execution.not_found")


async def _first_event(client: Client, execution_id: str, run_id: str | None = None) -> HistoryEvent:
    handle = client.get_workflow_handle(execution_id, run_id=run_id)
    try:
        async for event in handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT):
            return event
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise _unknown(execution_id) from error
    raise _unknown(execution_id)


async def _last_event(client: Client, execution_id: str) -> HistoryEvent | None:
    """Return the close event of the latest run; a run that is open gives its latest event instead."""
    handle = client.get_workflow_handle(execution_id)
    try:
        async for event in handle.fetch_history_events(
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, rpc_timeout=RPC_TIMEOUT
        ):
            return event
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise _unknown(execution_id) from error
        raise
    return None


async def _read_close(client: Client, event: HistoryEvent) -> _Close | None:
    match event.event_type:
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            result = event.workflow_execution_completed_event_attributes.result
            return _completed(await client.data_converter.decode(list(result.payloads)))
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            failure = event.workflow_execution_failed_event_attributes.failure
            return _failed(await client.data_converter.decode_failure(failure))
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
            details = event.workflow_execution_canceled_event_attributes.details
            counted = _counted(await client.data_converter.decode(list(details.payloads)))
            return _Close(ExecutionStatus.CANCELLED, None, None, *counted)
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            reason = event.workflow_execution_terminated_event_attributes.reason
            return _Close(
                ExecutionStatus.FAILED,
                error={"code": "execution.terminated", "message": reason or "an operator terminated the execution"},
            )
        case HistoryEventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            return _Close(
                ExecutionStatus.FAILED,
                error={"code": "execution.timed_out", "message": "Temporal's time limit of the execution passed"},
            )
        case _:
            return None


def _counted(details: list[Any]) -> tuple[int | None, str]:
    """Find {events, digest} in what a workflow told at its end."""
    body = details[0] if details and isinstance(details[0], dict) else {}
    count = body.get("events")
    return (count, str(body.get("digest", ""))) if isinstance(count, int) else (None, "")


def _completed(values: list[Any]) -> _Close:
    events, digest = _counted(values)
    value: Any = values[0] if values else None
    output = value.get("output") if events is not None else value
    return _Close(ExecutionStatus.SUCCEEDED, output, None, events, digest)


def _failed(failure: BaseException) -> _Close:
    if isinstance(failure, ApplicationError):
        details = list(failure.details)
        events, digest = _counted(details)
        body = dict(details[0]) if details and isinstance(details[0], dict) else {}
        error = {key: value for key, value in body.items() if key not in ("events", "digest")}
        error.setdefault("code", failure.type or "execution.failed")
        error.setdefault("message", failure.message)
        return _Close(ExecutionStatus.FAILED, None, error, events, digest)
    return _Close(ExecutionStatus.FAILED, error={"code": "execution.failed", "message": str(failure)})


async def _cancel_error(store: ProjectionStore, execution_id: str, tenant: str) -> dict[str, Any]:
    """Say why an execution was cancelled; Temporal knows only that it was, the reason stands in the events."""
    event = await store.terminal_event(execution_id, tenant=tenant)
    body = body_of(event) if event is not None and event.type == EventType.CANCELLED else {}
    reason, actor = str(body.get("reason") or ""), str(body.get("actor") or "")
    error: dict[str, Any] = {"code": "execution.cancelled", "message": reason or "the execution was cancelled"}
    if actor:
        error["details"] = {"actor": actor}
    return error
