"""Worker process of the hand-written workflows: our activities and our worker's options, no event sink and no store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.llm import ChatActivities
from activities.tools.runner import ToolActivities
from benchmarks.hand import HAND_WORKFLOWS
from benchmarks.tools import note
from engine.control.payloads import data_converter
from engine.core.errors import EngineError
from engine.settings import load_project
from engine.tooling import ToolCatalog


def worker_options(raw: dict[str, Any]) -> dict[str, Any]:
    """Turn the options that the bench read from our worker into arguments; names that end in `_s` are times."""
    return {
        name.removesuffix("_s"): timedelta(seconds=value) if name.endswith("_s") else value
        for name, value in raw.items()
    }


async def run() -> None:
    """Run until SIGTERM; prints {"ready": true} when polling."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    project = load_project(Path(os.environ["BENCH_PROJECT_FILE"]))
    client = await Client.connect(
        os.environ["TEMPORAL_ADDRESS"], data_converter=data_converter(Path(os.environ["BENCH_BLOBS"]))
    )
    chat = ChatActivities.of(project)
    tools = ToolActivities(ToolCatalog.of(note), project.http)
    worker = Worker(
        client,
        task_queue=os.environ["BENCH_QUEUE"],
        workflows=HAND_WORKFLOWS,
        activities=[chat.chat, tools.call],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_failure_exception_types=[EngineError],
        **worker_options(json.loads(os.environ["BENCH_WORKER_OPTIONS"])),
    )
    try:
        async with worker:
            print(json.dumps({"ready": True}), flush=True)
            await stopping.wait()
    finally:
        await chat.aclose()
        await tools.aclose()


if __name__ == "__main__":
    asyncio.run(run())
