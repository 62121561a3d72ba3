"""Loads task files into a running API and again whenever they are saved; a broken one keeps its last good version."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.core.errors import DefinitionError, EngineError
from engine.edge.cli.api import Api
from engine.edge.cli.output import error_text
from engine.edge.cli.tasks import TASK_SUFFIXES, upload_task

DEBOUNCE_MS = 100


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
    await asyncio.to_thread(_load_all, api, task_files(paths), notes)
    wanted = [path.resolve() for path in paths]
    # editors save by renaming, so the folder is watched and not the file
    folders = {path if path.is_dir() else path.parent for path in wanted}
    existing = [folder for folder in sorted(folders) if folder.is_dir()]
    async for changes in awatch(*existing, stop_event=stop, debounce=DEBOUNCE_MS, step=20, raise_interrupt=False):
        await asyncio.to_thread(_load_all, api, changed_files(paths, {name for _, name in changes}), notes)


def task_files(paths: Sequence[Path]) -> list[Path]:
    """Return the task files that the paths name, folders searched one level deep, each file once."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(item for item in path.iterdir() if item.suffix in TASK_SUFFIXES) if path.is_dir() else [path]
        found.update(dict.fromkeys(file for file in inside if file.is_file()))
    return list(found)


def changed_files(paths: Sequence[Path], changed: Collection[str]) -> list[Path]:
    """Return those task files among the paths whose names are among the changed ones."""
    touched = {Path(name).resolve() for name in changed}
    return [file for file in task_files(paths) if file.resolve() in touched]


def _load_all(api: Api, files: Sequence[Path], notes: Notes) -> None:
    for file in files:
        try:
            task = upload_task(api, file)
        except DefinitionError as error:
            notes.note(
                "task.invalid",
                f"{file} is not loaded, the last good version stays:\n{error_text(error)}",
                file=str(file),
                diagnostics=[item.to_json(str(file)) for item in error.diagnostics],
            )
        except EngineError as error:
            notes.note(
                "task.failed", f"{file} is not loaded: {error_text(error)}", file=str(file), **error_facts(error)
            )
        else:
            name, version = task["name"], task.get("version", 1)
            text = f"task '{name}' version {version} is loaded from {file}"
            notes.note("task.loaded", text, file=str(file), name=name, id=task["id"], version=version)


def error_facts(error: EngineError) -> dict[str, Any]:
    """Return what a program needs of an error."""
    return {"error": error.to_json()}
