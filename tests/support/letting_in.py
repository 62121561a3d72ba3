"""A process that lets starts in and stops in the middle, for tests that kill it there."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from temporalio.client import Client

from engine.control.launching import Launch, launch
from engine.control.payloads import data_converter
from engine.store.admission import AdmissionStore
from engine.store.database import open_database
from engine.store.letting_in import LettingIn
from engine.store.projection import ProjectionStore
from engine.store.turns import Limits


async def main(url: str, address: str, blobs: str, queue: str, stop_at: str) -> None:
    """Claim all that may begin, start the workflows if `stop_at` is `started`, say so, and wait for the end."""
    database = await open_database(url)
    letting = LettingIn(AdmissionStore(ProjectionStore(database)), Limits(), owner="doomed", lease_us=1_000_000)
    found = await letting.round(time.time_ns() // 1_000)
    if stop_at == "started":
        client = await Client.connect(address, data_converter=data_converter(Path(blobs)))
        for claim in found.claims:
            await launch(client, Launch.of(claim.params, claim.input, deadline_us=None), task_queue=queue)
    sys.stdout.write(f"{stop_at} {len(found.claims)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
