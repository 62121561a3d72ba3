"""The text of an expression: how it is parsed, and where a node of the tree stands in it. Workflow-safe."""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from keyword import iskeyword
from typing import Final

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.failures import syntax_error

MAX_SOURCE_CHARS: Final = 16_384


class Source:
    """The text of an expression, and the way from a place in the parsed text back to it."""

    def __init__(self, text: str) -> None:
        self.text = text
        stripped = text.strip()
        self.start = len(text) - len(text.lstrip())
        self.parsed, self.inserted = double_unknown_escapes(stripped)
        self.lines: list[str] = []
        self.line_starts: list[int] = []

    def parse(self) -> ast.expr:
        """Return the tree.

        Raises:
            ExpressionSyntaxError: If the text is empty, too long, too deep or no expression.
        """
        if len(self.text) > MAX_SOURCE_CHARS:
            message = f"the expression has {len(self.text):,} characters; at most {MAX_SOURCE_CHARS:,} are allowed"
            raise self.error(message, 0, "compute it in several steps, or in a tool")
        if not self.parsed:
            raise self.error("the expression is empty", 0, "")
        try:
            return self._parse(self.parsed, 0)
        except ExpressionSyntaxError as error:
            if "\n" not in self.parsed:
                raise
            first = error
        try:
            # an expression may span lines without a bracket around it
            return self._parse(f"({self.parsed}\n)", 1)
        except ExpressionSyntaxError:
            raise first from None

    def _parse(self, text: str, shift: int) -> ast.expr:
        self.lines = text.splitlines(keepends=True)
        starts = [-shift]
        for line in self.lines:
            starts.append(starts[-1] + len(line))
        self.line_starts = starts
        try:
            return ast.parse(text, mode="eval").body
        except SyntaxError as error:
            row = min(max((error.lineno or 1) - 1, 0), len(starts) - 1)
            place = starts[row] + max((error.offset or 1) - 1, 0)
            message = (error.msg or "invalid syntax").split(". Perhaps", 1)[0]
            if error.offset == 0 and message == "invalid syntax":
                # the parser reports the end of the text so
                place, message = starts[-1], "it ends too early"
            raise self.error(
                f"this is not an expression: {message}", self.to_source(place), _hint(self.text, self.to_source(place))
            ) from error
        except (RecursionError, MemoryError) as error:
            raise self.error("the expression is nested too deeply", 0, "split it over several steps") from error
        except ValueError as error:
            raise self.error(f"this is not an expression: {error}", 0, "remove the control characters") from error

    def offset(self, node: ast.AST) -> int:
        """Return the character of the source at which a node starts."""
        return self._place(getattr(node, "lineno", 1), getattr(node, "col_offset", 0))

    def end(self, node: ast.AST) -> int:
        """Return the character of the source behind a node."""
        return self._place(getattr(node, "end_lineno", None) or 1, getattr(node, "end_col_offset", None) or 0)

    def _place(self, row: int, column: int) -> int:
        line = max(0, min(row - 1, len(self.lines) - 1))
        text = self.lines[line]
        if not text.isascii():
            # the parser counts bytes
            column = len(text.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "ignore"))
        return self.to_source(self.line_starts[line] + column)

    def to_source(self, place: int) -> int:
        """Return the place in the source of a place in the parsed text."""
        moved = bisect_right(self.inserted, place) if self.inserted else 0
        return max(0, min(place - moved + self.start, len(self.text)))

    def error(self, message: str, offset: int, hint: str) -> ExpressionSyntaxError:
        """Return the error for a place of the source; the caller raises it."""
        return syntax_error(message, offset, hint, self.text)


def _hint(text: str, place: int) -> str:
    """Return what the author of a text that is no expression probably meant; `place` is where the parser gave up."""
    if "{{" in text or "{%" in text:
        return "{{ }} belongs into templates; an expression stands without braces"
    if "&&" in text or "||" in text:
        return "write `and` and `or`"
    if text.lstrip().startswith("$"):
        return "leave out the second $"
    if "?" in text and ":" in text:
        return "write `a if condition else b`"
    rest = text[place:]
    if rest.startswith(":="):
        return "use a `set` step, or compute the value in an earlier step"
    if rest.startswith("=") and not rest.startswith("=="):
        return "write `==` to compare; a `set` step keeps a value"
    if rest.startswith("!"):
        return "write `not`"
    if rest[:1] in _CURLY_QUOTES:
        return "write straight quotes: ' or \""
    word = _WORD.match(rest)
    if word is not None and iskeyword(word.group()) and text[:place].endswith("."):
        return f"'{word.group()}' is a word of the language: write ['{word.group()}'] to read that member"
    if place and _NUMBER.match(rest):
        return f"write [{rest[1]}] to read an item by its number"
    if _STATEMENT.match(text):
        return "there are no statements: write `a if condition else b`, or a comprehension such as [x + 1 for x in _]"
    return ""


_CURLY_QUOTES: Final = tuple("\u2018\u2019\u201c\u201d")
_WORD: Final = re.compile(r"[a-z]{2,8}(?!\w)")
_NUMBER: Final = re.compile(r"\.[0-9]")
_STATEMENT: Final = re.compile(r"\s*(?:for|if|while|import|from|def|return|assert|del|with)\s")
_ESCAPES: Final = frozenset("\n\r\\'\"abfnrtv01234567xNuU")
_QUOTES: Final = ('"""', "'''", '"', "'")


def double_unknown_escapes(text: str) -> tuple[str, list[int]]:
    r"""Write escapes such as `\d` in plain strings as `\\d`, which means the same and which Python does not warn of.

    Args:
        text: The expression.

    Returns:
        The new text, and the places in it of the backslashes that were put in, in order.
    """
    if "\\" not in text:
        return text, []
    parts: list[str] = []
    inserted: list[int] = []
    quote = ""
    raw = False
    place = 0
    length = 0
    while place < len(text):
        step = text[place]
        if not quote:
            opening = next((mark for mark in _QUOTES if text.startswith(mark, place)), "")
            if opening:
                quote, step = opening, opening
                raw = _has_raw_prefix(text, place)
            elif step == "#":
                step = text[place:].split("\n", 1)[0]
        elif step == "\\":
            following = text[place + 1 : place + 2]
            if not raw and following not in _ESCAPES:
                inserted.append(length)
                parts.append("\\")
                length += 1
            step += following
        elif text.startswith(quote, place):
            step, quote = quote, ""
        parts.append(step)
        length += len(step)
        place += len(step)
    return "".join(parts), inserted


def _has_raw_prefix(text: str, place: int) -> bool:
    start = place
    while start and text[start - 1].isalpha() and place - start < 3:
        start -= 1
    return "r" in text[start:place].lower()
