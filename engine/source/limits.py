"""Bounds of a source text and how the readers say that something is wrong with it."""

from __future__ import annotations

from engine.core.diagnostics import Diagnostic, Findings, Position
from engine.core.errors import SourceError
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapNode, Node

MAX_SOURCE_CHARS = 1_000_000
MAX_DEPTH = 100
MAX_NODES = 200_000
"""Values after all aliases are expanded."""
MAX_TEXT_CHARS = 4_000_000
"""Characters of all texts and keys after all aliases are expanded."""
MAX_NUMBER_CHARS = 400
"""Digits of an integer; Python itself refuses more than 4,300 when it prints them."""
MAX_JOINED = 50
"""Keys that stand twice whose values are put together; each costs as much as the values are long."""


def source_error(code: str, message: str, at: Position, *, hint: str = "") -> SourceError:
    """Return the error for one finding; the caller that knows file and source adds them."""
    return SourceError(message, hint=hint, diagnostics=[Diagnostic(code, message, at, hint)])


def report_duplicate(key: str, first: Position, second: Position, findings: Findings) -> None:
    """Report a key that stands twice; the finding points at the second and names the first."""
    shown = key if len(key) <= 60 else f"{key[:60]}…"
    findings.error(
        codes.DUPLICATE_KEY,
        f"the key '{shown}' stands here for the second time; first at line {first.line}, column {first.column}",
        second,
        hint="remove or rename one of them",
    )


def joined(first: Node, second: Node, findings: Findings) -> Node:
    """Return what is read on with where a key stands twice: both values, so that neither's names are missed.

    Args:
        first: The value where the key stands first; it alone counts if the two cannot be put together.
        second: The value where the key stands again.
        findings: The duplicates so far; after many nothing is put together any more.
    """
    if len(findings.items) > MAX_JOINED:
        return first
    if isinstance(first, ListNode) and isinstance(second, ListNode):
        return ListNode((*first.items, *second.items), first.position)
    if isinstance(first, MapNode) and isinstance(second, MapNode):
        known = set(first.keys())
        more = tuple(entry for entry in second.entries if entry.key not in known)
        return MapNode((*first.entries, *more), first.position)
    return first
