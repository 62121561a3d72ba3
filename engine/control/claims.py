"""Finds what the histories of a workflow refer to outside of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.blobs import FILES, S3, blob_of
from engine.control.connect import RPC_TIMEOUT
from engine.control.describing import describe, is_namespace_missing, list_executions
from engine.core.errors import NotFound, PayloadUnreadable
from engine.store.blobs import Blob

MESSAGE_TYPE = b"temporal.api.sdk.v1.ExternalStorageReference"


def claim_in(payload: Payload) -> tuple[str, Blob] | None:
    """Return the driver and the blob that a payload refers to; None = it stands for itself."""
    metadata = payload.metadata
    if metadata.get("encoding") != b"json/protobuf" or metadata.get("messageType") != MESSAGE_TYPE:
        return None
    told = json.loads(payload.data)
    if told.get("driverName") not in (FILES, S3):
        return None
    try:
        return str(told["driverName"]), blob_of(told.get("claimData") or {})
    except PayloadUnreadable:
        return None


def payloads_in(message: Message) -> Iterator[Payload]:
    """Yield all payloads of a message, however deep."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
                for item in value.values():
                    yield from payloads_in(item)
        elif isinstance(value, Message):
            yield from payloads_in(value)
        else:
            for item in value:
                yield from payloads_in(item)


async def events_of(client: Client, workflow_id: str, run_id: str = "") -> AsyncIterator[HistoryEvent]:
    """Yield the history of a run as Temporal keeps it; nothing is read from elsewhere, and nothing decoded.

    Raises:
        RPCError: Temporal does not answer, or has no such run.
    """
    token = b""
    while True:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            next_page_token=token,
        )
        page = await client.workflow_service.get_workflow_execution_history(request, timeout=RPC_TIMEOUT)
        for event in page.history.events:
            yield event
        token = page.next_page_token
        if not token:
            return


async def runs_of(client: Client, workflow_id: str) -> list[str]:
    """Return all runs that Temporal has of a workflow: those that it lists, and those that led to them.

    A list may be some moments old, and what a run continued is known from its first event alone.

    Raises:
        RPCError: Temporal does not answer.
    """
    quoted = workflow_id.replace("\\", "\\\\").replace("'", "\\'")
    waiting = [info.execution.run_id async for info in list_executions(client, f"WorkflowId = '{quoted}'")]
    with contextlib.suppress(NotFound):
        waiting.append((await describe(client, workflow_id)).run_id)
    found: list[str] = []
    looked: set[str] = set()
    while waiting:
        run_id = waiting.pop()
        if not run_id or run_id in looked:
            continue
        looked.add(run_id)
        try:
            async for event in events_of(client, workflow_id, run_id):
                started = event.workflow_execution_started_event_attributes
                waiting += [started.continued_execution_run_id, started.original_execution_run_id]
                found.append(run_id)
                break
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
                raise
    return sorted(found)


async def claims_of(client: Client, workflow_id: str, run_id: str) -> set[Blob]:
    """Return what the history of a run refers to.

    Raises:
        RPCError: Temporal does not answer, or has no such run.
    """
    found: set[Blob] = set()
    async for event in events_of(client, workflow_id, run_id):
        for payload in payloads_in(event):
            claim = claim_in(payload)
            if claim is not None:
                found.add(claim[1])
    return found
