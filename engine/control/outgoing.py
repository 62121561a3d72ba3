"""Sends on what the store has noted: a workflow for each delivery to a webhook, and word to who waits for an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.core.contracts.doors import SIGNAL_ENDED, WEBHOOK_WORKFLOW, WebhookParams, doors_queue
from engine.core.errors import EngineError
from engine.store.changes import Changes, Subscription
from engine.store.outbox import Due, now_us
from engine.store.webhooks import WebhookStore

LEASE_US = 30_000_000
PAGE = 50
IDLE_S = 1.0
"""How long nothing may have changed before it is looked all the same."""
PAUSE_S = 0.05
"""Least time between two looks: in a busy store something changes all the time."""
TIDY_S = 600.0
KEPT_US = 40 * 86_400_000_000
"""How long deliveries are kept: longer than what happened is told of, so that nothing is told twice."""
LOST_US = 3 * 86_400_000_000

log = structlog.get_logger("everstep.outgoing")


class Outgoing:
    """Sends deliveries and ends; any number of processes may do so at one time.

    Args:
        webhooks: What is to be sent.
        temporal: The connection to Temporal.
        task_queue: Task queue of the executions.
        params: How often and how long a delivery is tried.
    """

    def __init__(
        self,
        webhooks: WebhookStore,
        temporal: TemporalConnection,
        *,
        task_queue: str,
        params: WebhookParams | None = None,
    ) -> None:
        self._webhooks = webhooks
        self._temporal = temporal
        self._queue = doors_queue(task_queue)
        self._params = params or WebhookParams(tenant="", delivery_id="")
        self._tidied_us = 0

    async def tick(self) -> None:
        """Send what is there to be sent.

        Raises:
            EngineError: Temporal or the store does not answer; what was not sent is sent later.
        """
        while await self._send_deliveries() + await self._tell_ends() >= PAGE:
            pass
        if now_us() - self._tidied_us > TIDY_S * 1e6:
            self._tidied_us = now_us()
            await self._webhooks.tidy(before_us=now_us() - KEPT_US, lost_us=now_us() - LOST_US)

    async def _send_deliveries(self) -> int:
        # most looks find nothing, and a read disturbs no writer
        if not await self._webhooks.any_pending():
            return 0
        due = await self._webhooks.claim(until_us=now_us() + LEASE_US, limit=PAGE)
        if due:
            await asyncio.gather(*(self._start(item) for item in due))
            await self._webhooks.mark_sending(due)
        return len(due)

    async def _start(self, item: Due) -> None:
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.start_workflow(
                    WEBHOOK_WORKFLOW,
                    replace(self._params, tenant=item.tenant, delivery_id=item.id, round=item.round),
                    id=f"webhook-{item.tenant}-{item.id}-{item.round}",
                    task_queue=self._queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return  # by a process that was killed before it could say so

    async def _tell_ends(self) -> int:
        ended = await self._webhooks.ended_watchers(limit=PAGE)
        for tenant, execution_id, workflow_id in ended:
            client = await self._temporal.client()
            try:
                with self._temporal.errors():
                    handle = client.get_workflow_handle(workflow_id)
                    await handle.signal(SIGNAL_ENDED, execution_id, rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                # it has ended itself, and wants to know nothing more
            await self._webhooks.forget_watcher(execution_id, workflow_id, tenant=tenant)
        return len(ended)


async def keep_going(
    ticks: Sequence[Callable[[], Awaitable[None]]], changes: Changes, stopping: asyncio.Event, *, idle_s: float = IDLE_S
) -> None:
    """Call functions whenever the store has changed, and every second in any case, until told to stop.

    Args:
        ticks: What to call, in order; one that fails is called again next time.
        changes: Watch over the store.
        stopping: Ends it when it is set.
        idle_s: How long nothing may have changed before they are called all the same.
    """
    stopped = asyncio.create_task(stopping.wait())
    failing: set[int] = set()
    async with changes.subscribe() as changed:
        while not stopping.is_set():
            for number, tick in enumerate(ticks):
                try:
                    await tick()
                    failing.discard(number)
                except (EngineError, RPCError, SQLAlchemyError, OSError) as error:
                    if number not in failing:
                        log.warning("what is to be sent waits", error=str(error)[:300])
                    failing.add(number)
                except Exception as error:
                    # a loop that ends would hold up everything behind it without a word
                    if number not in failing:
                        log.error("a part of the outgoing work fails", exc_info=error)
                    failing.add(number)
            pause = asyncio.create_task(_pause(changed, idle_s))
            await asyncio.wait({stopped, pause}, return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
    stopped.cancel()


async def _pause(changed: Subscription, idle_s: float) -> None:
    await asyncio.sleep(PAUSE_S)
    await changed.wait(idle_s)
