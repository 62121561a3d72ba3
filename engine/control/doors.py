"""Puts together what goes out and comes in: schedules, webhooks, events from outside, jobs over many executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from engine.control.bulk import BulkService
from engine.control.bulkwork import BulkWork
from engine.control.connect import TemporalConnection
from engine.control.controlling import ControlService
from engine.control.definitions import DefinitionService
from engine.control.executions import ExecutionService
from engine.control.forking import ForkService
from engine.control.hooks import HookService
from engine.control.outgoing import Outgoing, keep_going
from engine.control.purging import PurgeService
from engine.control.scheduled import ScheduledStarts
from engine.control.schedules import ScheduleService
from engine.control.starting import StartService
from engine.control.triggers import EventService
from engine.control.webhooks import WebhookService
from engine.core.contracts.doors import WebhookParams
from engine.store.changes import Changes
from engine.store.database import Database
from engine.store.hooks import HookStore
from engine.store.jobs import JobStore
from engine.store.projection import ProjectionStore
from engine.store.schedules import ScheduleStore
from engine.store.webhooks import WebhookStore


@dataclass(frozen=True, slots=True)
class Doors:
    """Use cases of what goes out and comes in.

    Attributes:
        schedules: Keeps schedules.
        webhooks: Keeps webhooks.
        events: Takes events from outside.
        hooks: Keeps the hooks by which they come.
        bulk: Keeps jobs over many executions.
        outgoing: Sends deliveries and ends; for workers.
        starts: Starts what schedules want; for workers.
        work: Works on jobs; for workers.
    """

    schedules: ScheduleService
    webhooks: WebhookService
    events: EventService
    hooks: HookService
    bulk: BulkService
    outgoing: Outgoing
    starts: ScheduledStarts
    work: BulkWork

    async def keep(self, changes: Changes, stopping: asyncio.Event) -> None:
        """Do all that is to be done without being asked, until told to stop; any number of workers may do it.

        Args:
            changes: Watch over the store.
            stopping: Ends it when it is set.
        """
        ticks = (self.outgoing.tick, self.events.finish_late, self.schedules.sweep, self.bulk.launch_late)
        await keep_going(ticks, changes, stopping)


def open_doors(
    database: Database,
    temporal: TemporalConnection,
    changes: Changes,
    *,
    definitions: DefinitionService,
    executions: ExecutionService,
    starter: StartService,
    task_queue: str,
    tries: WebhookParams | None = None,
) -> Doors:
    """Put the use cases together.

    Args:
        database: The open store.
        temporal: The connection to Temporal.
        changes: Watch over the store.
        definitions: Use cases on tasks.
        executions: Use cases on running executions.
        starter: Starts executions.
        task_queue: Task queue of the executions.
        tries: How often and how long deliveries to webhooks are tried; None = as usual.
    """
    store = ProjectionStore(database)
    schedules, hooks, jobs, webhooks = (
        ScheduleStore(database),
        HookStore(database),
        JobStore(database),
        WebhookStore(database),
    )
    control = ControlService(executions, temporal, changes)
    forks = ForkService(executions, definitions, starter, temporal)
    events = EventService(hooks, schedules, definitions, starter, executions)
    return Doors(
        schedules=ScheduleService(schedules, definitions, temporal, task_queue=task_queue),
        webhooks=WebhookService(webhooks),
        events=events,
        hooks=HookService(hooks, events),
        bulk=BulkService(jobs, definitions, temporal, task_queue=task_queue),
        outgoing=Outgoing(webhooks, temporal, task_queue=task_queue, params=tries),
        starts=ScheduledStarts(schedules, webhooks, definitions, starter, executions, control, store),
        work=BulkWork(jobs, executions, control, forks, PurgeService(database)),
    )
