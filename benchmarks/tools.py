"""The one Python tool of the bench: does nothing, so that only the dispatch is paid for."""

from __future__ import annotations

from engine.tooling import tool


@tool(effect="read")
async def note(n: int) -> int:
    """Return the number.

    Args:
        n: A number.
    """
    return n
