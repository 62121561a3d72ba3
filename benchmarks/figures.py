"""What is measured, in which unit, with which target, and the statistics of pairs: median, spread, ratio, verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.steady import Sample

LIMIT = 1.15
"""Ours may cost so many times what the hand-written form costs."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        id: Key in the results.
        workload: What `--only` calls it.
        title: What a reader calls it.
        unit: Its unit.
        more_is_better: Whether it is a rate.
        cpu_unit: What the CPU time is counted per; empty = not measured.
        first: First target; None = none.
        goal: Goal; None = none.
        compared: Whether a ratio to the hand-written form is wanted within the limit.
    """

    id: str
    workload: str
    title: str
    unit: str
    more_is_better: bool = False
    cpu_unit: str = ""
    first: float | None = None
    goal: float | None = None
    compared: bool = True


FIGURES = (
    Figure("w1", "W1", "chain of 10 LLM steps, LLM 0 ms", "ms/step", cpu_unit="step", first=10, goal=3),
    Figure("w2_0ms", "W2", "200 × LLM → pure → LLM at once, LLM 0 ms", "exec/s", True, "execution", 45, 120),
    Figure("w2_50ms", "W2", "200 × LLM → pure → LLM at once, LLM 50 ms", "exec/s", True, "execution", 45, 120),
    Figure("w3", "W3", "map of 200 LLM calls (50 ms), 20 at a time, fold", "s", False, "execution", 0.9, 0.6),
    Figure("w4_50", "W4", "50 pure steps, start to result", "s", False, "execution", 0.3),
    Figure("w4_100", "W4", "100 pure steps, start to result", "s", False, "execution", 0.05, 0.03),
    Figure("w4_1000", "W4", "1,000 pure steps, start to result", "s", False, "execution", 2),
    Figure("w5", "W5", "cold start to the first result", "s", False, "start", 2, 1, compared=False),
    Figure("w7", "W7", "kill -9 in the middle of W2 (50 ms): recovery", "s", first=8, goal=6),
    Figure("herd", "herd", "60 long executions, kill -9: until all finished", "s"),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """A list of values in short.

    Attributes:
        median: Their median.
        low: The smallest.
        high: The largest.
        mad: Median absolute deviation from the median.
    """

    median: float
    low: float
    high: float
    mad: float


def spread_of(values: Sequence[float]) -> Spread:
    """Summarise values, at least one."""
    median = statistics.median(values)
    return Spread(median, min(values), max(values), statistics.median(abs(value - median) for value in values))


@dataclass(slots=True)
class Series:
    """The samples of one figure, pair by pair.

    Attributes:
        figure: What is measured.
        ours: Samples of our side.
        hand: Samples of the hand-written side.
        failure: Why the figure could not be measured; empty if it was.
    """

    figure: Figure
    ours: list[Sample] = field(default_factory=list)
    hand: list[Sample] = field(default_factory=list)
    failure: str = ""

    def ratios(self) -> list[float]:
        """Return what ours costs in units of the hand-written form, pair by pair; above 1 = ours is slower."""
        pairs = zip(self.ours, self.hand, strict=True)
        if self.figure.more_is_better:
            return [hand.value / ours.value for ours, hand in pairs]
        return [ours.value / hand.value for ours, hand in pairs]

    def cpu_ratios(self) -> list[float]:
        """Return the ratio of the CPU times, pair by pair; empty if they were not measured."""
        pairs = zip(self.ours, self.hand, strict=True)
        return [ours.cpu_ms / hand.cpu_ms for ours, hand in pairs if ours.cpu_ms and hand.cpu_ms]

    def verdict(self) -> str:
        """Say whether ours stays within the limit, as far as the spread allows.

        With seven pairs, the second smallest and second largest ratio enclose the true median in 87 of 100 cases.
        """
        if not self.figure.compared:
            return "not compared: ours starts more"
        ratios = sorted(self.ratios())
        inner = ratios[1:-1] if len(ratios) >= 5 else ratios
        if inner[-1] <= LIMIT:
            return f"within {LIMIT:g}×"
        if inner[0] > LIMIT:
            return f"beyond {LIMIT:g}×"
        return "the spread does not tell"

    def target_reached(self) -> str:
        """Say which of our targets the median reaches: `goal`, `first`, `missed`, or nothing if there is none."""
        value = spread_of([sample.value for sample in self.ours]).median
        for name, bound in (("goal", self.figure.goal), ("first", self.figure.first)):
            if bound is not None and (value >= bound if self.figure.more_is_better else value <= bound):
                return name
        return "" if self.figure.first is None else "missed"

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        figure = self.figure
        body: dict[str, Any] = {
            "title": figure.title,
            "unit": figure.unit,
            "first_target": figure.first,
            "goal": figure.goal,
            "reached": self.target_reached(),
            "ours": _side_json(self.ours),
            "hand": _side_json(self.hand),
            "ratio": _spread_json(self.ratios()),
            "verdict": self.verdict(),
        }
        if cpu := self.cpu_ratios():
            body["cpu_ratio"] = _spread_json(cpu)
            body["cpu_unit"] = f"ms per {figure.cpu_unit}"
        return body


def _side_json(samples: Sequence[Sample]) -> dict[str, Any]:
    body = _spread_json([sample.value for sample in samples])
    cpu = [sample.cpu_ms for sample in samples if sample.cpu_ms is not None]
    if cpu:
        body["cpu_ms"] = _spread_json(cpu)
    names = list(samples[0].facts)
    if names:
        body["facts"] = {name: _spread_json([sample.facts[name] for sample in samples]) for name in names}
    return body


def _spread_json(values: Sequence[float]) -> dict[str, Any]:
    spread = spread_of(values)
    return {
        "median": _round(spread.median),
        "min": _round(spread.low),
        "max": _round(spread.high),
        "mad": _round(spread.mad),
        "values": [_round(value) for value in values],
    }


def _round(value: float) -> float:
    return float(f"{value:.4g}")
