"""Use cases on executions: start, answer, cancel, and reads that are as fresh as Temporal lets them be."""

from __future__ import annotations

import asyncio
import time
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
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.control.settling import adopt_from_temporal, settle_from_temporal
from engine.core.contracts.execution import (
    ATTRIBUTE_AGENT,
    ATTRIBUTE_LABELS,
    ATTRIBUTE_STATUS,
    ATTRIBUTE_TASK,
    ATTRIBUTE_TENANT,
    SIGNAL_ANSWER,
    SIGNAL_CANCEL_REASON,
    AnswerSignal,
    CancelReasonSignal,
    ExecutionParams,
)
from engine.core.errors import Conflict, InputRejected, InvalidInput, NotFound, Unavailable
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import ExecutionFacts, Wait
from engine.core.run.answers import fitting_problems
from engine.core.values import Json
from engine.store.changes import Changes
from engine.store.definitions import TaskFacts
from engine.store.projection import ProjectionStore

ANSWER_TIMEOUT_S = 8.0
LATE_EVENTS_S = 0.5
"""Ten flushes of a worker: when events of a workflow that has moved on must have reached the store."""
SILENT_S = 5.0
"""Silence after which a read asks Temporal whether an execution still runs; one call of 2 ms."""
SUMMARY_BYTES = 400
"""Temporal's limit for the summary that its own UI shows."""

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


@dataclass(frozen=True, slots=True)
class Fresh:
    """An execution as it is read.

    Attributes:
        facts: What the store holds, settled if Temporal could be asked.
        stale_s: Age of the facts in seconds if Temporal could not be asked about an end that the events announce;
            None if they are as fresh as they can be.
    """

    facts: ExecutionFacts
    stale_s: float | None = None


def key_to_execution_id(tenant: str, task_id: str, key: str) -> str:
    """Return the execution id that an idempotency key stands for."""
    return str(uuid.uuid5(_KEY_SPACE, f"{tenant}\n{task_id}\n{key}"))


class ExecutionService:
    """Starts, steers and reads executions.

    Args:
        store: The projection.
        definitions: Use cases on tasks.
        temporal: The connection to Temporal.
        changes: Watch over the store.
        task_queue: Task queue of the workers.
    """

    def __init__(
        self,
        store: ProjectionStore,
        definitions: DefinitionService,
        temporal: TemporalConnection,
        changes: Changes,
        *,
        task_queue: str,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.store = store
        self._definitions = definitions
        self._temporal = temporal
        self._changes = changes
        self._task_queue = task_queue
        self._answer_timeout_s = answer_timeout_s

    # --- start -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        task: TaskFacts,
        given: Json,
        *,
        execution_id: str | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
    ) -> Started:
        """Check an input and start an execution of a task.

        Args:
            task: The task.
            given: The input.
            execution_id: Id of the execution, a UUID; None = a new one, or the one that the key stands for.
            idempotency_key: The same key, task and input give the same execution.
            metadata: The caller's metadata.
            labels: Words by which to find it in Temporal.

        Raises:
            InvalidInput: `input.invalid` if the input does not fit, `execution.bad_id` if the id is no UUID.
            Conflict: `execution.exists`, or `idempotency.key_reused` if the key came with another input.
            Unavailable: `unreachable`.
        """
        problems = fitting_problems(given, task.input_schema)
        if problems:
            raise InvalidInput(
                f"the input does not fit the task {task.name!r}: {'; '.join(problems)}",
                code="input.invalid",
                details={"problems": problems},
            )
        wanted = _checked_id(execution_id)
        if wanted is None and idempotency_key:
            wanted = key_to_execution_id(task.tenant, task.id, idempotency_key)
            known = await self.store.find_execution(wanted, tenant=task.tenant)
            if known is not None:
                return _same_request(known, given, idempotency_key)
        final_id = wanted or str(uuid.uuid4())
        plan = await self._definitions.plan_for_start(task)
        params = ExecutionParams(
            execution_id=final_id,
            tenant=task.tenant,
            plan=plan,
            input=given,
            task_id=task.id,
            task_version=task.version,
            metadata=dict(metadata or {}),
        )
        created_us = now_us()
        client = await self._temporal.client()
        try:
            await self._start_workflow(client, task, params, labels)
        except WorkflowAlreadyStartedError as error:
            if idempotency_key is None or execution_id is not None:
                raise Conflict(
                    f"there is already an execution {final_id}",
                    code="execution.exists",
                    hint="leave the id out to get a new one",
                ) from error
            # an earlier request with this key got as far as Temporal but not as far as the store
            with self._temporal.errors():
                await adopt_from_temporal(client, self.store, final_id)
            return _same_request(await self.store.get_execution(final_id, tenant=task.tenant), given, idempotency_key)
        await self.store.ensure_execution(
            final_id,
            tenant=task.tenant,
            task_id=task.id,
            task_name=task.name,
            task_version=task.version,
            agent_id=task.agent_id,
            input=given,
            metadata=metadata,
            created_us=created_us,
        )
        return Started(await self.store.get_execution(final_id, tenant=task.tenant), created=True)

    async def _start_workflow(
        self, client: Client, task: TaskFacts, params: ExecutionParams, labels: Sequence[str]
    ) -> None:
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), task.tenant),
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TASK), task.name),
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_STATUS), ExecutionStatus.RUNNING.value),
        ]
        if task.agent_id:
            pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_AGENT), task.agent_id))
        if labels:
            pairs.append(SearchAttributePair(SearchAttributeKey.for_keyword_list(ATTRIBUTE_LABELS), list(labels)))
        with self._temporal.errors():
            await client.start_workflow(
                task.name,
                params,
                id=params.execution_id,
                task_queue=self._task_queue,
                # an id stands for one execution for ever, closed or not
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(pairs),
                memo={"tenant": task.tenant, "task_id": task.id, "task_version": task.version},
                static_summary=_clip_bytes(task.description or task.name, SUMMARY_BYTES),
                rpc_timeout=RPC_TIMEOUT,
            )

    # --- answer ----------------------------------------------------------------------------------------------------

    async def answer(
        self,
        execution_id: str,
        value: Json,
        *,
        tenant: str,
        key: str | None = None,
        wait_id: str = "",
        actor: str = "",
        oldest: bool = False,
    ) -> ExecutionFacts:
        """Answer a wait and learn whether the answer was taken.

        Args:
            execution_id: The execution.
            value: The answer.
            tenant: Its tenant.
            key: The caller's key; repeating it gives the first outcome again. None = a new one.
            wait_id: The wait; empty if only one is open.
            actor: Who answers.
            oldest: Without a wait id and with several open waits, take the oldest.

        Returns:
            The execution after the answer.

        Raises:
            NotFound: `execution.not_found`.
            InputRejected: `input.rejected` if the answer does not fit the wait's schema; nothing is sent then.
            Conflict: `answer.not_waiting`, `answer.ambiguous`, or the code with which the workflow refused it.
            Unavailable: `unreachable`, or `answer.pending` if no worker takes it; repeating with the same key is safe.
        """
        facts = await self.store.get_execution(execution_id, tenant=tenant)
        final_key = key or str(uuid.uuid4())
        if key is not None:
            earlier = _outcome(await self.store.answer_events(execution_id, tenant=tenant), key)
            if earlier is not None:
                return await self._after(earlier, facts)
        try:
            outcome = await self._answer_wait(facts, value, final_key, wait_id, actor, oldest=oldest)
        except Conflict:
            # an earlier request with the same key may have been taken just now and ended the wait, or the execution
            taken = await self._late_outcome(facts, key) if key is not None else None
            if taken is None:
                raise
            outcome = taken
        return await self._after(outcome, facts)

    async def _answer_wait(
        self, facts: ExecutionFacts, value: Json, key: str, wait_id: str, actor: str, *, oldest: bool
    ) -> EventRecord:
        wait = await self._pick_wait(facts, wait_id, oldest=oldest)
        problems = value_problems(value, wait.schema)
        if problems:
            raise InputRejected(
                f"the answer does not fit the wait {wait.wait_id!r}: {'; '.join(problems)}",
                code="input.rejected",
                details={"problems": problems, "schema": wait.schema},
            )
        signal = AnswerSignal(key=key, value=value, wait_id=wait.wait_id, actor=actor)
        async with self._changes.subscribe() as changes:
            await self._signal(facts.id, SIGNAL_ANSWER, signal)
            deadline = time.monotonic() + self._answer_timeout_s
            while (left := deadline - time.monotonic()) > 0 and not self._changes.closed:
                arrived = await self.store.answer_events(facts.id, tenant=facts.tenant, after_seq=wait.opened_seq)
                outcome = _outcome(arrived, key)
                if outcome is not None:
                    return outcome
                if (await self.store.get_execution(facts.id, tenant=facts.tenant)).settled:
                    raise _not_waiting(facts.id, "it has ended")
                await changes.wait(min(left, 1.0))
        raise Unavailable(
            f"execution {facts.id} has the answer, but no worker has taken it yet",
            code="answer.pending",
            hint=f"start a worker; repeating the request with the key {key!r} is safe",
            retryable=True,
            details={"key": key},
        )

    async def _late_outcome(self, facts: ExecutionFacts, key: str) -> EventRecord | None:
        """Look for the outcome of a key in events that may still be on their way into the store."""
        deadline = time.monotonic() + LATE_EVENTS_S
        async with self._changes.subscribe() as changes:
            while True:
                outcome = _outcome(await self.store.answer_events(facts.id, tenant=facts.tenant), key)
                left = deadline - time.monotonic()
                if outcome is not None or left <= 0:
                    return outcome
                await changes.wait(left)

    async def _pick_wait(self, facts: ExecutionFacts, wait_id: str, *, oldest: bool) -> Wait:
        if facts.settled:
            raise _not_waiting(facts.id, f"it is {facts.status.value}")
        if wait_id:
            wait = await self.store.find_wait(facts.id, wait_id, tenant=facts.tenant)
            if wait is None or wait.closed_seq is not None:
                raise _not_waiting(facts.id, f"no wait {wait_id!r} is open")
            return wait
        opened = (await self.store.open_waits([facts.id], tenant=facts.tenant)).get(facts.id, [])
        if not opened:
            raise _not_waiting(facts.id, f"it is {facts.status.value}")
        if len(opened) > 1 and not oldest:
            raise Conflict(
                f"execution {facts.id} has {len(opened)} open waits",
                code="answer.ambiguous",
                hint="name one with wait_id: " + ", ".join(wait.wait_id for wait in opened[:10]),
                details={"wait_ids": [wait.wait_id for wait in opened[:100]]},
            )
        return opened[0]

    async def _after(self, outcome: EventRecord, facts: ExecutionFacts) -> ExecutionFacts:
        body = body_of(outcome)
        if outcome.type == EventType.ANSWER_REFUSED:
            raise Conflict(
                str(body.get("message") or "the execution refused the answer"),
                code=str(body.get("code") or "answer.refused"),
                details={"wait_id": body.get("wait_id"), "key": body.get("key")},
            )
        return await self.store.get_execution(facts.id, tenant=facts.tenant)

    # --- cancel ----------------------------------------------------------------------------------------------------

    async def cancel(self, execution_id: str, *, tenant: str, reason: str = "", actor: str = "") -> ExecutionFacts:
        """Ask an execution to stop; it ends after its `finally` work, on its own time.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `execution.closed` if it has ended.
            Unavailable: `unreachable`.
        """
        facts = (await self.read(execution_id, tenant=tenant)).facts
        if facts.settled:
            raise _closed(facts)
        await self._signal(execution_id, SIGNAL_CANCEL_REASON, CancelReasonSignal(reason=reason, actor=actor))
        client = await self._temporal.client()
        with self._temporal.errors():
            await client.get_workflow_handle(execution_id).cancel(rpc_timeout=RPC_TIMEOUT)
        return await self.store.get_execution(execution_id, tenant=tenant)

    async def _signal(self, execution_id: str, name: str, signal: AnswerSignal | CancelReasonSignal) -> None:
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.get_workflow_handle(execution_id).signal(name, signal, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            # closed, or beyond Temporal's retention: either way it takes nothing any more
            await self._settle(client, execution_id)
            raise Conflict(
                f"execution {execution_id} has ended", code="execution.closed", hint="start a new one"
            ) from error

    # --- read ------------------------------------------------------------------------------------------------------

    async def read(self, execution_id: str, *, tenant: str) -> Fresh:
        """Return an execution; asks Temporal for the end of one whose events announce it, or that has long been silent.

        Raises:
            NotFound: `execution.not_found`.
        """
        facts = await self.store.get_execution(execution_id, tenant=tenant)
        # an end without an event: the worker that had it died, or an operator terminated the workflow
        silent = now_us() - facts.updated_us > SILENT_S * 1e6
        if facts.settled or not (facts.terminal_seen or silent):
            return Fresh(facts)
        if self._temporal.is_down:
            return _stale(facts)
        try:
            client = await self._temporal.client()
            await self._settle(client, execution_id)
        except Unavailable:
            # a read never fails because Temporal is down; it says how old it is instead
            return _stale(facts)
        return Fresh(await self.store.get_execution(execution_id, tenant=tenant))

    async def _settle(self, client: Client, execution_id: str) -> None:
        try:
            with self._temporal.errors():
                await settle_from_temporal(client, self.store, execution_id)
        except NotFound:
            return  # gone from Temporal: what the store holds is all there is

    async def wait_until_closed(self, execution_id: str, *, tenant: str, timeout_s: float) -> ExecutionFacts:
        """Return an execution once it has ended, or as it is after the time.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            timeout_s: Longest wait in seconds.

        Raises:
            NotFound: `execution.not_found`.
        """
        deadline = time.monotonic() + timeout_s
        async with self._changes.subscribe() as changes:
            while True:
                facts = (await self.read(execution_id, tenant=tenant)).facts
                left = deadline - time.monotonic()
                if facts.settled or left <= 0 or self._changes.closed:
                    return facts
                if facts.terminal_seen:
                    await asyncio.sleep(min(left, 0.02))  # Temporal closes it a moment after the event
                else:
                    await changes.wait(min(left, 1.0))


def _stale(facts: ExecutionFacts) -> Fresh:
    return Fresh(facts, max(0.0, (now_us() - facts.updated_us) / 1e6))


def _checked_id(execution_id: str | None) -> str | None:
    if execution_id is None:
        return None
    try:
        return str(uuid.UUID(execution_id))
    except ValueError as error:
        raise InvalidInput(
            f"{execution_id!r} is no id of an execution", code="execution.bad_id", hint="ids are UUIDs"
        ) from error


def _same_request(known: ExecutionFacts, given: Json, key: str) -> Started:
    if known.input != given:
        raise Conflict(
            f"the idempotency key {key!r} was used with another input before (execution {known.id})",
            code="idempotency.key_reused",
            hint="use a new key for a new execution",
        )
    return Started(known, created=False)


def _outcome(records: Sequence[EventRecord], key: str) -> EventRecord | None:
    return next((record for record in records if body_of(record).get("key") == key), None)


def _not_waiting(execution_id: str, why: str) -> Conflict:
    return Conflict(f"execution {execution_id} does not wait for an answer: {why}", code="answer.not_waiting")


def _closed(facts: ExecutionFacts) -> Conflict:
    return Conflict(f"execution {facts.id} has ended: it is {facts.status.value}", code="execution.closed")


def _clip_bytes(text: str, limit: int) -> str:
    return text.encode()[:limit].decode(errors="ignore")
