"""`python -m benchmarks streams`: how late an event reaches 200 readers of a stream, and what the API spends on it."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT, Process, clean_environment, free_port
from engine.core.run.events import EventRecord
from engine.store.database import open_database
from engine.store.projection import ProjectionStore

EXECUTION = "bench"
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = re.compile(r"(<!-- streams:begin -->\n).*?(<!-- streams:end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is measured.

    Attributes:
        readers: Readers of the stream.
        rounds: Batches of events, one after the other.
        batch: Events of a batch.
        idle_s: Seconds for which nothing happens, before.
    """

    readers: int
    rounds: int
    batch: int
    idle_s: float


FULL = Amounts(200, 50, 5, 5.0)
QUICK = Amounts(10, 5, 5, 1.0)


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

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the table: what was measured, and what came out."""
        told = self.events * self.readers
        return [
            ("from the commit of an event to its reader, median", f"{self.p50_ms:g} ms"),
            ("the same, 99th percentile", f"{self.p99_ms:g} ms"),
            (f"CPU of the API for {self.events} events in batches of {self.batch}", f"{self.cpu_s:g} s"),
            ("for one event at one reader", f"{self.cpu_s / told * 1e6:.3g} µs"),
            ("CPU of the API while nothing happens", f"{self.idle_cpu:.1%} of a core"),
            ("its memory before and after", f"{self.rss_mib[0]:g} / {self.rss_mib[1]:g} MiB"),
        ]


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


async def measure(folder: Path, amounts: Amounts) -> Result:
    """Measure once.

    Args:
        folder: A temporary folder.
        amounts: How much.
    """
    readers, rounds, batch = amounts.readers, amounts.rounds, amounts.batch
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
        await asyncio.sleep(amounts.idle_s)
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


def show(result: Result, around: Mapping[str, Any]) -> None:
    """Print the table."""
    console = Console(width=None if os.isatty(1) else 120)
    table = Table(title=f"[bold]{result.readers} readers of one stream in one API process")
    table.add_column("figure", overflow="fold")
    table.add_column("measured", justify="right")
    for title, text in result.rows():
        table.add_row(title, text)
    console.print(table)
    console.print(f"Load average before {around['load_before']}, after {around['load_after']}.", markup=False)


def markdown(result: Result, around: Mapping[str, Any]) -> str:
    """Return the circumstances and the table as Markdown."""
    lines = [
        f"Measured on {around['date']}: {around['cpus']} CPUs ({around['system']}), Python {around['python']}; "
        f"load average before {around['load_before']}.",
        "",
        f"| {result.readers} readers of one stream | measured |",
        "| --- | --- |",
        *(f"| {title} | {text} |" for title, text in result.rows()),
    ]
    return "\n".join(lines) + "\n"


def save(folder: Path, result: Result, around: Mapping[str, Any]) -> None:
    """Write streams.json and streams.md."""
    folder.mkdir(parents=True, exist_ok=True)
    body = json.dumps({**around, **asdict(result)}, indent=1, ensure_ascii=False)
    (folder / "streams.json").write_text(f"{body}\n", encoding="utf-8")
    (folder / "streams.md").write_text(markdown(result, around), encoding="utf-8")


def put_into(page: Path, part: str) -> None:
    """Replace what stands between the marks of the page.

    Raises:
        ValueError: If the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if not MARK.search(text):
        raise ValueError(f"{page.name} has no marks <!-- streams:begin --> and <!-- streams:end -->")
    page.write_text(MARK.sub(lambda match: f"{match[1]}{part}{match[2]}", text), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run the bench of streams.

    Args:
        arguments: Of the command line, behind `streams`.

    Returns:
        Exit code: 130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few readers and batches: checks the bench itself")
    parser.add_argument("--readers", type=int, default=0, help="so many readers instead of 200")
    parser.add_argument("--save", action="store_true", help="write results/streams.* although it is quick or smaller")
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    amounts = QUICK if given.quick else FULL
    if given.readers:
        amounts = replace(amounts, readers=given.readers)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-streams-") as name:
        try:
            result = asyncio.run(measure(Path(name), amounts))
        except KeyboardInterrupt:
            return 130
    around = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "load_before": round(before[0], 2),
        "load_after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    show(result, around)
    if given.save or amounts == FULL:
        save(RESULTS, result, around)
    if given.page:
        put_into(PAGE, markdown(result, around))
    return 0
