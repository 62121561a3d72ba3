"""Use cases on running executions: answer, cancel, and reads that are as fresh as Temporal lets them be."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.admission import AdmissionService
from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import now_us
from engine.control.settling import read_end, store_ends
from engine.core.contracts.execution import (
    SIGNAL_ANSWER,
    SIGNAL_CANCEL_REASON,
    SIGNAL_EVENT,
    AnswerSignal,
    CancelReasonSignal,
    ControlSignal,
    EventSignal,
    MessageSignal,
)
from engine.core.errors import Conflict, InputRejected, NotFound, Unavailable
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.answers import fitting_problems
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import ExecutionFacts, Wait, is_listening
from engine.core.values import Json
from engine.store.changes import Changes
from engine.store.projection import ProjectionStore

ANSWER_TIMEOUT_S = 8.0
LATE_EVENTS_S = 0.5
"""Two flushes of a busy worker: when events of a workflow that has moved on must have reached the store."""
READ_PATIENCE_S = 0.5
"""How long a read waits for Temporal before it answers from the store alone."""
SILENT_S = 5.0
"""Silence after which a read asks Temporal whether an execution still runs: one quick question while it does."""
SLOW_S = 1.0
"""How long reads answer from the store alone after Temporal took longer than they wait."""

Several = Literal["refuse", "oldest", "newest"]
"""Which of several open waits an answer is for that names none."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """An execution as it is read.

    Attributes:
        facts: What the store holds, settled if Temporal could be asked.
        stale_s: Age of the facts in seconds if Temporal could not be asked about an end that the events announce;
            None if they are as fresh as they can be.
        reason: Why it could not: `temporal` does not answer, or is too `slow`; empty if it could.
    """

    facts: ExecutionFacts
    stale_s: float | None = None
    reason: str = ""


class ExecutionService:
    """Steers and reads executions.

    Args:
        store: The projection.
        temporal: The connection to Temporal.
        changes: Watch over the store.
        answer_timeout_s: How long an answer waits for a worker to take it, in seconds.
        silent_s: Silence after which a read asks Temporal whether an execution still runs, in seconds.

    Attributes:
        queue: The starts that wait; None where there are none.
    """

    def __init__(
        self,
        store: ProjectionStore,
        temporal: TemporalConnection,
        changes: Changes,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self.store = store
        self.queue: AdmissionService | None = None
        self._temporal = temporal
        self._changes = changes
        self._answer_timeout_s = answer_timeout_s
        self._silent_us = silent_s * 1e6
        self._slow_until = 0.0

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
        several: Several = "refuse",
    ) -> ExecutionFacts:
        """Answer a wait and learn whether the answer was taken.

        Args:
            execution_id: The execution.
            value: The answer.
            tenant: Its tenant.
            key: The caller's key; repeating it gives the first outcome again. None = a new one.
            wait_id: The wait; empty if only one is open.
            actor: Who answers.
            several: What to do without a wait id where several waits are open: refuse, or take one.

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
            outcome = await self._answer_wait(facts, value, final_key, wait_id, actor, several)
        except Conflict:
            # an earlier request with the same key may have been taken just now and ended the wait, or the execution
            taken = await self._late_outcome(facts, key) if key is not None else None
            if taken is None:
                if key is not None:
                    await self.refuse_if_incomplete(facts, "answer.pending", key)
                raise
            outcome = taken
        return await self._after(outcome, facts)

    async def _answer_wait(
        self, facts: ExecutionFacts, value: Json, key: str, wait_id: str, actor: str, several: Several
    ) -> EventRecord:
        wait = await self._pick_wait(facts, wait_id, several)
        problems = fitting_problems(value, wait.schema)
        if problems:
            raise InputRejected(
                f"the answer does not fit the wait {wait.wait_id!r}: {'; '.join(problems)}",
                code="input.rejected",
                details={"problems": problems, "schema": wait.schema},
            )
        signal = AnswerSignal(key=key, value=value, wait_id=wait.wait_id, actor=actor)
        async with self._changes.subscribe() as changes:
            await self.signal(facts.id, SIGNAL_ANSWER, signal)
            deadline = time.monotonic() + self._answer_timeout_s
            while (left := deadline - time.monotonic()) > 0 and not self._changes.closed:
                arrived = await self.store.answer_events(facts.id, tenant=facts.tenant, after_seq=wait.opened_seq)
                outcome = _outcome(arrived, key)
                if outcome is not None:
                    return outcome
                if (await self.store.get_execution(facts.id, tenant=facts.tenant)).settled:
                    # perhaps because of this very answer, whose outcome came between the two looks
                    outcome = await self._late_outcome(facts, key)
                    if outcome is None:
                        raise _not_waiting(facts.id, "it has ended")
                    return outcome
                await changes.wait(min(left, 1.0))
        raise Unavailable(
            f"execution {facts.id} has the answer, but no worker has taken it yet",
            code="answer.pending",
            hint=f"start a worker; repeating the request with the key {key!r} is safe",
            retryable=True,
            details={"key": key},
        )

    async def _late_outcome(self, facts: ExecutionFacts, key: str) -> EventRecord | None:
        """Look for the outcome of a key in events that may still be on their way into the store.

        Where some are known to be missing the repair restores them: that is waited for as long as for a worker.
        """
        began = time.monotonic()
        async with self._changes.subscribe() as changes:
            while True:
                outcome = _outcome(await self.store.answer_events(facts.id, tenant=facts.tenant), key)
                is_incomplete = await self._is_incomplete(facts)
                left = began + (self._answer_timeout_s if is_incomplete else LATE_EVENTS_S) - time.monotonic()
                if outcome is not None or left <= 0 or self._changes.closed:
                    return outcome
                await changes.wait(left)

    async def _is_incomplete(self, facts: ExecutionFacts) -> bool:
        now = await self.store.get_execution(facts.id, tenant=facts.tenant)
        return now.settled and now.verified is False

    async def refuse_if_incomplete(self, facts: ExecutionFacts, code: str, key: str) -> None:
        """Leave open what became of a request if the execution has ended and events of it are known to be missing.

        Args:
            facts: The execution, as it was.
            code: Code of the error.
            key: Key, or id, of the request.

        Raises:
            Unavailable: With that code; when the repair has restored the events they tell.
        """
        if await self._is_incomplete(facts):
            raise Unavailable(
                f"execution {facts.id} has ended, and events of it are still missing: they tell what became of this",
                code=code,
                hint=f"ask again with {key!r}; the repair process restores them, or `everstep reindex {facts.id}`",
                retryable=True,
                details={"key": key},
            )

    async def _pick_wait(self, facts: ExecutionFacts, wait_id: str, several: Several) -> Wait:
        if facts.settled:
            raise _not_waiting(facts.id, f"it is {facts.status.value}")
        if wait_id:
            wait = await self.store.find_wait(facts.id, wait_id, tenant=facts.tenant)
            if wait is None or wait.closed_seq is not None:
                raise _not_waiting(facts.id, f"no wait {wait_id!r} is open")
            return wait
        opened = (await self.store.open_waits([facts.id], tenant=facts.tenant)).get(facts.id, [])
        asking = [wait for wait in opened if not is_listening(wait.info)]
        if opened and not asking:
            raise Conflict(
                f"execution {facts.id} listens for messages and asks nothing",
                code="answer.wants_message",
                hint="send it a message: POST /api/executions/{id}/messages, `everstep message`",
            )
        opened = asking
        if not opened:
            raise _not_waiting(facts.id, f"it is {facts.status.value}")
        if len(opened) > 1 and several == "refuse":
            raise Conflict(
                f"execution {facts.id} has {len(opened)} open waits",
                code="answer.ambiguous",
                hint="name one (wait_id, --wait-id): " + ", ".join(wait.wait_id for wait in opened[:10]),
                details={"wait_ids": [wait.wait_id for wait in opened[:100]]},
            )
        return opened[-1] if several == "newest" else opened[0]

    async def _after(self, outcome: EventRecord, facts: ExecutionFacts) -> ExecutionFacts:
        body = body_of(outcome)
        if outcome.type == EventType.ANSWER_REFUSED:
            raise Conflict(
                str(body.get("message") or "the execution refused the answer"),
                code=str(body.get("code") or "answer.refused"),
                details={"wait_id": body.get("wait_id"), "key": body.get("key")},
            )
        return await self.store.get_execution(facts.id, tenant=facts.tenant)

    # --- events ----------------------------------------------------------------------------------------------------

    async def send_event(self, execution_id: str, event: EventSignal, *, tenant: str) -> None:
        """Send an event to an execution; it goes on with it now, or when it comes to the step that waits for it.

        Args:
            execution_id: The execution.
            event: The event; one with an id that came before is not taken again.
            tenant: Its tenant.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `execution.closed` if it has ended.
            Unavailable: `unreachable`.
        """
        facts = (await self.read(execution_id, tenant=tenant)).facts
        if facts.settled:
            raise closed(facts)
        await self.signal(execution_id, SIGNAL_EVENT, event)

    # --- cancel ----------------------------------------------------------------------------------------------------

    async def cancel(self, execution_id: str, *, tenant: str, reason: str = "", actor: str = "") -> ExecutionFacts:
        """Ask an execution to stop; it ends after its `finally` work, on its own time.

        One that was cancelled already stays as it is, with its first reason: to ask once more does no harm.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `execution.closed` if it has ended in another way.
            Unavailable: `unreachable`.
        """
        facts = (await self.read(execution_id, tenant=tenant)).facts
        if facts.settled and facts.status is ExecutionStatus.CANCELLED:
            return facts
        if facts.settled:
            raise closed(facts)
        if await self.withdraw(execution_id, tenant=tenant, kind="cancel", reason=reason, actor=actor):
            return await self.store.get_execution(execution_id, tenant=tenant)
        try:
            await self.signal(execution_id, SIGNAL_CANCEL_REASON, CancelReasonSignal(reason=reason, actor=actor))
            await self._request_cancel(execution_id)
        except Conflict:
            # it ended between our look and the request; perhaps because somebody else cancelled it
            facts = await self.store.get_execution(execution_id, tenant=tenant)
            if facts.status is not ExecutionStatus.CANCELLED:
                raise
        return await self.store.get_execution(execution_id, tenant=tenant)

    async def withdraw(self, execution_id: str, *, tenant: str, kind: str, reason: str, actor: str) -> bool:
        """End an execution that waits to be let in; False if it does not, so that Temporal has to be asked."""
        queue = self.queue
        return queue is not None and await queue.withdraw(
            execution_id, tenant=tenant, kind=kind, reason=reason, actor=actor
        )

    async def _is_queued(self, facts: ExecutionFacts) -> bool:
        """Whether an execution waits to be let in, so that there is nothing to ask Temporal."""
        may_be = self.queue is not None and facts.status is ExecutionStatus.QUEUED
        return may_be and self.queue is not None and await self.queue.store.is_pending(facts.id, tenant=facts.tenant)

    async def _refuse_queued(self, execution_id: str) -> None:
        """Refuse what an execution cannot take that waits to be let in.

        Raises:
            Conflict: `execution.queued`.
        """
        tenant = await self.store.tenant_of(execution_id)
        waits = None if self.queue is None or tenant is None else await self.queue.queued(execution_id, tenant=tenant)
        if waits is not None:
            raise Conflict(
                f"execution {execution_id} has not begun: {waits['message']}",
                code="execution.queued",
                hint="wait until it is let in, or cancel it",
            )

    async def _request_cancel(self, execution_id: str) -> None:
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.get_workflow_handle(execution_id).cancel(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            await self.settle(client, execution_id)
            raise ended(execution_id) from error

    async def signal(
        self,
        execution_id: str,
        name: str,
        signal: AnswerSignal | CancelReasonSignal | ControlSignal | EventSignal | MessageSignal,
    ) -> None:
        """Send a signal to an execution's workflow.

        Raises:
            Conflict: `execution.closed` if it has ended.
            Unavailable: `unreachable`.
        """
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.get_workflow_handle(execution_id).signal(name, signal, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            await self._refuse_queued(execution_id)
            # closed, or beyond Temporal's retention: either way it takes nothing any more
            await self.settle(client, execution_id)
            raise ended(execution_id) from error

    # --- read ------------------------------------------------------------------------------------------------------

    async def read(self, execution_id: str, *, tenant: str) -> Fresh:
        """Return an execution; asks Temporal for the end of one whose events announce it, or that has long been silent.

        Raises:
            NotFound: `execution.not_found`.
        """
        facts = await self.store.get_execution(execution_id, tenant=tenant)
        # an end without an event: the worker that had it died, or an operator terminated the workflow
        silent = now_us() - facts.updated_us > self._silent_us
        if facts.settled or not (facts.terminal_seen or silent) or await self._is_queued(facts):
            return Fresh(facts)
        if self._temporal.is_down:
            return _stale(facts, "temporal")
        if time.monotonic() < self._slow_until:
            return _stale(facts, "slow")
        try:
            client = await self._temporal.client()
            await self.settle(client, execution_id, patience_s=READ_PATIENCE_S)
        except (Unavailable, RPCError):
            # a read never fails because of Temporal; it says how old it is instead
            return _stale(facts, "temporal")
        except TimeoutError:
            # our own patience: a server that is slow is not one that is down
            self._slow_until = time.monotonic() + SLOW_S
            return _stale(facts, "slow")
        return Fresh(await self.store.get_execution(execution_id, tenant=tenant))

    async def settle(self, client: Client, execution_id: str, *, patience_s: float | None = None) -> None:
        """Ask Temporal whether an execution has ended, and store how.

        Raises:
            TimeoutError: Temporal takes longer than our patience.
            Unavailable: `unreachable`.
        """
        try:
            async with asyncio.timeout(patience_s):
                with self._temporal.errors():
                    end = await read_end(client, execution_id)
        except NotFound:
            return  # gone from Temporal: what the store holds is all there is
        if end is not None:
            await store_ends(client, self.store, [end])

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


def _stale(facts: ExecutionFacts, reason: str) -> Fresh:
    return Fresh(facts, max(0.0, (now_us() - facts.updated_us) / 1e6), reason)


def _outcome(records: Sequence[EventRecord], key: str) -> EventRecord | None:
    return next((record for record in records if body_of(record).get("key") == key), None)


def _not_waiting(execution_id: str, why: str) -> Conflict:
    return Conflict(f"execution {execution_id} does not wait for an answer: {why}", code="answer.not_waiting")


def closed(facts: ExecutionFacts) -> Conflict:
    """Return the refusal of whatever an execution that has ended cannot take any more."""
    return Conflict(f"execution {facts.id} has ended: it is {facts.status.value}", code="execution.closed")


def ended(execution_id: str) -> Conflict:
    """Return the refusal for an execution whose workflow takes nothing any more."""
    return Conflict(f"execution {execution_id} has ended", code="execution.closed", hint="start a new one")
