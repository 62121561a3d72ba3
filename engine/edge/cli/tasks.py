"""Finds and uploads tasks through the API: by file, by id, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.core.errors import DefinitionError, NotFound
from engine.edge.cli.tree import RunTree
from engine.edge.cli.values import read_file, segment

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

TASK_SUFFIXES = (".yaml", ".yml", ".json")


def looks_like_file(text: str) -> bool:
    """Whether an argument names a task file and not a task of the server."""
    return text == "-" or "/" in text or text.endswith(TASK_SUFFIXES) or Path(text).is_file()


def content_type_of(file: Path) -> str:
    """Return the media type that the API reads a task file as."""
    return "application/json" if file.suffix == ".json" else "application/yaml"


def upload_task(api: Api, file: Path) -> dict[str, Any]:
    """Create a task from a file, or a new version of the task of that name.

    Args:
        api: The connection.
        file: The task file; `-` = standard input.

    Returns:
        The task as the API shows it.

    Raises:
        DefinitionError: The task is wrong; the diagnostics carry the file's name and source.
    """
    text = read_file(file)
    try:
        task: dict[str, Any] = api.post_text(
            "/tasks", text, content_type=content_type_of(file), params={"file": file.name, "by_name": "true"}
        )
    except DefinitionError as error:
        raise with_source(error, str(file), text) from error
    return task


def with_source(error: DefinitionError, file: str, text: str) -> DefinitionError:
    """Return the error with the name and text of the local file, so that its lines and carets can be printed.

    Its hint is left out: every diagnostic has its own.
    """
    return DefinitionError(
        f"{file} is not a valid task",
        code=error.code,
        details=error.details,
        diagnostics=error.diagnostics,
        file=file,
        source=text,
    )


def find_task(api: Api, name_or_id: str) -> dict[str, Any]:
    """Return a task of the server.

    Args:
        api: The connection.
        name_or_id: Its id, or its name (the newest task of that name counts).

    Raises:
        NotFound: `task.not_found`.
    """
    try:
        task: dict[str, Any] = api.get(f"/tasks/{segment(name_or_id)}")
    except NotFound:
        query = {"name": name_or_id, "limit": 1, "sort_by": "created_at", "direction": "desc"}
        found: list[dict[str, Any]] = api.get("/tasks", **query)["items"]
        if not found:
            raise NotFound(
                f"there is no task '{name_or_id}'",
                code="task.not_found",
                hint="give a task file, an id or a name; a file must end in .yaml, .yml or .json",
            ) from None
        return found[0]
    return task


def task_id_of(api: Api, name_or_id: str) -> str:
    """Return the id of a task of the server, given by id or name."""
    return str(find_task(api, name_or_id)["id"])


def steps_of_execution(api: Api, view: Mapping[str, Any]) -> RunTree:
    """Return an empty step tree with the titles of the execution's task, as far as that task still exists."""
    try:
        return RunTree(api.get(f"/tasks/{view['task_id']}").get("main") or ())
    except NotFound:
        # the execution has its own plan; only the titles of steps that never began are lost
        return RunTree()
