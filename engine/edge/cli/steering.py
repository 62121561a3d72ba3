"""Commands that steer executions: pause, continue, break, deadline, terminate, retry, fork, link."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.executions import confirm
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, ExecutionId, InputFile, InputJson, Output
from engine.edge.cli.output import Mode, as_json, note, write
from engine.edge.cli.values import json_or_text, moment, parse_json, read_input, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

Key = Annotated[
    str, typer.Option("--key", help="Idempotency key: the same command with it again has the first outcome.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; is kept with the execution.")]
BreakAt = Annotated[
    list[str] | None,
    typer.Option("--break-at", metavar="STEP", help="Path or label of a step before which it pauses; repeatable."),
]
WaitId = Annotated[str, typer.Option("--wait-id", help="Which wait, by its id or label; needed if several are open.")]
Definition = Annotated[
    str,
    typer.Option(
        "--definition",
        metavar="own|newest|TASK@VERSION",
        help="By which definition it runs on: its own, the newest one of its task, or a given one.",
    ),
]
Patch = Annotated[
    list[str] | None,
    typer.Option("--patch", metavar="STEP=JSON", help="Another output of a step before that; repeatable."),
]
State = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="KEY=JSON", help="Written into the state just before that step; repeatable."),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", help="Word by which to find the new execution, in place of those of the old; repeatable."),
]


def _api(address: str, api_key: str | None) -> Api:
    from engine.edge.cli.api import Api

    return Api(address, api_key)


def _steer(api: Api, execution_id: str, what: str, body: dict[str, Any], key: str) -> Any:
    from engine.edge.cli.api import ANSWER_TIMEOUT_S

    # this request never counts twice; nor does the command, with a key of its user
    path = f"/executions/{segment(execution_id)}/{what}"
    return api.post(path, body, timeout_s=ANSWER_TIMEOUT_S, key=key or str(uuid.uuid4()))


def pause(
    execution_id: ExecutionId,
    reason: Reason = "",
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Pause an execution: calls under way end and are recorded, nothing new starts.

    Answers and events are taken meanwhile and have their effect when it goes on (`everstep continue`).
    """
    view = _steer(_api(address, api_key), execution_id, "pause", {"reason": reason, "actor": actor}, key)
    confirm(view, f"execution {execution_id} is paused; go on with: everstep continue {execution_id}", output)


def go_on(
    execution_id: ExecutionId,
    break_at: BreakAt = None,
    no_breaks: Annotated[bool, typer.Option("--no-breaks", help="Let it pause nowhere any more.")] = False,
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Let a paused execution go on.

    Without --break-at it pauses again where it was told to before.
    """
    if no_breaks and break_at:
        raise InvalidInput("--break-at and --no-breaks exclude each other", code="usage", hint="give one of them")
    body: dict[str, Any] = {"actor": actor}
    if break_at or no_breaks:
        body["break_at"] = break_at or []
    view = _steer(_api(address, api_key), execution_id, "continue", body, key)
    confirm(view, f"execution {execution_id} goes on", output)


def set_breaks(
    execution_id: ExecutionId,
    steps: Annotated[
        list[str] | None, typer.Argument(metavar="STEP", help="Path (main.3, main.2.do[4].0) or label of a step.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Let it pause nowhere any more.")] = False,
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Set the steps before which an execution pauses, in place of those set before."""
    if none is bool(steps):
        raise InvalidInput("give steps, or --none", code="usage", hint=f"such as: everstep break {execution_id} main.3")
    body = {"break_at": steps or [], "actor": actor}
    view = _steer(_api(address, api_key), execution_id, "breaks", body, key)
    where = f"before {', '.join(steps)}" if steps else "nowhere any more"
    confirm(view, f"execution {execution_id} pauses {where}", output)


def set_deadline(
    execution_id: ExecutionId,
    deadline: Annotated[
        str, typer.Argument(metavar="WHEN", help="From now (90s, 2h, 1d12h), a time (2026-12-24T18:00:00Z), or none.")
    ],
    wait_id: Annotated[
        str,
        typer.Option(
            "--wait-id", help="Which wait, by its id or label, or the path of a sleep; needed unless one is open."
        ),
    ] = "",
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Change when a wait gives up, or when a sleep is over."""
    from engine.edge.cli.api import ANSWER_TIMEOUT_S

    api = _api(address, api_key)
    chosen = _wait_of(api, execution_id, wait_id)
    body = {"deadline": _deadline(deadline), "actor": actor}
    path = f"/executions/{segment(execution_id)}/waits/{segment(chosen)}"
    view = api.patch(path, body, timeout_s=ANSWER_TIMEOUT_S, key=key or str(uuid.uuid4()))
    until = "has no deadline any more" if body["deadline"] is None else f"has the deadline {deadline}"
    confirm(view, f"{chosen} of execution {execution_id} {until}", output)


def _deadline(text: str) -> str | None:
    """Return a deadline as the API takes it; a time without a zone is local."""
    from engine.core.values import duration_seconds
    from engine.edge.cli.values import point_in_time

    if text.strip().lower() == "none":
        return None
    return text if duration_seconds(text) is not None else point_in_time(text, option="WHEN")


def _wait_of(api: Api, execution_id: str, name: str) -> str:
    """Return the id of the open wait that is meant: the one that is named, or the only one."""
    from engine.edge.cli.answering import wait_called

    if name:
        return wait_called(api, execution_id, name)
    opened = api.get(f"/executions/{segment(execution_id)}").get("waits") or []
    if len(opened) == 1:
        return str(opened[0]["id"])
    ids = ", ".join(str(wait["id"]) for wait in opened[:10])
    raise InvalidInput(
        f"execution {execution_id} has {len(opened)} open waits", code="usage", hint=f"name one with --wait-id: {ids}"
    )


def terminate(
    execution_id: ExecutionId,
    reason: Reason = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """End an execution at once, without its `undo` and `finally` steps.

    Prefer `everstep cancel`, which lets it clean up. Its children are cancelled.
    """
    body = {"reason": reason, "actor": actor}
    view = _steer(_api(address, api_key), execution_id, "terminate", body, "")
    confirm(view, f"execution {execution_id} was terminated", output)


# --- retry and fork --------------------------------------------------------------------------------------------------


def retry(
    execution_id: ExecutionId,
    at: Annotated[
        str, typer.Option("--from", metavar="STEP", help="Path or label of the first step; left out = the failed one.")
    ] = "",
    definition: Definition = "own",
    input_json: InputJson = None,
    input_file: InputFile = None,
    patch: Patch = None,
    state: State = None,
    break_at: BreakAt = None,
    label: Labels = None,
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Start an execution that goes on where one failed or was cancelled; prints its id.

    What ended before is taken over and not done again, and the calls that follow have the keys that they had, so that
    a receiver knows one that it has seen. If steps were undone it begins with the first of them.
    """
    body = _fork_body(at, definition, patch, state, break_at, label, actor)
    if input_json is not None or input_file is not None:
        body["input"] = read_input(input_json, input_file)
    _started(_steer(_api(address, api_key), execution_id, "retry", body, key), output)


def fork(
    execution_id: ExecutionId,
    at: Annotated[
        str, typer.Option("--from", metavar="STEP", help="Path or label of the first step; left out = the failed one.")
    ] = "",
    definition: Definition = "own",
    input_json: InputJson = None,
    input_file: InputFile = None,
    patch: Patch = None,
    state: State = None,
    break_at: BreakAt = None,
    label: Labels = None,
    key: Key = "",
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Start an execution that takes another way from a step of one; prints its id.

    The steps before are taken over with their recorded outputs, or with others (--patch). The calls that follow are new
    ones, with keys of their own. The execution itself stays as it is, and may still run.
    """
    body = _fork_body(at, definition, patch, state, break_at, label, actor)
    if input_json is not None or input_file is not None:
        body["input"] = read_input(input_json, input_file)
    _started(_steer(_api(address, api_key), execution_id, "fork", body, key), output)


def _fork_body(
    at: str,
    definition: str,
    patch: Sequence[str] | None,
    state: Sequence[str] | None,
    break_at: Sequence[str] | None,
    label: Sequence[str] | None,
    actor: str,
) -> dict[str, Any]:
    body: dict[str, Any] = {"definition": definition, "actor": actor, "break_at": list(break_at or ())}
    if at:
        body["at"] = at
    if label:
        body["labels"] = list(label)
    body["patch"] = dict(_pair(item, "--patch") for item in patch or ())
    body["state"] = dict(_pair(item, "--state") for item in state or ())
    return body


def _pair(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"{option} {text!r} is no NAME=JSON", code="usage", hint=f"such as {option} main.2='{{}}'")
    return name, parse_json(value, option=f"{option} {name}")


def _started(view: dict[str, Any], output: Mode) -> None:
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    forked = view.get("forked")
    if forked:
        note(f"begins with {forked['path']} of execution {forked['execution_id']}")
    write(view["id"])


# --- links -----------------------------------------------------------------------------------------------------------


def link(
    execution_id: ExecutionId,
    person: Annotated[
        str, typer.Option("--for", metavar="NAME", help="Whose answer it will be, as the records say it.")
    ],
    wait_id: WaitId = "",
    expires: Annotated[str, typer.Option("--expires", help="For how long it may be used: 2h, 7d.")] = "7d",
    value: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="JSON", help="An answer that it offers as a button; repeatable."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Print a link by which somebody answers a wait in a browser, without a key.

    Whoever has the link may use it, and only for this wait; used twice, the first answer counts.
    """
    api = _api(address, api_key)
    body: dict[str, Any] = {"actor": person, "expires_in": expires}
    if value:
        body["values"] = [json_or_text(item) for item in value]
    chosen = _wait_of(api, execution_id, wait_id)
    made = api.post(f"/executions/{segment(execution_id)}/waits/{segment(chosen)}/link", body)
    if output is not Mode.TEXT:
        write(as_json(made, pretty=output is Mode.JSON))
        return
    note(f"{person} may answer {chosen} with it until {moment(made['expires_at'])}")
    write(made["url"])
