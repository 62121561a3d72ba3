"""The use case "something happened outside": it goes to all who wait for it, and starts tasks that it triggers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from engine.control.definitions import DefinitionService, now_us
from engine.control.dispatched import Computing, DispatchCache, Trigger, computed_input
from engine.control.executions import ExecutionService
from engine.control.starting import StartService, kept_value
from engine.core.contracts.execution import EventSignal
from engine.core.errors import Conflict, EngineError, ExpressionError, InvalidInput, NotFound, Unavailable
from engine.core.plan.codec import plan_from_json
from engine.core.run.projection import iso_time
from engine.core.values import canonical_json
from engine.store.definitions import TaskFacts
from engine.store.hooks import HookStore, InboundEvent
from engine.store.schedules import ScheduleStore

AT_ONCE = 16
LATE_US = 2_000_000
"""After which time it is looked once more for executions that waited when an event came: the store learns of a wait a
moment after it has opened."""
KEPT_US = 30 * 86_400_000_000
TIDY_US = 600_000_000
PAGE = 50
MOST_TOLD = 1_000
"""Executions that the record of an event names."""

log = structlog.get_logger("everstep.events")


class EventService:
    """Takes events from outside.

    Args:
        store: Events in the store.
        tasks: Finds tasks by what their `dispatch` says.
        definitions: Use cases on tasks.
        starter: Starts executions.
        executions: Sends them events.
    """

    def __init__(
        self,
        store: HookStore,
        tasks: ScheduleStore,
        definitions: DefinitionService,
        starter: StartService,
        executions: ExecutionService,
    ) -> None:
        self.store = store
        self._tasks = tasks
        self._definitions = definitions
        self._starter = starter
        self._executions = executions
        self._dispatched = DispatchCache()
        self._stamp: tuple[Any, ...] = ()
        self._triggers: dict[tuple[str, str], list[str]] = {}
        self._tidied_us = 0

    async def take(self, event: InboundEvent) -> tuple[InboundEvent, bool]:
        """Take an event.

        Args:
            event: The event; one whose id came before is not taken again.

        Returns:
            The event with what it did, and whether it came before.

        Raises:
            InvalidInput: `input.not_json`.
            NotFound: `execution.not_found` if it is for an execution that there is not.
            Conflict: `execution.closed` if that has ended, `event.id_reused` if another event had the id.
            Unavailable: `unreachable`; the event is kept, and what is left to do is done when a worker can.
        """
        event = replace(event, key=kept_value(event.key, "the key"), value=kept_value(event.value, "the value"))
        if event.execution_id:
            facts = (await self._executions.read(event.execution_id, tenant=event.tenant)).facts
            known = await self.store.find_event(event.id, tenant=event.tenant) if facts.settled else None
            if facts.settled and known is None:
                raise Conflict(f"execution {facts.id} has ended: it is {facts.status.value}", code="execution.closed")
        stored = await self.store.put_event(event)
        if stored is not event:
            if _content(stored) != _content(event):
                raise Conflict(
                    f"an event with the id {event.id!r} came before, and was another one",
                    code="event.id_reused",
                    hint="give each event an id of its own",
                )
            if stored.result:
                return stored, True
        return await self._work(stored), stored is not event

    async def finish_late(self) -> None:
        """Do what is left to do with events: those whose taking broke off, and those who waited and were overlooked.

        Raises:
            Unavailable: `unreachable`.
        """
        for event in await self.store.unfinished(before_us=now_us() - LATE_US, limit=PAGE):
            await self._work(event)
        if now_us() - self._tidied_us > TIDY_US:
            self._tidied_us = now_us()
            await self.store.forget_events(before_us=now_us() - KEPT_US)

    async def _work(self, event: InboundEvent) -> InboundEvent:
        first = not event.result
        result: dict[str, Any] = {"delivered": [], "started": [], **event.result}
        known = {str(item["execution_id"]) for item in result["delivered"]}
        missing = [item for item in await self._receivers(event) if item not in known]
        result["delivered"] = [*result["delivered"], *await self._send_all(event, missing)][:MOST_TOLD]
        if first and not event.execution_id:
            result["started"] = await self._start_all(event)
        late = now_us() - event.received_us < LATE_US and not event.execution_id
        done_us = None if late else now_us()
        await self.store.write_result(event, result, done_us=done_us)
        return replace(event, result=result, done_us=done_us)

    # --- those who wait --------------------------------------------------------------------------------------------

    async def _receivers(self, event: InboundEvent) -> list[str]:
        if event.execution_id:
            return [event.execution_id]
        # who waits later has missed it, also when it is looked for later
        return await self.store.waiting_for(
            event.name, event.key, tenant=event.tenant, opened_before_us=event.received_us
        )

    async def _send_all(self, event: InboundEvent, ids: Sequence[str]) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            told += await asyncio.gather(*(self._send(event, execution_id) for execution_id in part))
        return told

    async def _send(self, event: InboundEvent, execution_id: str) -> dict[str, Any]:
        signal = EventSignal(id=event.id, name=event.name, key=event.key, value=event.value, actor=event.actor)
        try:
            await self._executions.send_event(execution_id, signal, tenant=event.tenant)
        except (Conflict, NotFound) as error:
            return {"execution_id": execution_id, "outcome": "refused", "code": error.code, "message": error.message}
        return {"execution_id": execution_id, "outcome": "sent"}

    # --- tasks that it starts --------------------------------------------------------------------------------------

    async def _start_all(self, event: InboundEvent) -> list[dict[str, Any]]:
        await self._learn()
        told: list[dict[str, Any]] = []
        for task_id in self._triggers.get((event.tenant, event.name), []):
            try:
                task = await self._definitions.versions.resolve(task_id, tenant=event.tenant)
            except NotFound:
                continue  # removed a moment ago
            triggers = [item for item in self._dispatched.of(task).triggers if item.event == event.name]
            for place, trigger in enumerate(triggers):
                outcome = await self._start(event, task, trigger, place)
                if outcome is not None:
                    told.append(outcome)
        return told

    async def _learn(self) -> None:
        """Read which tasks are started by which events, if any task has changed."""
        stamp = await self._tasks.stamp_of_tasks()
        if stamp == self._stamp:
            return
        found: dict[tuple[str, str], list[str]] = {}
        for task in await self._tasks.tasks_with("triggers"):
            for item in task.dispatch["triggers"]:
                ids = found.setdefault((task.tenant, str(item.get("event"))), [])
                if task.id not in ids:
                    ids.append(task.id)
        self._triggers, self._stamp = found, stamp

    async def _start(self, event: InboundEvent, task: TaskFacts, trigger: Trigger, place: int) -> dict[str, Any] | None:
        told: dict[str, Any] = {"task_id": task.id, "task_name": task.name, "task_version": task.version}
        computing = Computing(plan_from_json(task.plan), f"{event.tenant}/{event.id}", event.received_us)
        try:
            if trigger.condition is not None and not computing.holds(trigger.condition, event.value, "if"):
                return None
            given = event.value
            if trigger.input is not None:
                given = computed_input(trigger.input, computing, event.value, "input")
            started = await self._starter.start(
                task,
                given,
                idempotency_key=f"event {_short(event.id)} {place}",
                metadata={"event": {"id": event.id, "name": event.name}},
                actor=event.actor or f"event {event.name}"[:255],
            )
        except Unavailable:
            raise
        except (EngineError, ExpressionError) as error:
            log.warning("an event did not start a task", event_name=event.name, task=task.name, code=error.code)
            return {**told, "outcome": "refused", "code": error.code, "message": error.message[:1_000]}
        return {**told, "outcome": "started", "execution_id": started.facts.id}


def _short(event_id: str) -> str:
    return event_id if len(event_id) <= 200 else hashlib.sha256(event_id.encode()).hexdigest()


def _content(event: InboundEvent) -> str:
    return canonical_json([event.name, event.key, event.value, event.execution_id])


def check_event_id(event_id: str) -> str:
    """Return the id of an event.

    Raises:
        InvalidInput: `event.bad_id`.
    """
    if not 0 < len(event_id) <= 255 or not event_id.isprintable():
        raise InvalidInput("an event's id has 1 to 255 characters that can be shown", code="event.bad_id")
    return event_id


def inbound_view(event: InboundEvent, *, repeated: bool = False) -> dict[str, Any]:
    """Return an event and what it did as JSON."""
    return {
        "id": event.id,
        "name": event.name,
        "key": event.key,
        "value": event.value,
        "execution_id": event.execution_id or None,
        "hook_id": event.hook_id or None,
        "actor": event.actor,
        "received_at": iso_time(event.received_us),
        "repeated": repeated,
        "delivered": event.result.get("delivered", []),
        "started": event.result.get("started", []),
    }
