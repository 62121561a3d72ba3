"""Use cases on schedules: make, change, pause, run now, backfill, remove; the store is the truth, Temporal follows."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from temporalio.client import Client, ScheduleBackfill, ScheduleDescription
from temporalio.service import RPCError

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.control.dispatched import Computing, computed_input, read_value
from engine.control.request_keys import id_for
from engine.control.schedulemirror import ScheduleMirror
from engine.control.scheduleviews import ScheduleSight
from engine.control.scheduling import OVERLAPS, ScheduleBody, body_json, read_body, temporal_id
from engine.control.starting import check_input, check_requirements, kept_value
from engine.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.core.plan.codec import plan_from_json
from engine.store.schedules import ScheduleFacts, ScheduleStore

SHOWN_RUNS = 20
AT_ONCE = 10

log = structlog.get_logger("everstep.schedules")


class ScheduleService:
    """Keeps schedules.

    Args:
        store: Schedules in the store.
        definitions: Use cases on tasks.
        temporal: The connection to Temporal.
        task_queue: Task queue of the executions.
    """

    def __init__(
        self, store: ScheduleStore, definitions: DefinitionService, temporal: TemporalConnection, *, task_queue: str
    ) -> None:
        self.store = store
        self._definitions = definitions
        self._temporal = temporal
        self._mirror = ScheduleMirror(store, temporal, task_queue=task_queue)

    # --- changes ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        name: str,
        task: str,
        given: Mapping[str, Any],
        *,
        tenant: str,
        paused: bool = False,
        note: str = "",
        actor: str = "",
        request_key: str = "",
    ) -> ScheduleFacts:
        """Make a schedule.

        Args:
            name: What people call it.
            task: The task that it starts: id or name, perhaps with `@VERSION` or `@ALIAS`.
            given: When and how (`ScheduleBody`).
            tenant: Its tenant.
            paused: Whether it starts nothing for now.
            note: What it is for.
            actor: Who makes it.
            request_key: The request's Idempotency-Key.

        Raises:
            NotFound: The task's.
            InvalidInput: `schedule.invalid`; `input.invalid` and its like if the task would not take the input.
            Conflict: `schedule.exists`.
            Unavailable: `unreachable`; the schedule is stored then, and Temporal gets it when it can be reached.
        """
        body = await self._checked(task, given, tenant=tenant)
        now = now_us()
        facts = ScheduleFacts(
            tenant=tenant,
            id=id_for(tenant, "schedule", request_key),
            name=name,
            task=task,
            body=body_json(body),
            paused=paused,
            note=note,
            created_us=now,
            updated_us=now,
            actor=actor,
        )
        return await self._apply_now(await self.store.add(facts))

    async def change(self, reference: str, changes: Mapping[str, Any], *, tenant: str) -> ScheduleFacts:
        """Change a schedule that somebody made by hand.

        Args:
            reference: Its id or name.
            changes: Those of `name`, `task`, `note` and the members of `ScheduleBody` that change.
            tenant: Its tenant.

        Raises:
            NotFound: `schedule.not_found`, or the task's.
            InvalidInput: As `create`.
            Conflict: `schedule.of_task` if a task's `dispatch` made it, `schedule.exists`.
            Unavailable: As `create`.
        """
        facts = await self.get(reference, tenant=tenant)
        if facts.origin_id:
            raise _of_task(facts)
        own = {name: changes[name] for name in ("name", "task", "note") if name in changes}
        rest = {name: value for name, value in changes.items() if name not in own}
        task = str(own.get("task", facts.task))
        body = await self._checked(task, facts.body | rest, tenant=tenant)
        changed = replace(facts, **own, body=body_json(body), updated_us=now_us())
        if "limit" in rest:
            changed = replace(changed, limit_rev=facts.rev + 1)
        return await self._apply_now(await self._change(changed, facts))

    async def set_paused(self, reference: str, paused: bool, *, tenant: str, note: str = "") -> ScheduleFacts:
        """Let a schedule start nothing for now, or start again.

        Raises:
            NotFound: `schedule.not_found`.
            Unavailable: As `create`.
        """
        facts = await self.get(reference, tenant=tenant)
        changed = replace(facts, paused=paused, note=note or facts.note, updated_us=now_us())
        return await self._apply_now(await self._change(changed, facts))

    async def remove(self, reference: str, *, tenant: str) -> ScheduleFacts:
        """Remove a schedule; its executions go on.

        Raises:
            NotFound: `schedule.not_found`.
            Conflict: `schedule.of_task`.
        """
        facts = await self.get(reference, tenant=tenant)
        if facts.origin_id:
            raise _of_task(facts)
        gone = await self.store.mark_deleted(facts.id, tenant=tenant, now_us=now_us())
        if gone is None:
            raise _not_found(reference)
        try:
            await self._mirror.apply(replace(facts, deleted_us=now_us()))
        except Unavailable:
            log.info("a schedule is removed in Temporal when that can be reached", schedule=facts.id)
        return facts

    async def run_now(self, reference: str, *, tenant: str, overlap: str | None = None) -> ScheduleFacts:
        """Start the task now, whatever the times say.

        Args:
            reference: The schedule.
            tenant: Its tenant.
            overlap: What happens if an execution has not ended; None = what the schedule says.

        Raises:
            NotFound: `schedule.not_found`.
            Unavailable: `unreachable`.
        """
        facts, client = await self._there(reference, tenant=tenant)
        handle = client.get_schedule_handle(temporal_id(tenant, facts.id))
        with self._temporal.errors():
            await handle.trigger(overlap=None if overlap is None else OVERLAPS[overlap], rpc_timeout=RPC_TIMEOUT)
        return facts

    async def backfill(
        self, reference: str, start_at: dt.datetime, end_at: dt.datetime, *, tenant: str, overlap: str | None = None
    ) -> ScheduleFacts:
        """Start what was missed between two times; what was started for one of them is not started again.

        Raises:
            NotFound: `schedule.not_found`.
            InvalidInput: `schedule.bad_span` if it ends before it begins, or lies in the future.
            Unavailable: `unreachable`.
        """
        if end_at <= start_at or end_at > dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1):
            raise InvalidInput(
                "what was missed lies between two times, the later one not in the future",
                code="schedule.bad_span",
                hint="give `start_at` and `end_at`, such as 2026-11-01T00:00:00Z",
            )
        facts, client = await self._there(reference, tenant=tenant)
        handle = client.get_schedule_handle(temporal_id(tenant, facts.id))
        policy = OVERLAPS[overlap or str(facts.body.get("overlap", "buffer_all"))]
        with self._temporal.errors():
            await handle.backfill(
                ScheduleBackfill(start_at=start_at, end_at=end_at, overlap=policy), rpc_timeout=RPC_TIMEOUT
            )
        return facts

    async def _there(self, reference: str, *, tenant: str) -> tuple[ScheduleFacts, Client]:
        facts = await self.get(reference, tenant=tenant)
        if facts.applied_rev != facts.rev:
            facts = await self._apply_now(facts)
        return facts, await self._temporal.client()

    async def _change(self, changed: ScheduleFacts, before: ScheduleFacts) -> ScheduleFacts:
        written = await self.store.change(changed, expect_rev=before.rev)
        if written is not None:
            return written
        await self.get(before.id, tenant=before.tenant)
        raise Conflict(
            f"the schedule '{before.name}' was changed by somebody else", code="schedule.moved", hint="try again"
        )

    async def _checked(self, task: str, given: Mapping[str, Any], *, tenant: str) -> ScheduleBody:
        body = read_body(given)
        kept_value(body.metadata, "the metadata")
        found = await self._definitions.versions.resolve(task, tenant=tenant)
        plan = await self._definitions.plan_for_start(found)
        value = read_value(kept_value(body.input, "the input"), where="input")
        # what is computed has another value at another time, but most mistakes show at any time
        computing = Computing(plan_from_json(plan), "", now_us())
        checked = computed_input(value, computing, None, "input")
        check_input(found, checked)
        check_requirements(plan, checked, found.name)
        return body

    # --- reads -----------------------------------------------------------------------------------------------------

    async def get(self, reference: str, *, tenant: str) -> ScheduleFacts:
        """Return a schedule by id or name.

        Raises:
            NotFound: `schedule.not_found`.
        """
        found = await self.store.find(reference, tenant=tenant)
        if found is None:
            raise _not_found(reference)
        return found

    async def see(self, reference: str, *, tenant: str) -> ScheduleSight:
        """Return a schedule with what Temporal says of it and what came of its last runs.

        Raises:
            NotFound: `schedule.not_found`.
        """
        facts = await self.get(reference, tenant=tenant)
        runs = await self.store.runs(facts.id, tenant=tenant, limit=SHOWN_RUNS)
        return ScheduleSight(facts, await self._describe(facts), runs)

    async def see_all(self, found: Sequence[ScheduleFacts]) -> list[ScheduleSight]:
        """Return schedules with what Temporal says of them."""
        sights: list[ScheduleSight] = []
        for start in range(0, len(found), AT_ONCE):
            part = found[start : start + AT_ONCE]
            told = await asyncio.gather(*(self._describe(facts) for facts in part))
            sights += [ScheduleSight(facts, description) for facts, description in zip(part, told, strict=True)]
        return sights

    async def _describe(self, facts: ScheduleFacts) -> ScheduleDescription | None:
        if self._temporal.is_down or not facts.applied_rev:
            return None
        try:
            client = await self._temporal.client()
            with self._temporal.errors():
                handle = client.get_schedule_handle(temporal_id(facts.tenant, facts.id))
                return await handle.describe(rpc_timeout=RPC_TIMEOUT)
        except (Unavailable, RPCError):
            return None  # what the store knows is shown all the same

    # --- Temporal follows ------------------------------------------------------------------------------------------

    async def _apply_now(self, facts: ScheduleFacts) -> ScheduleFacts:
        await self._mirror.apply(facts)
        return replace(facts, applied_rev=facts.rev)

    async def sweep(self) -> None:
        """Do what was left undone: schedules that tasks name, and changes that Temporal does not have.

        Raises:
            Unavailable: `unreachable`.
        """
        await self._mirror.sweep()

    async def follow_tasks(self) -> None:
        """Make, change and remove the schedules that `dispatch.cron` of tasks names, if any task has changed."""
        await self._mirror.follow_tasks()


def _of_task(facts: ScheduleFacts) -> Conflict:
    return Conflict(
        f"the schedule '{facts.name}' is made of `dispatch.cron` of its task",
        code="schedule.of_task",
        hint="change the task and apply it; `pause` stops the schedule for a while",
    )


def _not_found(reference: str) -> NotFound:
    return NotFound(
        f"there is no schedule {reference}", code="schedule.not_found", hint="list them with `everstep schedule ls`"
    )
