"""Calls tools of MCP servers as a worker does, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.runner import ToolActivities
from engine.control.tools import load_catalog
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig, McpConfig, Project, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT
from tests.support.mcp_server import SECRET, program

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])


def project_of(config: McpConfig, *, http: HttpConfig = LOOPBACK, **tools: Any) -> Project:
    return Project(http=http, tools=ToolsConfig(mcp={"exam": config}, **tools))


async def load(project: Project, folder: Path) -> ToolCatalog:
    # an HTTP server runs in the loop of the test
    return await asyncio.to_thread(load_catalog, project, folder)


def catalog_of_program(folder: Path) -> ToolCatalog:
    """Ask the test server as a program what it has; a module asks once, and its tests start it for calls only."""
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("EXAM_KEY", SECRET)
        return load_catalog(project_of(program(folder / "journal.jsonl")), folder)


class Caller:
    """Calls the tools of a project as a worker does."""

    def __init__(self, project: Project, catalog: ToolCatalog, data_dir: Path | None = None) -> None:
        self.catalog = catalog
        self.activities = ToolActivities(
            catalog, project.http, config=project.tools, folder=project.folder, data_dir=data_dir
        )
        self.hear: Callable[..., None] = lambda *details: None

    async def __call__(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        context: CallContext = CONTEXT,
        contract: ToolContract | None = None,
        timeout_s: float = 30,
        environment: ActivityEnvironment | None = None,
    ) -> Any:
        tool = contract or self.catalog.contracts()[f"exam_{name}"]
        params = ToolParams(context=context, tool=tool, arguments=arguments or {}, timeout_s=timeout_s)
        environment = environment or ActivityEnvironment()
        environment.on_heartbeat = self.hear
        return (await environment.run(self.activities.call, params)).output

    async def fails(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> ApplicationError:
        with pytest.raises(ApplicationError) as caught:
            await self(name, arguments, **options)
        return caught.value


@contextlib.asynccontextmanager
async def calling(project: Project, folder: Path, catalog: ToolCatalog | None = None) -> AsyncIterator[Caller]:
    caller = Caller(project, catalog or await load(project, folder), folder)
    try:
        yield caller
    finally:
        await caller.activities.aclose()


def told(error: ApplicationError) -> dict[str, Any]:
    body = error.details[0]
    assert isinstance(body, dict)
    return body


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    async with asyncio.timeout(30):
        while alive(pid):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
