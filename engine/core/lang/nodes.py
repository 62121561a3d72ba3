"""Builds the closures of names, members, calls and loops; each front end calls it. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.lang.access import module_function, no_method, raise_index, read_attribute, read_item
from engine.core.lang.closures import Closures, spread
from engine.core.lang.context import Frame, Run
from engine.core.lang.failures import CAUGHT, blame, fail, suggest, unknown_name
from engine.core.lang.functions import Function, Module, invoke
from engine.core.lang.loops import Loop, nest
from engine.core.lang.methods import ALL_METHOD_NAMES, methods_of
from engine.core.lang.problems import Problem, private_attribute, unknown_members, unknown_names
from engine.core.lang.stdlib import ABSENT, CONSTANTS, FUNCTIONS, LIBRARY_NAMES, MODULES

NODE_SHIFT: Final = 3
"""2**3 nodes cost one unit."""
CALL_NODES: Final = 8
"""A call of a function takes about as long as so many nodes; of a method, which is looked up first, twice as long."""


@dataclass(slots=True)
class Builder(Closures):
    """Makes the closures of a whole expression or template."""

    # --- names ---

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

    # --- calls ---

    def call(self, name: str, args: Sequence[tuple[Run, bool]], keywords: Mapping[str, Run], offset: int) -> Run:
        """Return the closure of `name(…)` for a function of the library."""
        function = FUNCTIONS.get(name)
        if function is None:
            hint = ABSENT.get(name) or suggest(name, FUNCTIONS) or "functions are listed in docs/expressions.md"
            if name == "nlp":
                return self._broken("unknown_function", "the library has no nlp()", hint, offset)
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

    # --- the static check ---

    def check(self, known: Collection[str]) -> list[Problem]:
        """Return all problems in the order of their places.

        Args:
            known: Root names that will be there.
        """
        problems = [
            *self.found,
            *unknown_names(self.reads, known, len(self.found)),
            *unknown_members(self.members, known),
        ]
        return sorted(problems, key=lambda problem: (problem.offset, problem.code, problem.message))
