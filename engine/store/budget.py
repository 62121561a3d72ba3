"""How much one page of a list holds: long values end it early, before they are read from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

PAGE_CHARS = 8_000_000
"""What the values of one page hold together at most; one item is always there."""
SIZED_AT_ONCE = 100
"""Items whose lengths are asked for at a time: SQLite reads a text to tell how long it is."""

T = TypeVar("T")


def within(items: Sequence[T], lengths: Callable[[Sequence[T]], Sequence[int]]) -> int:
    """Return how many items, from the first on, one page can hold; never 0 unless there are none.

    Args:
        items: The items, in order.
        lengths: Tells the lengths of some of them.
    """
    room = PAGE_CHARS
    for begin in range(0, len(items), SIZED_AT_ONCE):
        for place, length in enumerate(lengths(items[begin : begin + SIZED_AT_ONCE]), begin):
            room -= length
            if room < 0 and place:
                return place
    return len(items)
