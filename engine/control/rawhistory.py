"""Use case: Temporal's own history of an execution, for operators who want to see below the engine."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.core.errors import InvalidInput, NotFound
from engine.core.run.times import iso_time

MOST_ITEMS = 1_000

_NAMED_BY = {
    "activity_task_scheduled_event_attributes": "activity_id",
    "timer_started_event_attributes": "timer_id",
    "timer_fired_event_attributes": "timer_id",
    "timer_canceled_event_attributes": "timer_id",
    "workflow_execution_signaled_event_attributes": "signal_name",
    "start_child_workflow_execution_initiated_event_attributes": "workflow_id",
}
"""Attribute of an event that tells what it is about."""
_OF_SCHEDULED = (
    "activity_task_started_event_attributes",
    "activity_task_completed_event_attributes",
    "activity_task_failed_event_attributes",
    "activity_task_timed_out_event_attributes",
    "activity_task_cancel_requested_event_attributes",
    "activity_task_canceled_event_attributes",
    "workflow_task_started_event_attributes",
    "workflow_task_completed_event_attributes",
)
"""Events that belong to an earlier one, of which they give the number."""


async def raw_history(
    temporal: TemporalConnection, execution_id: str, *, run_id: str = "", limit: int = 100, token: str = ""
) -> dict[str, Any]:
    """Return one page of a run's history, the newest event first.

    Args:
        temporal: The connection.
        execution_id: The execution.
        run_id: The run; empty = the latest one.
        limit: Most events to return.
        token: `next_page_token` of the page before; empty = the newest events.

    Returns:
        {run_id, items: [{event_id, type, at, name, of_event_id}], next_page_token, previous_run_id}; the last is known
        once the first event of a run is on the page.

    Raises:
        NotFound: `temporal.not_found` if Temporal has no such execution or run, or no longer.
        InvalidInput: `request.bad_cursor` if the token is none.
        Unavailable: `unreachable`.
    """
    request = GetWorkflowExecutionHistoryReverseRequest(
        execution=WorkflowExecution(workflow_id=execution_id, run_id=run_id),
        maximum_page_size=limit,
        next_page_token=_bytes_of(token),
    )
    client = await temporal.client()
    request.namespace = client.namespace
    try:
        with temporal.errors():
            if not run_id:
                # every page must be of the same run, though the execution may continue as new meanwhile
                described = await client.get_workflow_handle(execution_id).describe(rpc_timeout=RPC_TIMEOUT)
                request.execution.run_id = run_id = str(described.run_id)
            page = await client.workflow_service.get_workflow_execution_history_reverse(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(
                f"Temporal has no history of execution {execution_id}{f', run {run_id}' if run_id else ''}",
                code="temporal.not_found",
                hint="its retention may be over; `everstep history` tells what the store has",
            ) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise InvalidInput(
                f"Temporal refuses the request: {error.message}",
                code="request.bad_cursor" if token else "request.invalid",
                hint="take run_id and next_page_token of the page before as they are",
            ) from error
        raise
    events = list(page.history.events)
    return {
        "run_id": run_id,
        "items": [_item(event) for event in events],
        "next_page_token": base64.urlsafe_b64encode(page.next_page_token).decode() or None,
        "previous_run_id": _previous_run(events),
    }


def _bytes_of(token: str) -> bytes:
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"{token[:60]!r} is no page token", code="request.bad_cursor", hint="take `next_page_token` as it is"
        ) from error


def _item(event: HistoryEvent) -> dict[str, Any]:
    which = str(event.WhichOneof("attributes") or "")
    attributes = getattr(event, which) if which else None
    of = getattr(attributes, "scheduled_event_id", 0) if which in _OF_SCHEDULED else 0
    return {
        "event_id": event.event_id,
        "type": EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower(),
        "at": iso_time(event.event_time.ToMicroseconds()),
        "name": str(getattr(attributes, _NAMED_BY[which])) if which in _NAMED_BY else None,
        "of_event_id": of or None,
    }


def _previous_run(events: list[HistoryEvent]) -> str | None:
    first = events[-1] if events else None
    if first is None or not first.HasField("workflow_execution_started_event_attributes"):
        return None
    return first.workflow_execution_started_event_attributes.continued_execution_run_id or None
