"""Clears up in the repair process: purges that were begun, payloads of executions that are gone, what is too old."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.blobs import BlobDriver
from engine.control.claims import claims_of
from engine.control.describing import describe, is_namespace_missing, list_executions, namespace_id
from engine.control.purging import PurgeFinisher, PurgeService
from engine.core.errors import NotFound
from engine.store.blobs import Blob, BlobStore
from engine.store.database import Database
from engine.store.kept import KeptStore
from engine.store.pulses import PulseStore

TURN_S = 2.0
"""How often purges that are under way go on."""
LOOK_S = 60.0
"""How often the rest is looked at."""
TIDY_S = 3_600.0
GRACE_S = 24 * 3_600.0
"""How long an execution must be gone from Temporal before its payloads are: it may be brought back from a backup."""

_DAY_US = 24 * 3_600 * 1_000_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Sweep:
    """What is cleared up, a turn at a time.

    Attributes:
        client: A connected client.
        database: The store.
        drivers: Where large payloads are.
        retention_days: Days after its end at which an execution is purged; None = never.
        grace_s: See GRACE_S.
    """

    client: Client
    database: Database
    drivers: list[BlobDriver]
    retention_days: float | None = None
    grace_s: float = GRACE_S
    _next_look: float = 0.0
    _next_tidy: float = 0.0
    _after: str = ""
    _learned: bool = False
    _finisher: PurgeFinisher = field(init=False)
    _blobs: BlobStore = field(init=False)
    _kept: KeptStore = field(init=False)

    def __post_init__(self) -> None:
        """Build what does the work."""
        self._finisher = PurgeFinisher(self.client, self.database, self.drivers)
        self._blobs = BlobStore(self.database)
        self._kept = KeptStore(self.database)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; whatever does not answer is asked again."""
        while not stopping.is_set():
            try:
                await self.turn()
            except Exception as error:
                # whatever it is, a sweep that ends clears up nothing more
                log.warning("a turn of the clearing up failed, trying again", error=str(error)[:500])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), TURN_S)

    async def turn(self) -> None:
        """Do what is due.

        Raises:
            RPCError: Temporal does not answer.
            Exception: What the store says if it does not answer.
        """
        if time.monotonic() >= self._next_look:
            await self.look()
            self._next_look = time.monotonic() + LOOK_S
        await self._finisher.finish_all()

    async def look(self) -> None:
        """Purge what is too old, let go of what is gone, remove payloads that nobody refers to."""
        while await self._kept.sweep(now_us=time.time_ns() // 1_000):
            pass
        await self._learn()
        if self.retention_days is not None:
            before_us = time.time_ns() // 1_000 - int(self.retention_days * _DAY_US)
            await PurgeService(self.database).purge_ended(before_us, self._finisher)
        before_us = time.time_ns() // 1_000 - int(self.grace_s * 1e6)
        await self._blobs.release(await self._blobs.lost_holders(before_us=before_us))
        await self._release_strangers(before_us)
        await self._finisher.remove_blobs()
        if time.monotonic() >= self._next_tidy:
            for driver in self.drivers:
                await driver.place.tidy()
            self._next_tidy = time.monotonic() + TIDY_S

    async def _release_strangers(self, before_us: int) -> None:
        """Let go of references of workflows that are no executions, or never came to be any, once Temporal has none."""
        page = await self._blobs.strangers(after=self._after, before_us=before_us)
        self._after = page[-1] if page else ""
        gone: list[str] = []
        for holder in page:
            if not holder:
                continue  # nobody knows whose they are
            try:
                await describe(self.client, holder)
            except NotFound:
                gone.append(holder)
        await self._blobs.release(gone)

    async def _learn(self) -> None:
        """Read, once for each Temporal, what histories refer to that began before references were counted."""
        if self._learned:
            return
        pulses = PulseStore(self.database)
        present = await namespace_id(self.client)
        if (await pulses.read_blobs()).get("namespace_id") != present:
            learned: dict[str, set[Blob]] = {}
            async for info in list_executions(self.client, ""):
                name = info.execution.workflow_id
                try:
                    found = await claims_of(self.client, name, info.execution.run_id)
                except RPCError as error:
                    if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
                        raise
                    continue
                if found:
                    learned.setdefault(name, set()).update(found)
            await self._blobs.learn(learned)
            await pulses.write_blobs({"namespace_id": present})
            log.info("the references of all histories to large payloads are known", workflows=len(learned))
        self._learned = True
