"""Puts the tools of services as they are now in place of those that a running process knows."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import structlog

from engine.core.plan.ir import ToolContract

log = structlog.get_logger("everstep.tools")


def take_over(
    contracts: MutableMapping[str, ToolContract], found: Mapping[str, ToolContract], *, kind: str, words: str
) -> bool:
    """Put the tools of a kind in place of those that were there; other tools keep their names.

    Args:
        contracts: Those of all tools, changed in place.
        found: Those of the kind as they are now.
        kind: The type of their contracts.
        words: What the log calls them.

    Returns:
        Whether anything has changed.
    """
    gone = [name for name, contract in contracts.items() if contract.type == kind and name not in found]
    for name in gone:
        del contracts[name]
    new = {
        name: contract
        for name, contract in found.items()
        if name not in contracts or (contracts[name].type == kind and contracts[name] != contract)
    }
    contracts.update(new)
    if gone or new:
        log.info(f"{words} changed", gone=gone, new=sorted(new))
    return bool(gone or new)
