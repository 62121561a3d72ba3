"""Builds the closures of literals, operators, comparisons and displays; calls and names are in `nodes`. Workflow-safe.

A closure takes the frame and returns a value. What runs once is paid for by the number of nodes when the evaluation
starts; loops pay for all rounds before the first; operations whose price depends on values pay for themselves.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.lang.containers import check_key, iterate
from engine.core.lang.context import ITEM_SHIFT, SLOT_SHIFT, TEXT_SHIFT, UNSET, Frame, Run
from engine.core.lang.failures import CAUGHT, blame, type_name, wrong_type
from engine.core.lang.operators import BINARY, COMPARE
from engine.core.lang.problems import Problem


@dataclass(slots=True)
class Closures:
    """Makes closures and remembers what the static check must know.

    Attributes:
        nodes: Number of nodes so far.
        slots: Number of local variables so far.
        reads: Free root names with their places.
        members: Members of library modules that are read: module, member, whether it is called, place.
        found: Problems that do not depend on the known names.
        constants: Values of the closures that are literals.
    """

    nodes: int = 0
    slots: int = 0
    reads: list[tuple[str, int]] = field(default_factory=list)
    members: list[tuple[str, str, bool, int]] = field(default_factory=list)
    found: list[Problem] = field(default_factory=list)
    constants: dict[Run, Any] = field(default_factory=dict)

    # --- literals and variables ---

    def constant(self, value: Any) -> Run:
        """Return the closure of a literal."""

        def run(frame: Frame) -> Any:
            return value

        self.constants[run] = value
        return run

    def new_slot(self) -> int:
        """Return the number of a new local variable."""
        self.slots += 1
        return self.slots - 1

    def local(self, slot: int) -> Run:
        """Return the closure that reads a local variable."""
        return lambda frame: frame.slots[slot]

    # --- operations ---

    def binary(self, symbol: str, left: Run, right: Run, offset: int) -> Run:
        """Return the closure of an arithmetic operation."""
        apply = BINARY[symbol]
        if symbol in ("/", "//", "%") and self.constants.get(right, 1) == 0 and self.constants[right] is not False:
            self.found.append(Problem(offset, "expression.zero_division", "division by zero"))

        def run(frame: Frame) -> Any:
            try:
                return apply(left(frame), right(frame), frame.fuel)
            except CAUGHT as error:
                blame(error, offset)

        return run

    def unary(self, symbol: str, operand: Run, offset: int) -> Run:
        """Return the closure of `-x`, `+x`, `~x` or `not x`."""
        if symbol == "not":
            return lambda frame: not operand(frame)
        apply = _SIGNS[symbol]
        known = self.constants.get(operand)
        if isinstance(known, (int, float)) and not (symbol == "~" and isinstance(known, (float, bool))):
            return self.constant(apply(known))

        def run(frame: Frame) -> Any:
            value = operand(frame)
            try:
                if not isinstance(value, (int, float, dt.timedelta)):
                    raise wrong_type(f"{type_name(value)} has no sign", "only numbers do")
                return apply(int(value) if isinstance(value, bool) else value)
            except CAUGHT as error:
                blame(error, offset)

        return run

    def compare(self, left: Run, tests: Sequence[tuple[str, Run]], offset: int) -> Run:
        """Return the closure of a comparison or a chain of them."""
        if len(tests) == 1:
            return self._single_compare(left, tests[0][0], tests[0][1], offset)
        chain = [(COMPARE[symbol], right) for symbol, right in tests]

        def run(frame: Frame) -> bool:
            value = left(frame)
            try:
                for test, right in chain:
                    other = right(frame)
                    if not test(value, other, frame.fuel):
                        return False
                    value = other
            except CAUGHT as error:
                blame(error, offset)
            return True

        return run

    def _single_compare(self, left: Run, symbol: str, right: Run, offset: int) -> Run:
        test = COMPARE[symbol]
        known = self.constants.get(right, UNSET)
        if symbol in ("==", "!=") and _is_plain(known):
            # one side of constant size: the comparison costs nothing, whatever the other side is
            if symbol == "==":
                return lambda frame: left(frame) == known
            return lambda frame: left(frame) != known
        if symbol in _NUMBER_TESTS and type(known) in (int, float):
            quick = _NUMBER_TESTS[symbol]

            def run_number(frame: Frame) -> Any:
                value = left(frame)
                kind = type(value)
                if kind is int or kind is float:
                    return quick(value, known)
                try:
                    return test(value, known, frame.fuel)
                except CAUGHT as error:
                    blame(error, offset)

            return run_number

        def run(frame: Frame) -> Any:
            try:
                return test(left(frame), right(frame), frame.fuel)
            except CAUGHT as error:
                blame(error, offset)

        return run

    def both(self, parts: Sequence[Run]) -> Run:
        """Return the closure of `a and b …`."""
        *heads, last = parts
        if len(heads) == 1:
            head = heads[0]
            return lambda frame: head(frame) and last(frame)

        def run(frame: Frame) -> Any:
            for part in heads:
                value = part(frame)
                if not value:
                    return value
            return last(frame)

        return run

    def either(self, parts: Sequence[Run]) -> Run:
        """Return the closure of `a or b …`."""
        *heads, last = parts
        if len(heads) == 1:
            head = heads[0]
            return lambda frame: head(frame) or last(frame)

        def run(frame: Frame) -> Any:
            for part in heads:
                value = part(frame)
                if value:
                    return value
            return last(frame)

        return run

    def choose(self, test: Run, then: Run, other: Run) -> Run:
        """Return the closure of `then if test else other`."""
        return lambda frame: then(frame) if test(frame) else other(frame)

    # --- displays ---

    def array(self, items: Sequence[tuple[Run, bool]], offset: int, make: Callable[..., Any] = list) -> Run:
        """Return the closure of `[a, *b]` or, by `make`, of a tuple; items are (closure, whether starred)."""
        plain = [item for item, starred in items if not starred]
        if len(plain) == len(items):
            if make is list:
                return lambda frame: [item(frame) for item in plain]
            return lambda frame: make([item(frame) for item in plain])

        def run(frame: Frame) -> Any:
            try:
                return make(spread(frame, items))
            except CAUGHT as error:
                blame(error, offset)

        return run

    def object(self, items: Sequence[tuple[Run | None, Run]], offset: int) -> Run:
        """Return the closure of `{k: v, **other}`; items without a key are objects to merge."""
        keys = [self.constants.get(key, UNSET) if key is not None else UNSET for key, _ in items]
        if all(type(key) is str for key in keys):
            pairs = [(key, value) for key, (_, value) in zip(keys, items, strict=True)]
            return lambda frame: {key: value(frame) for key, value in pairs}

        def run(frame: Frame) -> Any:
            result: dict[Any, Any] = {}
            try:
                for key, value in items:
                    if key is not None:
                        name = check_key(key(frame), len(result), frame.fuel)
                        result[name] = value(frame)
                        continue
                    other = value(frame)
                    if not isinstance(other, Mapping):
                        raise wrong_type(f"** takes an object, not {type_name(other)}")
                    frame.fuel.charge((len(other) >> 2) + 1)
                    result.update(other)
            except CAUGHT as error:
                blame(error, offset)
            return result

        return run

    # --- slices ---

    def slice(self, base: Run, parts: Sequence[Run | None], offset: int) -> Run:
        """Return the closure of `base[start:stop:step]`."""

        def run(frame: Frame) -> Any:
            value = base(frame)
            try:
                if not isinstance(value, (str, list, tuple, range)):
                    raise wrong_type(f"{type_name(value)} has no slices", "only text and lists do")
                wanted = slice(*(None if part is None else part(frame) for part in parts))
                size = len(range(*wanted.indices(len(value))))
                frame.fuel.charge(size >> (TEXT_SHIFT if isinstance(value, str) else SLOT_SHIFT))
                return value[wanted]
            except CAUGHT as error:
                blame(error, offset)

        return run


def spread(frame: Frame, items: Sequence[tuple[Run, bool]]) -> list[Any]:
    """Return the values of items, starred ones spread out."""
    result: list[Any] = []
    for item, starred in items:
        value = item(frame)
        if starred:
            values = iterate(value)
            frame.fuel.charge((len(values) >> ITEM_SHIFT) + 1)
            result.extend(values)
        else:
            result.append(value)
    return result


_SIGNS: Final[Mapping[str, Callable[[Any], Any]]] = {"-": operator.neg, "+": operator.pos, "~": operator.invert}

_NUMBER_TESTS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is float or kind is bool or value is None or (kind is str and len(value) <= 256)
