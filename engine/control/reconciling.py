"""The schedule by which workers look at all backends: made by whoever needs it first, and kept as the settings say."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from engine.core.contracts.doors import doors_queue
from engine.core.contracts.registry import RECONCILE_WORKFLOW, CheckParams

RPC_TIMEOUT = timedelta(seconds=10)
LONGEST = timedelta(seconds=150)
CATCH_UP = timedelta(seconds=10)
"""The least that Temporal takes: what was missed is not made up for."""
AGAIN_S = 5.0

log = structlog.get_logger("everstep.registry")


def schedule_id(task_queue: str) -> str:
    """Return the id of the schedule in Temporal; installations that share a namespace have queues of their own."""
    return f"everstep-reconcile:{task_queue}"


def workflow_prefix(task_queue: str) -> str:
    """Return what the ids of the workflows begin with that the schedule starts."""
    return f"everstep-{task_queue}:reconcile"


def schedule_of(task_queue: str, every_s: float) -> Schedule:
    """Return the schedule as Temporal has it."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            RECONCILE_WORKFLOW,
            CheckParams(),
            id=workflow_prefix(task_queue),
            task_queue=doors_queue(task_queue),
            # without a worker none is left to wait for one
            execution_timeout=LONGEST,
            static_summary="looks at all backends",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=every_s))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
    )


async def ensure_schedule(client: Client, task_queue: str, every_s: float) -> None:
    """Let Temporal have the schedule, and let it come now.

    Raises:
        RPCError: Temporal does not answer.
    """
    schedule = schedule_of(task_queue, every_s)
    handle = client.get_schedule_handle(schedule_id(task_queue))
    try:
        await client.create_schedule(handle.id, schedule, trigger_immediately=True, rpc_timeout=RPC_TIMEOUT)
        return
    except ScheduleAlreadyRunningError:
        known = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    if known.schedule.spec.intervals != schedule.spec.intervals:

        def changed(told: ScheduleUpdateInput) -> ScheduleUpdate:
            # somebody may have paused it
            schedule.state = told.description.schedule.state
            return ScheduleUpdate(schedule)

        await handle.update(changed, rpc_timeout=RPC_TIMEOUT)
    await check_now(client, task_queue)


async def check_now(client: Client, task_queue: str) -> None:
    """Let the schedule come now, behind the check that is under way.

    Raises:
        RPCError: Temporal does not answer, or has no such schedule.
    """
    handle = client.get_schedule_handle(schedule_id(task_queue))
    await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE, rpc_timeout=RPC_TIMEOUT)


async def keep_schedule(client: Client, task_queue: str, every_s: float) -> None:
    """Do what `ensure_schedule` does as soon as Temporal answers."""
    while True:
        try:
            await ensure_schedule(client, task_queue, every_s)
            return
        except RPCError as error:
            log.warning("Temporal does not take the schedule of checks", why=error.message)
        await asyncio.sleep(AGAIN_S)
