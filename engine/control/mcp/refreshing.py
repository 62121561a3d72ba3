"""Picks up changed definitions of MCP servers while a process runs, for executions that start from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from pathlib import Path

import structlog

from engine.control.mcp.keeping import reload_servers
from engine.control.toolchanges import take_over
from engine.control.toolrules import ruled
from engine.core.errors import InvalidInput
from engine.core.plan.ir import ToolContract
from engine.settings import Project

IDLE_S = 300.0
"""How long a process without servers waits until it looks whether everstep.toml names some."""

log = structlog.get_logger("everstep.mcp")


async def keep_fresh(
    contracts: MutableMapping[str, ToolContract],
    project: Callable[[], Project],
    data_dir: Path,
    *,
    changed: Callable[[], None] | None = None,
) -> None:
    """Look at the definitions again and again until cancelled.

    Servers at an address are asked. Programs are not started for it: what a worker heard of them when it called them
    stands in the copies of the data folder. What cannot be had or used is logged, and the tools stay as they were.

    Args:
        contracts: Those of all tools; those of servers are put in, replaced and taken out here.
        project: Gives the operator's project as it is now.
        data_dir: Folder in which copies are kept.
        changed: Called after the contracts have changed.
    """
    while True:
        try:
            pause_s = min((config.refresh_s for config in project().tools.mcp.values()), default=IDLE_S)
        except InvalidInput:
            # whoever loads it for its own sake tells of it
            pause_s = IDLE_S
        await asyncio.sleep(pause_s)
        try:
            now = project()
            found = await reload_servers(now, data_dir, programs=False, known=contracts)
        except InvalidInput as error:
            log.warning("mcp tools stay as they were", reason=error.message)
        else:
            if take_over(contracts, ruled(found, now.tools), kind="mcp", words="mcp tools") and changed is not None:
                changed()
