"""Asks Temporal about executions by its raw calls: temporalio 1.35 cannot read one that was paused natively."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import (
    PendingActivityInfo,
    PendingWorkflowTaskInfo,
    WorkflowExecutionInfo,
    WorkflowExecutionPauseInfo,
)
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT
from engine.core.contracts.execution import ATTRIBUTE_TENANT
from engine.core.errors import NotFound

PAGE = 1_000
"""Most executions that Temporal lists in one answer."""


@dataclass(frozen=True, slots=True)
class Described:
    """What Temporal says of the latest run of an execution.

    Attributes:
        run_id: Its run.
        history_length: How many events its history has.
        started_us: When the run was made; after a reset this is the time of the reset.
        is_closed: Whether it has ended.
        queue: Its task queue.
        task: The workflow task that waits or is under way, if there is one.
        activities: Activities that wait or are under way.
        paused: Who paused it natively, when and why, if somebody did.
        tenant: Whose it is; empty = Temporal does not say.
    """

    run_id: str
    history_length: int
    started_us: int
    is_closed: bool
    queue: str
    task: PendingWorkflowTaskInfo | None = None
    activities: list[PendingActivityInfo] = field(default_factory=list)
    paused: WorkflowExecutionPauseInfo | None = None
    tenant: str = ""

    def is_of(self, tenant: str) -> bool:
        """Whether it may be the execution of a tenant: an id that Temporal forgot may be another one's now."""
        return self.tenant in ("", tenant)


async def describe(client: Client, execution_id: str) -> Described:
    """Ask for the latest run of an execution.

    Raises:
        NotFound: `execution.not_found` if Temporal does not know it (any more).
        RPCError: If Temporal does not answer, or does not know the namespace.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=execution_id)
    )
    try:
        found = await client.workflow_service.describe_workflow_execution(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
            raise
        raise NotFound(f"Temporal knows no execution {execution_id}", code="execution.not_found") from error
    info, extended = found.workflow_execution_info, found.workflow_extended_info
    return Described(
        run_id=info.execution.run_id,
        history_length=info.history_length,
        started_us=info.start_time.ToMicroseconds(),
        is_closed=info.HasField("close_time"),
        queue=found.execution_config.task_queue.name or info.task_queue,
        task=found.pending_workflow_task if found.HasField("pending_workflow_task") else None,
        activities=list(found.pending_activities),
        paused=extended.pause_info if extended.HasField("pause_info") else None,
        tenant=tenant_in(info),
    )


def tenant_in(info: WorkflowExecutionInfo) -> str:
    """Return the tenant that Temporal's index has of an execution; empty = none."""
    payload = info.search_attributes.indexed_fields.get(ATTRIBUTE_TENANT)
    value = None if payload is None else json.loads(payload.data)
    return value if isinstance(value, str) else ""


def is_namespace_missing(error: RPCError) -> bool:
    """Whether "not found" means the namespace, so that it says nothing of the execution."""
    return error.message.lower().startswith("namespace")


async def list_executions(client: Client, query: str) -> AsyncIterator[WorkflowExecutionInfo]:
    """Yield what Temporal's lists hold, a thousand a call; a list may be some moments old.

    Raises:
        RPCError: If Temporal does not answer, or does not understand the query.
    """
    token = b""
    while True:
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, page_size=PAGE, next_page_token=token, query=query
        )
        page = await client.workflow_service.list_workflow_executions(request, timeout=RPC_TIMEOUT)
        for info in page.executions:
            yield info
        token = page.next_page_token
        if not token:
            return


async def last_asked_us(client: Client, queue: str, *, activities: bool) -> int:
    """Return when a worker last asked for work of a task queue, Unix microseconds; 0 if none has for minutes.

    Raises:
        RPCError: If Temporal does not answer.
    """
    kind = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY if activities else TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    found = await client.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)
    return max((poller.last_access_time.ToMicroseconds() for poller in found.pollers), default=0)


async def namespace_id(client: Client) -> str:
    """Return the id of the namespace, which no other Temporal server has.

    Raises:
        RPCError: If Temporal does not answer, or has no such namespace.
    """
    request = DescribeNamespaceRequest(namespace=client.namespace)
    found = await client.workflow_service.describe_namespace(request, timeout=RPC_TIMEOUT)
    return found.namespace_info.id
