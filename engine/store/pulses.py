"""Signs of life of the processes that keep the projection in line with Temporal, and which Temporal that is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from engine.core.errors import Unavailable
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema import pulses

BEAT_S = 3.0
FRESH_S = 12.0
"""A process that has said nothing for so long is taken for dead; a busy store may swallow a beat or two."""
KEPT_S = 86_400.0
"""How long the row of a dead process is kept; that of the last repair stays."""

WORKER = "worker"
REPAIR = "repair"
POOL = "pool"
"""A worker that only makes the calls of a pool's tools, and tells no events."""
API = "api"
TEMPORAL = "temporal"
"""Kind of the one row that says which Temporal the executions are in; it is no process and never goes."""
BLOBS = "blobs"
"""Kind of the one row that says of which Temporal all references to large payloads are known."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last word of a process.

    Attributes:
        name: `kind:host:pid`.
        kind: worker, repair, pool or api.
        at_us: When it spoke, Unix microseconds.
        info: {version, queue, …}; of a repair `scanned_us`, the time of its last complete scan, and `scan_every_s`.
    """

    name: str
    kind: str
    at_us: int
    info: dict[str, Any]

    @property
    def is_alive(self) -> bool:
        """Whether it spoke a moment ago and has not said goodbye."""
        return time.time_ns() // 1_000 - self.at_us < FRESH_S * 1e6 and not self.info.get("stopped")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON: {name, kind, age_s, info}."""
        age_s = max(0.0, time.time_ns() / 1e9 - self.at_us / 1e6)
        return {"name": self.name, "kind": self.kind, "age_s": round(age_s, 3), "info": self.info}


class PulseStore:
    """Reads and writes signs of life.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, kind: str, name: str, info: Mapping[str, Any]) -> None:
        """Write a sign of life, and clear away rows of processes that died long ago."""
        now_us = time.time_ns() // 1_000
        values = {"kind": kind, "at_us": now_us, "info": json.dumps(dict(info))}

        def put(connection: Connection) -> None:
            lock_row(connection, pulses.name, name)
            if not connection.execute(update(pulses).where(pulses.c.name == name).values(values)).rowcount:
                connection.execute(insert(pulses).values(name=name, **values))
                # the last word of a dead repair tells how old the projection is, until another repair speaks
                kept = [TEMPORAL, BLOBS] if kind == REPAIR else [TEMPORAL, BLOBS, REPAIR]
                old = (pulses.c.at_us < now_us - round(KEPT_S * 1e6)) & pulses.c.kind.not_in(kept)
                connection.execute(delete(pulses).where(old))

        await self._database.run(put, write=True)

    async def all(self) -> list[Pulse]:
        """Return the last words of all processes, the latest first."""
        query = select(pulses).where(pulses.c.kind.not_in([TEMPORAL, BLOBS])).order_by(pulses.c.at_us.desc())
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [Pulse(row.name, row.kind, row.at_us, json.loads(row.info)) for row in rows]

    async def read_temporal(self) -> dict[str, Any]:
        """Return what is known of the Temporal that the executions are in; empty = nothing yet."""
        query = select(pulses.c.info).where(pulses.c.kind == TEMPORAL)
        found = await self._database.run(lambda connection: connection.execute(query).scalars().first())
        known: dict[str, Any] = {} if found is None else json.loads(found)
        return known

    async def read_blobs(self) -> dict[str, Any]:
        """Return of which Temporal all references to large payloads are known: {namespace_id}; empty = of none."""
        query = select(pulses.c.info).where(pulses.c.kind == BLOBS)
        found = await self._database.run(lambda connection: connection.execute(query).scalars().first())
        known: dict[str, Any] = {} if found is None else json.loads(found)
        return known

    async def write_blobs(self, info: Mapping[str, Any]) -> None:
        """Say of which Temporal all references to large payloads are known."""
        await self.write(BLOBS, BLOBS, info)

    async def write_temporal(self, info: Mapping[str, Any]) -> None:
        """Say which Temporal the executions are in."""
        await self.write(TEMPORAL, TEMPORAL, info)


def process_name(kind: str) -> str:
    """Return the name of this process: `kind:host:pid`."""
    return f"{kind}:{socket.gethostname()[:60]}:{os.getpid()}"


class Heart:
    """Beats for one process until it is stopped; a store that fails is tried again at the next beat.

    Args:
        store: Where the beats go.
        kind: worker, repair, pool or api.
        info: Returns what to say with each beat.
    """

    def __init__(self, store: PulseStore, kind: str, info: Callable[[], Mapping[str, Any]]) -> None:
        self._store = store
        self._kind = kind
        self._info = info
        self._stopping = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._beating = asyncio.create_task(self._run(), name=f"{self._kind}-pulse")

    async def stop(self) -> None:
        """Say goodbye and stop."""
        self._stopping.set()
        if self._beating is not None:
            await self._beating

    async def beat(self, **more: Any) -> None:
        """Write one sign of life now."""
        try:
            await self._store.write(self._kind, process_name(self._kind), {**self._info(), **more})
        except (SQLAlchemyError, OSError, Unavailable) as error:
            log.warning("the store does not take a sign of life", error=str(error))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self.beat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), BEAT_S)
        await self.beat(stopped=True)
