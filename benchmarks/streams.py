"""`python -m benchmarks streams`: how late an event reaches 200 readers of a stream, and what the API spends on it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.processes import Process, clean_environment, free_port
from engine.core.run.events import EventRecord
from engine.store.database import open_database
from engine.store.projection import ProjectionStore

EXECUTION = "bench"


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured.

    Attributes:
        readers: Readers of the stream.
        events: Events told, in batches of `batch`.
        p50_ms, p99_ms: From the commit of an event to its arrival at a reader.
        cpu_s: CPU time of the API meanwhile.
        idle_cpu: Part of one core that the API uses while nothing happens.
        rss_mib: Its memory before and after.
    """

    readers: int
    events: int
    batch: int
    p50_ms: float
    p99_ms: float
    cpu_s: float
    idle_cpu: float
    rss_mib: tuple[float, float]


class _Reader:
    """Reads the stream and keeps when each event came."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.came: dict[int, float] = {}

    async def read(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        path = f"/api/executions/{EXECUTION}/transitions.stream"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    self.came[int(line[4:])] = time.monotonic()
        finally:
            writer.close()


def _record(seq: int, kind: str) -> EventRecord:
    body = {"workflow": "main", "scope": "", "path": "main.0", "index": 0, "task": "t", "task_id": "t1"}
    body |= {"tenant": "default", "output": "x" * 200, "next": None, "input": 1}
    return EventRecord(EXECUTION, "r1", seq, time.time_ns() // 1_000, kind, json.dumps(body))


async def _until_all(readers: Sequence[_Reader], seq: int) -> None:
    deadline = time.monotonic() + 60
    while not all(seq in reader.came for reader in readers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all readers got event {seq}")
        await asyncio.sleep(0.005)


async def measure(folder: Path, *, readers: int, rounds: int, batch: int) -> Result:
    """Measure once.

    Args:
        folder: A temporary folder.
        readers: Readers of the stream.
        rounds: Batches of events, one after the other.
        batch: Events of a batch.
    """
    port = free_port()
    url = f"sqlite+aiosqlite:///{folder / 'bench.db'}"
    database = await open_database(url)
    store = ProjectionStore(database)
    more = {"EVERSTEP_DATA_DIR": str(folder), "EVERSTEP_DATABASE_URL": url, "TEMPORAL_ADDRESS": "127.0.0.1:1"}
    command = (sys.executable, "-m", "engine.edge.cli", "serve", "--port", str(port))
    process = Process("api", command, clean_environment(more), folder)
    process.start()
    tasks: list[asyncio.Task[None]] = []
    try:
        await store.append_events([_record(1, "init")])
        await _until_it_listens(port)
        all_readers = [_Reader(port) for _ in range(readers)]
        tasks = [asyncio.create_task(reader.read()) for reader in all_readers]
        await _until_all(all_readers, 1)
        # the child of the wrapper that ends it with us
        api = max(
            (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)),
            key=lambda one: one.memory_info().rss,
        )
        before_idle, began = sum(api.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(5)
        idle = (sum(api.cpu_times()[:2]) - before_idle) / (time.monotonic() - began)
        rss, spent = api.memory_info().rss, sum(api.cpu_times()[:2])
        late: list[float] = []
        seq = 1
        for _ in range(rounds):
            await store.append_events([_record(seq + number, "step") for number in range(1, batch + 1)])
            committed, seq = time.monotonic(), seq + batch
            await _until_all(all_readers, seq)
            late += [reader.came[seq] - committed for reader in all_readers]
            await asyncio.sleep(0.1)
        late.sort()
        return Result(
            readers=readers,
            events=rounds * batch,
            batch=batch,
            p50_ms=round(late[len(late) // 2] * 1_000, 1),
            p99_ms=round(late[int(len(late) * 0.99)] * 1_000, 1),
            cpu_s=round(sum(api.cpu_times()[:2]) - spent, 2),
            idle_cpu=round(idle, 3),
            rss_mib=(round(rss / 2**20, 1), round(api.memory_info().rss / 2**20, 1)),
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        process.kill()
        await database.close()


async def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def main(arguments: Sequence[str]) -> int:
    """Measure and print one JSON object.

    Args:
        arguments: Of the command line, behind `streams`.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks streams", description=__doc__)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--batch", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="everstep-streams-") as name:
        result = asyncio.run(measure(Path(name), readers=given.readers, rounds=given.rounds, batch=given.batch))
    print(json.dumps(asdict(result)))
    return 0
