"""What tests of upgrades share: plans and inputs as earlier engines wrote them, and what a failed task says."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

REPLAY = Path(__file__).parents[1] / "replay"
FORMATS = REPLAY / "formats"


def old_plans(number: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return (source, plan as JSON) of the tasks that were compiled when plans had that format, by name."""
    return {
        file.stem: (file.with_suffix(".yaml").read_text(encoding="utf-8"), json.loads(file.read_text(encoding="utf-8")))
        for file in sorted((FORMATS / str(number)).glob("*.json"))
    }


def recorded_input(name: str) -> dict[str, Any]:
    """Return the input of the workflow of a recorded history, as an engine with interpreter 1 wrote it."""
    body = json.loads((REPLAY / "histories" / "1" / f"{name}.json").read_text(encoding="utf-8"))
    started = body["runs"][0]["events"][0]["workflowExecutionStartedEventAttributes"]
    found: dict[str, Any] = json.loads(base64.b64decode(started["input"]["payloads"][0]["data"]))
    return found


async def failed_task_of(handle: WorkflowHandle[Any, Any], timeout_s: float = 20.0) -> str:
    """Wait until a workflow task of an execution has failed, and return what its failure says."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        async for event in handle.fetch_history_events():
            failed = event.workflow_task_failed_event_attributes
            if event.HasField("workflow_task_failed_event_attributes"):
                return failed.failure.message
        await asyncio.sleep(0.02)
    raise AssertionError("no workflow task failed")
