"""Use cases that steer running executions: pause, continue, breaks, deadlines of waits, terminate."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.executions import ANSWER_TIMEOUT_S, LATE_EVENTS_S, ExecutionService, closed, ended
from engine.control.settling import NO_REASON, TERMINATED_BY
from engine.core.contracts.execution import SIGNAL_CONTROL, ControlSignal
from engine.core.errors import Conflict, Unavailable
from engine.core.kinds import EventType
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import ExecutionFacts
from engine.store.changes import Changes
from engine.store.reading import LOOK_BACK

TERMINATED = "execution.terminated"

_MEANS: dict[str, EventType] = {
    "pause": EventType.EXECUTION_PAUSED,
    "continue": EventType.EXECUTION_CONTINUED,
    "breaks": EventType.BREAKS_CHANGED,
    "deadline": EventType.DEADLINE_CHANGED,
}
"""By kind of wish, the event that grants it; every one may be refused by `control.refused` instead."""


class ControlService:
    """Steers executions by signals, each of which is answered by an event with the same key.

    Args:
        executions: Reads and signals executions.
        temporal: The connection to Temporal.
        changes: Watch over the store.
        timeout_s: How long a wish waits for a worker to take it, in seconds.
    """

    def __init__(
        self,
        executions: ExecutionService,
        temporal: TemporalConnection,
        changes: Changes,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._executions = executions
        self._store = executions.store
        self._temporal = temporal
        self._changes = changes
        self._timeout_s = timeout_s

    async def pause(
        self, execution_id: str, *, tenant: str, key: str | None = None, reason: str = "", actor: str = ""
    ) -> ExecutionFacts:
        """Let nothing new start in an execution until it is continued; what runs ends and is recorded.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            key: The caller's key; repeating it gives the first outcome again. None = a new one.
            reason: Why; is kept with it.
            actor: Who wants it.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `execution.closed`, or the code with which the workflow refused it.
            Unavailable: `unreachable`, or `control.pending` if no worker takes it; repeating with the same key is safe.
        """
        signal = ControlSignal(kind="pause", key=key or _new_key(), actor=actor, reason=reason)
        return await self._steer(execution_id, signal, tenant=tenant, repeated=key is not None)

    async def go_on(
        self,
        execution_id: str,
        *,
        tenant: str,
        key: str | None = None,
        breaks: Sequence[str] | None = None,
        actor: str = "",
    ) -> ExecutionFacts:
        """Let a paused execution go on.

        Args:
            execution_id: The execution.
            tenant: Its tenant.
            key: As for `pause`.
            breaks: Paths of the steps before which it is to pause from now on; None = they stay as they are.
            actor: Who wants it.

        Raises:
            NotFound: As `pause`.
            Conflict: As `pause`.
            Unavailable: As `pause`.
        """
        kept = None if breaks is None else list(breaks)
        signal = ControlSignal(kind="continue", key=key or _new_key(), actor=actor, breaks=kept)
        return await self._steer(execution_id, signal, tenant=tenant, repeated=key is not None)

    async def set_breaks(
        self, execution_id: str, breaks: Sequence[str], *, tenant: str, key: str | None = None, actor: str = ""
    ) -> ExecutionFacts:
        """Set the steps before which an execution pauses, in place of those that were set before.

        Args:
            execution_id: The execution.
            breaks: Their paths; none = it does not pause by itself any more.
            tenant: Its tenant.
            key: As for `pause`.
            actor: Who wants it.

        Raises:
            NotFound: As `pause`.
            Conflict: As `pause`.
            Unavailable: As `pause`.
        """
        signal = ControlSignal(kind="breaks", key=key or _new_key(), actor=actor, breaks=list(breaks))
        return await self._steer(execution_id, signal, tenant=tenant, repeated=key is not None)

    async def set_deadline(
        self,
        execution_id: str,
        wait_id: str,
        deadline_us: int | None,
        *,
        tenant: str,
        key: str | None = None,
        actor: str = "",
    ) -> ExecutionFacts:
        """Change when a wait gives up, or when a sleep is over.

        Args:
            execution_id: The execution.
            wait_id: Id of the wait, or path of the sleep.
            deadline_us: When, Unix microseconds; None = a wait never gives up.
            tenant: Its tenant.
            key: As for `pause`.
            actor: Who wants it.

        Raises:
            NotFound: As `pause`.
            Conflict: As `pause`.
            Unavailable: As `pause`.
        """
        signal = ControlSignal(
            kind="deadline", key=key or _new_key(), actor=actor, wait_id=wait_id, deadline_us=deadline_us
        )
        return await self._steer(execution_id, signal, tenant=tenant, repeated=key is not None)

    # --- signals and their outcomes --------------------------------------------------------------------------------

    async def _steer(self, execution_id: str, signal: ControlSignal, *, tenant: str, repeated: bool) -> ExecutionFacts:
        facts = (await self._executions.read(execution_id, tenant=tenant)).facts
        if repeated:
            earlier = _outcome(await self._store.control_events(execution_id, tenant=tenant), signal)
            if earlier is not None:
                return await self._after(earlier, facts)
        try:
            if facts.settled:
                raise closed(facts)
            outcome = await self._granted(facts, signal)
        except Conflict:
            # it may have ended just after it had taken the signal
            late = None if facts.settled else await self._late(facts, signal)
            if late is None:
                if repeated:
                    await self._executions.refuse_if_incomplete(facts, "control.pending", signal.key)
                raise
            outcome = late
        return await self._after(outcome, facts)

    async def _granted(self, facts: ExecutionFacts, signal: ControlSignal) -> EventRecord:
        # those of another worker may have come a little out of order
        after_seq = max(0, facts.last_seq - LOOK_BACK)
        async with self._changes.subscribe() as changes:
            await self._executions.signal(facts.id, SIGNAL_CONTROL, signal)
            deadline = time.monotonic() + self._timeout_s
            while (left := deadline - time.monotonic()) > 0 and not self._changes.closed:
                arrived = await self._store.control_events(facts.id, tenant=facts.tenant, after_seq=after_seq)
                outcome = _outcome(arrived, signal)
                if outcome is not None:
                    return outcome
                if (await self._store.get_execution(facts.id, tenant=facts.tenant)).settled:
                    raise ended(facts.id)
                await changes.wait(min(left, 1.0))
        raise Unavailable(
            f"execution {facts.id} was told to {_words(signal)}, but no worker has taken it yet",
            code="control.pending",
            hint=f"start a worker; repeating the request with the key {signal.key!r} is safe",
            retryable=True,
            details={"key": signal.key},
        )

    async def _late(self, facts: ExecutionFacts, signal: ControlSignal) -> EventRecord | None:
        """Look for the outcome of a key in events that may still be on their way into the store."""
        deadline = time.monotonic() + LATE_EVENTS_S
        async with self._changes.subscribe() as changes:
            while True:
                outcome = _outcome(await self._store.control_events(facts.id, tenant=facts.tenant), signal)
                left = deadline - time.monotonic()
                if outcome is not None or left <= 0:
                    return outcome
                await changes.wait(left)

    async def _after(self, outcome: EventRecord, facts: ExecutionFacts) -> ExecutionFacts:
        if outcome.type == EventType.CONTROL_REFUSED:
            body = body_of(outcome)
            raise Conflict(
                str(body.get("message") or "the execution refused it"),
                code=str(body.get("code") or "control.refused"),
                details={"key": body.get("key"), "kind": body.get("kind")},
            )
        return await self._store.get_execution(facts.id, tenant=facts.tenant)

    # --- terminate -------------------------------------------------------------------------------------------------

    async def terminate(self, execution_id: str, *, tenant: str, reason: str = "", actor: str = "") -> ExecutionFacts:
        """End an execution at once: neither its `undo` nor its `finally` runs; its children are cancelled.

        One that was terminated already stays as it is, with its first reason.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `execution.closed` if it has ended in another way.
            Unavailable: `unreachable`.
        """
        facts = (await self._executions.read(execution_id, tenant=tenant)).facts
        if facts.settled:
            return _terminated_or_closed(facts)
        if await self._executions.withdraw(execution_id, tenant=tenant, kind="terminate", reason=reason, actor=actor):
            return await self._store.get_execution(execution_id, tenant=tenant)
        client = await self._temporal.client()
        handle = client.get_workflow_handle(execution_id)
        try:
            with self._temporal.errors():
                await handle.terminate({TERMINATED_BY: actor}, reason=reason or NO_REASON, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            # ended meanwhile, perhaps by the same request that came before
            await self._executions.settle(client, execution_id)
            facts = await self._store.get_execution(execution_id, tenant=tenant)
            if not facts.settled:
                raise ended(execution_id) from error
            return _terminated_or_closed(facts)
        await self._executions.settle(client, execution_id)
        return await self._store.get_execution(execution_id, tenant=tenant)


def _terminated_or_closed(facts: ExecutionFacts) -> ExecutionFacts:
    if (facts.error or {}).get("code") != TERMINATED:
        raise closed(facts)
    return facts


def _new_key() -> str:
    return str(uuid.uuid4())


def _words(signal: ControlSignal) -> str:
    if signal.kind == "breaks":
        return "pause before other steps"
    return "change a deadline" if signal.kind == "deadline" else signal.kind


def _outcome(records: Sequence[EventRecord], signal: ControlSignal) -> EventRecord | None:
    """Return the event that says what became of a wish.

    Raises:
        Conflict: `idempotency.key_reused` if the key came with a wish of another kind before.
    """
    wanted = _MEANS[signal.kind].value
    others = {item.value for item in _MEANS.values()} - {wanted}
    told = [(record, body_of(record)) for record in records]
    mine = [(record, body) for record, body in told if body.get("key") == signal.key]
    for record, body in mine:
        refused = record.type == EventType.CONTROL_REFUSED
        if record.type == wanted or (refused and body.get("kind") == signal.kind):
            return record
    # a `continue` that sets breaks tells of these first
    foreign = [body for record, body in mine if record.type in others or record.type == EventType.CONTROL_REFUSED]
    if foreign and (signal.kind != "continue" or signal.breaks is None):
        raise Conflict(
            f"the key {signal.key!r} was used for another request to this execution before",
            code="idempotency.key_reused",
            hint="use a new key for a new request",
        )
    return None
