"""Keeps what OpenAPI services and MCP servers say of their tools fresh while a worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path

from engine.core.plan.ir import ToolContract
from engine.settings import Project


async def keep_contracts_fresh(
    contracts: MutableMapping[str, ToolContract], project: Project, data_dir: Path, *, changed: Callable[[], None]
) -> None:
    """Pick up changed definitions of OpenAPI services and MCP servers until cancelled.

    Args:
        contracts: Those of all tools; operations are put in, replaced and taken out here.
        project: The operator's project.
        data_dir: Folder in which copies are kept.
        changed: Called after the contracts have changed.
    """
    running: list[Awaitable[None]] = []
    # imported late, as what reads such definitions is
    if project.tools.openapi:
        from engine.control.openapi import refreshing as services

        running.append(services.keep_fresh(contracts, lambda: project, data_dir, changed=changed))
    if project.tools.mcp:
        from engine.control.mcp import refreshing as servers

        running.append(servers.keep_fresh(contracts, lambda: project, data_dir, changed=changed))
    await asyncio.gather(*running)
