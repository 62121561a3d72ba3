"""The command `reindex`: makes the stored rows of executions anew from Temporal's histories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DataDir, Output
from engine.edge.cli.output import Mode, as_json, note, write
from engine.edge.cli.services import DEFAULT_DATA_DIR
from engine.edge.cli.values import parse_moment, point_in_time

MOST_TOLD = 20
"""So many of those that were rebuilt are named."""


def reindex(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Executions to rebuild; the first six characters of an id do."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All executions that Temporal or the store knows.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="All that began since then: 2h, 7d, or a time (RFC 3339).")
    ] = "",
    drop: Annotated[
        bool, typer.Option("--drop", help="Forget the rows of each execution before they are made anew.")
    ] = False,
    accept_gone: Annotated[
        bool, typer.Option("--accept-gone", help="Executions that Temporal lost before they ended have failed.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    temporal: Annotated[
        str, typer.Option("--temporal-address", envvar="TEMPORAL_ADDRESS", help="host:port of the Temporal server.")
    ] = "",
    output: Output = Mode.TEXT,
) -> None:
    """Make the stored rows of executions anew from Temporal's histories; workers may go on meanwhile.

    Executions that Temporal no longer has, and those whose history does not replay, keep the rows they have.
    """
    if bool(ids) == bool(all_ or since):
        raise InvalidInput("reindex needs ids, or --all, or --since", code="usage", hint="everstep reindex --all")
    arguments = list(ids or ())
    if since:
        arguments += ["--since-us", str(_since_us(since))]
    arguments += ["--drop"] if drop else []
    arguments += ["--accept-gone"] if accept_gone else []
    summary = _run(arguments, _environment(data_dir, temporal), output)
    if output is Mode.TEXT:
        tell_summary(summary)
    else:
        write(as_json(summary, pretty=output is Mode.JSON))
    if summary["failed"]:
        raise typer.Exit(Exit.FAILED)


def _since_us(text: str) -> int:
    return round(parse_moment(point_in_time(text, option="--since")).timestamp() * 1e6)


def _environment(data_dir: Path, temporal: str) -> dict[str, str]:
    from engine.edge.cli.doctor import dev_temporal
    from engine.settings import temporal_address

    return {
        **os.environ,
        "EVERSTEP_DATA_DIR": str(data_dir),
        "TEMPORAL_ADDRESS": temporal or dev_temporal(data_dir) or temporal_address(),
    }


def _run(arguments: list[str], environment: dict[str, str], output: Mode) -> dict[str, Any]:
    """Run the process that replays, which this program may not import; tell its progress, return its summary."""
    command = [sys.executable, "-P", "-m", "worker", "reindex", *arguments]
    summary: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if told.pop("event") == "done":
                summary = told
            elif output is Mode.TEXT:
                note(f"{told['executions']} executions: {told['rebuilt']} rebuilt, {told['unchanged']} unchanged")
    if not summary:
        # it has said on standard error what is wrong
        raise typer.Exit(process.returncode or Exit.FAILED)
    return summary


def tell_summary(summary: dict[str, Any]) -> None:
    """Print what was done, for a person."""
    write(
        f"{summary['executions']} executions in {summary['took_s']:.1f} s: {summary['rebuilt']} rebuilt, "
        f"{summary['unchanged']} unchanged, {summary['gone']} kept because Temporal no longer has them, "
        f"{summary['failed']} failed"
    )
    if summary["given_up"]:
        write(f"{summary['given_up']} of those that Temporal no longer has had not ended: they are failed now")
    for execution_id in summary["rebuilt_ids"][:MOST_TOLD]:
        write(f"  rebuilt {execution_id}")
    if summary["rebuilt"] > MOST_TOLD:
        write(f"  and {summary['rebuilt'] - MOST_TOLD} more")
    for failure in summary["failures"]:
        write(f"  {failure['id']}: {failure['code']}: {failure['message']}")
