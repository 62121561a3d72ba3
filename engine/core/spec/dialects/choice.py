"""Finds out in which dialect a definition is written: by its own key, or by what the caller says. Workflow-safe."""

from __future__ import annotations

from typing import Final, get_args

from engine.core.diagnostics import Findings
from engine.core.kinds import Dialect
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import MapNode, Node, ScalarNode, describe

DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)


def dialect_of(node: Node, default: Dialect) -> Dialect:
    """Return the dialect of a definition.

    Args:
        node: The root of the source.
        default: What holds if the definition has no key `dialect`, or one that `check_dialect` reports.
    """
    written = node.get("dialect") if isinstance(node, MapNode) else None
    if isinstance(written, ScalarNode):
        return next((known for known in DIALECTS if known == written.value), default)
    return default


def check_dialect(node: Node, findings: Findings) -> None:
    """Report a key `dialect` that names none.

    Args:
        node: The root of the source.
        findings: Where to put what is wrong.
    """
    written = node.get("dialect") if isinstance(node, MapNode) else None
    if written is None or (isinstance(written, ScalarNode) and (written.value is None or written.value in DIALECTS)):
        return
    listing = f"dialects are {', '.join(DIALECTS)}"
    if not isinstance(written, ScalarNode) or not isinstance(written.value, str):
        message = f"'dialect' must be text, not {describe(written)}"
        findings.error(codes.WRONG_TYPE, message, written.position, path="dialect", hint=listing)
        return
    message = f"'{written.value[:60]}' is not a dialect"
    hint = suggest(findings, written.value, DIALECTS) or listing
    findings.error(codes.NOT_ONE_OF, message, written.position, path="dialect", hint=hint)
