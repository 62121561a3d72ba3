"""The processes that make the projection that of the histories: the repair, which never ends, and a reindex.

How a run is replayed is handed in: it takes the workflows, which the engine does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine import __version__
from engine.control.connect import connect, temporal_errors
from engine.control.payloads import blob_drivers
from engine.control.process import announce, open_telemetry, stop_on_signals
from engine.control.reindex import Reindex, tell_line, wanted_of
from engine.control.repair import Repair
from engine.control.replaying import Replay
from engine.control.sweeping import Sweep
from engine.control.tracing import ExecutionTelemetry
from engine.settings import Settings
from engine.store.blobs import BlobStore
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from engine.store.pulses import REPAIR, Heart, PulseStore


async def run_repair(settings: Settings, replay: Replay) -> None:
    """Run the repair loop until SIGINT or SIGTERM.

    Args:
        settings: Settings of the process.
        replay: How to replay a run.

    Raises:
        EngineError: Temporal is out of reach.
    """
    stopping = stop_on_signals()
    database = await open_database(settings.store_url)
    try:
        client = await connect(settings, holders=BlobStore(database))
        announce("repair")
        store = ProjectionStore(database)
        telemetry = open_telemetry("repair", settings)
        told = ExecutionTelemetry(telemetry, store)
        repair = Repair(client, store, replay, on_repaired=told.repaired)
        heart = Heart(PulseStore(database), REPAIR, lambda: {"version": __version__, **repair.pulse()})
        heart.start()
        sweep = Sweep(client, database, blob_drivers(client.data_converter), settings.retention_days)
        sweeping = asyncio.create_task(sweep.run(stopping), name="sweep")
        try:
            await repair.run(stopping)
        finally:
            await sweeping
            await heart.stop()
            await told.close()
            await asyncio.to_thread(telemetry.close)
    finally:
        await database.close()


async def run_reindex(settings: Settings, replay: Replay, arguments: Sequence[str]) -> None:
    """Make rows of the projection anew, tell on standard output what was done, and end.

    Args:
        settings: Settings of the process.
        replay: How to replay a run.
        arguments: See `engine.control.reindex.wanted_of`.

    Raises:
        EngineError: Temporal is out of reach.
    """
    wanted = wanted_of(arguments)
    database = await open_database(settings.store_url)
    try:
        client = await connect(settings, holders=BlobStore(database))
        reindex = Reindex(client, ProjectionStore(database), replay, lambda so_far: tell_line("progress", so_far))
        with temporal_errors(client.service_client.config.target_host):
            tell_line("done", await reindex.run(wanted))
    finally:
        await database.close()
