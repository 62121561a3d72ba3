"""What a worker does beside executions: schedules, webhooks, events from outside, jobs, documents, sessions, backends.

Imported late, as the use cases are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from activities.lookups import LookupActivities
from activities.reconciling import BackendKeeper
from activities.registry import secrets_of
from activities.webhooks import WebhookActivities
from engine.control.doors import Doors, open_doors
from engine.control.outgoing import keep_going
from engine.control.reconciling import keep_schedule
from engine.control.registry import open_registry
from engine.control.usecases import Grounds
from engine.core.contracts.doors import WebhookParams
from engine.store.changes import Changes
from engine.store.pulls import PullStore


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes on beside executions.

    Attributes:
        doors: What goes out and comes in.
        posts: Posts messages to webhooks.
        keeper: Knows all backends.
        keeping: Does what is to be done without being asked; it ends when it fails.
    """

    doors: Doors
    posts: WebhookActivities
    keeper: BackendKeeper
    keeping: asyncio.Task[None]


@contextlib.asynccontextmanager
async def keep_beside(grounds: Grounds, lookups: LookupActivities) -> AsyncIterator[Beside]:
    """Do what is to be done without being asked for as long as the context is open.

    Args:
        grounds: What the worker stands on.
        lookups: Makes the vectors of documents.
    """
    settings, client, database, project = grounds.settings, grounds.client, grounds.database, grounds.project
    queue, changes, stopping = settings.task_queue, Changes(database), asyncio.Event()
    opened = grounds.open(changes)
    doors = open_doors(
        database,
        opened.temporal,
        changes,
        definitions=opened.definitions,
        executions=opened.executions,
        starter=opened.starter,
        task_queue=queue,
        tries=WebhookParams(tenant="", delivery_id="", first_pause_s=settings.webhook_retry_s),
    )
    posts = WebhookActivities(doors.webhooks.store, opened.store, project.webhooks)
    (registry, states), read_secret = open_registry(database, project), secrets_of(settings, database)
    keeper = BackendKeeper(registry, states, PullStore(database), client, task_queue=queue, read_secret=read_secret)
    scheduling = asyncio.create_task(keep_schedule(client, queue, settings.reconcile_s), name="checks")
    keeping = asyncio.create_task(doors.keep(changes, stopping), name="doors")
    # beside the doors, which no model's slowness may hold up
    embedding = asyncio.create_task(keep_going([lookups.embed_due], changes, stopping), name="documents")
    talking = asyncio.create_task(opened.sessions.keep(changes, stopping), name="sessions")
    try:
        yield Beside(doors, posts, keeper, keeping)
    finally:
        stopping.set()
        scheduling.cancel()
        embedding.cancel()
        talking.cancel()
        # first: a watch that nobody needs any more ends in its own time
        await changes.close()
        await asyncio.gather(keeping, embedding, talking, scheduling, return_exceptions=True)
        await keeper.aclose()
        await posts.aclose()
