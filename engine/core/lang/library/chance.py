"""The module random and uuid(), computed from the seed and the number of the draw. Workflow-safe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from engine.core.lang.containers import iterate
from engine.core.lang.context import Frame
from engine.core.lang.failures import fail, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_int

DRAW_UNITS: Final = 3
MAX_ITEMS: Final = 10_000
MAX_SPAN_BITS: Final = 192
"""Drawn numbers have 256 bits; below this span the remainder favours no value by more than 2**-64."""


def _draw(frame: Frame) -> int:
    frame.fuel.charge(DRAW_UNITS)
    counter = frame.context.draws
    counter.made += 1
    text = f"{frame.context.seed}\x00{counter.made}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest(), "big")


def new_uuid(frame: Frame) -> str:
    """Return a UUID text of version 4."""
    bits = _draw(frame) >> 128
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def fraction(frame: Frame) -> float:
    """Return a number from 0 to below 1."""
    return (_draw(frame) >> 203) / (1 << 53)


def between(frame: Frame, low: Any, high: Any) -> float:
    """Return a number from `low` to `high`."""
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float))):
        raise wrong_type("the bounds must be numbers")
    return low + (high - low) * fraction(frame)


def whole_number(frame: Frame, low: Any, high: Any) -> int:
    """Return a whole number from `low` to `high`, both included."""
    first, last = need_int(low, "the lower bound"), need_int(high, "the upper bound")
    span = last - first + 1
    if span <= 0:
        raise fail("value", "no number lies between the bounds", "the lower bound comes first")
    if span.bit_length() > MAX_SPAN_BITS:
        raise fail("too_large", "the bounds are too far apart")
    return first + _draw(frame) % span


def _sequence(frame: Frame, value: Any) -> list[Any]:
    items = iterate(value)
    if len(items) > MAX_ITEMS:
        raise fail("too_large", f"random takes at most {MAX_ITEMS:,} items")
    frame.fuel.charge((len(items) >> 2) + 1)
    return list(items)


def choice(frame: Frame, items: Any) -> Any:
    """Return one of the items."""
    values = _sequence(frame, items)
    if not values:
        raise fail("value", "random.choice() got no items")
    return values[_draw(frame) % len(values)]


def sample(frame: Frame, items: Any, k: Any) -> list[Any]:
    """Return `k` different items in random order."""
    values = _sequence(frame, items)
    wanted = need_int(k, "the number of items")
    if not 0 <= wanted <= len(values):
        raise fail("value", f"cannot draw {wanted} of {len(values)} items")
    for place in range(wanted):
        other = place + _draw(frame) % (len(values) - place)
        values[place], values[other] = values[other], values[place]
    return values[:wanted]


def shuffle(frame: Frame, items: Any) -> list[Any]:
    """Return the items in random order; unlike Python's, it gives the new list back."""
    return sample(frame, items, len(iterate(items)))


def choices(frame: Frame, items: Any, k: Any = 1) -> list[Any]:
    """Return `k` items, each drawn from all."""
    values = _sequence(frame, items)
    count = need_int(k, "k")
    if not values:
        raise fail("value", "random.choices() got no items")
    if count > MAX_ITEMS:
        raise fail("too_large", f"random draws at most {MAX_ITEMS:,} items")
    return [values[_draw(frame) % len(values)] for _ in range(count)]


def from_range(frame: Frame, start: Any, stop: Any = None, step: Any = 1) -> int:
    """Return one number of `range(start, stop, step)`."""
    first, last = (0, start) if stop is None else (start, stop)
    numbers = range(need_int(first, "start"), need_int(last, "stop"), need_int(step, "step"))
    # the length is computed from the bounds since len() overflows on giants
    size = max(0, (numbers.stop - numbers.start + numbers.step - (1 if numbers.step > 0 else -1)) // numbers.step)
    if not size:
        raise fail("value", "random.randrange() got an empty range")
    if size.bit_length() > MAX_SPAN_BITS:
        raise fail("too_large", "the bounds are too far apart")
    return numbers.start + numbers.step * (_draw(frame) % size)


UUID: Final = Function(
    "uuid",
    new_uuid,
    0,
    0,
    framed=True,
    doc=Doc("uuid()", "A new id, the same again in a replay.", "len(uuid())", 36),
)


def _random(name: str, code: Callable[..., Any], least: int, most: int, doc: Doc, *keywords: str) -> Function:
    return Function(f"random.{name}", code, least, most, keywords=keywords, framed=True, doc=doc)


RANDOM: Final = module(
    "random",
    _random("choice", choice, 1, 1, Doc("random.choice(items)", "One of the items.", "random.choice('aaa')", "a")),
    _random(
        "choices",
        choices,
        1,
        2,
        Doc("random.choices(items, k=1)", "k items, each drawn from all.", "random.choices('a', k=2)", ["a", "a"]),
        "k",
    ),
    _random(
        "randint",
        whole_number,
        2,
        2,
        Doc("random.randint(low, high)", "A whole number, both bounds included.", "random.randint(3, 3)", 3),
    ),
    _random(
        "random", fraction, 0, 0, Doc("random.random()", "A number from 0 to below 1.", "random.random() < 1", True)
    ),
    _random(
        "randrange",
        from_range,
        1,
        3,
        Doc("random.randrange(start, stop, step)", "A number of that range.", "random.randrange(1)", 0),
    ),
    _random(
        "sample",
        sample,
        2,
        2,
        Doc("random.sample(items, k)", "k different items.", "sorted(random.sample([1, 2], 2))", [1, 2]),
        "k",
    ),
    _random(
        "shuffle",
        shuffle,
        1,
        1,
        Doc("random.shuffle(items)", "A new list in random order.", "sorted(random.shuffle([2, 1]))", [1, 2]),
    ),
    _random(
        "uniform", between, 2, 2, Doc("random.uniform(low, high)", "A number between.", "random.uniform(1, 1)", 1.0)
    ),
)
