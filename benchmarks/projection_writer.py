"""A process that writes events into a store at a steady rate until a file called `stop` lies beside the store."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from sqlalchemy.engine import make_url

from benchmarks.projection_report import percentile
from benchmarks.seeding import Maker
from engine.core.run.events import EventRecord
from engine.store.database import open_database
from engine.store.projection import ProjectionStore

FLUSH_S = 0.05
"""Pause between two batches, about that of a worker's event sink."""

FIRST = 10_000_000
"""Number of the first execution, so that those written here are the newest."""


async def write(url: str, events_per_s: int) -> None:
    """Write until told to stop, then say how it went.

    Args:
        url: The store.
        events_per_s: The rate.
    """
    stop = Path(str(make_url(url).database)).parent / "stop"
    database = await open_database(url)
    store, maker = ProjectionStore(database), Maker(seed=99)
    print(json.dumps({"ready": True}), flush=True)
    began = time.monotonic()
    pending: list[EventRecord] = []
    written, executions, times_ms = 0, 0, []
    while not stop.exists():
        due = int((time.monotonic() - began) * events_per_s) - written
        while len(pending) < due:
            made = maker.execution(FIRST + executions)
            executions += 1
            pending += made.records
        batch, pending = pending[:due], pending[due:]
        if batch:
            before = time.perf_counter()
            await store.append_events(batch)
            times_ms.append((time.perf_counter() - before) * 1_000)
            written += len(batch)
        await asyncio.sleep(FLUSH_S)
    told = {
        "events": written,
        "asked_per_s": events_per_s,
        "events_per_s": round(written / (time.monotonic() - began), 1),
        "batches": len(times_ms),
        "batch_p50_ms": round(percentile(times_ms, 50), 2),
        "batch_p95_ms": round(percentile(times_ms, 95), 2),
        "batch_max_ms": round(max(times_ms), 2),
    }
    await database.close()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2])))
