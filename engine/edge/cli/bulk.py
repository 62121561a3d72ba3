"""The commands `bulk run`, `ls`, `show`, `items`, `pause`, `continue` and `abort`: the same for many executions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Actor, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

bulk = typer.Typer(
    name="bulk",
    help="Do the same to many executions at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
POLL_S = 0.5
ENDED = ("done", "aborted")


@bulk.command("run")
def run_bulk(
    action: Annotated[
        str,
        typer.Argument(help="cancel, terminate, pause, continue, retry, fork, answer or purge."),
    ],
    ids: Annotated[list[str] | None, typer.Option("--id", help="This execution; repeatable.")] = None,
    task: Annotated[str, typer.Option("--task", "-t", help="Those of this task.")] = "",
    status: Annotated[list[str] | None, typer.Option("--status", "-s", help="With this status; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="With this label; repeatable.")] = None,
    error_code: Annotated[str, typer.Option("--error-code", help="That failed with this code, or one below it.")] = "",
    started_by: Annotated[str, typer.Option("--started-by", help="That this one started.")] = "",
    parent: Annotated[str, typer.Option("--parent", help="That this execution started.")] = "",
    root_only: Annotated[bool, typer.Option("--root-only", help="That no execution started.")] = False,
    stuck: Annotated[bool, typer.Option("--stuck", help="That do not go on although they should.")] = False,
    after: Annotated[str, typer.Option("--after", metavar="TIME", help="Created since: 2d (ago), or a time.")] = "",
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="Created before: 1h (ago), or a time.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All executions; instead of any filter.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why (cancel, terminate, pause).")] = "",
    definition: Annotated[str, typer.Option("--definition", help="Of retry and fork: own, newest, or a version.")] = "",
    at: Annotated[str, typer.Option("--at", help="Of retry and fork: the step that is the first to run.")] = "",
    answer: Annotated[str | None, typer.Option("--answer", metavar="JSON", help="The answer (answer).")] = None,
    wait_id: Annotated[str, typer.Option("--wait-id", help="The wait that is answered.")] = "",
    oldest: Annotated[bool, typer.Option("--oldest", help="Answer the oldest wait where several are open.")] = False,
    rate: Annotated[int, typer.Option("--rate", help="How many a second at most.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say to which executions it would be done.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    actor: Actor = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> int:
    """Do something to all executions that fit, and wait until it is done."""
    import uuid

    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import LONG_S
    from engine.edge.cli.values import json_or_text, point_in_time

    given: dict[str, Any] = {
        "ids": ids,
        "task": task,
        "status": status,
        "label": label,
        "error_code": error_code,
        "actor": started_by,
        "parent_id": parent,
        "root_only": root_only,
        "stuck": stuck,
        "created_after": point_in_time(after, option="--after"),
        "created_before": point_in_time(before, option="--before"),
        "all": everything,
    }
    how: dict[str, Any] = {
        "reason": reason,
        "definition": definition,
        "at": at,
        "wait_id": wait_id,
        "oldest": oldest,
    }
    options = {name: value for name, value in how.items() if value}
    if answer is not None:
        options["value"] = json_or_text(answer)
    body = {
        "action": action,
        "filter": {name: value for name, value in given.items() if value},
        "options": options,
        "rate": rate,
        "dry_run": dry_run,
        "actor": actor,
    }
    api = Api(address, api_key)
    view = api.post("/bulk", body, timeout_s=LONG_S, key="" if dry_run else str(uuid.uuid4()))
    if dry_run:
        _tell_trial(view, output)
        return Exit.OK
    if not detach:
        view = _follow(api, view, output)
    _tell_job(view, output)
    return Exit.FAILED if view["refused"] or view["failed"] else Exit.OK


def _follow(api: Any, view: dict[str, Any], output: Mode) -> dict[str, Any]:
    told = ""
    if output is Mode.TEXT:
        note(f"the job {view['id']} goes on if this is interrupted")
    while view["state"] not in ENDED:
        time.sleep(POLL_S)
        view = api.get(f"/bulk/{view['id']}")
        line = _progress(view)
        if output is Mode.TEXT and line != told:
            note(line)
            told = line
        if view["state"] == "paused":
            break
    return view


def _progress(view: Mapping[str, Any]) -> str:
    gone = f"{view['done']} done, {view['refused']} refused, {view['failed']} failed"
    return f"{view['state']}: {gone}, {view['left']} left of {view['total']}"


def _tell_job(view: dict[str, Any], output: Mode) -> None:
    if output is Mode.TEXT:
        write(f"{view['id']} {view['action']} {_progress(view)}")
    else:
        write(as_json(view, pretty=output is Mode.JSON))


def _tell_trial(view: Mapping[str, Any], output: Mode) -> None:
    from engine.edge.cli.values import moment

    if output is not Mode.TEXT:
        write(as_json(dict(view), pretty=output is Mode.JSON))
        return
    counted = ", ".join(f"{count} {status}" for status, count in sorted(view["by_status"].items()))
    write(f"{view['action']} would be done to {view['total']} executions" + (f": {counted}" if counted else ""))
    rows = [(item["id"], item["task_name"], item["status"], moment(item["created_at"])) for item in view["sample"]]
    if rows:
        write(table(("ID", "TASK", "STATUS", "CREATED"), rows))


@bulk.command("ls")
def list_bulk(
    limit: Annotated[int, typer.Option("--limit", help="Most to show.")] = 50,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List jobs, the latest first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import moment

    found = all_items(Api(address, api_key), "/bulk", most=limit)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["id"],
            item["action"],
            item["state"],
            *(str(item[name]) for name in ("total", "done", "refused", "failed", "left")),
            moment(item["created_at"]),
        )
        for item in found
    ]
    write(table(("ID", "ACTION", "STATE", "TOTAL", "DONE", "REFUSED", "FAILED", "LEFT", "CREATED"), rows))


@bulk.command("show")
def show_bulk(
    job_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Show how far a job is."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    _tell_job(Api(address, api_key).get(f"/bulk/{segment(job_id)}"), output)


@bulk.command("items")
def list_items(
    job_id: Id,
    outcome: Annotated[str, typer.Option("--outcome", help="Only done, refused, failed or left.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Most to show.")] = 1_000,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List what came of each execution of a job."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import all_items
    from engine.edge.cli.values import clip, segment

    found = all_items(Api(address, api_key), f"/bulk/{segment(job_id)}/items", most=limit, outcome=outcome)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (
            item["execution_id"],
            item["outcome"] or "left",
            item["new_execution_id"] or "",
            clip(f"{item['code']}: {item['message']}" if item["code"] else "", 80),
        )
        for item in found
    ]
    write(table(("EXECUTION", "OUTCOME", "NEW", "WHY"), rows))


@bulk.command("pause")
def pause_bulk(
    job_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Let a job rest until it is continued."""
    _change(job_id, "pause", address, api_key, output)


@bulk.command("continue")
def continue_bulk(
    job_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """Let a paused job go on."""
    _change(job_id, "continue", address, api_key, output)


@bulk.command("abort")
def abort_bulk(
    job_id: Id, address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT
) -> None:
    """End a job; what was done stays done."""
    _change(job_id, "abort", address, api_key, output)


def _change(job_id: str, verb: str, address: str, api_key: str | None, output: Mode) -> None:
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import segment

    _tell_job(Api(address, api_key).post(f"/bulk/{segment(job_id)}/{verb}", {}), output)
