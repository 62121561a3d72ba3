"""Starts the workflow of an execution, and keeps what that needs for one that is started later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)

from engine.control.connect import RPC_TIMEOUT
from engine.core.contracts.execution import (
    ATTRIBUTE_LABELS,
    ExecutionParams,
    attributes_of,
    memo_of,
    summary_of,
)
from engine.core.values import Json
from engine.store.rows import Named

FAIRNESS_KEY_BYTES = 64
"""Temporal's limit."""

_PARAMS = TypeAdapter(ExecutionParams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """An execution that is to be started.

    Attributes:
        params: What its workflow is given.
        task_name: Name of its task.
        agent_id: Its agent, may be empty.
        summary: What Temporal's own UI shows of it.
        priority: 1 (first) to 5 (last) among what waits for workers; None = 3.
    """

    params: ExecutionParams
    task_name: str
    agent_id: str = ""
    summary: str = ""
    priority: int | None = None

    @property
    def named(self) -> Named:
        """What names it in the store."""
        params = self.params
        return Named(
            task_id=params.task_id,
            task_name=self.task_name,
            task_version=params.task_version,
            agent_id=self.agent_id,
            input=params.input,
            metadata=params.metadata,
            labels=tuple(params.labels),
            actor=params.actor,
            trace=params.trace,
            created_us=params.created_us,
            forked_from="" if params.fork is None else params.fork.execution_id,
            fork_kind="" if params.fork is None else params.fork.kind,
            fork_path="" if params.fork is None else params.fork.path,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, without the input."""
        return {
            "execution": _PARAMS.dump_python(self.params, mode="json", exclude={"input"}),
            "task_name": self.task_name,
            "agent_id": self.agent_id,
            "summary": self.summary,
            "priority": self.priority,
        }

    @staticmethod
    def of(body: Mapping[str, Any], given: Json, *, deadline_us: int | None) -> Launch:
        """Read what `to_json` returned.

        Args:
            body: That.
            given: The input.
            deadline_us: When it is out of time, which may depend on when it is let in.
        """
        rest = {name: value for name, value in body.items() if name != "execution"}
        params = _PARAMS.validate_python({**body["execution"], "input": None})
        return Launch(params=replace(params, input=given, deadline_us=deadline_us), **rest)


async def launch(client: Client, what: Launch, *, task_queue: str) -> None:
    """Start the workflow of an execution.

    Args:
        client: A connected client.
        what: The execution.
        task_queue: Task queue of the workers.

    Raises:
        WorkflowAlreadyStartedError: An execution with its id was started before.
        RPCError: Temporal does not answer, or refuses it.
    """
    params = what.params
    values = attributes_of(tenant=params.tenant, task=what.task_name, agent_id=what.agent_id)
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in values.items()
    ]
    if params.labels:
        pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword_list(ATTRIBUTE_LABELS), params.labels))
    tenant = params.tenant if len(params.tenant.encode()) <= FAIRNESS_KEY_BYTES else None
    await client.start_workflow(
        what.task_name,
        params,
        id=params.execution_id,
        task_queue=task_queue,
        # an id stands for one execution for ever, closed or not
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        search_attributes=TypedSearchAttributes(pairs),
        memo=memo_of(tenant=params.tenant, task_id=params.task_id, task_version=params.task_version),
        static_summary=summary_of(what.summary),
        # its calls and children inherit it
        priority=Priority(priority_key=what.priority, fairness_key=tenant),
        rpc_timeout=RPC_TIMEOUT,
    )
