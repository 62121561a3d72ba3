"""The `for` parts of comprehensions: what they go through, in which variables, at what price. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.errors import ExpressionError
from engine.core.lang.containers import iterate
from engine.core.lang.context import Frame, Run
from engine.core.lang.failures import blame, fail, type_name


@dataclass(slots=True)
class Loop:
    """One `for` part of a comprehension.

    Attributes:
        items: What is looped over.
        slot: Variable of an item.
        cost: Units of one round, known when the body is compiled.
        offset: Place in the source.
        unpack: Spreads an item over several variables, or None.
        test: The `if` parts as one, or None.
    """

    items: Run
    slot: int
    offset: int
    cost: int = 1
    unpack: Callable[[Frame, Any], None] | None = None
    test: Run | None = None

    def start(self, frame: Frame) -> Any:
        """Return the items after paying for all rounds."""
        values = self.items(frame)
        try:
            found = iterate(values)
            frame.fuel.charge(len(found) * self.cost)
        except ExpressionError as error:
            blame(error, self.offset)
        return found


def nest(loop: Loop, inner: Callable[[Frame, Any], None]) -> Callable[[Frame, Any], None]:
    """Return what goes through a loop and calls `inner`, the next loop or the element, in each round that counts."""
    slot, unpack, test = loop.slot, loop.unpack, loop.test

    def walk(frame: Frame, result: Any) -> None:
        slots = frame.slots
        for slots[slot] in loop.start(frame):
            if unpack is not None:
                unpack(frame, slots[slot])
            if test is None or test(frame):
                inner(frame, result)

    return walk


def make_unpack(targets: Sequence[int | Callable[[Frame, Any], None]], offset: int) -> Callable[[Frame, Any], None]:
    """Return what spreads a list of fixed length over variables; a target may be such a function itself."""
    wanted = len(targets)

    def unpack(frame: Frame, item: Any) -> None:
        if not isinstance(item, (list, tuple)) or len(item) != wanted:
            got = f"{len(item)} items" if isinstance(item, (list, tuple)) else type_name(item)
            hint = "use .items() for the pairs of an object"
            raise fail("type", f"cannot take {wanted} variables from {got}", hint, offset)
        for target, value in zip(targets, item, strict=True):
            if isinstance(target, int):
                frame.slots[target] = value
            else:
                target(frame, value)

    return unpack
