"""A worker as a process that a test can kill: started with the settings of a laboratory, ended with the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from temporalio.service import RPCError

from engine.control.reconciling import schedule_id
from tests.support.forked import Forked
from tests.support.lab import Lab
from tests.support.patience import START_S
from tests.support.postgres import store_url
from tests.support.servers import clean_environment

STOP_TIMEOUT_S = 10.0


class WorkerProcess:
    """A worker on a laboratory's queue, store and blobs.

    Args:
        lab: The laboratory.
        modules: Tool modules, by import name or file.
        environment: Further variables.
    """

    def __init__(self, lab: Lab, modules: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._folder = lab.folder
        self._schedule = lab.client.get_schedule_handle(schedule_id(lab.queue))
        self._starts = 0
        self._process: Forked | None = None
        project = lab.folder / "everstep.toml"
        lines = [
            f"[tools]\nmodules = {json.dumps(list(modules))}",
            f"[http]\nallow = {json.dumps(lab.http.allow)}",
            f'[backends.mock]\nbase_url = {json.dumps(lab.llm_url)}\ndefault_model = "mock"',
        ]
        project.write_text("\n".join(lines), encoding="utf-8")
        self.environment = {
            **clean_environment(),
            "EVERSTEP_DATA_DIR": str(lab.folder),
            "EVERSTEP_DATABASE_URL": store_url(lab.folder / "lab.db"),
            "EVERSTEP_TASK_QUEUE": lab.queue,
            "EVERSTEP_PROJECT_FILE": str(project),
            "TEMPORAL_ADDRESS": lab.client.service_client.config.target_host,
            **(environment or {}),
        }

    @property
    def pid(self) -> int:
        """Process id of the running worker."""
        assert self._process is not None
        return self._process.pid

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._starts

    def start(self) -> None:
        """Start it, without waiting until it polls."""
        assert self._process is None, "the worker runs already"
        self._starts += 1
        self._output.write_bytes(b"")
        log = self._folder / "worker.log"
        self._process = Forked(["worker", "run"], self.environment, out=self._output, log=log)

    @property
    def _output(self) -> Path:
        return self._folder / f"worker-{self._starts}.out"

    async def ready(self) -> None:
        """Return when it polls its queue.

        Raises:
            RuntimeError: It ended or said nothing in time; with the end of its log.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if b'"ready": true' in self._output.read_bytes():
                return
            assert self._process is not None
            if self._process.poll() is not None:
                break
            await asyncio.sleep(0.02)
        log = (self._folder / "worker.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the worker did not get ready:\n{log[-4000:]}")

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    async def stop(self) -> None:
        """Let it end in its own time; kill it if it takes too long."""
        process = self._process
        if process is None:
            return
        process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 a process sets no event
            await asyncio.sleep(0.02)
        if process.poll() is None:
            self.kill()
        self._process = None
        with contextlib.suppress(RPCError):
            # nobody would do what it starts
            await self._schedule.delete()


@contextlib.asynccontextmanager
async def worker_process(
    lab: Lab, *modules: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[WorkerProcess]:
    """Run a worker process for the length of the block; it polls when the block begins."""
    worker = WorkerProcess(lab, modules, environment)
    worker.start()
    try:
        await worker.ready()
        yield worker
    finally:
        await worker.stop()
