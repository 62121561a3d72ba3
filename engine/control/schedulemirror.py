"""Lets Temporal follow what schedules shall be, and the store what `dispatch.cron` of tasks names."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from temporalio.client import Client, ScheduleAlreadyRunningError, ScheduleUpdate, ScheduleUpdateInput
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import now_us
from engine.control.scheduling import temporal_id, temporal_schedule
from engine.core.errors import Conflict, InvalidInput
from engine.store.schedules import ScheduleFacts, ScheduleStore, TaskCrons

PAGE = 100
VERIFY_S = 300.0
"""How often it is looked whether Temporal still has all schedules; it may have lost its own store."""

_SPACE = uuid.UUID("0c2f3f0e-5d43-4b8b-9a0a-7d6a2a1f4d11")
"""Name space of the ids of schedules that tasks name."""

log = structlog.get_logger("everstep.schedules")


class ScheduleMirror:
    """Makes Temporal's schedules those of the store.

    Args:
        store: Schedules in the store.
        temporal: The connection to Temporal.
        task_queue: Task queue of the executions.
    """

    def __init__(self, store: ScheduleStore, temporal: TemporalConnection, *, task_queue: str) -> None:
        self._store = store
        self._temporal = temporal
        self._task_queue = task_queue
        self._stamp: tuple[Any, ...] = ()
        self._verified_us = 0

    async def apply(self, facts: ScheduleFacts) -> None:
        """Let Temporal have what a schedule shall be.

        Raises:
            InvalidInput: `schedule.refused` if Temporal does not take it.
            Unavailable: `unreachable`; `sweep` does it later.
        """
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await self._apply(client, facts)
        except RPCError as error:
            await self._store.mark_applied(facts, problem=error.message)
            raise InvalidInput(
                f"Temporal does not take the schedule '{facts.name}': {error.message}", code="schedule.refused"
            ) from error

    async def _apply(self, client: Client, facts: ScheduleFacts) -> None:
        handle = client.get_schedule_handle(temporal_id(facts.tenant, facts.id))
        if facts.deleted_us is not None:
            try:
                await handle.delete(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            await self._store.drop(facts.id, tenant=facts.tenant)
            return
        limit = facts.body.get("limit")
        schedule = temporal_schedule(facts, task_queue=self._task_queue, remaining=limit)
        try:
            await client.create_schedule(handle.id, schedule, rpc_timeout=RPC_TIMEOUT)
        except ScheduleAlreadyRunningError:
            await handle.update(lambda told: self._updated(facts, told), rpc_timeout=RPC_TIMEOUT)
        await self._store.mark_applied(facts)

    def _updated(self, facts: ScheduleFacts, told: ScheduleUpdateInput) -> ScheduleUpdate:
        limit = facts.body.get("limit")
        state = told.description.schedule.state
        if limit is not None and facts.limit_rev <= facts.applied_rev and state.limited_actions:
            limit = state.remaining_actions
        return ScheduleUpdate(temporal_schedule(facts, task_queue=self._task_queue, remaining=limit))

    async def sweep(self) -> None:
        """Do what was left undone: schedules that tasks name, and changes that Temporal does not have.

        Raises:
            Unavailable: `unreachable`.
        """
        await self.follow_tasks()
        for facts in await self._store.unapplied(limit=PAGE):
            try:
                await self.apply(facts)
            except InvalidInput as error:
                log.warning("a schedule is not taken", schedule=facts.id, tenant=facts.tenant, error=error.message)
        if now_us() - self._verified_us > VERIFY_S * 1e6:
            await self._verify()
            self._verified_us = now_us()

    async def _verify(self) -> None:
        """Make those anew that Temporal has lost."""
        wanted = {temporal_id(facts.tenant, facts.id): facts for facts in await self._store.all_ids()}
        if not wanted:
            return
        client = await self._temporal.client()
        with self._temporal.errors():
            there = {item.id async for item in await client.list_schedules(page_size=1_000)}
        for name, facts in wanted.items():
            # the list lags behind what was just made
            if name not in there and facts.applied_rev == facts.rev and now_us() - facts.updated_us > VERIFY_S * 1e6:
                await self.apply(facts)

    # --- what tasks say --------------------------------------------------------------------------------------------

    async def follow_tasks(self) -> None:
        """Make, change and remove the schedules that `dispatch.cron` of tasks names, if any task has changed."""
        stamp = await self._store.stamp_of_tasks()
        if stamp == self._stamp:
            return
        wanted: dict[tuple[str, str], ScheduleFacts] = {}
        for task in await self._store.tasks_with("cron"):
            for facts in _crons_of(task):
                wanted[facts.tenant, facts.id] = facts
        known = {(facts.tenant, facts.id): facts for facts in await self._store.of_tasks()}
        for place, facts in wanted.items():
            before = known.get(place)
            if before is None:
                await self._add_cron(facts)
            elif (before.body, before.task, before.name) != (facts.body, facts.task, facts.name):
                changed = replace(before, body=facts.body, task=facts.task, name=facts.name, updated_us=now_us())
                await self._store.change(changed)
        for (tenant, schedule_id), _ in known.items():
            if (tenant, schedule_id) not in wanted:
                await self._store.mark_deleted(schedule_id, tenant=tenant, now_us=now_us())
        self._stamp = stamp

    async def _add_cron(self, facts: ScheduleFacts) -> None:
        try:
            await self._store.add(facts)
        except Conflict:
            # somebody's own schedule, or another task of the same name, has the name
            await self._store.add(replace(facts, name=f"{facts.name}#{facts.id[:8]}"))


def _crons_of(task: TaskCrons) -> list[ScheduleFacts]:
    given = task.dispatch["cron"]
    items = given if isinstance(given, list) else [given]
    found: list[ScheduleFacts] = []
    for place, item in enumerate(items):
        cron = item if isinstance(item, Mapping) else {"at": item}
        body: dict[str, Any] = {"cron": [str(cron.get("at"))]}
        if cron.get("timezone"):
            body["timezone"] = str(cron["timezone"])
        now = now_us()
        found.append(
            ScheduleFacts(
                tenant=task.tenant,
                id=str(uuid.uuid5(_SPACE, f"{task.tenant}\n{task.id}\n{place}")),
                name=f"{task.name}:cron" if len(items) == 1 else f"{task.name}:cron-{place + 1}",
                task=task.id,
                body=body,
                note=f"cron of the task {task.name}",
                origin_id=task.id,
                origin_place=place,
                created_us=now,
                updated_us=now,
                actor="dispatch",
            )
        )
    return found
