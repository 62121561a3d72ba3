"""How workers poll Temporal for activities, and the worker of a pool, which does nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import Worker

from activities.tools.runner import ToolActivities
from engine import __version__
from engine.control.connect import connect
from engine.control.deployment import deployment_of
from engine.control.known import known_secrets
from engine.control.process import announce, open_telemetry, stop_on_signals
from engine.control.refreshing import keep_contracts_fresh
from engine.control.secrets import SecretReader
from engine.control.tools import load_catalog
from engine.core.contracts.pools import pool_queue
from engine.obs.logs import redactor_in_use
from engine.settings import Settings, load_project
from engine.store.blobs import BlobStore
from engine.store.database import open_database
from engine.store.pulses import POOL, Heart, PulseStore

HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""Without it a cancel reaches a running effect up to 3.7 s late."""
GRACE = timedelta(seconds=30)
CONCURRENT_EFFECTS = 1_000

log = structlog.get_logger("worker")


def build_pool_worker(
    client: Client, *, task_queue: str, pool: str, tools: ToolActivities, more: dict[str, Any] | None = None
) -> Worker:
    """Put a worker together that only makes the calls of a pool's tools.

    Args:
        client: A connected client.
        task_queue: Task queue of the executions.
        pool: The pool.
        tools: The tool activity.
        more: Further arguments of `temporalio.worker.Worker`.
    """
    options: dict[str, Any] = {
        "activities": [tools.call],
        "max_concurrent_activities": CONCURRENT_EFFECTS,
        "max_heartbeat_throttle_interval": HEARTBEAT_THROTTLE,
        "graceful_shutdown_timeout": GRACE,
    }
    return Worker(client, task_queue=pool_queue(task_queue, pool), **{**options, **(more or {})})


async def run_pool(settings: Settings) -> None:
    """Run a worker of a pool until SIGINT or SIGTERM: it makes the calls of the pool's tools, and nothing else.

    Raises:
        EngineError: The configuration is wrong or Temporal is out of reach.
    """
    stopping = stop_on_signals()
    more = deployment_of(settings)
    project = load_project(settings.project_file)
    redactor_in_use().learn(known_secrets(settings, project))
    catalog = load_catalog(project, settings.data_dir)
    contracts = catalog.contracts()
    database = await open_database(settings.store_url)
    client = await connect(settings, holders=BlobStore(database))
    telemetry = open_telemetry("worker", settings)
    places: dict[str, Any] = {"folder": project.folder, "data_dir": settings.data_dir}
    places["secrets"] = SecretReader.of(settings, database)
    tools = ToolActivities(catalog, project.http, config=project.tools, telemetry=telemetry, **places)
    fresh = keep_contracts_fresh(contracts, project, settings.data_dir, changed=lambda: tools.learn(contracts))
    refreshing = asyncio.create_task(fresh, name="refresh")
    about = {"version": __version__, "queue": settings.task_queue, "pools": [settings.pool]}
    heart = Heart(PulseStore(database), POOL, lambda: about)
    heart.start()
    try:
        async with build_pool_worker(
            client, task_queue=settings.task_queue, pool=settings.pool, tools=tools, more=more
        ):
            announce("worker")
            await stopping.wait()
            log.info("stopping: running calls get a grace period")
    finally:
        refreshing.cancel()
        await tools.aclose()
        await heart.stop()
        await asyncio.to_thread(telemetry.close)
        await database.close()
