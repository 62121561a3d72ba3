"""Records histories of small executions for the replay tests, without what tells of the machine they were made on.

`EVERSTEP_RECORD=1 .venv/bin/python -m pytest tests/replay/test_histories.py` records those of the present interpreter
anew: here and, for the examples, in examples.py. Those of older ones stay as they are for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory

from engine.core.contracts.execution import SIGNAL_CONTROL, SIGNAL_MESSAGE, ControlSignal, Fork, MessageSignal
from engine.core.contracts.execution import Recorded as Step
from engine.core.contracts.patches import INTERPRETER
from engine.core.errors import ToolError
from engine.tooling import ToolContext, tool
from tests.support.lab import TENANT, Ended, Lab

FOLDER = Path(__file__).parent / "histories"
"""One folder for each version of the interpreter."""
HISTORIES = FOLDER / str(INTERPRETER)
"""Those of the present one."""
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
        options: Further members of ExecutionParams.
    """

    name: str
    task: str
    given: Any = None
    steer: Callable[[Lab, Handle], Awaitable[None]] | None = None
    continue_after_events: int | None = None
    stored: tuple[str, ...] = ()
    of_child: bool = False
    options: dict[str, Any] = field(default_factory=dict)


async def _answer(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "wait")
    await lab.answer(handle, "no object", key="wrong")
    await lab.until(handle, "answer.refused")
    await lab.answer(handle, {"go": True}, key="right")


async def _answer_all(lab: Lab, handle: Handle) -> None:
    for number in range(4):
        await lab.until(handle, "wait", count=number + 1)
        await lab.answer(handle, number)


async def _send(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "wait")
    await lab.send(handle, "later", 2, key="b")
    await lab.send(handle, "paid", "wrong", key="b")
    await lab.send(handle, "paid", 7, key="a")


async def _control(lab: Lab, handle: Handle, kind: Any, outcome: str, count: int, **members: Any) -> None:
    key = f"{kind}-{count}"
    await handle.signal(SIGNAL_CONTROL, ControlSignal(kind=kind, key=key, actor="test", **members))
    await lab.until(handle, outcome, count=count)


async def _pause(lab: Lab, handle: Handle) -> None:
    """A break is reached, one more is set, a wait gets another deadline, and what comes meanwhile waits."""
    await lab.until(handle, "execution.paused")
    await _control(lab, handle, "breaks", "breaks.changed", 1, breaks=["main.3"])
    await _control(lab, handle, "continue", "execution.continued", 1)
    await lab.until(handle, "wait")
    later = time.time_ns() // 1_000 + 3_600_000_000
    await _control(lab, handle, "deadline", "deadline.changed", 1, wait_id="main.2", deadline_us=later)
    await _control(lab, handle, "pause", "execution.paused", 2, reason="lunch")
    await lab.answer(handle, 5)
    await _control(lab, handle, "continue", "execution.continued", 2)
    await lab.until(handle, "execution.paused", count=3)
    await _control(lab, handle, "continue", "execution.continued", 3)


async def _talk(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "wait")
    for number, (value, busy) in enumerate([(1, ""), (2, ""), (9, "reject"), (3, "")], 1):
        await handle.signal(SIGNAL_MESSAGE, MessageSignal(id=f"m{number}", value=value, busy=busy, actor="test"))
        await lab.until(handle, "message.taken", count=number)


async def _cancel(lab: Lab, handle: Handle) -> None:
    await lab.until(handle, "effect.started")
    await asyncio.sleep(0.3)
    await lab.cancel(handle, "enough")


async def _pause_and_move(lab: Lab, handle: Handle) -> None:
    async def control(kind: Any, event: str, count: int = 1, **members: Any) -> None:
        signal = ControlSignal(kind=kind, key=f"{kind}{count}", actor="ann", **members)
        await handle.signal(SIGNAL_CONTROL, signal)
        await lab.until(handle, event, count=count)

    await lab.until(handle, "execution.paused")
    await control("continue", "execution.continued")
    await lab.until(handle, "wait")
    await control("pause", "execution.paused", count=2)
    # long enough to continue as new in the pause
    await asyncio.sleep(1.5)
    await lab.answer(handle, 4)
    await lab.until(handle, "resume")
    await control("breaks", "breaks.changed", breaks=["main.2"])
    await control("continue", "execution.continued", count=2)
    await lab.until(handle, "execution.paused", count=3)
    await control("continue", "execution.continued", count=3)
    await control("deadline", "deadline.changed", wait_id="main.2", deadline_us=1)


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


MORE = (
    Recorded(
        "race",
        """
name: race
main:
  - race: [{tool: patient, arguments: {}}, {tool: double, arguments: {n: 3}}, {sleep: 30}]
    stagger: 100ms
  - {race: [{error: one}, [{sleep: 0.1}, {evaluate: 2}], {evaluate: 1}], take: 2}
  - {race: [{tool: patient, arguments: {}}, {sleep: 20}], timeout: 0.2, on_error: {evaluate: $ error.code}}
""",
    ),
    Recorded(
        "undo_and_finally",
        """
name: undo_and_finally
main:
  - parallel:
      - - {tool: double, arguments: {n: 1}, undo: {tool: double, arguments: {n: $ _}}}
        - {evaluate: 2, undo: [{sleep: 0.05}, {log: undone}]}
        - {error: no}
      - {tool: patient, arguments: {}}
    on_error: {tool: double, arguments: {n: $ len(error.message)}}
  - {tool: double, arguments: {n: 5}, undo: {tool: double, arguments: {n: 6}}}
  - {error: after all}
finally:
  - {tool: double, arguments: {n: 9}}
""",
    ),
    Recorded(
        "cancel_with_undo",
        """
name: cancel_with_undo
main:
  - {evaluate: 1, undo: {tool: double, arguments: {n: 4}}}
  - {tool: patient, arguments: {}}
finally:
  - {sleep: 0.05}
  - {tool: double, arguments: {n: 8}}
""",
        steer=_cancel,
    ),
    Recorded(
        "loops",
        """
name: loops
main:
  - {evaluate: 1}
  - {while: $ _ < 20, do: {tool: double, arguments: {n: $ _}}, max_rounds: 9}
  - until: $ _ > 100
    do:
      - switch:
          - {case: $ _ % 2 == 0, then: {tool: double, arguments: {n: $ _}}}
          - {case: _, then: {evaluate: $ _ + 1}}
  - {workflow: half, arguments: {n: $ _}}
half:
  - if: $ _.n > 10
    then: {return: $ int(_.n / 2)}
  - {error: small}
""",
    ),
    Recorded(
        "events_and_deadlines",
        """
name: events_and_deadlines
main:
  - parallel:
      - {wait_for_event: paid, key: a, schema: {type: integer}}
      - - {wait_for_event: paid, key: b, deadline: 300ms, default: none}
        - {wait_for_event: later, key: b}
      - {approve: {info: sure?, deadline: 200ms, default: {approved: false}}}
""",
        steer=_send,
    ),
    Recorded(
        "collected_items",
        """
name: collected_items
main:
  - over: $ [1, 2, 3]
    map:
      - {sleep: $ _ / 100}
      - {if: $ _ == 2, then: {error: "bad {{ _ }}"}, else: {tool: second_time, arguments: {n: $ _}}}
    on_item_error: collect
    retry: {attempts: 1}
  - parallel: [{sleep: 9}]
    total_timeout: 0.3
    timeout: 0.1
    retry: {attempts: 3, initial: 0.05}
    on_error: {evaluate: $ _}
""",
    ),
    Recorded(
        "waits_over_runs",
        """
name: waits_over_runs
main:
  - foreach:
      in: $ list(range(4))
      do:
        - {sleep: 0.3}
        - {parallel: [{wait_for_input: {info: $ _}}, {tool: double, arguments: {n: $ _}}]}
finally: {tool: double, arguments: {n: 1}}
""",
        steer=_answer_all,
        continue_after_events=25,
    ),
    Recorded(
        "paused",
        """
name: paused
main:
  - parallel:
      - {wait_for_input: {info: x}}
      - [{tool: double, arguments: {n: 1}}, {sleep: 0.1}]
  - {tool: double, arguments: {n: "$ _[0]"}}
  - {sleep: 600}
""",
        steer=_pause_and_move,
        continue_after_events=8,
        options={"breaks": ["main.0[1].1"]},
    ),
    Recorded(
        "forked",
        """
name: forked
main:
  - {set: {n: "$ random.randint(0, 9)"}}
  - over: $ [1, 2, 3]
    map: [{tool: double, arguments: {n: $ _}}, {tool: double, arguments: {n: $ _ + state.n}}, {evaluate: $ _ + 1}]
    reduce: $ results + _
    initial: 0
""",
        options={
            "fork": Fork(
                kind="retry",
                execution_id="00000000-0000-4000-8000-00000000000f",
                path="main.1.map[1].1",
                seed="00000000-0000-4000-8000-00000000000f",
                keys="00000000-0000-4000-8000-00000000000f",
                began_us=1_700_000_000_000_000,
                recorded={
                    "main.0": Step(output={"n": 5}, at_us=1_700_000_000_000_000, state={"n": 5}),
                    "main.1.map[0].0": Step(output=2, at_us=1_700_000_001_000_000),
                    "main.1.map[0].1": Step(output=14, at_us=1_700_000_002_000_000),
                    "main.1.map[1].0": Step(output=4, at_us=1_700_000_001_000_000),
                },
            )
        },
    ),
    Recorded(
        "paused_and_steered",
        """
name: paused_and_steered
main:
  - {evaluate: 1}
  - {tool: double, arguments: {n: $ _}}
  - {wait_for_input: {info: $ _, deadline: 60s}}
  - {tool: double, arguments: {n: $ _}}
""",
        steer=_pause,
        options={"breaks": ["main.1"]},
    ),
    Recorded(
        "listening",
        """
name: listening
main:
  - listen:
      busy: enqueue
      allow_busy: [reject]
      do:
        - {sleep: 0.3}
        - {tool: double, arguments: {n: $ _}}
      until: _ == 6
""",
        steer=_talk,
    ),
)


async def record(lab: Lab, item: Recorded) -> dict[str, Any]:
    """Run an execution and return {name, execution, spans, digest, output, error, cancelled, runs: [history]}.

    `spans` holds the numbers of the first and the last event of each run. A run of an old recording goes on from the
    number that it was given then, also if today's interpreter tells more of the run before it.
    """
    for text in item.stored:
        await lab.definitions.create_task(text, tenant=TENANT, by_name=True)
    more = {"continue_after_events": item.continue_after_events, **item.options}
    handle = await lab.start(item.task, item.given, **more)
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
        "runs": [scrub(json.loads(history.to_json())) for history in await chain_of(lab.client, handle.id)],
    }


async def _end(lab: Lab, execution_id: str, ended: Ended) -> dict[str, Any]:
    runs: dict[str, list[int]] = {}
    for event in await lab.store.list_events(execution_id, tenant=TENANT):
        runs.setdefault(event.run_id, []).append(event.seq)
    count, digest, times = await lab.store.digest(execution_id)
    # a cancelled workflow has no result that could carry count and hashes
    assert ended.cancelled or (ended.events, ended.digest, ended.times) == (count, digest, times)
    return {
        "cancelled": ended.cancelled,
        "output": ended.output,
        "error": ended.error["code"] if ended.error else None,
        "spans": [[numbers[0], numbers[-1]] for numbers in runs.values()],
        "digest": digest,
    }


async def chain_of(client: Client, execution_id: str, *, wait: bool = False) -> list[WorkflowHistory]:
    """Fetch the histories of all runs of an execution, the first run first.

    Args:
        client: A connected client.
        execution_id: The execution.
        wait: Wait for its end first.
    """
    if wait:
        with contextlib.suppress(WorkflowFailureError):
            await client.get_workflow_handle(execution_id).result()
    histories: list[WorkflowHistory] = []
    run_id: str | None = None
    while run_id != "":
        history = await client.get_workflow_handle(execution_id, run_id=run_id).fetch_history()
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
