"""`python -m benchmarks`: ours and hand-written in turns; with a word behind it `projection`, `streams`, and so on."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cancels, cold, crashes, docs, failover, projection, report, steady, streams
from benchmarks.crashes import Herds
from benchmarks.figures import FIGURES, Series, spread_of
from benchmarks.processes import ROOT
from benchmarks.stand import Model, Side, Stand, running_model, running_stand, write_project
from benchmarks.steady import FULL, QUICK, Sample, Size

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

Probe = Callable[[Side], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        pairs: Pairs of every figure.
        only: Workloads; empty = all.
        size: Amounts.
        warm_up: Whether to run every figure once on each side before it counts.
    """

    pairs: int
    only: frozenset[str]
    size: Size
    warm_up: bool


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def order_of(number: int) -> tuple[Side, Side]:
    """Return which side is measured first in a pair: ours, theirs, theirs, ours, and so on."""
    return (Side.OURS, Side.HAND) if number % 2 == 0 else (Side.HAND, Side.OURS)


async def measure(series: Series, probe: Probe, plan: Plan, *, warm_up: bool) -> None:
    """Measure one figure, pair after pair.

    Args:
        series: Takes the samples.
        probe: Measures once.
        plan: How often.
        warm_up: Whether to run each side once before.
    """
    began = time.monotonic()
    side = Side.OURS
    try:
        if warm_up and plan.warm_up:
            for side in order_of(0):
                await probe(side)
        for number in range(plan.pairs):
            for side in order_of(number):
                (series.ours if side is Side.OURS else series.hand).append(await probe(side))
    except TimeoutError:
        # one workload that hangs must not cost the results of the others
        series.failure = f"{side}: not finished within {crashes.LIMIT_S:g} s"
        say(f"{series.figure.id:8} {series.failure}")
        return
    ours, hand = (spread_of([sample.value for sample in samples]) for samples in (series.ours, series.hand))
    ratio = spread_of(series.ratios())
    say(
        f"{series.figure.id:8} ours {ours.median:.3g} hand {hand.median:.3g} {series.figure.unit}, "
        f"ratio {ratio.median:.2f} [{ratio.low:.2f}-{ratio.high:.2f}], {time.monotonic() - began:.0f} s"
    )


def stand_probes(stand: Stand, size: Size) -> dict[str, Probe]:
    """Return the measurements that share one stand, by figure."""
    measures: dict[str, steady.Measure] = {
        "w1": steady.w1,
        "w2_0ms": steady.w2_fast,
        "w2_50ms": steady.w2_slow,
        "w3": steady.w3,
        "w4_50": steady.w4(50),
        "w4_100": steady.w4(100),
        "w4_1000": steady.w4(1000),
        "w7": crashes.w7,
    }

    def bound(one: steady.Measure) -> Probe:
        return lambda side: one(stand, side, size)

    return {name: bound(one) for name, one in measures.items()}


async def run(plan: Plan, folder: Path) -> list[Series]:
    """Measure everything that the plan names.

    Args:
        plan: What to run.
        folder: A temporary folder.
    """
    me = asyncio.current_task()
    assert me is not None
    # so that the processes are ended and the folders removed
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    wanted = [Series(figure) for figure in FIGURES if not plan.only or figure.workload in plan.only]
    async with running_model(folder) as model:
        project = write_project(folder, model)
        on_stand = [series for series in wanted if series.figure.id not in ("w5", "herd")]
        if on_stand:
            async with running_stand(folder / "stand", model, project, Side.OURS, Side.HAND) as stand:
                probes = stand_probes(stand, plan.size)
                for series in on_stand:
                    await measure(series, probes[series.figure.id], plan, warm_up=series.figure.id != "w7")
        await run_alone(wanted, plan, model, folder, project)
    return wanted


async def run_alone(wanted: list[Series], plan: Plan, model: Model, folder: Path, project: Path) -> None:
    """Measure what needs servers of its own: the cold start and the herd."""
    herds = Herds(folder, model, project, plan.size)
    for series in wanted:
        if series.figure.id == "w5":
            await measure(series, lambda side: cold.measure(side, project), plan, warm_up=True)
        elif series.figure.id == "herd":
            await measure(series, herds.measure, plan, warm_up=False)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--pairs", type=int, default=0, help="pairs of every figure (default 7, with --quick 2)")
    parser.add_argument("--only", default="", help="workloads, such as W1,W3,herd")
    parser.add_argument("--quick", action="store_true", help="small amounts and two pairs: checks the bench itself")
    parser.add_argument("--save", action="store_true", help="write results/latest.* although it is quick or partial")
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    known = {figure.workload.lower(): figure.workload for figure in FIGURES}
    names = [name.strip().lower() for name in arguments.only.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; there are {', '.join(known.values())}")
    arguments.only = frozenset(known[name] for name in names)
    return arguments


def main() -> int:
    """Run the bench.

    Returns:
        Exit code: 1 if a figure could not be measured, 130 if it was interrupted.
    """
    if sys.argv[1:2] == ["projection"]:
        return projection.main(sys.argv[2:])
    if sys.argv[1:2] == ["streams"]:
        return streams.main(sys.argv[2:])
    if sys.argv[1:2] == ["cancels"]:
        return cancels.main(sys.argv[2:])
    if sys.argv[1:2] == ["docs"]:
        return docs.main(sys.argv[2:])
    if sys.argv[1:2] == ["failover"]:
        return failover.main(sys.argv[2:])
    arguments = read_arguments()
    size = QUICK if arguments.quick else FULL
    plan = Plan(arguments.pairs or (2 if arguments.quick else 7), arguments.only, size, warm_up=not arguments.quick)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-bench-") as name:
        try:
            series = asyncio.run(run(plan, Path(name)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130
    failed = [one for one in series if one.failure]
    series = [one for one in series if not one.failure]
    report.show(series)
    around = report.circumstances(plan.pairs, size, before)
    if arguments.save or not (arguments.quick or arguments.only):
        report.save(RESULTS, around, series)
    if arguments.page:
        report.put_into_page(PAGE, report.page_part(around, series))
    for one in failed:
        say(f"{one.figure.workload}: {one.failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
