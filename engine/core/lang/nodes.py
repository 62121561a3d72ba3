"""Builds the closures of which a compiled expression or template consists; each front end calls it. Workflow-safe.

A closure takes the frame and returns a value. What runs once is paid for by the number of nodes when the evaluation
starts; loops pay for all rounds before the first; operations whose price depends on values pay for themselves.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.lang.access import module_function, no_method, raise_index, read_attribute, read_item
from engine.core.lang.containers import check_key, iterate
from engine.core.lang.context import ITEM_SHIFT, SLOT_SHIFT, TEXT_SHIFT, UNSET, Frame, Run
from engine.core.lang.failures import CAUGHT, blame, fail, suggest, type_name, unknown_name, wrong_type
from engine.core.lang.functions import Function, Module, invoke
from engine.core.lang.loops import Loop, nest
from engine.core.lang.methods import (
    ALL_METHOD_NAMES,
    methods_of,
)
from engine.core.lang.operators import BINARY, COMPARE
from engine.core.lang.stdlib import CONSTANTS, FUNCTIONS, LIBRARY_NAMES, MODULES

MAX_HINTS: Final = 20
NODE_SHIFT: Final = 3
"""2**3 nodes cost one unit."""
CALL_NODES: Final = 8
"""A call of a function takes about as long as so many nodes; of a method, which is looked up first, twice as long."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the static check found.

    Attributes:
        offset: Character of the source, from 0.
        code: Stable code, as the same mistake has at run time.
        message: What is wrong.
        hint: The remedy, or empty.
    """

    offset: int
    code: str
    message: str
    hint: str = ""


@dataclass(slots=True)
class Builder:
    """Makes closures and remembers what the static check must know.

    Attributes:
        nodes: Number of nodes so far.
        slots: Number of local variables so far.
        reads: Free root names with their places.
        members: Members of library modules that are read: module, member, whether it is called, place.
        found: Problems that do not depend on the known names.
    """

    nodes: int = 0
    slots: int = 0
    reads: list[tuple[str, int]] = field(default_factory=list)
    members: list[tuple[str, str, bool, int]] = field(default_factory=list)
    found: list[Problem] = field(default_factory=list)
    constants: dict[Run, Any] = field(default_factory=dict)

    # --- names and constants ---

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

    def name(self, name: str, offset: int) -> Run:
        """Return the closure that reads a root name; data wins over the library."""
        if name in CONSTANTS:
            return self.constant(CONSTANTS[name])
        library = FUNCTIONS.get(name) or MODULES.get(name)
        if library is not None:

            def run_library(frame: Frame) -> Any:
                return frame.env.get(name, library)

            return run_library
        self.reads.append((name, offset))

        def run(frame: Frame) -> Any:
            try:
                return frame.env[name]
            except KeyError:
                pass
            error = unknown_name(name, [*frame.env, *LIBRARY_NAMES])
            error.details["offset"] = offset
            raise error

        return run

    # --- access ---

    def attribute(self, base: Run, name: str, offset: int) -> Run:
        """Return the closure of `base.name`."""
        if name.startswith("__"):
            self.found.append(private_attribute(name, offset))

        def run(frame: Frame) -> Any:
            value = base(frame)
            if type(value) is dict and name in value:
                return value[name]
            try:
                return read_attribute(value, name)
            except ExpressionError as error:
                blame(error, offset)

        return run

    def subscript(self, base: Run, key: Run, offset: int) -> Run:
        """Return the closure of `base[key]`."""

        def run(frame: Frame) -> Any:
            value = base(frame)
            index = key(frame)
            kind = type(index)
            try:
                if kind is str and type(value) is dict:
                    return value[index] if index in value else read_item(frame, value, index)
                if kind is int and type(value) is list:
                    return value[index]
                return read_item(frame, value, index)
            except IndexError:
                raise_index(value, index, offset)
            except CAUGHT as error:
                blame(error, offset)

        return run

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

    # --- calls ---

    def call(self, name: str, args: Sequence[tuple[Run, bool]], keywords: Mapping[str, Run], offset: int) -> Run:
        """Return the closure of `name(…)` for a function of the library."""
        function = FUNCTIONS.get(name)
        if function is None:
            hint = suggest(name, FUNCTIONS) or "functions are listed in docs/expressions.md"
            if name in ALL_METHOD_NAMES:
                hint = f"{name} is a method: write value.{name}()"
            return self._broken("unknown_function", f"unknown function '{name}'", hint, offset)
        if not any(starred for _, starred in args):
            problem = function.misuse(len(args), tuple(keywords))
            if problem:
                return self._broken("arguments", problem, "", offset)
        return self.call_function(function, args, keywords, offset)

    def _broken(self, code: str, message: str, hint: str, offset: int) -> Run:
        self.found.append(Problem(offset, f"expression.{code}", message, hint))

        def run(frame: Frame) -> Any:
            raise fail(code, message, hint, offset)

        return run

    def call_function(
        self,
        function: Function,
        args: Sequence[tuple[Run, bool]],
        keywords: Mapping[str, Run],
        offset: int,
        *,
        bound: bool = False,
    ) -> Run:
        """Return the closure of a call of a known function; `bound` if the first argument is a filter's operand."""
        self.nodes += CALL_NODES
        plain = [arg for arg, starred in args if not starred]
        if keywords or len(plain) != len(args):

            def run_any(frame: Frame) -> Any:
                try:
                    values = spread(frame, args)
                    named = {name: value(frame) for name, value in keywords.items()}
                    return invoke(function, frame, values, named, bound=bound)
                except CAUGHT as error:
                    blame(error, offset)

            return run_any
        cost, code, framed = function.cost, function.run, function.framed

        def run(frame: Frame) -> Any:
            try:
                values = [arg(frame) for arg in plain]
                cost(frame.fuel, values)
                return code(frame, *values) if framed else code(*values)
            except CAUGHT as error:
                blame(error, offset)

        return run

    def call_method(
        self, base: Run, name: str, args: Sequence[tuple[Run, bool]], keywords: Mapping[str, Run], offset: int
    ) -> Run:
        """Return the closure of `base.name(…)`; data cannot be called, so here a method wins over a key."""
        self.nodes += CALL_NODES * 2
        if name.startswith("__"):
            self.found.append(private_attribute(name, offset))

        def run(frame: Frame) -> Any:
            value = base(frame)
            try:
                values = spread(frame, args)
                named = {key: item(frame) for key, item in keywords.items()}
                if type(value) is Module:
                    return invoke(module_function(value, name), frame, values, named)
                method = methods_of(value).get(name)
                if method is None:
                    raise no_method(value, name)
                return invoke(method, frame, [value, *values], named, bound=True)
            except CAUGHT as error:
                blame(error, offset)

        return run

    # --- loops ---

    def comprehension(self, loops: Sequence[Loop], emit: Callable[[Frame, Any], None], make: Callable[[], Any]) -> Run:
        """Return the closure of a comprehension of any kind.

        Args:
            loops: The `for` parts, outermost first.
            emit: Computes one element and adds it to the result.
            make: Returns the empty result.
        """
        inner = emit
        for loop in reversed(loops):
            inner = nest(loop, inner)
        walk = inner

        def run(frame: Frame) -> Any:
            result = make()
            walk(frame, result)
            return result

        return run

    def list_comprehension(self, loop: Loop, element: Run) -> Run:
        """Return the closure of `[element for x in items if condition]`, the common case, without a call per item."""
        slot = loop.slot
        test = loop.test

        def run(frame: Frame) -> list[Any]:
            items = loop.start(frame)
            slots = frame.slots
            if test is None:
                return [element(frame) for slots[slot] in items]
            return [element(frame) for slots[slot] in items if test(frame)]

        return run

    def check(self, known: Collection[str]) -> list[Problem]:
        """Return all problems in the order of their places.

        Args:
            known: Root names that will be there.
        """
        problems = list(self.found)
        for name, offset in self.reads:
            if name not in known:
                # looking for near words takes long, and nobody reads hundreds of hints
                hint = suggest(name, [*known, *LIBRARY_NAMES]) if len(problems) < MAX_HINTS else ""
                problems.append(Problem(offset, "expression.unknown_name", f"unknown name '{name}'", hint))
        for module, member, called, offset in self.members:
            if module in known:
                continue
            library = MODULES[module].members
            if member not in library:
                hint = suggest(member, library) or f"{module} has {', '.join(sorted(library))}"
                kind = "function" if called else "member"
                message = f"unknown {kind} '{module}.{member}'"
                problems.append(Problem(offset, "expression.unknown_function", message, hint))
        return sorted(problems, key=lambda problem: (problem.offset, problem.code, problem.message))


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


def private_attribute(name: str, offset: int) -> Problem:
    """Return the problem of an attribute such as `__class__`."""
    return Problem(
        offset,
        "expression.private_attribute",
        f"'{name}' is not available: only keys of the data can be read",
        f'if the data has such a key, write ["{name}"]',
    )
