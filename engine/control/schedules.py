"""Use cases on schedules: make, change, pause, run now, backfill, remove; the store is the truth, Temporal follows."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from temporalio.client import (
    Client,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleDescription,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.control.dispatched import Computing, computed_input, read_value
from engine.control.request_keys import id_for
from engine.control.scheduling import (
    OVERLAPS,
    ScheduleBody,
    body_json,
    read_body,
    temporal_id,
    temporal_schedule,
)
from engine.control.starting import check_input, check_requirements, kept_value
from engine.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.core.plan.codec import plan_from_json
from engine.core.run.projection import iso_time
from engine.store.definitions import TaskFacts
from engine.store.schedules import RunFacts, ScheduleFacts, ScheduleStore, TaskCrons

PAGE = 100
VERIFY_S = 300.0
"""How often it is looked whether Temporal still has all schedules; it may have lost its own store."""
SHOWN_RUNS = 20
SHOWN_TIMES = 10
AT_ONCE = 10

log = structlog.get_logger("everstep.schedules")


@dataclass(frozen=True, slots=True)
class ScheduleSight:
    """A schedule as it is shown.

    Attributes:
        facts: What it shall be.
        description: What Temporal says of it; None = it does not answer, or does not have it yet.
        runs: Its last runs, the latest first.
    """

    facts: ScheduleFacts
    description: ScheduleDescription | None = None
    runs: Sequence[RunFacts] = ()


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
        self._task_queue = task_queue
        self._stamp: tuple[Any, ...] = ()
        self._verified_us = 0

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
            await self.apply(replace(facts, deleted_us=now_us()))
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
        await self.apply(facts)
        return replace(facts, applied_rev=facts.rev)

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
            await self.store.mark_applied(facts, problem=error.message)
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
            await self.store.drop(facts.id, tenant=facts.tenant)
            return
        limit = facts.body.get("limit")
        schedule = temporal_schedule(facts, task_queue=self._task_queue, remaining=limit)
        try:
            await client.create_schedule(handle.id, schedule, rpc_timeout=RPC_TIMEOUT)
        except ScheduleAlreadyRunningError:
            await handle.update(lambda told: self._updated(facts, told), rpc_timeout=RPC_TIMEOUT)
        await self.store.mark_applied(facts)

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
        for facts in await self.store.unapplied(limit=PAGE):
            try:
                await self.apply(facts)
            except InvalidInput as error:
                log.warning("a schedule is not taken", schedule=facts.id, tenant=facts.tenant, error=error.message)
        if now_us() - self._verified_us > VERIFY_S * 1e6:
            await self._verify()
            self._verified_us = now_us()

    async def _verify(self) -> None:
        """Make those anew that Temporal has lost."""
        wanted = {temporal_id(facts.tenant, facts.id): facts for facts in await self.store.all_ids()}
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
        stamp = await self.store.stamp_of_tasks()
        if stamp == self._stamp:
            return
        wanted: dict[tuple[str, str], ScheduleFacts] = {}
        for task in await self.store.tasks_with("cron"):
            for facts in _crons_of(task):
                wanted[facts.tenant, facts.id] = facts
        known = {(facts.tenant, facts.id): facts for facts in await self.store.of_tasks()}
        for place, facts in wanted.items():
            before = known.get(place)
            if before is None:
                await self._add_cron(facts)
            elif (before.body, before.task, before.name) != (facts.body, facts.task, facts.name):
                changed = replace(before, body=facts.body, task=facts.task, name=facts.name, updated_us=now_us())
                await self.store.change(changed)
        for (tenant, schedule_id), _ in known.items():
            if (tenant, schedule_id) not in wanted:
                await self.store.mark_deleted(schedule_id, tenant=tenant, now_us=now_us())
        self._stamp = stamp

    async def _add_cron(self, facts: ScheduleFacts) -> None:
        try:
            await self.store.add(facts)
        except Conflict:
            # somebody's own schedule, or another task of the same name, has the name
            await self.store.add(replace(facts, name=f"{facts.name}#{facts.id[:8]}"))


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


_SPACE = uuid.UUID("0c2f3f0e-5d43-4b8b-9a0a-7d6a2a1f4d11")
"""Name space of the ids of schedules that tasks name."""


def task_reference(facts: ScheduleFacts, task: TaskFacts | None) -> str:
    """Return what to call the task of a schedule."""
    return facts.task if task is None or not facts.origin_id else task.name


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


# --- views -----------------------------------------------------------------------------------------------------------


def schedule_view(sight: ScheduleSight, *, whole: bool = True) -> dict[str, Any]:
    """Return a schedule as JSON.

    Args:
        sight: The schedule.
        whole: Whether its last runs are shown too.
    """
    facts, told = sight.facts, sight.description
    info = None if told is None else told.info
    state = None if told is None else told.schedule.state
    body = read_body(facts.body).model_dump(mode="json")
    view: dict[str, Any] = {
        "id": facts.id,
        "name": facts.name,
        "task": facts.task,
        "of_task": facts.origin_id or None,
        **body,
        # Temporal pauses one by itself, too, after a failure
        "paused": facts.paused if state is None else state.paused,
        "note": facts.note if state is None or not state.note else state.note,
        "problem": facts.problem or None,
        "applied": facts.applied_rev == facts.rev,
        "next_at": [] if info is None else [_moment(item) for item in info.next_action_times[:SHOWN_TIMES]],
        "starts": None if info is None else info.num_actions,
        "missed": None if info is None else info.num_actions_missed_catchup_window,
        "skipped": None if info is None else info.num_actions_skipped_overlap,
        "running": None if info is None else len(info.running_actions),
        "left": state.remaining_actions if state is not None and state.limited_actions else None,
        "created_at": iso_time(facts.created_us),
        "updated_at": iso_time(facts.updated_us),
        "actor": facts.actor,
    }
    if whole:
        view["runs"] = [run_view(run) for run in sight.runs]
    return view


def run_view(run: RunFacts) -> dict[str, Any]:
    """Return a run of a schedule as JSON."""
    return {
        "for": iso_time(run.nominal_us),
        "at": iso_time(run.at_us),
        "outcome": run.outcome or "under_way",
        "execution_id": run.execution_id or None,
        "error": run.error,
    }


def _moment(moment: dt.datetime) -> str:
    return iso_time(int(moment.timestamp() * 1e6))
