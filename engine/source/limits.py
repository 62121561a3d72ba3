"""Bounds of a source text and how the readers say that something is wrong with it."""

from __future__ import annotations

from engine.core.diagnostics import Diagnostic, Position
from engine.core.errors import SourceError
from engine.core.spec import codes

MAX_SOURCE_CHARS = 1_000_000
MAX_DEPTH = 100
MAX_NODES = 200_000
"""Values after all aliases are expanded."""
MAX_TEXT_CHARS = 4_000_000
"""Characters of all texts and keys after all aliases are expanded."""
MAX_NUMBER_CHARS = 400
"""Digits of an integer; Python itself refuses more than 4,300 when it prints them."""


def source_error(code: str, message: str, at: Position, *, hint: str = "") -> SourceError:
    """Return the error for one finding; the caller that knows file and source adds them."""
    return SourceError(message, hint=hint, diagnostics=[Diagnostic(code, message, at, hint)])


def duplicate_key(key: str, first: Position, second: Position) -> SourceError:
    """Return the error for a key that stands twice; it points at the second and names the first."""
    shown = key if len(key) <= 60 else f"{key[:60]}…"
    return source_error(
        codes.DUPLICATE_KEY,
        f"the key '{shown}' stands here for the second time; first at line {first.line}, column {first.column}",
        second,
        hint="remove or rename one of them",
    )
