"""The use case "start an execution": check the input, snapshot the plan, start the workflow once, make it readable."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from engine.control.adopting import adopt_from_temporal
from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.core.contracts.execution import (
    ATTRIBUTE_LABELS,
    ExecutionParams,
    attributes_of,
    memo_of,
    summary_of,
)
from engine.core.errors import Conflict, ExpressionError, InvalidInput, NotFound
from engine.core.plan.codec import plan_from_json
from engine.core.run.answers import fitting_problems
from engine.core.run.projection import ExecutionFacts
from engine.core.run.require import unmet_requirements
from engine.core.values import Json, to_json_value
from engine.obs.telemetry import trace_for
from engine.store.definitions import TaskFacts
from engine.store.projection import ProjectionStore

_KEY_SPACE = uuid.UUID("6f1c2a52-6f0e-4d7e-9a53-0c5f5e1e9b41")
"""Name space of execution ids that are made of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Started:
    """An execution after a request to start it.

    Attributes:
        facts: What the store holds.
        created: False if the same idempotency key had started it before.
    """

    facts: ExecutionFacts
    created: bool


def key_to_execution_id(tenant: str, task_id: str, key: str) -> str:
    """Return the execution id that an idempotency key stands for."""
    return str(uuid.uuid5(_KEY_SPACE, f"{tenant}\n{task_id}\n{key}"))


class StartService:
    """Starts executions.

    Args:
        store: The projection.
        definitions: Use cases on tasks.
        temporal: The connection to Temporal.
        task_queue: Task queue of the workers.
    """

    def __init__(
        self, store: ProjectionStore, definitions: DefinitionService, temporal: TemporalConnection, *, task_queue: str
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._temporal = temporal
        self._task_queue = task_queue

    async def start(
        self,
        task: TaskFacts,
        given: Json,
        *,
        execution_id: str | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        actor: str = "",
        pinned: bool = False,
    ) -> Started:
        """Check an input and start an execution of a task.

        Args:
            task: The task.
            given: The input.
            execution_id: Id of the execution, a UUID; None = a new one, or the one that the key stands for.
            idempotency_key: The same key, task and input give the same execution.
            metadata: The caller's metadata.
            labels: Words by which to find it, here and in Temporal, beside those of the task.
            actor: Who asks for it; empty = nobody was asked for a name.
            pinned: Whether the caller named the task's version; if not, a key also gives the execution of another one.

        Raises:
            InvalidInput: `input.not_json` if input or metadata cannot be kept, `input.invalid` if the input does not
                fit the schema, `input.requirement` if a condition of the task does not hold, `execution.bad_id` if the
                id is no UUID.
            Conflict: `execution.exists`, or `idempotency.key_reused` if the key came with another input, other labels
                or metadata, or for another version of the task.
            CompileError: `task.not_runnable` if this engine can only make the plan of something in the task.
            Unavailable: `unreachable`.
        """
        given = kept_value(given, "the input")
        given_metadata: dict[str, Any] = kept_value(dict(metadata or {}), "the metadata")
        check_input(task, given)
        wanted = _checked_id(execution_id)
        if wanted is None and idempotency_key:
            wanted = key_to_execution_id(task.tenant, task.id, idempotency_key)
            known = await self._store.find_execution(wanted, tenant=task.tenant)
            if known is not None:
                await self._check_same(known, task, given, given_metadata, labels, idempotency_key, pinned=pinned)
                return Started(known, created=False)
        elif wanted is not None and await self._store.tenant_of(wanted) is not None:
            # also one that Temporal has forgotten: an id stands for one execution for ever, whoever's it is
            raise _taken(wanted)
        final_id = wanted or str(uuid.uuid4())
        plan = await self._definitions.plan_for_start(task)
        check_requirements(plan, given, task.name)
        params = ExecutionParams(
            execution_id=final_id,
            tenant=task.tenant,
            plan=plan,
            input=given,
            task_id=task.id,
            task_version=task.version,
            metadata=given_metadata,
            labels=list(dict.fromkeys([*labels_of(task), *labels])),
            actor=actor,
            created_us=now_us(),
            trace=trace_for(final_id),
        )
        client = await self._temporal.client()
        try:
            await self._start_workflow(client, task, params)
        except WorkflowAlreadyStartedError as error:
            if idempotency_key is None or execution_id is not None:
                raise _taken(final_id) from error
            # an earlier request with this key got as far as Temporal but not as far as the store
            with self._temporal.errors():
                await adopt_from_temporal(client, self._store, final_id)
            known = await self._store.get_execution(final_id, tenant=task.tenant)
            await self._check_same(known, task, given, given_metadata, labels, idempotency_key, pinned=pinned)
            return Started(known, created=False)
        await self._store.ensure_execution(
            final_id,
            tenant=task.tenant,
            task_id=task.id,
            task_name=task.name,
            task_version=task.version,
            agent_id=task.agent_id,
            input=given,
            metadata=given_metadata,
            labels=params.labels,
            actor=actor,
            trace=params.trace,
            created_us=params.created_us,
        )
        return Started(await self._store.get_execution(final_id, tenant=task.tenant), created=True)

    async def _check_same(
        self,
        known: ExecutionFacts,
        task: TaskFacts,
        given: Json,
        metadata: dict[str, Any],
        labels: Sequence[str],
        key: str,
        *,
        pinned: bool,
    ) -> None:
        """Refuse a request whose key has started an execution by another request.

        Raises:
            Conflict: `idempotency.key_reused`.
        """
        own = set(labels_of(task)) if known.task_version == task.version else await self._labels_then(known)
        differs = {
            "another input": known.input != given,
            "other metadata": known.metadata != metadata,
            "other labels": set(known.labels) - own != set(labels) - own,
            "another version of the task": pinned and known.task_version != task.version,
        }
        other = [what for what, is_so in differs.items() if is_so]
        if other:
            raise Conflict(
                f"the idempotency key {key!r} was used with {' and '.join(other)} before (execution {known.id})",
                code="idempotency.key_reused",
                hint="use a new key for a new execution",
            )

    async def _labels_then(self, known: ExecutionFacts) -> set[str]:
        """Return the labels that the task itself gave to an execution of an earlier version."""
        reference = f"{known.task_id}@{known.task_version}"
        try:
            return set(labels_of(await self._definitions.versions.resolve(reference, tenant=known.tenant)))
        except NotFound:
            return set()

    async def _start_workflow(self, client: Client, task: TaskFacts, params: ExecutionParams) -> None:
        values = attributes_of(tenant=task.tenant, task=task.name, agent_id=task.agent_id)
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in values.items()
        ]
        if params.labels:
            pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword_list(ATTRIBUTE_LABELS), params.labels))
        with self._temporal.errors():
            await client.start_workflow(
                task.name,
                params,
                id=params.execution_id,
                task_queue=self._task_queue,
                # an id stands for one execution for ever, closed or not
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(pairs),
                memo=memo_of(tenant=task.tenant, task_id=task.id, task_version=task.version),
                static_summary=summary_of(task.description or task.name),
                rpc_timeout=RPC_TIMEOUT,
            )


def kept_value(value: Any, where: str) -> Json:
    """Return a value as histories and stores can keep it.

    Raises:
        InvalidInput: `input.not_json` if it has a number out of range, too many levels or broken characters.
    """
    try:
        return to_json_value(value, where=where)
    except ExpressionError as error:
        raise InvalidInput(error.message, code="input.not_json") from error


def check_input(task: TaskFacts, given: Json) -> None:
    """Compare an input with a task's schema.

    Raises:
        InvalidInput: `input.invalid`.
    """
    problems = fitting_problems(given, task.input_schema, whole="input")
    if problems:
        raise InvalidInput(
            f"the input does not fit the task {task.name!r}: {'; '.join(problems)}",
            code="input.invalid",
            details={"problems": problems},
        )


def labels_of(task: TaskFacts) -> list[str]:
    """Return the labels that `dispatch` of a task gives to all its executions."""
    dispatch = task.spec.get("dispatch")
    labels = dispatch.get("labels") if isinstance(dispatch, dict) else None
    return list(labels) if isinstance(labels, list) else []


def check_requirements(plan: dict[str, Any], given: Json, name: str) -> None:
    """Evaluate what a task requires of its input beyond the schema.

    Args:
        plan: The plan as JSON.
        given: The input.
        name: Name of the task.

    Raises:
        InvalidInput: `input.requirement`.
    """
    if not plan.get("require"):
        return
    unmet = unmet_requirements(plan_from_json(plan), given, now_us=now_us())
    if unmet:
        raise InvalidInput(
            f"the task {name!r} does not take this input: {'; '.join(unmet)}",
            code="input.requirement",
            details={"problems": unmet},
        )


def _checked_id(execution_id: str | None) -> str | None:
    if execution_id is None:
        return None
    try:
        return str(uuid.UUID(execution_id))
    except ValueError as error:
        raise InvalidInput(
            f"{execution_id!r} is no id of an execution", code="execution.bad_id", hint="ids are UUIDs"
        ) from error


def _taken(execution_id: str) -> Conflict:
    return Conflict(
        f"there is already an execution {execution_id}",
        code="execution.exists",
        hint="leave the id out to get a new one",
    )
