"""Python tools for the search for secrets: they tell all that they are told, wherever they can."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import structlog

from engine import tool
from engine.tooling import ToolContext


@tool(effect="read")
async def tell(key: str, how: str, ctx: ToolContext) -> Any:
    """Tell a key: in the output, in an error, in log lines, as progress, or never."""
    ctx.progress(f"on the way with {key}")
    structlog.get_logger("talkative").warning("called", key=key, text=f"with {key}")
    logging.getLogger("talkative").warning("called with %s", key)
    if how == "error":
        raise ValueError(f"{key} is wrong")
    if how == "slow":
        # a heartbeat carries what was told
        await asyncio.sleep(3600)
    return {"key": key, key: [key, f"<{key}>"]}
