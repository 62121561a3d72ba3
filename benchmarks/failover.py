"""`python -m benchmarks failover`: 500 prompts over a slow, a limited and a dying server, beside a naive client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from benchmarks.faulty import CHARACTERS, MODEL
from benchmarks.processes import ROOT, Process, clean_environment
from benchmarks.stand import Model, Side, Stand, connect, running_server
from benchmarks.tasks import Job
from engine.store.database import open_database
from engine.store.schema import events

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = re.compile(r"(<!-- failover:begin -->\n).*?(<!-- failover:end -->)", re.DOTALL)

PROMPTS = 500
AT_ONCE = 64
"""Callers, each of which sends its next prompt when the last one was answered."""
NAIVE_TRIES = 20
NAIVE_PAUSE_S = 1.0
TASK = "name: ask\nmain:\n  - prompt: '{{ _ }}'\n    model: m\n    unwrap: true\n"
PROJECT = """
[routing]
policy = "least_loaded"

[backends.slow]
base_url = "{slow}/v1"
models = ["m"]
max_connections = 32
limits = {{ calls = 32 }}

[backends.limited]
base_url = "{limited}/v1"
models = ["m"]
limits = {{ requests_per_minute = 120 }}

[backends.dying]
base_url = "{dying}/v1"
models = ["m"]
"""

Ask = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a side gave.

    Attributes:
        answered: Prompts that were answered as they should be.
        failed: Prompts that were given up.
        repeated: Prompts that a server answered to the end more than once.
        per_s: Answers in a second.
        p50_s, p95_s: From a prompt to its answer.
        refused: Calls that servers refused because a limit that they had told was reached.
        faults: Calls that failed for another reason: refused, or broken off.
        tried: Calls after which another server was asked, as the histories tell; None = there are none.
    """

    answered: int
    failed: int
    repeated: int
    per_s: float
    p50_s: float
    p95_s: float
    refused: int
    faults: int
    tried: int | None = None


class Servers:
    """The three servers.

    Attributes:
        urls: Addresses by name.
    """

    def __init__(self, urls: Mapping[str, str], client: httpx.AsyncClient) -> None:
        """Know them.

        Args:
            urls: Addresses by name.
            client: Asks them what they saw.
        """
        self.urls = dict(urls)
        self._client = client

    async def seen(self) -> dict[str, dict[str, Any]]:
        """Return what each of them saw since the last `forget`."""
        return {name: (await self._client.get(f"{url}/seen")).json() for name, url in self.urls.items()}

    async def forget(self) -> None:
        """Count anew."""
        for url in self.urls.values():
            await self._client.delete(f"{url}/seen")


@contextlib.asynccontextmanager
async def running_servers(folder: Path) -> AsyncIterator[tuple[Process, Servers]]:
    """Run the three servers for the length of the block."""
    process = Process("faulty", [sys.executable, "-m", "benchmarks.faulty"], clean_environment(), folder)
    process.start()
    try:
        urls = await process.ready_line()
        async with httpx.AsyncClient() as client:
            yield process, Servers(urls, client)
    finally:
        await process.stop()


async def crowd(ask: Ask, prompts: Sequence[str]) -> tuple[list[float], int, int, float]:
    """Send prompts from some callers at one time.

    Returns:
        Seconds of each answered prompt, how many were answered, how many were given up, and seconds in all.
    """
    waiting = list(reversed(prompts))
    took: list[float] = []
    answered = failed = 0

    async def caller() -> None:
        nonlocal answered, failed
        while waiting:
            prompt = waiting.pop()
            began = time.monotonic()
            try:
                text = await ask(prompt)
            except RuntimeError:
                failed += 1
                continue
            took.append(time.monotonic() - began)
            answered += text.startswith(f"{prompt} 0 ")

    began = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return sorted(took), answered, failed, time.monotonic() - began


def run_of(
    took: Sequence[float], answered: int, failed: int, all_s: float, seen: Mapping[str, Any], tried: int | None = None
) -> Run:
    """Put the figures of a run together."""
    whole: Counter[str] = Counter()
    for server in seen.values():
        whole.update(server["whole"])
    return Run(
        answered=answered,
        failed=failed,
        repeated=sum(count > 1 for count in whole.values()),
        per_s=round(answered / all_s, 1),
        p50_s=round(took[len(took) // 2], 2),
        p95_s=round(took[int(len(took) * 0.95)], 2),
        refused=sum(server["over_minute"] + server["over_at_once"] for server in seen.values()),
        faults=sum(server["refused"] + server["broken"] for server in seen.values()),
        tried=tried,
    )


def prompts_of(mark: str, count: int) -> list[str]:
    """Return prompts of which no two are alike."""
    return [f"{mark}-{number}" for number in range(count)]


# --- the naive client ------------------------------------------------------------------------------------------------


class Naive:
    """What people write first: one server after the other, and after an error a pause and the next one.

    Args:
        urls: The servers.
        client: Sends the requests.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._urls = list(urls)
        self._client = client
        self._turn = 0

    async def ask(self, prompt: str) -> str:
        """Return the reply to a prompt.

        Raises:
            RuntimeError: No server answered in twenty tries.
        """
        for _ in range(NAIVE_TRIES):
            url = self._urls[self._turn % len(self._urls)]
            self._turn += 1
            body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": prompt}]}
            try:
                async with self._client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    if response.status_code == 200:
                        return await self._text_of(response)
                    pause_s = float(response.headers.get("retry-after", NAIVE_PAUSE_S))
            except httpx.HTTPError:
                pause_s = NAIVE_PAUSE_S
            await asyncio.sleep(pause_s)
        raise RuntimeError("no server answered")

    async def _text_of(self, response: httpx.Response) -> str:
        text = ""
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        return text


async def run_naive(servers: Servers, mark: str, count: int) -> Run:
    """Let the naive client answer prompts."""
    await servers.forget()
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as client:
        client_side = Naive(list(servers.urls.values()), client)
        took, answered, failed, all_s = await crowd(client_side.ask, prompts_of(mark, count))
    return run_of(took, answered, failed, all_s, await servers.seen())


# --- ours ------------------------------------------------------------------------------------------------------------


async def run_ours(stand: Stand, servers: Servers, mark: str, count: int) -> Run:
    """Let executions of one prompt each answer prompts."""
    await servers.forget()

    async def ask(prompt: str) -> str:
        handle = await stand.start(Side.OURS, Job(TASK, "", prompt, {}))
        result = await handle.result()
        return str(result["output"] if isinstance(result, dict) else result.output)

    took, answered, failed, all_s = await crowd(ask, prompts_of(mark, count))
    seen = await servers.seen()
    await stand.quiet(Side.OURS)
    return run_of(took, answered, failed, all_s, seen, await _tried(stand.folder / "everstep" / "everstep.db", mark))


async def _tried(path: Path, mark: str) -> int:
    """Return how many calls the histories of a run tell of after which another server was asked."""
    database = await open_database(f"sqlite+aiosqlite:///{path}")
    try:
        ends = select(events.c.body).where(events.c.type == "effect.finished")
        rows = await database.run(lambda connection: connection.execute(ends).all())
    finally:
        await database.close()
    told = [json.loads(row.body) for row in rows if f"{mark}-" in row.body]
    return sum(len((body.get("route") or {}).get("tried", ())) for body in told)


# --- both ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _standing(folder: Path, faulty: Process, servers: Servers) -> AsyncIterator[Stand]:
    project = folder / "everstep.toml"
    project.write_text(PROJECT.format(**servers.urls), encoding="utf-8")
    async with running_server(folder) as (server, address), httpx.AsyncClient() as unused:
        client = await connect(address, folder)
        stand = Stand(folder, Model(faulty, "", unused), server, client)
        try:
            await stand.start_worker(Side.OURS, project)
            yield stand
        finally:
            await asyncio.gather(*(process.stop() for process in stand.workers.values()))


async def measure(folder: Path, pairs: int, count: int) -> tuple[list[Run], list[Run]]:
    """Measure both sides in turns.

    Args:
        folder: A temporary folder.
        pairs: How often.
        count: Prompts of a run.

    Returns:
        Our runs and those of the naive client.
    """
    ours: list[Run] = []
    naive: list[Run] = []
    async with running_servers(folder) as (process, servers), _standing(folder, process, servers) as stand:
        for number in range(pairs):
            if number:
                # so that no minute of the limited server holds calls of the run before
                await asyncio.sleep(61)
            ours.append(await run_ours(stand, servers, f"o{number}", count))
            print(f"ours  {ours[-1]}", file=sys.stderr, flush=True)
            naive.append(await run_naive(servers, f"n{number}", count))
            print(f"naive {naive[-1]}", file=sys.stderr, flush=True)
    return ours, naive


def rows_of(ours: Sequence[Run], naive: Sequence[Run], count: int) -> list[tuple[str, str, str]]:
    """Return the lines of the table: what, ours, naive; of several runs the one in the middle."""

    def middle(runs: Sequence[Run], name: str) -> float:
        return float(sorted(getattr(run, name) for run in runs)[len(runs) // 2])

    def both(title: str, name: str, unit: str = "") -> tuple[str, str, str]:
        return title, f"{middle(ours, name):g}{unit}", f"{middle(naive, name):g}{unit}"

    tried = sorted(run.tried or 0 for run in ours)[len(ours) // 2]
    return [
        both(f"of {count} prompts answered", "answered"),
        both("of these answered more than once by a server", "repeated"),
        both("answers in a second", "per_s"),
        both("from a prompt to its answer, median", "p50_s", " s"),
        both("the same, 95th percentile", "p95_s", " s"),
        both("calls that a server refused because its limit was reached", "refused"),
        both("calls that failed for another reason", "faults"),
        ("calls after which another server was asked, as the histories tell", f"{tried}", "none is kept"),
    ]


def show(rows: Sequence[tuple[str, str, str]], around: Mapping[str, Any]) -> None:
    """Print the table."""
    console = Console(width=None if os.isatty(1) else 120)
    table = Table(title=f"[bold]{AT_ONCE} callers, three servers of which each fails in its own way")
    table.add_column("figure", overflow="fold")
    table.add_column("Everstep", justify="right")
    table.add_column("naive client", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"Load average before {around['load_before']}, after {around['load_after']}.", markup=False)


def markdown(rows: Sequence[tuple[str, str, str]], around: Mapping[str, Any]) -> str:
    """Return the circumstances and the table as Markdown."""
    lines = [
        f"Measured on {around['date']}: {around['cpus']} CPUs ({around['system']}), Python {around['python']}; "
        f"{around['pairs']} pairs in turns, medians; load average before {around['load_before']}.",
        "",
        f"| {AT_ONCE} callers | Everstep | naive client |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run the bench of failing over.

    Args:
        arguments: Of the command line, behind `failover`.

    Returns:
        Exit code: 1 if a prompt of ours was not answered, or answered twice, or a limit was exceeded; 130 if it was
        interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks failover", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--quick", action="store_true", help="60 prompts and one pair: checks the bench itself")
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    pairs, count = (1, 60) if given.quick else (given.pairs, PROMPTS)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-failover-") as name:
        try:
            ours, naive = asyncio.run(measure(Path(name), pairs, count))
        except KeyboardInterrupt:
            return 130
    around = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "load_before": round(before[0], 2),
        "load_after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "pairs": pairs,
        "servers": {key: asdict(value) for key, value in CHARACTERS.items()},
    }
    rows = rows_of(ours, naive, count)
    show(rows, around)
    if not given.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {**around, "ours": [asdict(run) for run in ours], "naive": [asdict(run) for run in naive]}
        (RESULTS / "failover.json").write_text(f"{json.dumps(body, indent=1)}\n", encoding="utf-8")
        (RESULTS / "failover.md").write_text(markdown(rows, around), encoding="utf-8")
    if given.page:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(MARK.sub(lambda m: f"{m[1]}{markdown(rows, around)}{m[2]}", text), encoding="utf-8")
    return 0 if all((run.answered, run.repeated, run.refused) == (count, 0, 0) for run in ours) else 1
