"""The module statistics of the library, computed with floating point in one or two passes. Workflow-safe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from engine.core.lang.containers import check_key, iterate
from engine.core.lang.context import Frame
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_int
from engine.core.lang.library.lists import order_keys

MAX_QUANTILES: Final = 1_000


def _numbers(frame: Frame, values: Any, name: str, least: int = 1) -> list[Any]:
    # a copy of the list, and about 0.1 µs a number for each pass over it
    frame.fuel.charge((len(iterate(values)) >> 1) + 2)
    items = list(iterate(values))
    if len(items) < least:
        wanted = "one number" if least == 1 else f"{least} numbers"
        raise fail("value", f"{name}() needs at least {wanted}", "test the list first: … if items else 0")
    for item in items:
        if not isinstance(item, (int, float)):
            raise wrong_type(f"{name}() found {type_name(item)} among the numbers", "leave out what is not a number")
    return items


def _sum(items: Sequence[Any]) -> Any:
    # sums of whole numbers stay exact
    return sum(items) if all(isinstance(item, int) for item in items) else math.fsum(items)


def _mean(frame: Frame, values: Any) -> Any:
    items = _numbers(frame, values, "mean")
    total = _sum(items)
    if isinstance(total, int) and total % len(items) == 0:
        return total // len(items)
    return total / len(items)


def _fmean(frame: Frame, values: Any, weights: Any = None) -> float:
    items = _numbers(frame, values, "fmean")
    if weights is None:
        return math.fsum(items) / len(items)
    shares = _numbers(frame, weights, "fmean")
    if len(shares) != len(items):
        raise fail("value", "fmean() needs as many weights as numbers")
    return math.fsum(item * share for item, share in zip(items, shares, strict=True)) / math.fsum(shares)


def _geometric_mean(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "geometric_mean")
    if any(item <= 0 for item in items):
        raise fail("value", "geometric_mean() takes positive numbers only")
    return math.exp(math.fsum(map(math.log, items)) / len(items))


def _harmonic_mean(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "harmonic_mean")
    if any(item < 0 for item in items):
        raise fail("value", "harmonic_mean() takes no negative numbers")
    if 0 in items:
        return 0.0
    return len(items) / math.fsum(1 / item for item in items)


def _in_order(frame: Frame, values: Any, name: str) -> list[Any]:
    items = _numbers(frame, values, name)
    order_keys(frame, items, None)
    frame.fuel.charge(len(items) * len(items).bit_length() >> 4)
    return sorted(items)


def _median(frame: Frame, values: Any) -> Any:
    items = _in_order(frame, values, "median")
    half = len(items) // 2
    return items[half] if len(items) % 2 else (items[half - 1] + items[half]) / 2


def _median_low(frame: Frame, values: Any) -> Any:
    items = _in_order(frame, values, "median_low")
    return items[(len(items) - 1) // 2]


def _median_high(frame: Frame, values: Any) -> Any:
    items = _in_order(frame, values, "median_high")
    return items[len(items) // 2]


def _counts(frame: Frame, values: Any, name: str) -> dict[Any, int]:
    items = iterate(values)
    if not len(items):
        raise fail("value", f"{name}() needs at least one item")
    frame.fuel.charge(len(items) + 1)
    counts: dict[Any, int] = {}
    for item in items:
        check_key(item, len(counts), frame.fuel)
        counts[item] = counts.get(item, 0) + 1
    return counts


def _mode(frame: Frame, values: Any) -> Any:
    counts = _counts(frame, values, "mode")
    return max(counts, key=counts.__getitem__)


def _multimode(frame: Frame, values: Any) -> list[Any]:
    counts = _counts(frame, values, "multimode")
    most = max(counts.values())
    return [item for item, count in counts.items() if count == most]


def _squares(items: Sequence[Any]) -> float:
    mean = _sum(items) / len(items)
    return math.fsum((item - mean) ** 2 for item in items)


def _variance(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "variance", 2)
    return _squares(items) / (len(items) - 1)


def _pvariance(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "pvariance")
    return _squares(items) / len(items)


def _stdev(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "stdev", 2)
    return math.sqrt(_squares(items) / (len(items) - 1))


def _pstdev(frame: Frame, values: Any) -> float:
    items = _numbers(frame, values, "pstdev")
    return math.sqrt(_squares(items) / len(items))


def _quantiles(frame: Frame, values: Any, n: Any = 4) -> list[float]:
    parts = need_int(n, "n")
    if not 1 <= parts <= MAX_QUANTILES:
        raise fail("value", f"quantiles() takes 1 to {MAX_QUANTILES:,} parts")
    _numbers(frame, values, "quantiles", 2)
    items = _in_order(frame, values, "quantiles")
    frame.fuel.charge(parts)
    cuts = []
    for part in range(1, parts):
        # Python's "exclusive" way: the items are taken for a sample of a larger whole
        place = min(max(part * (len(items) + 1) // parts, 1), len(items) - 1)
        rest = part * (len(items) + 1) - place * parts
        cuts.append((items[place - 1] * (parts - rest) + items[place] * rest) / parts)
    return cuts


def _correlation(frame: Frame, left: Any, right: Any) -> float:
    first, second = _numbers(frame, left, "correlation", 2), _numbers(frame, right, "correlation", 2)
    if len(first) != len(second):
        raise fail("value", "correlation() needs two lists of the same length")
    mean_first, mean_second = _sum(first) / len(first), _sum(second) / len(second)
    both = math.fsum((a - mean_first) * (b - mean_second) for a, b in zip(first, second, strict=True))
    spread = math.sqrt(_squares(first) * _squares(second))
    if not spread:
        raise fail("value", "correlation() needs numbers that differ")
    return both / spread


def _function(name: str, code: Callable[..., Any], text: str, example: str, result: Any, **more: Any) -> Function:
    arguments = more.pop("arguments", "numbers")
    most = arguments.count(",") + 1
    least = most - arguments.count("=")
    doc = Doc(f"statistics.{name}({arguments})", text, f"statistics.{name}({example})", result)
    return Function(f"statistics.{name}", code, least, most, framed=True, doc=doc, **more)


STATISTICS: Final = module(
    "statistics",
    _function(
        "correlation", _correlation, "Pearson's correlation.", "[1, 2, 3], [2, 4, 6]", 1.0, arguments="left, right"
    ),
    _function(
        "fmean",
        _fmean,
        "The mean, with a point; weights are possible.",
        "[1, 2], [1, 3]",
        1.75,
        arguments="numbers, weights=null",
        keywords=("weights",),
    ),
    _function("geometric_mean", _geometric_mean, "The n-th root of the product.", "[1, 1, 1]", 1.0),
    _function("harmonic_mean", _harmonic_mean, "The mean of rates.", "[2, 2]", 2.0),
    _function("mean", _mean, "The arithmetic mean.", "[1, 2, 3, 4]", 2.5),
    _function("median", _median, "The middle, or the mean of the two in the middle.", "[3, 1, 2]", 2),
    _function("median_high", _median_high, "The higher of the two in the middle.", "[1, 2, 3, 4]", 3),
    _function("median_low", _median_low, "The lower of the two in the middle.", "[1, 2, 3, 4]", 2),
    _function("mode", _mode, "The item that occurs most often.", "['a', 'b', 'b']", "b", arguments="items"),
    _function(
        "multimode",
        _multimode,
        "All items that occur most often.",
        "['a', 'b']",
        ["a", "b"],
        arguments="items",
    ),
    _function("pstdev", _pstdev, "The standard deviation of all there is.", "[2, 4, 4, 4, 5, 5, 7, 9]", 2.0),
    _function("pvariance", _pvariance, "The variance of all there is.", "[1, 3]", 1.0),
    _function(
        "quantiles",
        _quantiles,
        "The n - 1 numbers that part the sample in n.",
        "[1, 2, 3], n=2",
        [2.0],
        arguments="numbers, n=4",
        keywords=("n",),
    ),
    _function("stdev", _stdev, "The standard deviation of a sample.", "[1, 3, 5]", 2.0),
    _function("variance", _variance, "The variance of a sample.", "[1, 3, 5]", 4.0),
)
