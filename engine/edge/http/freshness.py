"""How old the projection is: watched in the background, told in a header of every read of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.service import RPCError

from engine import __version__
from engine.control.connect import TemporalConnection
from engine.control.repair import SCAN_S
from engine.core.errors import EngineError
from engine.store.database import Database
from engine.store.pulses import API, BEAT_S, REPAIR, WORKER, Heart, Pulse, PulseStore

LOOK_S = 1.0
AGE_HEADER = "Everstep-Data-Age"
"""Seconds since the projection was last known to be in line with Temporal; not there while it is."""
WHY_HEADER = "Everstep-Data-Age-Reason"
"""Why nobody knows better: `temporal` does not answer (or is `slow`), the `keepers` (worker, repair) are silent, or the
`repair` has completed no scan for long."""
MISSED_SCANS = 3
"""So many scans may be late before the repair is taken for dead, whatever its process says."""

_PROJECTION = re.compile(r"/(executions|transitions|usage|overview)(/|$)")

log = structlog.get_logger(__name__)


class Freshness:
    """Watches Temporal and the keepers of the projection, and beats for the API itself.

    Before `start` nobody watches, and it says only what a failed call to Temporal has shown a moment ago.

    Args:
        database: The open store.
        temporal: The connection of this process.
    """

    def __init__(self, database: Database, temporal: TemporalConnection) -> None:
        self._temporal = temporal
        self._pulses = PulseStore(database)
        self._heart = Heart(self._pulses, API, lambda: {"version": __version__})
        self._stopping = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._is_down = False
        self._silent = False
        self._unscanned = False
        self._repair_seen_us = 0
        self._scanned_us = 0
        self._aligned_us = time.time_ns() // 1_000

    def start(self) -> None:
        """Begin to watch."""
        self._heart.start()
        self._watching = asyncio.create_task(self._watch(), name="freshness")

    async def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._watching is not None:
            await self._watching
            await self._heart.stop()

    @property
    def reason(self) -> str:
        """Why the projection may be old: `temporal`, `keepers`, `repair`, or empty if it is in line."""
        if self._is_down or self._temporal.is_down:
            return "temporal"
        if self._silent:
            return "keepers"
        return "repair" if self._unscanned else ""

    @property
    def age_s(self) -> float | None:
        """Seconds since the projection was last known to be in line; None = it is."""
        if not self.reason:
            return None
        return max(0.0, time.time() - self._aligned_us / 1e6)

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            began_us = time.time_ns() // 1_000
            self._is_down = not await self._temporal_answers()
            try:
                self.take(await self._pulses.all(), began_us)
            except (EngineError, SQLAlchemyError, OSError) as error:
                log.warning("the store does not say who keeps the projection", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)

    async def _temporal_answers(self) -> bool:
        try:
            await self._temporal.check()
        except (EngineError, RPCError):
            return False
        return True

    def take(self, pulses: list[Pulse], looked_us: int) -> None:
        """Take the last words of all processes.

        Args:
            pulses: What they said.
            looked_us: When they were asked for, Unix microseconds.
        """
        keepers = [pulse for pulse in pulses if pulse.kind in (REPAIR, WORKER)]
        # where nobody has ever kept the projection, there is nothing that could have been missed
        self._silent = bool(keepers) and not any(pulse.is_alive for pulse in keepers)
        repairs = [pulse for pulse in keepers if pulse.kind == REPAIR]
        self._scanned_us = max([self._scanned_us, *(int(pulse.info.get("scanned_us") or 0) for pulse in repairs)])
        if repairs:
            self._repair_seen_us = self._repair_seen_us or looked_us
        every_s = max((float(pulse.info.get("scan_every_s") or 0) for pulse in repairs if pulse.is_alive), default=0.0)
        patience_us = round((max(every_s, SCAN_S) * MISSED_SCANS + BEAT_S) * 1e6)
        # a repair that has never completed a scan has had the time for one since it was first seen here; where there
        # was never a repair, only workers keep the projection, and that is what its operator wants
        since_us = self._scanned_us or self._repair_seen_us
        self._unscanned = bool(since_us) and looked_us - since_us > patience_us
        if self._scanned_us:
            self._aligned_us = self._scanned_us
        elif not self.reason and not repairs:
            self._aligned_us = looked_us


class DataAge:
    """Adds the age of the projection to the answers to reads of it.

    Args:
        app: The app.
        freshness: Who knows it.
    """

    def __init__(self, app: ASGIApp, freshness: Freshness) -> None:
        self._app = app
        self._freshness = freshness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not _PROJECTION.search(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_aged(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(message)
            await send(message)

        await self._app(scope, receive, send_aged)

    def _add(self, message: MutableMapping[str, Any]) -> None:
        age_s = self._freshness.age_s
        if age_s is None:
            return
        headers = MutableHeaders(scope=message)
        # a route may know that its own answer is older still
        known = float(headers.get(AGE_HEADER) or 0.0)
        headers[AGE_HEADER] = f"{max(age_s, known):.3f}"
        headers[WHY_HEADER] = self._freshness.reason
