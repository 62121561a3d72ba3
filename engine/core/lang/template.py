"""A template: Jinja's syntax, our metered evaluation; its result is always text. Workflow-safe."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

from engine.core.errors import ExpressionError
from engine.core.lang.border import check_unicode
from engine.core.lang.context import TEXT_SHIFT, UNSET, EvalContext, Frame
from engine.core.lang.failures import CAUGHT, blame, describe
from engine.core.lang.nodes import NODE_SHIFT
from engine.core.lang.problems import Problem
from engine.core.lang.secret import SecretText, join, used
from engine.core.lang.template_syntax import TemplateCompiler, Write

SHORT_CHARS: Final = 4_000
"""Longer templates have a smaller cache, since a large one may take megabytes when compiled."""


def is_template(text: str) -> bool:
    """Whether a text holds marks of a template; any other text is literal, single braces and all."""
    return "{{" in text or "{%" in text or "{#" in text


class Template:
    """A compiled template; immutable, made by `compile_template`.

    Attributes:
        source: Its text.
        names: Root names that it reads from the environment, also those with a default.
    """

    __slots__ = ("_compiler", "_cost", "_slots", "_write", "names", "source")

    def __init__(self, source: str, write: Write, compiler: TemplateCompiler) -> None:
        self.source = source
        self.names = frozenset(name for name, _ in compiler.build.reads) | compiler.optional
        self._write = write
        self._compiler = compiler
        self._cost = 1 + (compiler.build.nodes >> NODE_SHIFT)
        self._slots = compiler.build.slots

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def render(self, env: Mapping[str, Any], context: EvalContext) -> str:
        """Compute the text.

        Args:
            env: JSON values by root name; they are read, never changed.
            context: Time, seed and fuel.

        Raises:
            ExpressionError: `expression.<what>`; `details` holds {"expression": clipped text, "offset": character}.
        """
        text = self.compose(env, context)
        if isinstance(text, SecretText):
            raise used("a secret cannot be a value of a task")
        return text

    def compose(self, env: Mapping[str, Any], context: EvalContext) -> str | SecretText:
        """Compute the text, which may hold secrets where `env` has them.

        Raises:
            ExpressionError: As `render`.
        """
        frame = Frame(env, [UNSET] * self._slots, context)
        try:
            frame.fuel.charge(self._cost)
            self._write(frame)
            if any(type(piece) is not str for piece in frame.out):
                return join(frame.out)
            frame.fuel.charge(sum(map(len, frame.out)) >> TEXT_SHIFT)
            text = "".join(frame.out)
            if not text.isascii():
                check_unicode(text)
        except CAUGHT as error:
            self._fail(error)
        return text

    def _fail(self, error: Exception) -> NoReturn:
        try:
            blame(error, 0)
        except ExpressionError as found:
            describe(found, self.source)
            raise

    def problems(self, known: Collection[str]) -> list[Problem]:
        """Check the template without rendering it.

        Args:
            known: Root names that will be there.

        Returns:
            What is wrong, in the order of the places; names tested by `defined` or given a default may be unknown.
        """
        return self._compiler.build.check({*known, *self._compiler.optional})


def compile_template(source: str, *, lenient: bool = False) -> Template:
    """Compile a template.

    Args:
        source: Its text.
        lenient: Whether a member or item that is missing is empty text, as in Jinja, and not an error.

    Returns:
        The template; equal texts give the same object as long as it is in the cache.

    Raises:
        ExpressionSyntaxError: With `offset`, the character of the text at which it went wrong.
    """
    return (_compile_short if len(source) <= SHORT_CHARS else _compile_long)(source, lenient)


def _compile(source: str, lenient: bool) -> Template:
    compiler = TemplateCompiler(source, lenient=lenient)
    return Template(source, compiler.compile_all(), compiler)


_compile_short = lru_cache(maxsize=1_024)(_compile)
_compile_long = lru_cache(maxsize=32)(_compile)
