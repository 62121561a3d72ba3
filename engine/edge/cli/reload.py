"""Loads task files into a running API and again whenever they are saved; a broken one keeps its last good version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.core.errors import DefinitionError, EngineError
from engine.edge.cli.api import Api
from engine.edge.cli.output import error_text
from engine.edge.cli.taskfiles import each_task, may_be_task
from engine.edge.cli.tasks import upload_task

DEBOUNCE_MS = 100
LOOK_MS = 1_000

Stamp = tuple[int, int, int]
"""Time of the last change in nanoseconds, size and file number."""


class Notes(Protocol):
    """Who tells the user."""

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Something happened."""


async def watch_tasks(
    paths: Sequence[Path], address: str, api_key: str | None, notes: Notes, stop: asyncio.Event
) -> None:
    """Load the task files now and again when they change, until the event is set.

    Args:
        paths: Task files and folders; folders are searched for .yaml, .yml and .json files.
        address: Address of the API.
        api_key: Its key, if it has one.
        notes: Told of every task that is loaded or found broken.
        stop: Ends the watch.
    """
    from watchfiles import awatch

    api = Api(address, api_key)
    for path in paths:
        if not path.exists():
            notes.note("task.missing", f"{path} does not exist; it is loaded as soon as it does", file=str(path))
    stamps: dict[Path, Stamp] = {}
    # of what an earlier `dev` loaded from a file nothing is known here
    loaded: set[Path] = set()
    await asyncio.to_thread(_load_changed, api, paths, stamps, notes, loaded)
    # The watch only says when to look, and it wakes every second all the same: what was saved before it stood, and
    # folders that were made later, are found too.
    async for _ in awatch(
        *existing_folders(paths),
        stop_event=stop,
        debounce=DEBOUNCE_MS,
        step=20,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        recursive=False,
    ):
        await asyncio.to_thread(_load_changed, api, paths, stamps, notes, loaded)


def existing_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the folders to watch: editors save by renaming, so the folder of a file and not the file itself."""
    folders = {path.resolve() if path.is_dir() else path.resolve().parent for path in paths}
    return [folder for folder in sorted(folders) if folder.is_dir()] or [Path()]


def task_files(paths: Sequence[Path]) -> list[Path]:
    """Return the task files that the paths name, folders searched one level deep, each file once."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(item for item in path.iterdir() if may_be_task(item)) if path.is_dir() else [path]
        found.update(dict.fromkeys(file for file in inside if file.is_file()))
    return list(found)


def changed_files(paths: Sequence[Path], stamps: dict[Path, Stamp]) -> list[Path]:
    """Return the task files that are new or were saved since the last call.

    Args:
        paths: Task files and folders.
        stamps: What is known of each file; is brought up to date.
    """
    changed: list[Path] = []
    for file in task_files(paths):
        try:
            facts = file.stat()
        except FileNotFoundError:
            # an editor is just replacing it
            continue
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if stamps.get(file) != stamp:
            stamps[file] = stamp
            changed.append(file)
    return changed


def _load_changed(api: Api, paths: Sequence[Path], stamps: dict[Path, Stamp], notes: Notes, loaded: set[Path]) -> None:
    for file in changed_files(paths, stamps):
        for task in each_task(file):
            _load(api, task, notes, loaded)


def _load(api: Api, file: Path, notes: Notes, loaded: set[Path]) -> None:
    try:
        task = upload_task(api, file)
    except DefinitionError as error:
        stays = ", the last good version stays" if file in loaded else ""
        notes.note(
            "task.invalid",
            f"{file} is not loaded{stays}:\n{error_text(error)}",
            file=str(file),
            diagnostics=[item.to_json(str(file)) for item in error.diagnostics],
        )
    except EngineError as error:
        notes.note("task.failed", f"{file} is not loaded: {error_text(error)}", file=str(file), **error_facts(error))
    else:
        name, version = task["name"], task.get("version", 1)
        text = f"task '{name}' version {version} is loaded from {file}"
        loaded.add(file)
        notes.note("task.loaded", text, file=str(file), name=name, id=task["id"], version=version)


def error_facts(error: EngineError) -> dict[str, Any]:
    """Return what a program needs of an error."""
    return {"error": error.to_json()}
