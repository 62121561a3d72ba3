"""What each operation of the client asks of the API, and how its answer is read; sends nothing itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from engine.author.task import Task
from engine.client.asking import Filters, Stream, Time, UsageBy, check_stream, moment_text, queries
from engine.client.rows import Checked, Counts, EventTaken, MessageTaken, StepVisits, UsageRow
from engine.client.startoptions import StartOptions
from engine.client.views import Execution, Page, TaskVersion
from engine.core.errors import DefinitionError
from engine.core.kinds import ExecutionStatus
from engine.core.values import Json
from engine.source.python_paths import is_python
from engine.source.task_text import read_task_text

T = TypeVar("T")

TaskSource = str | Path | Task
"""A task of the server by name or id (`greet`, `greet@3`, `greet@prod`), a task file, or a task in Python."""

AGE_HEADER = "everstep-data-age"
ANSWER_TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 120.0
PAGE = 200
MOST_LINES = 999
"""Most lines of a report that the API sends."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request.

    Attributes:
        method: HTTP method.
        path: Path below `/api`.
        read: Reads the answer.
        params: Query.
        body: JSON body; None = none.
        text: Body as text, instead of `body`.
        content_type: Media type of `text`.
        timeout_s: Longest wait for the answer; None = that of the client.
        repeatable: Whether it may be sent again when its answer was lost.
        key: Idempotency-Key.
        explain: Gives an error about a definition the file and the source that the caller knows.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    text: str | None = None
    content_type: str = "application/json"
    timeout_s: float | None = None
    repeatable: bool = True
    key: str = ""
    explain: Callable[[DefinitionError], DefinitionError] | None = None


def _json(response: httpx.Response) -> Any:
    return response.json() if response.content else None


def _execution(response: httpx.Response) -> Execution:
    age = response.headers.get(AGE_HEADER)
    return Execution.of(response.json(), None if age is None else float(age))


def _task(response: httpx.Response) -> TaskVersion:
    return TaskVersion.of(response.json())


def _items(response: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = response.json()["items"]
    return found


def _page(response: httpx.Response) -> Page[Any]:
    body = response.json()
    return Page(body["items"], body.get("next_cursor"))


def _executions(response: httpx.Response) -> Page[Execution]:
    body = response.json()
    return Page([Execution.of(item) for item in body["items"]], body.get("next_cursor"))


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="@")


def given(**params: Any) -> dict[str, Any]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


# --- tasks ---------------------------------------------------------------------------------------------------------


def apply_task(source: Path | Task, *, name: str = "", key: str | None = None) -> Request[TaskVersion]:
    """Store a task: a new one, or a new version of the task of that name if it says something new.

    Raises:
        DefinitionError: The Python file is broken.
        InvalidInput: `file.unreadable`.
    """
    text, kind, file, explain = _definition(source, name)
    return Request(
        "POST",
        "/tasks",
        _task,
        params={"by_name": "true", "file": file},
        text=text,
        content_type=kind,
        timeout_s=UPLOAD_TIMEOUT_S,
        key=key or new_key(),
        explain=explain,
    )


def validate_task(source: Path | Task, *, name: str = "") -> Request[Checked]:
    """Check a task and store nothing: {ok, diagnostics, name}."""
    text, kind, file, _ = _definition(source, name)
    return Request("POST", "/tasks/validate", _json, params={"file": file}, text=text, content_type=kind)


def _definition(source: Path | Task, name: str) -> tuple[str, str, str, Callable[[DefinitionError], DefinitionError]]:
    """Return text, media type and file name of a definition, and what places its errors there."""
    if isinstance(source, Path) and is_python(source):
        # reads and runs the file; imported late, since most clients have none
        from engine.source.python_reader import read_python_task

        made = read_python_task(source)

        def place(error: DefinitionError) -> DefinitionError:
            error.diagnostics = tuple(made.placed(error.diagnostics))
            return with_source(error, made.file, made.source)

        return made.to_yaml(), "application/yaml", source.name, place
    if isinstance(source, Path):
        text = read_task_text(source)
        kind = "application/json" if source.suffix == ".json" else "application/yaml"
        return text, kind, source.name, lambda error: with_source(error, str(source), text)
    text = source.to_yaml(name)
    file = source.name or name or "task"
    return text, "application/yaml", file, lambda error: with_source(error, file, text)


def with_source(error: DefinitionError, file: str, text: str) -> DefinitionError:
    """Return an error with the name and text of the local file, so that its lines and carets can be printed."""
    placed = DefinitionError(
        f"{file} is not a valid task",
        code=error.code,
        details=error.details,
        diagnostics=error.diagnostics,
        file=file,
        source=text,
    )
    placed.message = f"{placed.message}\n{placed.render()}"
    placed.args = (placed.message,)
    return placed


def get_task(reference: str) -> Request[TaskVersion]:
    """Ask for a task by name or id, `@VERSION` or `@ALIAS` behind."""
    return Request("GET", f"/tasks/{segment(reference)}", _task)


def list_tasks(*, limit: int, offset: int) -> Request[list[TaskVersion]]:
    """Ask for the tasks in their latest versions."""
    params = {"limit": limit, "offset": offset}
    return Request("GET", "/tasks", lambda response: [TaskVersion.of(item) for item in _items(response)], params=params)


# --- executions ----------------------------------------------------------------------------------------------------


def start(
    task: str,
    input: Json,
    *,
    key: str | None,
    execution_id: str | None,
    labels: Sequence[str],
    metadata: Mapping[str, Any] | None,
    options: StartOptions | None = None,
) -> Request[Execution]:
    """Start an execution; without a key of the caller a new one, so that a lost answer never starts two."""
    body = given(input=input if input is not None else {}, id=execution_id, metadata=metadata)
    if labels:
        body["labels"] = list(labels)
    if options is not None:
        body |= options.body()
    path = f"/tasks/{segment(task)}/executions"
    return Request("POST", path, _execution, body=body, key=key or new_key(), timeout_s=UPLOAD_TIMEOUT_S)


def get_execution(execution_id: str) -> Request[Execution]:
    """Ask for an execution."""
    return Request("GET", f"/executions/{segment(execution_id)}", _execution)


def list_executions(filters: Filters, cursor: str | None, *, limit: int = PAGE) -> Request[Page[Execution]]:
    """Ask for one page of executions."""
    params = {**queries(filters), **given(cursor=cursor, limit=limit)}
    return Request("GET", "/executions", _executions, params=params)


def count_executions(filters: Filters) -> Request[Counts]:
    """Ask how many executions there are in each status."""
    return Request("GET", "/executions/counts", _json, params=queries(filters))


def answer(execution_id: str, value: Json, *, wait_id: str, key: str | None, actor: str) -> Request[Execution]:
    """Answer a wait; with the same key again, the first outcome comes again."""
    body = {"status": ExecutionStatus.RUNNING.value, "input": value, "key": key or new_key()}
    body |= {name: text for name, text in (("wait_id", wait_id), ("actor", actor)) if text}
    return Request("PUT", f"/executions/{segment(execution_id)}", _execution, body=body, timeout_s=ANSWER_TIMEOUT_S)


def cancel(execution_id: str, *, reason: str, actor: str) -> Request[Execution]:
    """Ask an execution to stop."""
    body = {"status": ExecutionStatus.CANCELLED.value, "reason": reason}
    if actor:
        body["actor"] = actor
    return Request("PUT", f"/executions/{segment(execution_id)}", _execution, body=body)


def send_event(
    execution_id: str, name: str, value: Json, *, key: Json, event_id: str | None, actor: str
) -> Request[EventTaken]:
    """Send an event; one id is taken once."""
    final_id = event_id or new_key()
    body = {"name": name, "id": final_id, **given(value=value, key=key)}
    if actor:
        body["actor"] = actor
    return Request("POST", f"/executions/{segment(execution_id)}/events", _json, body=body, key=final_id)


def send_message(
    execution_id: str, value: Json, *, name: str, busy: str, message_id: str | None, actor: str
) -> Request[MessageTaken]:
    """Send a message; one id is taken once."""
    final_id = message_id or new_key()
    body = {"name": name, "id": final_id, "value": value}
    body |= {member: text for member, text in (("busy", busy), ("actor", actor)) if text}
    path = f"/executions/{segment(execution_id)}/messages"
    return Request("POST", path, _json, body=body, timeout_s=ANSWER_TIMEOUT_S)


def list_of(execution_id: str, what: str, *, limit: int, cursor: str | None, **more: Any) -> Request[Page[Any]]:
    """Ask for one page of what an execution has: transitions, events, steps, attempts, history."""
    params = given(limit=limit, cursor=cursor, **more)
    return Request("GET", f"/executions/{segment(execution_id)}/{what}", _page, params=params)


def get_step(execution_id: str, path: str) -> Request[StepVisits]:
    """Ask for the visits of a step, whole."""
    return Request("GET", f"/executions/{segment(execution_id)}/steps/{segment(path)}", _json)


def usage(*, by: UsageBy, since: Time | None, until: Time | None, label: str | None) -> Request[list[UsageRow]]:
    """Ask for calls, tokens and cost, summed up."""
    span = {"from": moment_text(since, "since"), "to": moment_text(until, "until")}
    params = given(by=by, label=label, limit=MOST_LINES, **span)
    return Request("GET", "/usage", lambda response: response.json()["items"], params=params)


def stream_path(execution_id: str, what: Stream) -> str:
    """Return the path of a stream of an execution.

    Raises:
        InvalidInput: `request.invalid` if there is no such stream.
    """
    check_stream(what)
    return f"/executions/{segment(execution_id)}/{what}.stream"


def new_key() -> str:
    """Return a new idempotency key."""
    return str(uuid.uuid4())
