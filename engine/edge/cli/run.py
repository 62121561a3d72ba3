"""The command `run`: uploads a task if it is a file, starts it, shows it live, prints its result."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import EngineError
from engine.core.kinds import EventType
from engine.edge.cli.executions import await_end, finish, timed_out
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, InputFile, InputJson, Output
from engine.edge.cli.output import Mode, as_json, note, write
from engine.edge.cli.values import future_time, metadata_of, read_input, span_of

if TYPE_CHECKING:
    from engine.edge.cli.api import Api
    from engine.edge.cli.live import Display

_ENDS = (EventType.FINISH, EventType.ERROR, EventType.CANCELLED)
_TICK_S = 0.2


def run(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task file, or the id or name of a task (NAME@3, NAME@ALIAS).")
    ],
    input_json: InputJson = None,
    input_file: InputFile = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it, print its id and leave.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Wait at most so many seconds.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="A word by which to find it (`ls --label`); repeatable.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Metadata (`ls --meta`); repeatable; KEY a.b = b inside a."),
    ] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", metavar="JSON", help="Metadata as a JSON object; --meta adds to it.")
    ] = None,
    actor: Actor = "",
    key: Annotated[
        str, typer.Option("--key", help="Idempotency key: the same command with it again is the same execution.")
    ] = "",
    execution_id: Annotated[str, typer.Option("--id", help="Id of the execution, a UUID.")] = "",
    delay: Annotated[str, typer.Option("--delay", help="Begin so much later, such as 15m.")] = "",
    start_at: Annotated[str, typer.Option("--start-at", help="Begin at this time, such as 2026-12-24T18:00.")] = "",
    deadline: Annotated[
        str,
        typer.Option("--deadline", help="Fail if it has not ended: a time, or so long after it is let in, such as 1h."),
    ] = "",
    priority: Annotated[
        int | None, typer.Option("--priority", min=1, max=5, help="1 comes first, 5 last; 3 if nothing says otherwise.")
    ] = None,
    break_at: Annotated[
        list[str] | None, typer.Option("--break-at", metavar="PATH", help="Pause before this step; repeatable.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Run a task and wait for its result; Ctrl-C leaves, the execution goes on."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import find_task, looks_like_file, upload_task

    given = read_input(input_json, input_file)
    body = {"input": given, "labels": label or [], "metadata": metadata_of(meta or (), metadata), "actor": actor}
    body |= start_members(execution_id, delay, start_at, deadline, priority, break_at or ())
    api = Api(address, api_key)
    definition = upload_task(api, Path(task), given) if looks_like_file(task) else find_task(api, task)
    # the version that was found or uploaded, whoever makes another one meanwhile
    started = api.post(f"/tasks/{definition['id']}@{definition['version']}/executions", body, key=key)
    execution_id = str(started["id"])
    if detach:
        write(execution_id if output is Mode.TEXT else as_json(started, pretty=output is Mode.JSON))
        return
    if started.get("queued"):
        note(f"execution {execution_id} is queued: {started['queued']['message']}")
    try:
        watch(api, definition, execution_id, output, timeout)
    except KeyboardInterrupt:
        note(f"\nexecution {execution_id} goes on; come back with: everstep logs -f {execution_id}")
        raise typer.Exit(Exit.INTERRUPTED) from None


def start_members(
    execution_id: str, delay: str, start_at: str, deadline: str, priority: int | None, break_at: Sequence[str]
) -> dict[str, Any]:
    """Return what of these is given, as members of a request to start.

    Raises:
        InvalidInput: A time is none.
    """
    times = {
        "start_at": future_time(start_at, "--start-at") if start_at else None,
        "deadline": (span_of(deadline) or future_time(deadline, "--deadline")) if deadline else None,
    }
    plain: dict[str, Any] = {
        "id": execution_id or None,
        "delay": (span_of(delay) or delay) if delay else None,
        "priority": priority,
        "break_at": list(break_at),
    }
    return {name: value for name, value in {**plain, **times}.items() if value not in (None, [])}


def watch(api: Api, task: dict[str, Any], execution_id: str, output: Mode, timeout_s: float | None = None) -> None:
    """Show an execution until it ends, then print its result and leave with its exit code.

    Args:
        api: The connection.
        task: The task, for the titles of its steps.
        execution_id: The execution.
        output: Text shows the steps, jsonl prints the events, json prints the ended execution only.
        timeout_s: Longest wait in seconds; None = no limit.

    Raises:
        TimedOut: The time is over; the execution goes on.
        typer.Exit: It did not succeed.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    display = open_display(task, execution_id, output)
    try:
        _show_events(api, execution_id, display, deadline)
    except TimeoutError:
        raise timed_out(execution_id, timeout_s or 0) from None
    finally:
        display.close()
    rest = None if deadline is None else max(0.0, deadline - time.monotonic())
    finish(await_end(api, execution_id, rest), output)


def open_display(task: dict[str, Any], execution_id: str, output: Mode) -> Display:
    """Return the display that fits the output mode and the terminal."""
    from engine.edge.cli.live import JsonDisplay, PlainDisplay, SilentDisplay, TreeDisplay
    from engine.edge.cli.titles import titles_of
    from engine.edge.cli.tree import RunTree

    if output is Mode.JSON:
        return SilentDisplay()
    if output is Mode.JSONL:
        return JsonDisplay()
    tree = RunTree(task.get("main") or (), titles_of(task))
    if sys.stdout.isatty():
        return TreeDisplay(tree, execution_id, f"{task.get('name', 'task')}  {execution_id}")
    return PlainDisplay(tree, execution_id)


def _show_events(api: Api, execution_id: str, display: Display, deadline: float | None) -> None:
    """Feed the display until the execution ends; raises TimeoutError at the deadline."""
    arrived: queue.Queue[dict[str, Any] | EngineError | None] = queue.Queue()
    threading.Thread(target=_read_stream, args=(api, execution_id, arrived), daemon=True).start()
    while True:
        try:
            event = arrived.get(timeout=_TICK_S)
        except queue.Empty:
            event = {}
        if event is None:
            return
        if isinstance(event, EngineError):
            raise event
        if event:
            display.show(event)
            if event["type"] in _ENDS:
                return
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError


def _read_stream(api: Api, execution_id: str, arrived: queue.Queue[dict[str, Any] | EngineError | None]) -> None:
    try:
        for item in api.follow(f"/executions/{execution_id}/events.stream"):
            if "seq" in item.data:
                arrived.put(item.data)
        arrived.put(None)
    except EngineError as error:
        arrived.put(error)
