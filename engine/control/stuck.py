"""Says why an execution does not go on although it should: paused, no worker, a failing workflow task or call."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from dataclasses import dataclass

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client

from engine.control.connect import RPC_TIMEOUT
from engine.control.describing import Described, last_asked_us
from engine.core.contracts.activities import POSTPONED
from engine.core.errors import PayloadUnreadable
from engine.core.run.projection import iso_time

PAUSED = "stuck.paused"
NO_WORKER = "stuck.no_worker"
WORKFLOW_TASK_FAILS = "stuck.workflow_task_fails"
ACTIVITY_RETRIES = "stuck.activity_retries"

WAITING_S = 10.0
"""Work that nobody has taken for so long is not merely waiting for its turn."""
MANY_ATTEMPTS = 3
LAST_EVENTS = 20
MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why an execution does not go on.

    Attributes:
        code: One of the codes of this module.
        message: What is seen.
        hint: What to do about it.
        since_us: Since when, Unix microseconds.
    """

    code: str
    message: str
    hint: str
    since_us: int

    def to_text(self, before: str | None) -> str:
        """Return it as the store keeps it: JSON {code, message, hint, since_us}.

        Args:
            before: What was stored last; the same trouble keeps the time at which it was first seen.
        """
        since_us = self.since_us
        known = json.loads(before) if before else {}
        if known.get("code") == self.code:
            since_us = min(since_us, int(known.get("since_us") or since_us))
        told = {"code": self.code, "message": self.message, "hint": self.hint, "since_us": since_us}
        return json.dumps(told, ensure_ascii=False)


class Diagnosis:
    """Looks at described executions; asks each task queue at most once.

    Args:
        client: A connected client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: dict[tuple[str, bool], int] = {}

    async def of(self, execution_id: str, found: Described) -> Stuck | None:
        """Return why an open execution does not go on; None if it is well, or only waits for what it should wait for.

        Raises:
            RPCError: If Temporal does not answer.
        """
        if found.paused is not None:
            return _paused(found)
        task = found.task
        if task is not None:
            if task.attempt >= MANY_ATTEMPTS:
                return await self._failing_task(execution_id, found)
            if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
                waits_us = task.scheduled_time.ToMicroseconds()
                return await self._no_worker(found.queue, waits_us, activities=False)
        for call in found.activities:
            stuck = await self._of_call(found.queue, call)
            if stuck is not None:
                return stuck
        return None

    async def _of_call(self, queue: str, call: PendingActivityInfo) -> Stuck | None:
        if call.last_failure.application_failure_info.type == POSTPONED:
            # it waits for its turn at a backend, which is no sign of anything wrong
            return None
        if call.attempt >= MANY_ATTEMPTS and call.HasField("last_failure"):
            since_us = call.last_attempt_complete_time.ToMicroseconds() or time.time_ns() // 1_000
            return Stuck(
                ACTIVITY_RETRIES,
                f"attempt {call.attempt} at {call.activity_type.name} {call.activity_id!r} is due or under way; "
                f"the last one ended with: {await self._text_of(call.last_failure)}",
                "look at the logs of the workers: they die, are restarted, or do not know this kind of call",
                since_us,
            )
        waits = call.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED and call.attempt <= 1
        if not waits:
            return None
        # the calls of a pool wait in a queue of their own
        asked = call.activity_options.task_queue.name or queue
        since_us = call.scheduled_time.ToMicroseconds()
        pool = asked.removeprefix(f"{queue}-") if asked != queue else ""
        return await self._no_worker(asked, since_us, activities=True, pool=pool)

    async def _no_worker(self, queue: str, waits_us: int, *, activities: bool, pool: str = "") -> Stuck | None:
        if time.time_ns() // 1_000 - waits_us < WAITING_S * 1e6:
            return None
        key = (queue, activities)
        if key not in self._asked:
            self._asked[key] = await last_asked_us(self._client, queue, activities=activities)
        if self._asked[key] > waits_us:
            # somebody has asked for work since: the workers have much to do, and this comes in its turn
            return None
        if pool:
            return Stuck(
                NO_WORKER,
                f"no worker of the pool {pool!r} has asked for work of its task queue {queue!r} since"
                f" {iso_time(waits_us)}",
                f"start one with `everstep worker --pool {pool}`, or see why those there are too busy",
                waits_us,
            )
        return Stuck(
            NO_WORKER,
            f"no worker has asked for work of the task queue {queue!r} since {iso_time(waits_us)}",
            "start a worker (`everstep worker`, EVERSTEP_TASK_QUEUE), or see why those there are too busy",
            waits_us,
        )

    async def _failing_task(self, execution_id: str, found: Described) -> Stuck:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=execution_id, run_id=found.run_id),
            maximum_page_size=LAST_EVENTS,
        )
        page = await self._client.workflow_service.get_workflow_execution_history_reverse(request, timeout=RPC_TIMEOUT)
        assert found.task is not None
        since_us = found.task.original_scheduled_time.ToMicroseconds()
        reason = "its workflow task passes its time limit"
        for event in page.history.events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                name = WorkflowTaskFailedCause.Name(failed.cause).removeprefix("WORKFLOW_TASK_FAILED_CAUSE_")
                reason = f"{name.lower()}: {await self._text_of(failed.failure)}"
                since_us = event.event_time.ToMicroseconds()
                break
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
                since_us = event.event_time.ToMicroseconds()
                break
        return Stuck(
            WORKFLOW_TASK_FAILS,
            f"its workflow task fails again and again (attempt {found.task.attempt}): {reason}",
            "run workers of the version that began it, or reset it with Temporal's tools; see the logs of the workers",
            since_us,
        )

    async def _text_of(self, failure: Failure) -> str:
        """Return what a failure says; one that is encrypted with a key that is not known here says only that."""
        told = Failure()
        told.CopyFrom(failure)
        codec = self._client.data_converter.payload_codec
        if codec is not None:
            with contextlib.suppress(PayloadUnreadable):
                await codec.decode_failure(told)
        return _text_of(told)


def _paused(found: Described) -> Stuck:
    info = found.paused
    assert info is not None
    why = f": {info.reason}" if info.reason else ""
    return Stuck(
        PAUSED,
        f"{info.identity or 'somebody'} paused it in Temporal{why}",
        "let it go on with `temporal workflow unpause`",
        info.paused_time.ToMicroseconds(),
    )


def _text_of(failure: Failure) -> str:
    """Return what a failure says, with its innermost cause."""
    texts: list[str] = []
    node: Failure | None = failure
    while node is not None:
        message = _message_of(node)
        if message and message not in texts:
            texts.append(message)
        node = node.cause if node.HasField("cause") else None
    return ": ".join(texts)[:MESSAGE_CHARS] or "no message"


def _message_of(failure: Failure) -> str:
    """Return the message of a failure, also of one whose message stands in a payload of its own."""
    payload = failure.encoded_attributes
    if payload.metadata.get("encoding") != b"json/plain":
        return failure.message
    return str(json.loads(payload.data).get("message") or failure.message)


def utc(us: int) -> str:
    """Return a time as Temporal's list queries take it."""
    return dt.datetime.fromtimestamp(us / 1e6, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
