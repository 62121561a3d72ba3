"""Records histories of small executions for the replay tests, without what tells of the machine they were made on.

Record anew with `EVERSTEP_RECORD=1 .venv/bin/python -m pytest tests/replay`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle, WorkflowHistory

from engine.core.errors import ToolError
from engine.tooling import ToolContext, tool
from tests.support.lab import TENANT, Ended, Lab

HISTORIES = Path(__file__).parent / "histories"
NAMES_OF_PLACES = frozenset({"identity", "workerInstanceKey", "stackTrace"})
"""Members of a history that name a process, a host or a folder."""


@tool(effect="read")
async def double(n: int) -> int:
    """Double a number."""
    return n * 2


@tool(effect="read")
async def second_time(n: int, context: ToolContext) -> int:
    """Fail at the first attempt."""
    if context.attempt == 1:
        raise ToolError("not yet", code="tool.failed", retryable=True)
    return n


@tool(effect="read")
async def patient() -> str:
    """Take longer than any test waits."""
    await asyncio.sleep(60)
    return "done"


TOOLS = (double, second_time, patient)

Handle = WorkflowHandle[Any, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An execution to record.

    Attributes:
        name: Name of the file.
        task: The task.
        given: Its input.
        steer: What is done to it while it runs.
        continue_after_events: See ExecutionParams.
        stored: Tasks that it may run.
        of_child: Whether the history of the execution that it starts is recorded, and not its own.
    """

    name: str
    task: str
    given: Any = None
    steer: Callable[[Lab, Handle], Awaitable[None]] | None = None
    continue_after_events: int | None = None
    stored: tuple[str, ...] = ()
    of_child: bool = False


async def _answer(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "wait")
    await lab.answer(handle, "no object", key="wrong")
    await lab.until(handle, "answer.refused")
    await lab.answer(handle, {"go": True}, key="right")


async def _cancel(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "effect.started")
    await asyncio.sleep(0.3)
    await lab.cancel(handle, "enough")


_CHILD = """
name: recorded_child
input_schema: {type: object, required: [n]}
main:
  - {tool: double, arguments: {n: $ _.n}}
  - {if: input.get('wait'), then: {sleep: 60}}
  - evaluate: $ _ + 1
"""

CORPUS = (
    Recorded(
        "prompt_and_tool",
        "name: prompt_and_tool\n"
        "main: [{prompt: 'count {{ _.what }}', unwrap: true}, {tool: double, arguments: {n: $ len(_)}}]",
        {"what": "sheep"},
    ),
    Recorded(
        "foreach",
        "name: foreach\nmain: [{foreach: {in: $ _, do: [{tool: double, arguments: {n: $ _}}, {evaluate: $ _ + 1}]}}]",
        [1, 2, 3],
    ),
    Recorded(
        "map_with_retry",
        """
name: map_with_retry
main:
  - over: $ [1, 2, 3, 4]
    parallelism: 2
    map: {tool: second_time, arguments: {n: $ _}, retry: {attempts: 2, initial: 0.05}}
    reduce: $ results + _
    initial: 0
""",
    ),
    Recorded(
        "parallel_wait_answer",
        """
name: parallel_wait_answer
main:
  - parallel:
      - {wait_for_input: {info: {ask: go?}, schema: {type: object}}}
      - [{tool: double, arguments: {n: 2}}, {tool: double, arguments: {n: $ _}}]
      - evaluate: $ [now().isoformat(), uuid(), random.randint(1, 100)]
""",
        steer=_answer,
    ),
    Recorded(
        "sleep",
        "name: sleep\nmain: [{sleep: {seconds: 0.2}}, "
        "{parallel: [{sleep: {seconds: 5}}], timeout: 0.1, on_error: {evaluate: 1}}]",
    ),
    Recorded("cancel", "name: cancel\nmain: [{parallel: [{tool: patient}, {sleep: {seconds: 60}}]}]", steer=_cancel),
    Recorded(
        "error_with_on_error",
        """
name: error_with_on_error
main:
  - tool: second_time
    arguments: {n: 1}
    retry: {attempts: 1}
    on_error: [{evaluate: $ error.code}, {tool: double, arguments: {n: $ len(_)}}]
  - {error: "given up at {{ _ }}"}
""",
    ),
    Recorded(
        "continue_as_new",
        "name: continue_as_new\nmain: [{foreach: {in: $ list(range(14)), do: [{sleep: {seconds: 0.2}}, "
        "{tool: double, arguments: {n: $ _}}]}}]",
        continue_after_events=30,
    ),
    Recorded(
        "child_and_none",
        """
name: child_and_none
main:
  - {task: recorded_child, arguments: {n: $ _}, label: child}
  - {task: nowhere, on_error: {evaluate: $ steps.child.output}}
  - {parallel: [{task: recorded_child, arguments: {n: 9, wait: true}}], timeout: 0.5, on_error: {evaluate: $ _ + 1}}
""",
        4,
        stored=(_CHILD,),
    ),
    Recorded(
        "of_a_child",
        "name: of_a_child\nmain: [{task: recorded_child, arguments: {n: $ _}}]",
        4,
        stored=(_CHILD,),
        of_child=True,
    ),
)


async def record(lab: Lab, item: Recorded) -> dict[str, Any]:
    """Run an execution and return {name, execution, spans, digest, output, error, cancelled, runs: [history]}.

    `spans` holds the numbers of the first and the last event of each run. A run of an old recording goes on from the
    number that it was given then, also if today's interpreter tells more of the run before it.
    """
    for text in item.stored:
        await lab.definitions.create_task(text, tenant=TENANT, by_name=True)
    handle = await lab.start(item.task, item.given, continue_after_events=item.continue_after_events)
    if item.steer is not None:
        await item.steer(lab, handle)
    ended = await lab.end_of(handle)
    if item.of_child:
        handle = lab.client.get_workflow_handle((await lab.until(handle, "effect.started"))["child_id"])
        ended = await lab.end_of(handle)
    await lab.until(handle, "cancelled" if ended.cancelled else "error" if ended.error else "finish")
    return {
        "name": item.name,
        "execution": handle.id,
        **await _end(lab, handle.id, ended),
        "runs": [scrub(json.loads(history.to_json())) for history in await chain(lab, handle)],
    }


async def _end(lab: Lab, execution_id: str, ended: Ended) -> dict[str, Any]:
    runs: dict[str, list[int]] = {}
    for event in await lab.store.list_events(execution_id, tenant=TENANT):
        runs.setdefault(event.run_id, []).append(event.seq)
    count, digest = await lab.store.digest(execution_id)
    # a cancelled workflow has no result that could carry count and hash
    assert ended.cancelled or (ended.events, ended.digest) == (count, digest)
    return {
        "cancelled": ended.cancelled,
        "output": ended.output,
        "error": ended.error["code"] if ended.error else None,
        "spans": [[numbers[0], numbers[-1]] for numbers in runs.values()],
        "digest": digest,
    }


async def chain(lab: Lab, handle: Handle) -> list[WorkflowHistory]:
    """Fetch the histories of all runs of an execution, the first run first."""
    histories: list[WorkflowHistory] = []
    run_id: str | None = None
    while run_id != "":
        history = await lab.client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
        histories.append(history)
        run_id = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return histories[::-1]


def scrub(value: Any) -> Any:
    """Take what names a process, a host or a queue of this machine out of a history."""
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if not isinstance(value, dict):
        return value
    clean = {name: scrub(item) for name, item in value.items() if name not in NAMES_OF_PLACES}
    if "taskQueue" in clean:
        clean["taskQueue"] = {"name": "recorded", "kind": "TASK_QUEUE_KIND_NORMAL"}
    return clean
