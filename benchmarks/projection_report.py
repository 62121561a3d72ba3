"""Shows what the bench of the projection found: a table for the terminal, Markdown for docs/benchmarks.md, JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT

HEADS = ("read", "limit", "store", "HTTP", "HTTP, while events are written", "held")
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = re.compile(r"(<!-- projection:begin -->\n).*?(<!-- projection:end -->)", re.DOTALL)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one read, in milliseconds.

    Attributes:
        title: What a reader calls it.
        limit_ms: What it may take (95th percentile over HTTP, nothing being written); None = no limit.
        store: At the store.
        http: Over HTTP.
        loaded: Over HTTP while events are written.
    """

    title: str
    limit_ms: float | None
    store: Sequence[float]
    http: Sequence[float]
    loaded: Sequence[float]

    @property
    def missed(self) -> bool:
        """Whether it took longer than it may."""
        return self.limit_ms is not None and percentile(self.http, 95) >= self.limit_ms

    def cells(self) -> list[str]:
        """Return its line of the table."""
        limit = "-" if self.limit_ms is None else f"< {self.limit_ms:g}"
        held = "" if self.limit_ms is None else "no" if self.missed else "yes"
        return [self.title, limit, *(_cell(values) for values in (self.store, self.http, self.loaded)), held]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        sides = {"store": self.store, "http": self.http, "http_loaded": self.loaded}
        return {
            "limit_ms": self.limit_ms,
            "held": None if self.limit_ms is None else not self.missed,
            **{
                name: {f"p{percent}": round(percentile(values, percent), 3) for percent in (50, 95, 99)}
                for name, values in sides.items()
            },
        }


def _cell(values: Sequence[float]) -> str:
    return " / ".join(f"{percentile(values, percent):.3g}" for percent in (50, 95, 99))


def show(measured: Sequence[Measured], around: Mapping[str, Any]) -> None:
    """Print the table."""
    console = Console(width=None if os.isatty(1) else 170)
    table = Table(title="[bold]reads of the projection: ms, p50 / p95 / p99", show_lines=False)
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for one in measured:
        table.add_row(*one.cells())
    console.print(table)
    console.print(_told(around), markup=False)


def _told(around: Mapping[str, Any]) -> str:
    writer = around["writer"]
    return (
        f"{around['executions']:,} executions, {around['events']:,} events, {around['store_mb']} MB; "
        f"{around['repeats']} requests for each cell, one after another. {around['clients']} readers at once: "
        f"{around['requests_per_s']:g} pages a second, while events are written {around['requests_per_s_loaded']:g}. "
        f"The writer wrote {writer['events_per_s']:g} events a second of {writer['asked_per_s']} asked for, batches "
        f"took {writer['batch_p50_ms']:g} ms (p95 {writer['batch_p95_ms']:g}). Load average before "
        f"{around['load_before']}."
    )


def markdown(measured: Sequence[Measured], around: Mapping[str, Any]) -> str:
    """Return the table and the circumstances as Markdown."""
    lines = [
        f"Measured on {dt.datetime.now(dt.UTC).date()}: {os.cpu_count()} CPUs ({platform.system()} "
        f"{platform.machine()}), Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}. {_told(around)}",
        "",
        f"| {' | '.join(HEADS)} |",
        f"|{' --- |' * len(HEADS)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(one.cells())} |" for one in measured)]) + "\n"


def save(folder: Path, measured: Sequence[Measured], around: Mapping[str, Any]) -> None:
    """Write projection.json and projection.md."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {**around, "date": dt.datetime.now(dt.UTC).date().isoformat()}
    body["reads"] = {one.title: one.to_json() for one in measured}
    (folder / "projection.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "projection.md").write_text(markdown(measured, around), encoding="utf-8")


def put_into(measured: Sequence[Measured], around: Mapping[str, Any], page: Path = PAGE) -> None:
    """Replace what stands between the marks of the page.

    Raises:
        ValueError: If the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if not MARK.search(text):
        raise ValueError(f"{page.name} has no marks <!-- projection:begin --> and <!-- projection:end -->")
    part = markdown(measured, around)
    page.write_text(MARK.sub(lambda match: f"{match[1]}{part}{match[2]}", text), encoding="utf-8")
