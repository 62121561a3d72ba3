"""The API as a process of its own beside a laboratory, and the short words that tests of telemetry use with it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.forked import Forked
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S, START_S
from tests.support.processes import STOP_TIMEOUT_S
from tests.support.servers import clean_environment, free_port


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """A running `everstep serve`.

    Attributes:
        http: Client whose base is the server.
    """

    http: httpx.AsyncClient

    async def create(self, text: str) -> str:
        """Create a task and return its id."""
        answer = await self.http.post("/api/tasks", content=text, headers={"content-type": "application/yaml"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def start(self, task_id: str, given: Any = None, **headers: str) -> str:
        """Start an execution and return its id."""
        answer = await self.http.post(f"/api/tasks/{task_id}/executions", json={"input": given}, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def until(self, execution_id: str, status: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until an execution has a status and return what is shown of it."""
        deadline = time.monotonic() + timeout_s
        while True:
            shown: dict[str, Any] = (await self.http.get(f"/api/executions/{execution_id}")).json()
            if shown["status"] == status:
                return shown
            assert time.monotonic() < deadline, shown
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def api_process(lab: Lab, project: str, environment: Mapping[str, str]) -> AsyncIterator[ApiProcess]:
    """Run `everstep serve` on the store of a laboratory for the length of the block.

    Args:
        lab: The laboratory.
        project: Its project file, which a worker process has written.
        environment: Further variables.
    """
    port = free_port()
    own = {
        **clean_environment(),
        "EVERSTEP_DATA_DIR": str(lab.folder),
        "EVERSTEP_DATABASE_URL": f"sqlite+aiosqlite:///{lab.folder / 'lab.db'}",
        "EVERSTEP_TASK_QUEUE": lab.queue,
        "EVERSTEP_PROJECT_FILE": project,
        "TEMPORAL_ADDRESS": lab.client.service_client.config.target_host,
        **environment,
    }
    log = lab.folder / "api.log"
    process = Forked(["everstep", "serve", "--port", str(port)], own, out=log, log=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as http:
            await _ready(http, process, lab)
            yield ApiProcess(http)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _ready(http: httpx.AsyncClient, process: Forked, lab: Lab) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if (await http.get("/healthz")).status_code == 200:
                return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the API did not get ready:\n{(lab.folder / 'api.log').read_text()[-4000:]}")
