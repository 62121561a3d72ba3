"""Picks up changed documents of OpenAPI services while a process runs, for executions that start from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from pathlib import Path

import structlog

from engine.control.openapi.fetching import reload_services
from engine.control.toolchanges import take_over
from engine.control.toolrules import ruled
from engine.core.errors import InvalidInput
from engine.core.plan.ir import ToolContract
from engine.settings import Project

IDLE_S = 300.0
"""How long a process without services waits until it looks whether everstep.toml names some."""

log = structlog.get_logger("everstep.openapi")


async def keep_fresh(
    contracts: MutableMapping[str, ToolContract],
    project: Callable[[], Project],
    data_dir: Path,
    *,
    changed: Callable[[], None] | None = None,
) -> None:
    """Look at the documents again and again until cancelled.

    What cannot be had or used is logged, and the operations stay as they were.

    Args:
        contracts: Those of all tools; operations are put in, replaced and taken out here.
        project: Gives the operator's project as it is now.
        data_dir: Folder in which copies are kept.
        changed: Called after the contracts have changed.
    """
    pause_s = 0.0
    while True:
        try:
            now = project()
            # the first time they have just been loaded
            found = ruled(await reload_services(now, data_dir), now.tools) if pause_s else None
            pause_s = min((config.refresh_s for config in now.tools.openapi.values()), default=IDLE_S)
        except InvalidInput as error:
            log.warning("openapi operations stay as they were", reason=error.message)
            pause_s = pause_s or IDLE_S
        else:
            if (
                found is not None
                and take_over(contracts, found, kind="openapi", words="openapi operations")
                and changed is not None
            ):
                changed()
        await asyncio.sleep(pause_s)
