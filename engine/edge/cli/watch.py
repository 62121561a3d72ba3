"""The command `watch`: an execution as a live tree until it ends, over restarts of the API, with what models write."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import EngineError, Unavailable
from engine.core.kinds import EventType, ExecutionStatus
from engine.edge.cli.executions import POLL_S, finish, timed_out
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, ExecutionId, Output
from engine.edge.cli.output import Mode, note
from engine.edge.cli.run import open_display
from engine.edge.cli.values import segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api
    from engine.edge.cli.live import Display

PATIENCE_S = 60.0
"""How long the API may be away; a restart takes some seconds."""
_ENDS = (EventType.FINISH, EventType.ERROR, EventType.CANCELLED)
_TICK_S = 0.2


class _Piece(dict[str, Any]):
    """Some characters that a model wrote."""


_Arrived = dict[str, Any] | _Piece | EngineError | None


def watch(
    execution_id: ExecutionId,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Watch at most so many seconds.")] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Watch an execution until it ends, then print its result; the exit code says how it ended.

    Ctrl-C leaves; the execution goes on.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import task_of_execution

    api = Api(address, api_key)
    view = api.get(f"/executions/{segment(execution_id)}")
    full_id = str(view["id"])
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        display = open_display(task_of_execution(api, view), full_id, output)
        try:
            _show(api, full_id, display, deadline)
        finally:
            display.close()
        finish(_ended(api, full_id, deadline), output)
    except TimeoutError:
        raise timed_out(full_id, timeout or 0) from None
    except KeyboardInterrupt:
        note(f"\nexecution {full_id} goes on; come back with: everstep watch {full_id}")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _show(api: Api, execution_id: str, display: Display, deadline: float | None) -> None:
    """Feed the display until the execution ends; raises TimeoutError at the deadline."""
    from engine.edge.cli.live import TreeDisplay

    arrived: queue.Queue[_Arrived] = queue.Queue()
    threading.Thread(target=_read_events, args=(api, execution_id, arrived), daemon=True).start()
    if isinstance(display, TreeDisplay):
        threading.Thread(target=_read_tokens, args=(api, execution_id, arrived), daemon=True).start()
    replied: set[str] = set()
    while True:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError
        try:
            found = arrived.get(timeout=_TICK_S)
        except queue.Empty:
            continue
        if found is None:
            return
        if isinstance(found, EngineError):
            raise found
        if isinstance(found, _Piece):
            # the two streams come by different ways: what a call wrote may come after its end
            if isinstance(display, TreeDisplay) and found["effect_id"] not in replied:
                display.write(str(found["path"]), str(found["text"]), anew=found.get("index") == 0)
            continue
        display.show(found)
        if found["type"] == EventType.EFFECT_FINISHED:
            replied.add(str(found["body"].get("effect_id")))
        if found["type"] in _ENDS:
            return


def _read_events(api: Api, execution_id: str, arrived: queue.Queue[_Arrived]) -> None:
    last_id = ""
    try:
        while True:
            stream = f"/executions/{execution_id}/events.stream"
            for item in api.follow(stream, last_id=last_id, patience_s=PATIENCE_S):
                last_id = item.id or last_id
                if "seq" in item.data:
                    arrived.put(item.data)
            # a server that stops ends its streams as if all were told
            if _has_ended(api, execution_id):
                arrived.put(None)
                return
            time.sleep(POLL_S)
    except EngineError as error:
        arrived.put(error)


def _has_ended(api: Api, execution_id: str) -> bool:
    try:
        return ExecutionStatus(api.get(f"/executions/{execution_id}")["status"]).is_terminal
    except Unavailable:
        return False


def _read_tokens(api: Api, execution_id: str, arrived: queue.Queue[_Arrived]) -> None:
    last_id = ""
    stream = f"/executions/{execution_id}/tokens.stream"
    try:
        while True:
            for item in api.follow(stream, last_id=last_id, patience_s=PATIENCE_S):
                last_id = item.id or last_id
                if item.event == "end":
                    return
                if item.event == "token":
                    arrived.put(_Piece(item.data))
            # a server that stops ends its streams, and this one without its `end`
            time.sleep(POLL_S)
    except EngineError:
        # what a model writes is told for convenience; its message comes with the events
        return


def _ended(api: Api, execution_id: str, deadline: float | None) -> dict[str, Any]:
    """Return the execution once it has ended, as long as the API does not stay away for too long."""
    lost_at: float | None = None
    while True:
        try:
            view: dict[str, Any] = api.get(f"/executions/{execution_id}")
            lost_at = None
            if ExecutionStatus(view["status"]).is_terminal:
                return view
        except Unavailable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > PATIENCE_S:
                raise
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError
        time.sleep(POLL_S)
