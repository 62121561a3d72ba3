"""An expression: compiled once, checked before it runs, evaluated within its fuel. Workflow-safe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

from engine.core.errors import ExpressionError
from engine.core.lang.border import export
from engine.core.lang.context import EvalContext, Frame, Run
from engine.core.lang.failures import CAUGHT, blame, describe
from engine.core.lang.nodes import NODE_SHIFT, Builder
from engine.core.lang.problems import Problem as Problem
from engine.core.lang.source import Source
from engine.core.lang.syntax import Compiler
from engine.core.values import Json

SHORT_CHARS: Final = 500
"""Longer expressions have a smaller cache, since a large one may take megabytes when compiled."""


class Expression:
    """A compiled expression; immutable, made by `compile_expression`.

    Attributes:
        source: Its text.
        names: Root names that it reads from the environment; names of the library do not count.
    """

    __slots__ = ("_build", "_cost", "_run", "_slots", "names", "source")

    def __init__(self, source: str, run: Run, build: Builder) -> None:
        self.source = source
        self.names = frozenset(name for name, _ in build.reads)
        self._run = run
        self._build = build
        self._cost = 1 + (build.nodes >> NODE_SHIFT)
        self._slots = build.slots

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, env: Mapping[str, Any], context: EvalContext) -> Json:
        """Compute the value.

        Args:
            env: JSON values by root name; they are read, never changed.
            context: Time, seed and fuel.

        Returns:
            A JSON value that shares no container with `env`; where `env` has secrets, it may hold `SecretText`s.

        Raises:
            ExpressionError: `expression.<what>`; `details` holds {"expression": clipped text, "offset": character}.
        """
        frame = Frame(env, [None] * self._slots, context)
        try:
            frame.fuel.charge(self._cost)
            return export(self._run(frame), frame.fuel, secrets="secrets" in self.names)
        except CAUGHT as error:
            self._fail(error)

    def truthy(self, env: Mapping[str, Any], context: EvalContext) -> bool:
        """Compute whether the value counts as true: not null, false, zero or empty.

        Raises:
            ExpressionError: As `evaluate`.
        """
        frame = Frame(env, [None] * self._slots, context)
        try:
            frame.fuel.charge(self._cost)
            return bool(self._run(frame))
        except CAUGHT as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        try:
            blame(error, 0)
        except ExpressionError as found:
            describe(found, self.source)
            raise

    def problems(self, known: Collection[str]) -> list[Problem]:
        """Check the expression without running it.

        Args:
            known: Root names that will be there when it runs.

        Returns:
            What is wrong, in the order of the places; empty if nothing is.
        """
        return self._build.check(known)


def compile_expression(source: str) -> Expression:
    """Compile an expression.

    Args:
        source: Its text, without the `$ ` mark.

    Returns:
        The expression; equal texts give the same object as long as it is in the cache.

    Raises:
        ExpressionSyntaxError: With `offset`, the character of the text at which it went wrong.
    """
    return _compile_short(source) if len(source) <= SHORT_CHARS else _compile_long(source)


def _compile(source: str) -> Expression:
    text = Source(source)
    compiler = Compiler(text)
    run = compiler.compile(text.parse())
    return Expression(source, run, compiler.build)


_compile_short = lru_cache(maxsize=4_096)(_compile)
_compile_long = lru_cache(maxsize=64)(_compile)
