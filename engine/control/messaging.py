"""Use cases of inboxes: send a message to a step that listens, and learn what becomes of it."""

from __future__ import annotations

import time
from typing import Any

from engine.control.executions import ANSWER_TIMEOUT_S, LATE_EVENTS_S, ExecutionService, closed, ended
from engine.core.contracts.execution import SIGNAL_MESSAGE, MessageSignal
from engine.core.errors import Conflict, Unavailable
from engine.core.run.dispositions import message_outcome
from engine.core.run.events import body_of
from engine.core.run.projection import ExecutionFacts
from engine.core.values import Json
from engine.store.changes import Changes
from engine.store.reading import LOOK_BACK


class MessageService:
    """Sends messages to executions; each of them is answered by an event with its id.

    Args:
        executions: Reads and signals executions.
        changes: Watch over the store.
        timeout_s: How long a message waits for a worker to take it, in seconds.
    """

    def __init__(self, executions: ExecutionService, changes: Changes, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._executions = executions
        self._store = executions.store
        self._changes = changes
        self._timeout_s = timeout_s

    async def send(self, execution_id: str, message: MessageSignal, *, tenant: str, repeated: bool) -> dict[str, Any]:
        """Send a message and learn what becomes of it.

        Args:
            execution_id: The execution.
            message: The message; one with an id that came before gets what became of the first.
            tenant: Its tenant.
            repeated: Whether the id is the caller's, so that it may have come before.

        Returns:
            {message_id, name, disposition, path?, turn?}: started, queued, joined, interrupting, rolling_back or kept.

        Raises:
            NotFound: `execution.not_found`.
            InputRejected: `input.rejected` if it does not fit the schema of the step that listens.
            Conflict: `execution.closed`, `inbox.busy`, `inbox.full`.
            Unavailable: `unreachable`, or `message.pending` if no worker takes it; repeating with its id is safe.
        """
        facts = (await self._executions.read(execution_id, tenant=tenant)).facts
        if repeated:
            earlier = await self._told(facts, message.id)
            if earlier is not None:
                return message_outcome(earlier)
        try:
            if facts.settled:
                raise closed(facts)
            return message_outcome(await self._taken(facts, message))
        except Conflict as refusal:
            if refusal.code != "execution.closed":
                raise
            # it may have ended just after it had taken the message
            late = None if facts.settled else await self._late(facts, message.id)
            if late is None:
                if repeated:
                    await self._executions.refuse_if_incomplete(facts, "message.pending", message.id)
                raise
            return message_outcome(late)

    async def _taken(self, facts: ExecutionFacts, message: MessageSignal) -> dict[str, Json]:
        # events of another worker may have come a little out of order
        after_seq = max(0, facts.last_seq - LOOK_BACK)
        async with self._changes.subscribe() as changes:
            await self._executions.signal(facts.id, SIGNAL_MESSAGE, message)
            deadline = time.monotonic() + self._timeout_s
            while (left := deadline - time.monotonic()) > 0 and not self._changes.closed:
                told = await self._told(facts, message.id, after_seq=after_seq)
                if told is not None:
                    return told
                if (await self._store.get_execution(facts.id, tenant=facts.tenant)).settled:
                    raise ended(facts.id)
                await changes.wait(min(left, 1.0))
        raise Unavailable(
            f"execution {facts.id} was sent the message, but no worker has taken it yet",
            code="message.pending",
            hint=f"start a worker; repeating the request with the id {message.id!r} is safe",
            retryable=True,
            details={"message_id": message.id},
        )

    async def _late(self, facts: ExecutionFacts, message_id: str) -> dict[str, Json] | None:
        """Look for what became of a message in events that may still be on their way into the store."""
        deadline = time.monotonic() + LATE_EVENTS_S
        async with self._changes.subscribe() as changes:
            while True:
                told = await self._told(facts, message_id)
                left = deadline - time.monotonic()
                if told is not None or left <= 0:
                    return told
                await changes.wait(left)

    async def _told(self, facts: ExecutionFacts, message_id: str, *, after_seq: int = 0) -> dict[str, Json] | None:
        records = await self._store.message_events(facts.id, tenant=facts.tenant, after_seq=after_seq)
        bodies = (body_of(record) for record in records)
        return next((body for body in bodies if body.get("message_id") == message_id), None)
