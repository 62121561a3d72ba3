"""The command `apply`: makes the tasks of the server those of some files, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows
from engine.source.python_paths import is_python

if TYPE_CHECKING:
    from engine.edge.cli.taskfiles import FoundFile

APPLY_TIMEOUT_S = 120.0
VERBS = ("created", "updated", "unchanged", "removed")


def apply(
    paths: Annotated[list[Path], typer.Option("--file", "-f", help="A task file or a folder; may be repeated.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove tasks that were applied from this folder and are gone from it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    alias: Annotated[str, typer.Option("--alias", help="Let this alias point to every resulting version.")] = "",
    set_name: Annotated[
        str, typer.Option("--set", help="Name of the set of files, for --prune; default: the folder's name.")
    ] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Create or update the tasks of files and folders; all are checked before the first one is stored."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.taskfiles import find_tasks
    from engine.edge.cli.tasks import text_to_send

    found = find_tasks(paths)
    for item in found.files:
        if item.error is not None:
            raise item.error
    found.files = [replace(item, text=text_to_send(item.path, item.text)) for item in found.files]
    if prune and not found.folders:
        raise InvalidInput(
            "--prune needs a folder: a single file does not tell what is gone",
            code="usage",
            hint="give the folder with -f DIR",
        )
    if not set_name and len(found.folders) == 1:
        set_name = found.folders[0].resolve().name
    for path in found.skipped:
        note(f"skipped {path}: it has no `main:`")
    body = {
        "tasks": [{"file": item.name, "source": item.text} for item in found.files],
        "set": set_name,
        "alias": alias,
        "prune": prune,
        "dry_run": dry_run,
    }
    try:
        answer = Api(address, api_key).post("/tasks/apply", body, timeout_s=APPLY_TIMEOUT_S)
    except InvalidInput as error:
        if error.code != "apply.invalid" or output is not Mode.TEXT:
            raise
        _show_diagnostics(error, found.files)
        raise typer.Exit(Exit.USAGE) from error
    _show(answer["changes"], output, dry_run=dry_run, alias=alias, sources=found.files)


def _show(
    changes: Sequence[Mapping[str, Any]], output: Mode, *, dry_run: bool, alias: str, sources: Sequence[FoundFile]
) -> None:
    if output is Mode.JSON:
        write(as_json({"changes": list(changes), "dry_run": dry_run}))
        return
    if output is Mode.JSONL:
        write_rows(changes, output)
        return
    _show_warnings(changes, sources)
    write(table(("CHANGE", "TASK", "VERSION", "FILE"), [_row(change) for change in changes]))
    counts = Counter(str(change["change"]) for change in changes)
    told = ", ".join(f"{counts[verb]} {verb}" for verb in VERBS if counts[verb])
    if alias and not dry_run:
        told += f"; @{alias} points to them"
    note(f"{'would be: ' if dry_run else ''}{told}")


def _row(change: Mapping[str, Any]) -> tuple[str, str, str, str]:
    version = str(change["version"])
    if change["change"] == "updated":
        version = f"{change['previous_version']} -> {version}"
    return str(change["change"]), str(change["name"]), version, str(change["file"] or "-")


def _show_warnings(changes: Sequence[Mapping[str, Any]], sources: Sequence[FoundFile]) -> None:
    from engine.client.wire import diagnostic_of
    from engine.core.diagnostics import render_diagnostics

    texts = {item.name: item.text for item in sources}
    for change in changes:
        warnings = [diagnostic_of(item) for item in change["warnings"]]
        if warnings:
            file = str(change["file"])
            note(render_diagnostics(warnings, file=file, source=texts.get(file, "")))


def _show_diagnostics(error: InvalidInput, sources: Sequence[FoundFile]) -> None:
    from engine.client.wire import diagnostic_of
    from engine.core.diagnostics import render_diagnostics

    by_name = {item.name: item for item in sources}
    for item in error.details.get("files", []):
        found = [diagnostic_of(body) for body in item["diagnostics"]]
        file, text = item["file"], by_name[item["file"]].text
        if is_python(by_name[file].path):
            from engine.source.python_reader import read_python_task

            made = read_python_task(by_name[file].path)
            found, file, text = made.placed(found), made.file, made.source
        write(render_diagnostics(found, file=file, source=text))
    note(f"error[{error.code}]: {error.message}")
