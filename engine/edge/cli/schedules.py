"""The commands `schedule create`, `ls`, `show`, `update`, `pause`, `resume`, `run`, `backfill` and `rm`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

schedule = typer.Typer(
    name="schedule",
    help="Start tasks at times: make, show, pause, run, backfill.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Reference = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id or name of the schedule.")]
Crons = Annotated[list[str] | None, typer.Option("--cron", help="Five fields: '30 8 * * mon-fri'; repeatable.")]
Every = Annotated[
    list[str] | None, typer.Option("--every", metavar="LENGTH", help="An even interval: 15m, or 1h+5m with an offset.")
]
Zone = Annotated[str | None, typer.Option("--timezone", help="Time zone of the crons: Europe/Berlin; UTC by default.")]
Overlap = Annotated[
    str | None,
    typer.Option(
        "--overlap",
        help="While an execution runs: skip, buffer_one, buffer_all, cancel_other, terminate_other or allow_all.",
    ),
]
CatchUp = Annotated[str | None, typer.Option("--catch-up", help="How far back what was missed is made up for: 1h.")]
Jitter = Annotated[str | None, typer.Option("--jitter", help="Put each start off by a random time up to this one.")]
StartAt = Annotated[str | None, typer.Option("--start-at", metavar="TIME", help="Start nothing before.")]
EndAt = Annotated[str | None, typer.Option("--end-at", metavar="TIME", help="Start nothing after.")]
Limit = Annotated[int | None, typer.Option("--limit", help="How many starts there are in all.")]
PauseOnFailure = Annotated[
    bool | None,
    typer.Option("--pause-on-failure/--no-pause-on-failure", help="Whether to pause when an execution fails."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", "-l", help="Label of the executions; repeatable.")]
Input = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="JSON", help="The input; texts with '$ ' are computed, now() = the time."),
]
InputFile = Annotated[
    Path | None, typer.Option("--input-file", help="File with the input as JSON; - = standard input.")
]
Note = Annotated[str | None, typer.Option("--note", help="Why, or what it is for.")]


def _parts(
    cron: list[str] | None,
    every: list[str] | None,
    timezone: str | None,
    overlap: str | None,
    catch_up: str | None,
    jitter: str | None,
    start_at: str | None,
    end_at: str | None,
    limit: int | None,
    pause_on_failure: bool | None,
    label: list[str] | None,
    input_json: str | None,
    input_file: Path | None,
) -> dict[str, Any]:
    from engine.edge.cli.values import future_time, read_input

    given: dict[str, Any] = {
        "cron": cron or None,
        "intervals": [_interval(text) for text in every] if every else None,
        "timezone": timezone,
        "overlap": overlap,
        "catch_up": catch_up,
        "jitter": jitter,
        "start_at": None if start_at is None else future_time(start_at, "--start-at"),
        "end_at": None if end_at is None else future_time(end_at, "--end-at"),
        "limit": limit,
        "pause_on_failure": pause_on_failure,
        "labels": label or None,
    }
    parts = {name: value for name, value in given.items() if value is not None}
    if input_json is not None or input_file is not None:
        parts["input"] = read_input(input_json, input_file)
    return parts


def _interval(text: str) -> dict[str, str]:
    every, plus, offset = text.partition("+")
    return {"every": every, "offset": offset} if plus else {"every": every}


@schedule.command("create")
def create_schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    task: Annotated[str, typer.Option("--task", "-t", help="The task: NAME, NAME@3 or NAME@ALIAS.")],
    cron: Crons = None,
    every: Every = None,
    timezone: Zone = None,
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    jitter: Jitter = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    limit: Limit = None,
    pause_on_failure: PauseOnFailure = None,
    label: Labels = None,
    input_json: Input = None,
    input_file: InputFile = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start nothing for now.")] = False,
    note: Note = None,
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Make a schedule."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S, tell

    parts = _parts(
        cron,
        every,
        timezone,
        overlap,
        catch_up,
        jitter,
        start_at,
        end_at,
        limit,
        pause_on_failure,
        label,
        input_json,
        input_file,
    )
    body = {**parts, "name": name, "task": task, "paused": paused, "note": note or "", "actor": actor}
    view = Api(address, api_key).post("/schedules", body, timeout_s=LONG_S)
    tell(view, f"the schedule '{name}' starts {task} {_next(view)}", output)


@schedule.command("update")
def update_schedule(
    reference: Reference,
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Another task.")] = None,
    cron: Crons = None,
    every: Every = None,
    timezone: Zone = None,
    overlap: Overlap = None,
    catch_up: CatchUp = None,
    jitter: Jitter = None,
    start_at: StartAt = None,
    end_at: EndAt = None,
    limit: Limit = None,
    pause_on_failure: PauseOnFailure = None,
    label: Labels = None,
    input_json: Input = None,
    input_file: InputFile = None,
    note: Note = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Change what is given of a schedule."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S, tell
    from engine.edge.cli.values import segment

    parts = _parts(
        cron,
        every,
        timezone,
        overlap,
        catch_up,
        jitter,
        start_at,
        end_at,
        limit,
        pause_on_failure,
        label,
        input_json,
        input_file,
    )
    own = {"name": name, "task": task, "note": note}
    body = {**parts, **{key: value for key, value in own.items() if value is not None}}
    if not body:
        raise InvalidInput("nothing is to be changed", code="usage", hint="see `everstep schedule update --help`")
    view = Api(address, api_key).patch(f"/schedules/{segment(reference)}", body, timeout_s=LONG_S)
    tell(view, f"the schedule '{view['name']}' starts {view['task']} {_next(view)}", output)


@schedule.command("ls")
def list_schedules(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List schedules, those of `dispatch.cron` included."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import moment

    found = all_items(Api(address, api_key), "/schedules")
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["name"],
            item["task"] if item["of_task"] is None else "its own",
            _times(item),
            _state(item),
            moment(item["next_at"][0]) if item["next_at"] else "-",
            "-" if item["starts"] is None else str(item["starts"]),
        )
        for item in found
    ]
    write(table(("NAME", "TASK", "TIMES", "STATE", "NEXT", "STARTS"), rows))


@schedule.command("show")
def show_schedule(
    reference: Reference, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show a schedule, its next times, and what came of its last runs."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import clip, moment, segment

    view = Api(address, api_key).get(f"/schedules/{segment(reference)}")
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    told = {
        "name": view["name"],
        "id": view["id"],
        "task": view["task"],
        "times": _times(view),
        "overlap": view["overlap"],
        "state": _state(view),
        "note": view["note"],
        "problem": view["problem"],
        "input": clip(view["input"], 100),
        "labels": ", ".join(view["labels"]),
        "next": ", ".join(moment(item) for item in view["next_at"][:3]),
        "counts": _counts(view),
    }
    write(lines_of(told))
    rows = [
        (
            moment(run["for"]),
            run["outcome"],
            run["execution_id"] or "-",
            "" if run["error"] is None else clip(f"{run['error'].get('code')}: {run['error'].get('message')}", 80),
        )
        for run in view["runs"]
    ]
    if rows:
        write("")
        write(table(("FOR", "OUTCOME", "EXECUTION", "WHY"), rows))


@schedule.command("pause")
def pause_schedule(
    reference: Reference,
    note: Note = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Let a schedule start nothing until it is resumed."""
    _set(reference, "pause", {"note": note or ""}, "is paused", address, api_key, output)


@schedule.command("resume")
def resume_schedule(
    reference: Reference,
    note: Note = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Let a paused schedule start its task again."""
    _set(reference, "resume", {"note": note or ""}, "goes on", address, api_key, output)


@schedule.command("run")
def run_schedule(
    reference: Reference,
    overlap: Overlap = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Start the task of a schedule now."""
    body = {} if overlap is None else {"overlap": overlap}
    _set(reference, "run", body, "starts its task", address, api_key, output)


@schedule.command("backfill")
def backfill_schedule(
    reference: Reference,
    start_at: Annotated[str, typer.Option("--from", metavar="TIME", help="From this time on: 2d (ago), or a time.")],
    end_at: Annotated[str, typer.Option("--to", metavar="TIME", help="Up to this time; now by default.")] = "0s",
    overlap: Overlap = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Start what was missed between two times; nothing is started twice for the same time."""
    from engine.edge.cli.values import point_in_time

    body: dict[str, Any] = {
        "start_at": point_in_time(start_at, option="--from"),
        "end_at": point_in_time(end_at, option="--to"),
    }
    if overlap is not None:
        body["overlap"] = overlap
    _set(reference, "backfill", body, "starts what it missed", address, api_key, output)


@schedule.command("rm")
def remove_schedule(
    reference: Reference, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Remove a schedule; its executions go on."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import tell
    from engine.edge.cli.values import segment

    Api(address, api_key).delete(f"/schedules/{segment(reference)}")
    tell({"removed": reference}, f"the schedule '{reference}' is removed", output)


def _set(
    reference: str,
    verb: str,
    body: Mapping[str, Any],
    done: str,
    address: str,
    api_key: str | None,
    output: Mode,
) -> None:
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S, tell
    from engine.edge.cli.values import segment

    view = Api(address, api_key).post(f"/schedules/{segment(reference)}/{verb}", dict(body), timeout_s=LONG_S)
    tell(view, f"the schedule '{view['name']}' {done}", output)


def _times(view: Mapping[str, Any]) -> str:
    parts = list(view["cron"])
    for item in view["intervals"]:
        parts.append(f"every {item['every']}" + (f" + {item['offset']}" if item.get("offset") else ""))
    zone = f" ({view['timezone']})" if view["cron"] and view["timezone"] != "UTC" else ""
    return ", ".join(parts) + zone


def _state(view: Mapping[str, Any]) -> str:
    if view["problem"]:
        return "refused"
    if view["starts"] is None:
        return "unknown"
    if view["left"] == 0:
        return "used up"
    return "paused" if view["paused"] else "on"


def _next(view: Mapping[str, Any]) -> str:
    from engine.edge.cli.values import moment

    if view["paused"]:
        return "when it is resumed"
    return f"next at {moment(view['next_at'][0])}" if view["next_at"] else "never again"


def _counts(view: Mapping[str, Any]) -> str:
    if view["starts"] is None:
        return "unknown: Temporal does not answer"
    told = [f"{view['starts']} started", f"{view['running']} running"]
    told += [f"{view[name]} {word}" for name, word in (("skipped", "skipped"), ("missed", "missed")) if view[name]]
    return ", ".join([*told, *([f"{view['left']} left"] if view["left"] is not None else [])])
