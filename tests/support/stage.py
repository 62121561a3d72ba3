"""One installation as real processes: Temporal, an API, workers and the repair, each of which a test may kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.apiprocess import ApiProcess
from tests.support.forked import Forked
from tests.support.patience import START_S
from tests.support.postgres import store_url
from tests.support.processes import STOP_TIMEOUT_S
from tests.support.servers import TemporalProcess, clean_environment

WATCH_S = 0.1
QUEUE = "stage"


class Helper:
    """A worker or the repair: says on its standard output when it is ready.

    Args:
        name: For its files.
        words: The program and its arguments.
        folder: Where its files are.
        environment: All of its variables.

    Attributes:
        name: The same.
        starts: How often it was started.
        sessions: Ids of the sessions that its processes led, one for each start.
        most_rss: The most memory that was seen, in bytes.
    """

    def __init__(self, name: str, words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.starts = 0
        self.sessions: list[int] = []
        self.most_rss = 0
        self._words = words
        self._folder = folder
        self._environment = environment
        self._process: Forked | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped, though it may have ended by itself."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it has said so."""
        return self.is_running and b'"ready": true' in self._output.read_bytes()

    @property
    def log(self) -> str:
        """All it wrote to its log."""
        return (self._folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    @property
    def _output(self) -> Path:
        return self._folder / f"{self.name}-{self.starts}.out"

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self.starts += 1
        self._output.write_bytes(b"")
        log = self._folder / f"{self.name}.log"
        self._process = Forked(self._words, self._environment, out=self._output, log=log)
        self.sessions.append(self._process.pid)

    async def ready(self) -> None:
        """Return when it is ready; it may be started anew meanwhile.

        Raises:
            RuntimeError: It said nothing in time; with the end of its log.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.is_ready:
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.name} did not get ready:\n{self.log[-4000:]}")

    def look(self) -> None:
        """Note how much memory it has."""
        if self.is_running:
            with contextlib.suppress(psutil.Error):
                self.most_rss = max(self.most_rss, int(psutil.Process(self.pid).memory_info().rss))

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it is gone."""
        # let go of before it ends, or whoever starts again what ended by itself would do so now
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def stop(self) -> None:
        """Let it end in its own time; kill it if it takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 a process sets no event
            await asyncio.sleep(0.02)
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Wires:
    """Where processes find what they talk to, if not straight.

    Attributes:
        worker_temporal: Temporal, for workers.
        api_database: URL of the store, for the API.
    """

    worker_temporal: str = ""
    api_database: str = ""


@dataclass
class Stage:
    """See the module.

    Attributes:
        folder: A folder of its own; the store is `lab.db` in it, so that a laboratory can look at it.
        temporal: The server.
        api: The API.
        workers: The workers.
        repair: The repair.
        kills: How often what was killed.
        away_s: For how long Temporal and the API were away after kills; of the others, until they were started again.
        ended_alone: How often what ended by itself and was started again, as by whoever runs services.
    """

    folder: Path
    temporal: TemporalProcess
    api: ApiProcess
    workers: list[Helper]
    repair: Helper
    kills: Counter[str] = field(default_factory=Counter)
    ended_alone: Counter[str] = field(default_factory=Counter)
    away_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def helpers(self) -> list[Helper]:
        """Workers and repair."""
        return [*self.workers, self.repair]

    @property
    def worker_mb(self) -> float:
        """The most memory that any worker had at any time, in MB."""
        return max(worker.most_rss for worker in self.workers) / 1e6

    async def kill(self, what: str, *, again_s: float = 0.0) -> None:
        """Kill something with SIGKILL and start it again.

        Args:
            what: `temporal`, `api`, `repair`, or a worker by name.
            again_s: Pause before it is started again.
        """
        self.kills[what.partition("-")[0]] += 1
        began = time.monotonic()
        if what == "temporal":
            await asyncio.to_thread(self.temporal.stop, signal.SIGKILL)
            await asyncio.sleep(again_s)
            await asyncio.to_thread(self.temporal.start)
        elif what == "api":
            await asyncio.to_thread(self.api.kill)
            await asyncio.sleep(again_s)
            await asyncio.to_thread(self.api.start)
        else:
            helper = next(helper for helper in self.helpers if helper.name == what)
            await asyncio.to_thread(helper.kill)
            await asyncio.sleep(again_s)
            helper.start()
        self.away_s[what.partition("-")[0]] += time.monotonic() - began

    async def watch(self) -> None:
        """Note memory, and start again what ended by itself, until cancelled."""
        while True:
            for helper in self.helpers:
                helper.look()
                if helper.is_started and not helper.is_running:
                    self.ended_alone[helper.name.partition("-")[0]] += 1
                    helper.start()
            await asyncio.sleep(WATCH_S)

    async def stop(self) -> None:
        """Let API, workers and repair end; Temporal stays, for those who look at its histories."""
        await asyncio.gather(*(helper.stop() for helper in self.helpers), asyncio.to_thread(self.api.stop))

    def left(self) -> list[str]:
        """Return the processes of API, workers and repair that are still there."""
        sessions = {*self.api.sessions, *(session for helper in self.helpers for session in helper.sessions)}
        found: list[str] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                # those that they have started may lead sessions of their own, but have their variables
                mine = process.environ().get("EVERSTEP_DATA_DIR") == str(self.folder)
                if mine or os.getsid(process.pid) in sessions:
                    found.append(" ".join(process.cmdline()))
        return found


def write_project(folder: Path, *, llm_url: str, modules: Sequence[str] = ()) -> None:
    """Write the operator's everstep.toml: one scripted model, HTTP tools that may reach loopback."""
    lines = [
        f"[tools]\nmodules = {json.dumps(list(modules))}",
        '[http]\nallow = ["127.0.0.1:*"]',
        f'[backends.mock]\nbase_url = {json.dumps(llm_url)}\ndefault_model = "mock"',
    ]
    (folder / "everstep.toml").write_text("\n".join(lines), encoding="utf-8")


@contextlib.asynccontextmanager
async def stage_on(
    folder: Path, temporal: TemporalProcess, *, workers: int = 1, wires: Wires | None = None
) -> AsyncIterator[Stage]:
    """Run an installation at a Temporal server for the length of the block; everything is ready when it begins.

    Args:
        folder: Where `everstep.toml` is.
        temporal: A running server.
        workers: How many workers.
        wires: Where processes find each other.
    """
    wires = wires or Wires()
    environment = {
        **clean_environment(),
        "EVERSTEP_DATA_DIR": str(folder),
        "EVERSTEP_DATABASE_URL": store_url(folder / "lab.db"),
        "EVERSTEP_PROJECT_FILE": str(folder / "everstep.toml"),
        "EVERSTEP_TASK_QUEUE": QUEUE,
        "TEMPORAL_ADDRESS": temporal.address,
    }
    for_workers = {**environment, "TEMPORAL_ADDRESS": wires.worker_temporal or temporal.address}
    for_api = {"EVERSTEP_TASK_QUEUE": QUEUE, "TEMPORAL_ADDRESS": temporal.address}
    if wires.api_database:
        for_api["EVERSTEP_DATABASE_URL"] = wires.api_database
    stage = Stage(
        folder,
        temporal,
        ApiProcess(folder, **for_api),
        [Helper(f"worker-{number}", ["worker", "run"], folder, for_workers) for number in range(1, workers + 1)],
        Helper("repair", ["everstep-repair"], folder, environment),
    )
    watching = None
    try:
        await asyncio.to_thread(stage.api.start)
        for helper in stage.helpers:
            helper.start()
        await asyncio.gather(*(helper.ready() for helper in stage.helpers))
        watching = asyncio.create_task(stage.watch())
        yield stage
    finally:
        if watching is not None:
            watching.cancel()
        await stage.stop()
