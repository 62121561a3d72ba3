"""The test stand: a tuned Temporal server, the fake model, a worker of ours and a hand-written one, and one client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy

import worker
from activities.polling import CONCURRENT_EFFECTS, GRACE, HEARTBEAT_THROTTLE
from benchmarks import tools
from benchmarks.hand import TENANT, HandInput
from benchmarks.processes import Process, clean_environment, free_port
from benchmarks.tasks import Job
from engine.control.compiling import compile_text
from engine.control.payloads import data_converter
from engine.core.contracts.execution import (
    ATTRIBUTE_STATUS,
    ATTRIBUTE_TASK,
    ATTRIBUTE_TENANT,
    SIGNAL_ANSWER,
    AnswerSignal,
    ExecutionParams,
)
from engine.core.kinds import ExecutionStatus
from engine.core.plan.codec import plan_to_json
from engine.core.plan.ir import ToolContract
from engine.edge.supervisor.temporal import SERVER_ENVIRONMENT, find_temporal, server_command

QUIET_STEP_S = 0.1
QUIET_CPU_S = 0.02
QUIET_LIMIT_S = 20.0
KEPT = httpx.Limits(keepalive_expiry=2)
"""Below the five seconds after which the fake model drops an idle connection."""


class Side(StrEnum):
    """Which of the two forms of the work."""

    OURS = "ours"
    HAND = "hand"


@dataclass(frozen=True, slots=True)
class Model:
    """The fake model.

    Attributes:
        process: Its process.
        url: Its base URL.
        client: Asks it for its counts.
    """

    process: Process
    url: str
    client: httpx.AsyncClient

    async def count(self) -> tuple[int, int]:
        """Return (calls, distinct idempotency keys) since the last `forget`."""
        body = (await self.client.get("/bench/count")).json()
        return int(body["calls"]), int(body["distinct"])

    async def forget(self) -> None:
        """Count anew."""
        await self.client.delete("/bench/count")


@contextlib.asynccontextmanager
async def running_model(folder: Path) -> AsyncIterator[Model]:
    """Run the fake model for the length of the block."""
    process = Process("model", [sys.executable, "-m", "benchmarks.model"], clean_environment(), folder)
    process.start()
    try:
        url = str((await process.ready_line())["url"])
        async with httpx.AsyncClient(base_url=url.removesuffix("/v1"), limits=KEPT) as client:
            yield Model(process, url, client)
    finally:
        await process.stop()


def write_project(folder: Path, model: Model) -> Path:
    """Write the everstep.toml that both sides read, with the bench's tool beside it, and return its path."""
    shutil.copy(Path(tools.__file__), folder / "bench_tools.py")
    path = folder / "everstep.toml"
    path.write_text(f'[tools]\nmodules = ["bench_tools.py"]\n\n[backends.mock]\nbase_url = "{model.url}"\n')
    return path


def our_worker_options() -> dict[str, Any]:
    """Return the options of our worker for the hand-written one, as JSON; times in seconds end in `_s`."""
    return {
        "max_cached_workflows": worker.CACHED_WORKFLOWS,
        "max_concurrent_activities": CONCURRENT_EFFECTS,
        "max_concurrent_workflow_tasks": worker.CONCURRENT_WORKFLOW_TASKS,
        "max_heartbeat_throttle_interval_s": HEARTBEAT_THROTTLE.total_seconds(),
        "sticky_queue_schedule_to_start_timeout_s": worker.STICKY_TIMEOUT.total_seconds(),
        "graceful_shutdown_timeout_s": GRACE.total_seconds(),
    }


def worker_process(side: Side, folder: Path, project: Path, address: str) -> Process:
    """Return the worker of a side, not started yet.

    Args:
        side: Whose.
        folder: Folder of its log and, for ours, its store.
        project: The everstep.toml.
        address: Address of the Temporal server.
    """
    if side is Side.OURS:
        settings = {
            "EVERSTEP_DATA_DIR": str(folder / "everstep"),
            "EVERSTEP_PROJECT_FILE": str(project),
            "EVERSTEP_TASK_QUEUE": side.value,
            "TEMPORAL_ADDRESS": address,
        }
        command = [sys.executable, "-P", "-m", "worker", "run"]
    else:
        settings = {
            "BENCH_PROJECT_FILE": str(project),
            "BENCH_BLOBS": str(folder / "blobs"),
            "BENCH_QUEUE": side.value,
            "BENCH_WORKER_OPTIONS": json.dumps(our_worker_options()),
            "TEMPORAL_ADDRESS": address,
        }
        command = [sys.executable, "-m", "benchmarks.hand_worker"]
    return Process(f"worker-{side}", command, clean_environment(settings), folder)


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds, user and system.

    Attributes:
        worker_s: Of a worker.
        server_s: Of the Temporal server.
    """

    worker_s: float
    server_s: float

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.worker_s + self.server_s

    def since(self, before: Cpu, units: float) -> Cpu:
        """Return what was spent since then, per unit of work."""
        return Cpu((self.worker_s - before.worker_s) / units, (self.server_s - before.server_s) / units)


@dataclass
class Stand:
    """A running server with workers.

    Attributes:
        folder: Folder of the server's database and our store.
        model: The fake model.
        server: The Temporal server.
        client: A client of it, in the process of the bench.
        workers: The workers that were started.
    """

    folder: Path
    model: Model
    server: Process
    client: Client
    workers: dict[Side, Process] = field(default_factory=dict)
    _plans: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    async def start(self, side: Side, job: Job) -> WorkflowHandle[Any, Any]:
        """Start one execution of a job, ours in the way in which the API starts it."""
        execution_id = str(uuid.uuid4())
        if side is Side.HAND:
            tool = tools.note.contract() if "calls" in job.twin_given else None
            given = HandInput(**job.twin_given, tool=tool)
            return await self.client.start_workflow(job.twin, given, id=execution_id, task_queue=side.value)
        name, plan = self._plan(job.task)
        params = ExecutionParams(execution_id=execution_id, tenant=TENANT, plan=plan, input=job.given, task_id=name)
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), TENANT),
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TASK), name),
            SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_STATUS), ExecutionStatus.RUNNING.value),
        ]
        return await self.client.start_workflow(
            name,
            params,
            id=execution_id,
            task_queue=side.value,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=TypedSearchAttributes(pairs),
            memo={"tenant": TENANT, "task_id": name, "task_version": 1},
            static_summary=name,
        )

    def learn(self, text: str, contract: ToolContract) -> None:
        """Make the plan of a task that calls a tool of its own."""
        plan = compile_text(text, contracts={contract.name: contract}).plan
        self._plans[text] = plan.task, plan_to_json(plan)

    def _plan(self, text: str) -> tuple[str, dict[str, Any]]:
        if text not in self._plans:
            contract = tools.note.contract()
            plan = compile_text(text, contracts={contract.name: contract}).plan
            self._plans[text] = plan.task, plan_to_json(plan)
        return self._plans[text]

    async def open_gate(self, side: Side, handle: WorkflowHandle[Any, Any], number: int) -> None:
        """Let an execution of the herd pass its next gate."""
        if side is Side.HAND:
            await handle.signal("go")
        else:
            await handle.signal(SIGNAL_ANSWER, AnswerSignal(key=f"gate-{number}", value=None, actor="bench"))

    def cpu(self, side: Side) -> Cpu:
        """Return the CPU time of a side's worker and the server so far."""
        return Cpu(self.workers[side].cpu_s(), self.server.cpu_s())

    async def quiet(self, side: Side) -> None:
        """Wait until a side's worker and the server have finished what follows an execution (flushes, visibility)."""
        before = self.cpu(side).total_s
        calm = 0
        for _ in range(round(QUIET_LIMIT_S / QUIET_STEP_S)):
            await asyncio.sleep(QUIET_STEP_S)
            now = self.cpu(side).total_s
            calm = calm + 1 if now - before < QUIET_CPU_S else 0
            before = now
            if calm >= 3:
                return

    async def start_worker(self, side: Side, project: Path) -> None:
        """Start a side's worker and wait until it polls."""
        process = worker_process(side, self.folder, project, self.client.service_client.config.target_host)
        self.workers[side] = process
        process.start()
        await process.ready_line()


@contextlib.asynccontextmanager
async def running_server(folder: Path, *, ui: bool = False) -> AsyncIterator[tuple[Process, str]]:
    """Run a Temporal server with the dev profile on a folder; yields it and its address when it accepts connections."""
    port = free_port()
    command = server_command(find_temporal(), data_dir=folder, port=port, ui_port=free_port() if ui else None)
    server = Process("temporal", command, clean_environment(SERVER_ENVIRONMENT), folder)
    server.start()
    try:
        await server.accepting(port)
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def running_stand(folder: Path, model: Model, project: Path, *sides: Side) -> AsyncIterator[Stand]:
    """Run a server on a folder with the workers of some sides.

    Args:
        folder: Its state; may hold that of an earlier stand.
        model: The fake model.
        project: The everstep.toml.
        sides: Whose workers to start.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with running_server(folder) as (server, address):
        client = await connect(address, folder)
        stand = Stand(folder, model, server, client)
        try:
            for side in sides:
                await stand.start_worker(side, project)
            yield stand
        finally:
            await asyncio.gather(*(process.stop() for process in stand.workers.values()))


async def connect(address: str, folder: Path) -> Client:
    """Connect to a server that has just started; its port is open a little before it answers."""
    for attempt in range(100):
        try:
            return await Client.connect(address, data_converter=data_converter(folder / "blobs"))
        except RuntimeError:
            if attempt == 99:
                raise
            await asyncio.sleep(0.02)
    raise AssertionError
