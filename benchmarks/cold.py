"""W5: from nothing to the first result, by `everstep dev` and its API or by a server and a hand-written worker."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.hand import HandInput
from benchmarks.processes import Process, clean_environment
from benchmarks.stand import Side, connect, running_server, worker_process
from benchmarks.steady import Sample
from benchmarks.tasks import single


async def measure(side: Side, project: Path) -> Sample:
    """Seconds from starting the first process to the result of a one-step task.

    Args:
        side: Whose.
        project: The everstep.toml.
    """
    with tempfile.TemporaryDirectory(prefix="everstep-cold-") as name:
        return await (_ours if side is Side.OURS else _hand)(Path(name), project)


async def _hand(folder: Path, project: Path) -> Sample:
    job = single()
    began = time.perf_counter()
    # `temporal server start-dev` brings its web UI, and so does `everstep dev`
    async with running_server(folder, ui=True) as (server, address):
        worker = worker_process(Side.HAND, folder, project, address)
        worker.start()
        try:
            client = await connect(address, folder)
            await worker.ready_line()
            ready = time.perf_counter()
            handle = await client.start_workflow(
                job.twin, HandInput(**job.twin_given), id="first", task_queue=Side.HAND.value
            )
            await handle.result()
            ended = time.perf_counter()
            cpu = server.cpu_s() + worker.cpu_s()
        finally:
            await worker.stop()
    return Sample(ended - began, cpu * 1e3, {"ready_s": ready - began})


async def _ours(folder: Path, project: Path) -> Sample:
    command = [sys.executable, "-P", "-m", "engine.edge.cli", "dev", "--port", "0", "--no-model", "-o", "json"]
    command += ["--data-dir", str(folder / "everstep"), "--project", str(project)]
    dev = Process("dev", command, clean_environment(), folder)
    began = time.perf_counter()
    dev.start()
    try:
        addresses = await dev.ready_line(wanted=lambda body: body.get("event") == "ready")
        ready = time.perf_counter()
        async with httpx.AsyncClient(base_url=f"{addresses['api']}/api", timeout=30) as client:
            await _run_single(client)
        ended = time.perf_counter()
        cpu = dev.cpu_s()
    finally:
        await dev.stop()
    return Sample(ended - began, cpu * 1e3, {"ready_s": ready - began})


async def _run_single(client: httpx.AsyncClient) -> None:
    """Create the task, start it and wait for its result through the API.

    Raises:
        RuntimeError: It ended without success.
    """
    job = single()
    answer = await client.post("/tasks", content=job.task, headers={"Content-Type": "application/yaml"})
    task = answer.raise_for_status().json()
    started = await client.post(f"/tasks/{task['id']}/executions", json={"input": job.given})
    execution: dict[str, Any] = started.raise_for_status().json()
    path = f"/executions/{execution['id']}"
    async with client.stream("GET", f"{path}/status.stream") as stream:
        async for _ in stream.aiter_lines():
            pass  # it ends when the execution has ended
    view = (await client.get(path)).raise_for_status().json()
    if view["status"] != "succeeded":
        raise RuntimeError(f"the first execution ended as {view['status']}: {view.get('error')}")
