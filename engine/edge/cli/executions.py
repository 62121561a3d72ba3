"""Commands on executions that exist: describe, logs, result, answer, event, cancel."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import EngineError, RunError, run_error_from_json
from engine.core.kinds import EventType, ExecutionStatus
from engine.edge.cli.exits import TimedOut, exit_of_status
from engine.edge.cli.listing import took
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, ExecutionId, InputFile, InputJson, Output
from engine.edge.cli.output import Mode, as_json, note, report_error, write, write_rows, write_value
from engine.edge.cli.values import clip, clock, json_or_text, moment, read_input, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api
    from engine.edge.cli.tree import Line, RunTree

POLL_S = 0.2
TERMINAL_TYPES = (EventType.FINISH, EventType.ERROR, EventType.CANCELLED)
PAGE = 500


def describe(
    execution_id: ExecutionId, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show one execution: status, task, times, input, output or error, steps and open waits.

    Long values are cut; `everstep logs ID -o jsonl` has them whole.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.children import children_of
    from engine.edge.cli.tasks import task_of_execution
    from engine.edge.cli.titles import WORDS, titles_of
    from engine.edge.cli.tree import RunTree

    api = Api(address, api_key)
    view = api.get(f"/executions/{segment(execution_id)}")
    task = task_of_execution(api, view)
    # programs get the kinds of the plan, people the words of the language
    tree = RunTree(task.get("main") or (), titles_of(task, WORDS if output is Mode.TEXT else {}))
    parent = False
    for event in all_events(api, execution_id):
        tree.apply(event)
        parent = parent or bool(event["body"].get("child_id"))
    lines = tree.lines(time.time())
    if output is not Mode.TEXT:
        steps = [
            {"depth": line.depth, "step": line.text, "state": line.state.value, "took": line.time, "note": line.note}
            for line in lines
        ]
        write(as_json({**view, "steps": steps}, pretty=output is Mode.JSON))
        return
    _show(view, tree, lines, children_of(api, view["id"]) if parent else [])


def _show(view: Mapping[str, Any], tree: RunTree, lines: Sequence[Line], children: Sequence[Mapping[str, Any]]) -> None:
    """Print an execution for a person: its facts, its steps, and how to answer what it waits for."""
    from engine.core.run.projection import is_listening
    from engine.edge.cli.answering import answer_hint
    from engine.edge.cli.children import child_lines, with_children
    from engine.edge.cli.treesteps import UNKNOWN

    used = with_children(view.get("usage"), children)
    facts = [
        ("id", view["id"]),
        ("status", view["status"]),
        *_trouble_facts(view),
        ("task", f"{view.get('task_name') or ''} ({view['task_id']}, version {view.get('task_version', 1)})".strip()),
        *([("parent", f"{view['parent_id']} ({view.get('parent_path')})")] if view.get("parent_id") else ()),
        *_forked_facts(view),
        *_pause_facts(view),
        ("created", moment(view["created_at"])),
        ("ended", moment(view.get("closed_at"))),
        ("took", took(view)),
        *([("used", used)] if used else ()),
        ("input", clip(view.get("input"), 300)),
    ]
    if view.get("error"):
        facts += _error_facts(view["error"], tree)
    elif view["status"] == ExecutionStatus.SUCCEEDED:
        facts.append(("output", clip(view.get("output"), 600)))
    shown = [f"{name:<8} {value}" for name, value in facts]
    shown.append("steps")
    for line in lines:
        handed_on = "" if line.output is UNKNOWN else f"-> {clip(line.output, 100)}"
        parts = [f"{'  ' * line.depth}{line.text}", line.state.value, line.time, line.note, handed_on]
        shown.append("  " + "  ".join(part for part in parts if part))
    shown += ["children"] if children else []
    shown += [f"  {line}" for line in child_lines(children, view["id"])]
    write("\n".join(shown))
    if any(line.endswith("…") for line in shown):
        note(f"long values were cut; everstep logs {view['id']} -o jsonl prints them whole")
    waits = view.get("waits") or []
    for wait in waits:
        label = f" ({wait['label']})" if wait.get("label") else ""
        what = "listens for messages" if is_listening(wait.get("info")) else "waits for input"
        write(f"{what} at {wait['path']}{label}: {clip(wait.get('info'), 300)}")
        write(answer_hint(view["id"], wait, waits))


def _trouble_facts(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why an execution does not go on, and since when Temporal has it no longer."""
    facts: list[tuple[str, str]] = []
    if view.get("queued"):
        facts.append(("queued", str(view["queued"]["message"])))
    stuck = view.get("stuck")
    if stuck:
        since = f" since {moment(stuck['since'])}" if stuck.get("since") else ""
        facts += [("stuck", f"{stuck['code']}{since}: {stuck['message']}"), ("hint", str(stuck.get("hint") or ""))]
    if view.get("gone_at"):
        facts.append(("gone", f"Temporal no longer has it, seen {moment(view['gone_at'])}"))
    return facts


def _forked_facts(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return whose recorded steps an execution began with."""
    forked = view.get("forked")
    if not forked:
        return []
    kind = "retry of" if forked["kind"] == "retry" else "fork of"
    return [("forked", f"{kind} {forked['execution_id']}, from {forked['path']} on")]


def _pause_facts(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return since when, by whom and why an execution stands still, and where it will again."""
    paused = view.get("paused")
    if not paused:
        return []
    where = f"before {paused['at']}" if paused.get("at") else ""
    by = f"by {paused['actor']}" if paused.get("actor") else ""
    why = f"({paused['reason']})" if paused.get("reason") and not paused.get("at") else ""
    told = " ".join(part for part in (where, f"since {moment(paused['since'])}", by, why) if part)
    breaks = paused.get("breaks") or []
    go_on = ("hint", f"go on with: everstep continue {view['id']}")
    return [("paused", told), *([("breaks", ", ".join(breaks))] if breaks else ()), go_on]


def _error_facts(error: Mapping[str, Any], tree: RunTree) -> list[tuple[str, str]]:
    """Return code and message, the step, and what else the error tells, each as a line."""
    from engine.edge.cli.treesteps import told

    facts = [("error", told(error))]
    path = str(error.get("step") or "")
    if path:
        title = tree.title_of(path)
        facts.append(("at", f"{path} ({title})" if title else path))
    if (error.get("attempts") or 1) > 1:
        facts.append(("attempts", str(error["attempts"])))
    if error.get("details"):
        facts.append(("details", clip(error["details"], 600)))
    if error.get("hint"):
        facts.append(("hint", clip(error["hint"], 600)))
    return facts


def logs(
    execution_id: ExecutionId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution ends.")] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Print what happened, one line an event; with -f until the end.

    Long values are cut; -o jsonl prints every event whole.
    """
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    view = api.get(f"/executions/{segment(execution_id)}")
    if output is Mode.JSON and not follow:
        write_rows(all_events(api, execution_id), output)
        return
    events = _followed(api, execution_id) if follow else all_events(api, execution_id)
    if output is Mode.TEXT:
        if not _print_lines(api, view, events):
            _print_end(api.get(f"/executions/{segment(execution_id)}") if follow else view)
        return
    for event in events:
        write(as_json(event, pretty=False))


def _followed(api: Api, execution_id: str) -> Iterator[Mapping[str, Any]]:
    for item in api.follow(f"/executions/{segment(execution_id)}/events.stream"):
        if "seq" in item.data:
            yield item.data


def _print_lines(api: Api, view: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> bool:
    """Print events; returns whether the last one is an end."""
    from engine.edge.cli.eventtext import TYPE_WIDTH, EventLines
    from engine.edge.cli.tasks import task_of_execution
    from engine.edge.cli.titles import titles_of

    lines = EventLines(titles_of(task_of_execution(api, view)), 200)
    last = ""
    for event in events:
        last = event["type"]
        kind, *parts = lines.line(event)
        told = (clock(event["at"]), f"{event['seq']:>5}", f"{kind:<{TYPE_WIDTH}}", *parts)
        write("  ".join(part for part in told if part))
    if lines.cut:
        note(f"long values were cut; everstep logs {view['id']} -o jsonl prints them whole")
    return last in TERMINAL_TYPES


def _print_end(view: Mapping[str, Any]) -> None:
    """Print an end that no event tells: it came from outside."""
    from engine.core.run.story_words import closing_words

    if view.get("closed_at") and view.get("error"):
        write(f"{clock(view['closed_at'])}  {closing_words(view['error'])}")


def result(
    execution_id: ExecutionId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the execution has ended.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Wait at most so many seconds.")] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Print the result of an execution that has ended; the exit code says how it ended."""
    from engine.edge.cli.api import Api

    api = Api(address, api_key)
    view = await_end(api, execution_id, timeout) if wait or timeout else api.get(f"/executions/{segment(execution_id)}")
    if not ExecutionStatus(view["status"]).is_terminal:
        raise EngineError(
            f"execution {execution_id} is {view['status']}", code="result.not_ready", hint="wait for it with --wait"
        )
    finish(view, output)


def answer(
    execution_id: ExecutionId,
    input_json: InputJson = None,
    input_file: InputFile = None,
    wait_id: Annotated[
        str, typer.Option("--wait-id", help="Which wait, by its id or label; needed if several are open.")
    ] = "",
    key: Annotated[
        str, typer.Option("--key", help="Key of the answer: with the same key it may be given again and counts once.")
    ] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Answer an execution that waits for input."""
    from engine.core.errors import InvalidInput
    from engine.edge.cli.answering import wait_called
    from engine.edge.cli.api import ANSWER_TIMEOUT_S, Api

    if input_json is None and input_file is None:
        raise InvalidInput("an answer needs --input or --input-file", code="usage", hint="""such as --input '"yes"'""")
    api = Api(address, api_key)
    body: dict[str, Any] = {
        "status": "running",
        "input": read_input(input_json, input_file),
        # this request never counts twice; nor does the command, with the key that a late answer names
        "key": key or str(uuid.uuid4()),
        "actor": actor,
    }
    if wait_id:
        body["wait_id"] = wait_called(api, execution_id, wait_id)
    view = api.put(f"/executions/{segment(execution_id)}", body, timeout_s=ANSWER_TIMEOUT_S)
    confirm(view, f"execution {execution_id} took the answer", output)


def send_event(
    execution_id: ExecutionId,
    name: Annotated[str, typer.Argument(help="Name of the event, as the step says it.")],
    key: Annotated[str, typer.Option("--key", help="Its key, as JSON; text that is no JSON stands for itself.")] = "",
    input_json: InputJson = None,
    input_file: InputFile = None,
    event_id: Annotated[str, typer.Option("--id", help="Its id; an event is taken once.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Send an event to an execution, for a step that waits for it now or later."""
    from engine.edge.cli.api import Api

    body: dict[str, Any] = {"name": name, "id": event_id or str(uuid.uuid4()), "actor": actor}
    if key:
        body["key"] = json_or_text(key)
    if input_json is not None or input_file is not None:
        body["value"] = read_input(input_json, input_file)
    view = Api(address, api_key).post(f"/executions/{segment(execution_id)}/events", body)
    confirm(view, f"execution {execution_id} was sent the event {name}", output)


def cancel(
    execution_id: ExecutionId,
    reason: Annotated[str, typer.Option("--reason", help="Why; is kept with the execution.")] = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Cancel an execution."""
    from engine.edge.cli.api import Api

    body = {"status": "cancelled", "reason": reason, "actor": actor}
    view = Api(address, api_key).put(f"/executions/{segment(execution_id)}", body)
    confirm(view, f"execution {execution_id} is being cancelled", output)


# --- shared with `run` -----------------------------------------------------------------------------------------------


def all_events(api: Any, execution_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield all events of an execution that are stored, oldest first.

    Args:
        api: The connection (engine.edge.cli.api.Api).
        execution_id: The execution.
    """
    from engine.edge.cli.storytext import pages

    yield from pages(api, f"/executions/{segment(execution_id)}/events", page=PAGE)


def await_end(api: Any, execution_id: str, timeout_s: float | None = None) -> dict[str, Any]:
    """Return an execution once it has ended.

    Args:
        api: The connection (engine.edge.cli.api.Api).
        execution_id: The execution.
        timeout_s: Longest wait in seconds; None = no limit.

    Raises:
        TimedOut: The time is over; the execution goes on.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        view: dict[str, Any] = api.get(f"/executions/{segment(execution_id)}")
        if ExecutionStatus(view["status"]).is_terminal:
            return view
        if deadline is not None and time.monotonic() >= deadline:
            raise timed_out(execution_id, timeout_s or 0)
        time.sleep(POLL_S)


def timed_out(execution_id: str, timeout_s: float) -> TimedOut:
    """Return the error for a --timeout that passed."""
    return TimedOut(
        f"execution {execution_id} did not end within {timeout_s:g} s; it goes on",
        hint=f"see it with: everstep logs -f {execution_id}",
    )


def finish(view: Mapping[str, Any], output: Mode) -> None:
    """Print how an execution ended, and leave with the exit code that says the same.

    Args:
        view: The ended execution.
        output: In text mode only the output is printed, else the whole execution.

    Raises:
        typer.Exit: Always, unless it succeeded.
    """
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
    elif view["status"] == ExecutionStatus.SUCCEEDED:
        write_value(view.get("output"), output)
    else:
        report_error(_failure_of(view), as_json_text=False)
    code = exit_of_status(view["status"])
    if code:
        raise typer.Exit(code)


def _failure_of(view: Mapping[str, Any]) -> RunError:
    error = view.get("error") or {}
    if view["status"] == ExecutionStatus.CANCELLED:
        reason = error.get("reason") or error.get("message") or ""
        return RunError(f"execution {view['id']} was cancelled{f': {reason}' if reason else ''}", code="cancelled")
    failure = run_error_from_json(error)
    where = error.get("step") or (error.get("details") or {}).get("step")
    if where:
        failure.message = f"{where}: {failure.message}"
    failure.hint = failure.hint or f"see what happened with: everstep describe {view['id']}"
    return failure


def confirm(view: Any, text: str, output: Mode) -> None:
    """Say that something was done; to programs, what the API answered."""
    if output is Mode.TEXT:
        note(text)
    else:
        write(as_json(view, pretty=output is Mode.JSON))
