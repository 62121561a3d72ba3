"""Binds child executions to Temporal: child workflows are started, stopped, awaited, their ends read. Workflow-safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine.core.contracts.children import ChildParams
from engine.core.contracts.execution import ATTRIBUTE_LABELS, ExecutionParams, attributes_of, memo_of, summary_of
from engine.core.contracts.failures import run_error_of
from engine.core.errors import RunError
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

OPTIONS: dict[str, Any] = {
    # an id stands for one execution for ever, closed or not
    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
    # a child of an execution that an operator terminates still gives back what it holds: its `undo` and `finally` run
    "parent_close_policy": workflow.ParentClosePolicy.REQUEST_CANCEL,
    "cancellation_type": workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    "result_type": dict,
}


class ChildRun:
    """A child execution under way.

    Args:
        params: The child.
    """

    def __init__(self, params: ChildParams) -> None:
        self._params = params
        self._handle: workflow.ChildWorkflowHandle[Any, Any] | None = None
        self._stopping = False
        self._task: asyncio.Task[Any] = asyncio.create_task(self._run())

    async def _run(self) -> Any:
        params, task = self._params, self._params.task
        values = attributes_of(tenant=params.context.tenant, task=task.name, agent_id=task.agent_id)
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in values.items()
        ]
        if task.labels:
            pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword_list(ATTRIBUTE_LABELS), task.labels))
        self._handle = await workflow.start_child_workflow(
            task.name,
            ExecutionParams(
                execution_id=params.execution_id,
                tenant=params.context.tenant,
                plan={},
                input=params.input,
                task_id=task.id,
                task_version=task.version,
                origin=params.origin,
                labels=task.labels,
                actor=params.actor,
                trace=params.context.trace,
            ),
            id=params.execution_id,
            search_attributes=TypedSearchAttributes(pairs),
            memo={
                **memo_of(tenant=params.context.tenant, task_id=task.id, task_version=task.version),
                "parent_id": params.origin.execution_id,
            },
            static_summary=summary_of(task.description or task.name),
            **OPTIONS,
        )
        if self._stopping:
            self._handle.cancel(self._reason)
        return await self._handle

    @property
    def _reason(self) -> str:
        return f"stopped by execution {self._params.origin.execution_id}, which started it"

    def cancel(self) -> None:
        """Ask for its end.

        One that is on its way to Temporal is asked once it is there: cancelled in between, Temporal's SDK would no
        longer wait for it.
        """
        self._stopping = True
        if self._handle is not None:
            self._handle.cancel(self._reason)

    def add_done_callback(self, callback: Callable[[asyncio.Task[Any]], object]) -> None:
        """Call a function once it has ended."""
        self._task.add_done_callback(callback)


def read_child(call: Call, done: asyncio.Task[Any]) -> CallOutcome:
    """Turn the end of a child workflow into the outcome of a call."""
    if done.cancelled():
        return Stopped()
    error = done.exception()
    if error is None:
        return Ok(done.result()["output"])
    if is_cancelled_exception(error):
        return Stopped()
    cause = error.cause if isinstance(error, ChildWorkflowError) else error
    return Failed(_read_error(call, cause))


def _read_error(call: Call, cause: BaseException | None) -> RunError:
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        body = cause.details[0]
        error = run_error_of(body)
        told = {key: body[key] for key in ("step", "attempts", "undone") if body.get(key)}
        error.details |= told
        return error
    if isinstance(cause, TerminatedError):
        return RunError("an operator terminated the execution", code="task.terminated")
    if isinstance(cause, TimeoutError):
        return RunError("Temporal's time limit of the execution passed", code="task.timed_out")
    if isinstance(cause, WorkflowAlreadyStartedError):
        hint = "it was started before this one was reset; start a new execution"
        return RunError(f"there is already an execution {cause.workflow_id}", code="execution.exists", hint=hint)
    # a mistake of the interpreter ends a workflow without a body of ours
    code = getattr(cause, "type", None) or "task.failed"
    return RunError(f"'{call.summary}' failed: {cause}"[:2000], code=code if "." in code else "task.failed")
