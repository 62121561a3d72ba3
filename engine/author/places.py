"""Where in the author's Python file a call stands, so that findings can point at it."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from itertools import islice
from types import FrameType

from engine.core.diagnostics import Diagnostic, Position
from engine.core.errors import DefinitionError

_OWN_MODULES = "engine.author."


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a Python file.

    Attributes:
        file: Name of the file as Python knows it.
        position: Line and column of the call.
    """

    file: str
    position: Position


def caller_place() -> Place:
    """Return the place of the innermost call that does not belong to the author API itself."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(_OWN_MODULES):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, _position(frame))


def author_error(code: str, message: str, hint: str = "") -> DefinitionError:
    """Return the error for something that can be said at once, with the place of the author's call.

    Args:
        code: Code of the finding (`engine.core.spec.codes`).
        message: What is wrong.
        hint: What to do about it.
    """
    place = caller_place()
    return DefinitionError(
        f"{place.file}:{place.position.line}: {message}",
        hint=hint,
        diagnostics=[Diagnostic(code, message, place.position, hint)],
        file=place.file,
    )


def _position(frame: FrameType) -> Position:
    # the line of a frame is the line of its last instruction; the table knows where the whole call starts
    found = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    line, _, column, _ = found or (None, None, None, None)
    line = line or frame.f_lineno
    return Position(line, characters(frame.f_code.co_filename, line, column or 0) + 1)


def characters(file: str, line: int, offset: int) -> int:
    """Return how many characters of a line the bytes of UTF-8 are, in which Python counts columns."""
    if not offset:
        return 0
    text = linecache.getline(file, line)
    return offset if text.isascii() else len(text.encode()[:offset].decode(errors="ignore"))
