"""`python -m benchmarks projection`: how quickly lists and transitions are read, also while events are written."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.processes import Process, clean_environment, free_port
from benchmarks.projection_cases import Case, cases_of
from benchmarks.projection_report import Measured, put_into, save, show
from benchmarks.seeding import seed_long, seed_store
from engine.store.database import open_database
from engine.store.projection import ProjectionStore

RESULTS = Path(__file__).parent / "results"
CLIENTS = 4
"""Readers at one time where throughput is measured."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is made and measured.

    Attributes:
        executions: Executions in the store.
        transitions: Transitions of the long one.
        repeats: Requests for each case.
        busy_s: Seconds for which throughput is measured.
        events_per_s: Rate of the writer.
    """

    executions: int
    transitions: int
    repeats: int
    busy_s: float
    events_per_s: int


FULL = Amounts(100_000, 10_000, 60, 20.0, 500)
QUICK = Amounts(2_000, 1_000, 10, 3.0, 500)


@dataclass(slots=True)
class Loaded:
    """What a round of reads gave.

    Attributes:
        times_ms: Milliseconds of each request, by case.
        requests_per_s: With several readers at once.
        writer: What the writer says it wrote; empty = nobody wrote.
    """

    times_ms: dict[str, list[float]] = field(default_factory=dict)
    requests_per_s: float = 0.0
    writer: dict[str, Any] = field(default_factory=dict)


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)


async def timed(work: Callable[[], Awaitable[Any]], repeats: int) -> list[float]:
    """Return the milliseconds of each repetition, after one that does not count."""
    await work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1_000)
    return times


async def ask(http: httpx.AsyncClient, case: Case) -> dict[str, Any]:
    """Send the request of a case, and check that the page is as full as it must be.

    Raises:
        RuntimeError: The answer is no page, or has too few items.
    """
    answer = await http.get(case.path, params=case.params)
    if answer.status_code != 200:
        raise RuntimeError(f"{case.title}: {answer.status_code} {answer.text[:300]}")
    body: dict[str, Any] = answer.json()
    if len(body.get("items", ())) < case.least_items:
        raise RuntimeError(f"{case.title}: only {len(body['items'])} items")
    return body


async def with_cursor(http: httpx.AsyncClient, case: Case) -> Case:
    """Return a case with the cursor that it goes on from."""
    if case.behind is None:
        return case
    before = replace(case, params={**case.params, "limit": 1, "offset": case.behind - 1}, least_items=1)
    cursor = (await ask(http, before))["next_cursor"]
    return replace(case, params={**case.params, "cursor": cursor})


async def read_all(http: httpx.AsyncClient, cases: Sequence[Case], amounts: Amounts) -> Loaded:
    """Measure every case alone, then the throughput of several readers over all of them."""
    found = Loaded()
    cases = [await with_cursor(http, case) for case in cases]
    for case in cases:
        found.times_ms[case.title] = await timed(lambda case=case: ask(http, case), amounts.repeats)  # type: ignore[misc]
    listed = [case for case in cases if case.limit_ms is not None]
    until, done = time.monotonic() + amounts.busy_s, 0

    async def reader(first: int) -> int:
        number = first
        while time.monotonic() < until:
            await ask(http, listed[number % len(listed)])
            number += 1
        return number - first

    done = sum(await asyncio.gather(*(reader(number * 3) for number in range(CLIENTS))))
    found.requests_per_s = done / amounts.busy_s
    return found


async def read_while_writing(
    http: httpx.AsyncClient, cases: Sequence[Case], amounts: Amounts, url: str, folder: Path
) -> Loaded:
    """Measure the same while another process writes events at a steady rate."""
    command = (sys.executable, "-m", "benchmarks.projection_writer", url, str(amounts.events_per_s))
    writer = Process("writer", command, clean_environment(), folder)
    writer.start()
    try:
        await writer.ready_line()
        found = await read_all(http, cases, amounts)
        await asyncio.to_thread((folder / "stop").touch)
        found.writer = await writer.ready_line(wanted=lambda line: "events" in line)
    finally:
        await writer.stop()
    return found


async def run(amounts: Amounts, folder: Path) -> tuple[list[Measured], dict[str, Any]]:
    """Fill a store, start the API on it and measure.

    Args:
        amounts: How much.
        folder: A temporary folder.

    Returns:
        What was measured, and the circumstances.
    """
    url = f"sqlite+aiosqlite:///{folder / 'bench.db'}"
    database = await open_database(url)
    try:
        store = ProjectionStore(database)
        began = time.monotonic()
        ids, events = await seed_store(store, amounts.executions)
        long_id = await seed_long(store, amounts.transitions)
        seeded_s = time.monotonic() - began
        say(f"seeded {len(ids)} executions, {events} events in {seeded_s:.0f} s")
        cases = await cases_of(database, long_id, amounts.transitions, amounts.executions)
        at_store = {case.title: await timed(case.at_store, amounts.repeats) for case in cases}
    finally:
        await database.close()
    port = free_port()
    more = {
        "EVERSTEP_DATABASE_URL": url,
        "EVERSTEP_DATA_DIR": str(folder / "data"),
        # nobody listens there: reads need no Temporal
        "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    command = (sys.executable, "-m", "engine.edge.cli", "serve", "--port", str(port))
    api = Process("api", command, clean_environment(more), folder)
    api.start()
    try:
        await api.accepting(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=60, trust_env=False) as http:
            at_rest = await read_all(http, cases, amounts)
            loaded = await read_while_writing(http, cases, amounts, url, folder)
    finally:
        await api.stop()
    measured = [
        Measured(
            case.title, case.limit_ms, at_store[case.title], at_rest.times_ms[case.title], loaded.times_ms[case.title]
        )
        for case in cases
    ]
    around = {
        "executions": len(ids),
        "events": events,
        "seed_events_per_s": round(events / seeded_s),
        "store_mb": round((folder / "bench.db").stat().st_size / 1e6),
        "repeats": amounts.repeats,
        "clients": CLIENTS,
        "requests_per_s": round(at_rest.requests_per_s, 1),
        "requests_per_s_loaded": round(loaded.requests_per_s, 1),
        "writer": loaded.writer,
    }
    return measured, around


def main(arguments: Sequence[str]) -> int:
    """Run the bench of the projection.

    Returns:
        Exit code: 1 if a limit was not held, 130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks projection", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small store: checks the bench itself")
    parser.add_argument("--executions", type=int, default=0, help="so many executions instead of 100,000")
    parser.add_argument(
        "--save", action="store_true", help="write results/projection.* although it is quick or smaller"
    )
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    amounts = QUICK if chosen.quick else FULL
    if chosen.executions:
        amounts = Amounts(chosen.executions, amounts.transitions, amounts.repeats, amounts.busy_s, amounts.events_per_s)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-bench-") as name:
        try:
            measured, around = asyncio.run(run(amounts, Path(name)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130
    around |= {"load_before": round(before[0], 2), "load_after": round(os.getloadavg()[0], 2)}
    show(measured, around)
    if chosen.save or amounts == FULL:
        save(RESULTS, measured, around)
    if chosen.page:
        put_into(measured, around)
    missed = [one.title for one in measured if one.missed]
    if missed:
        say(f"over the limit: {json.dumps(missed)}")
    return 1 if missed else 0
