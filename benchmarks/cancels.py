"""`python -m benchmarks cancels`: how soon a cancel reaches a model that is writing, and a tool of an MCP server."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from temporalio.client import WorkflowFailureError

from benchmarks.processes import ROOT, Process, clean_environment
from benchmarks.stand import Model, Side, Stand, connect, running_server
from benchmarks.tasks import Job
from engine.core.plan.ir import ToolContract

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = re.compile(r"(<!-- cancels:begin -->\n).*?(<!-- cancels:end -->)", re.DOTALL)
WANTED_S = 1.5
LIMIT_S = 30.0

TASKS = {
    "model": "name: talk\nmain: [{prompt: Talk., model: m}]\n",
    "tool": "name: hang\nmain: [{tool: endless_wait}]\n",
}
PROJECT = """
[backends.endless]
base_url = "{url}"
models = ["m"]

[tools.mcp.endless]
command = {command}
args = {args}
cwd = {cwd}
"""


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from a cancel to the moment at which it arrived, sorted."""

    what: str
    seconds: tuple[float, ...]

    def row(self) -> tuple[str, str, str, str]:
        """Return the line of the table."""
        one = self.seconds
        middle, late, last = (f"{value:.2f} s" for value in (one[len(one) // 2], one[int(len(one) * 0.95)], one[-1]))
        return self.what, middle, late, last


class Bench:
    """One execution after the other, each of which is cancelled in the middle of its call."""

    def __init__(self, stand: Stand, journal: Path) -> None:
        """Take the stand.

        Args:
            stand: The server with a worker.
            journal: Where the two servers tell what happens.
        """
        self._stand = stand
        self._journal = journal

    async def cancel(self, what: str) -> float:
        """Begin a call, cancel its execution, and return the seconds until the other side noticed.

        Args:
            what: `model` or `tool`.
        """
        before = len(self._told(f"{what} given up"))
        handle = await self._stand.start(Side.OURS, Job(TASKS[what], "", None, {}))
        await self._until(f"{what} began", before + 1)
        # somewhere between two heartbeats
        await asyncio.sleep(0.3 + 0.37 * (before % 4))
        began = time.monotonic()
        await handle.cancel()
        at = await self._until(f"{what} given up", before + 1)
        try:
            await handle.result()
        except WorkflowFailureError:
            return at - began
        raise RuntimeError("the execution was not cancelled")

    def _told(self, event: str) -> list[float]:
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        return [line["at"] for line in map(json.loads, lines) if line["what"] == event]

    async def _until(self, event: str, count: int) -> float:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(self._told, event)
            if len(found) >= count:
                return found[count - 1]
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no {count}. '{event}'")


async def measure(folder: Path, rounds: int) -> list[Delays]:
    """Measure both.

    Args:
        folder: A temporary folder.
        rounds: Cancels of each kind.
    """
    journal, project = folder / "journal", folder / "everstep.toml"
    serving = [sys.executable, "-m", "benchmarks.endless", str(journal)]
    process = Process("endless", [*serving, "model"], clean_environment(), folder)
    process.start()
    try:
        url = str((await process.ready_line())["url"])
        given = {"command": serving[0], "args": [*serving[1:], "mcp"], "cwd": str(ROOT)}
        project.write_text(PROJECT.format(url=url, **{name: json.dumps(value) for name, value in given.items()}))
        async with running_server(folder) as (server, address), httpx.AsyncClient() as unused:
            client = await connect(address, folder)
            stand = Stand(folder, Model(process, url, unused), server, client)
            spec = {"server": "endless", "kind": "tool", "tool": "wait"}
            stand.learn(TASKS["tool"], ToolContract(name="endless_wait", type="mcp", spec=spec))
            try:
                await stand.start_worker(Side.OURS, project)
                bench = Bench(stand, journal)
                took = {what: [await bench.cancel(what) for _ in range(rounds)] for what in TASKS}
            finally:
                await asyncio.gather(*(one.stop() for one in stand.workers.values()))
    finally:
        await process.stop()
    return [Delays(what, tuple(sorted(seconds))) for what, seconds in took.items()]


TITLES = {"model": "a model that is writing", "tool": "a tool of an MCP server (stdio)"}


def markdown(found: Sequence[Delays], around: Mapping[str, Any]) -> str:
    """Return the circumstances and the table as Markdown."""
    lines = [
        f"Measured on {around['date']}: {around['cpus']} CPUs ({around['system']}), Python {around['python']}; "
        f"{around['rounds']} cancels of each kind; load average before {around['load_before']}.",
        "",
        "| from the cancel until it arrives at | median | 95th percentile | longest |",
        "| --- | --- | --- | --- |",
        *(f"| {TITLES[one.what]} | {' | '.join(one.row()[1:])} |" for one in found),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run the bench of cancels.

    Args:
        arguments: Of the command line, behind `cancels`.

    Returns:
        Exit code: 1 if one took longer than 1.5 s; 130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks cancels", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="cancels of each kind")
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-cancels-") as name:
        try:
            found = asyncio.run(measure(Path(name), given.rounds))
        except KeyboardInterrupt:
            return 130
    around = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "load_before": round(before[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "rounds": given.rounds,
    }
    table = Table(title="[bold]From the cancel of an execution until it arrives")
    for column in ("at", "median", "95 %", "longest"):
        table.add_column(column)
    for one in found:
        table.add_row(TITLES[one.what], *one.row()[1:])
    Console(width=None if os.isatty(1) else 120).print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    body = {**around, **{one.what: [round(value, 3) for value in one.seconds] for one in found}}
    (RESULTS / "cancels.json").write_text(f"{json.dumps(body, indent=1)}\n", encoding="utf-8")
    if given.page:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(MARK.sub(lambda m: f"{m[1]}{markdown(found, around)}{m[2]}", text), encoding="utf-8")
    return 0 if all(one.seconds[-1] <= WANTED_S for one in found) else 1
