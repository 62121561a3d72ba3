"""Finds and uploads tasks through the API: by file, by id, by name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.core.errors import Conflict, DefinitionError, InvalidInput, NotFound
from engine.edge.cli.values import segment
from engine.source.python_paths import is_python
from engine.source.task_text import read_task_text

if TYPE_CHECKING:
    from engine.core.spec.nodes import Node
    from engine.edge.cli.api import Api

TASK_SUFFIXES = (".yaml", ".yml", ".json")


def looks_like_file(text: str) -> bool:
    """Whether an argument names a task file and not a task of the server."""
    path = Path(text)
    return text == "-" or "/" in text or text.endswith(TASK_SUFFIXES) or is_python(path) or path.is_file()


def content_type_of(file: Path) -> str:
    """Return the media type that the API reads a task file as."""
    return "application/json" if file.suffix == ".json" else "application/yaml"


NOT_RUNNABLE = "task.not_runnable"
"""Code of a task of which this engine can only make the plan; `engine.core.plan.planned` is slow to import."""

MOST_NAMES = 500
"""Of so many tasks, those that changed last, the names are compared with one that is not there."""

NO_INPUT = object()
"""Nothing is going to be run."""


def upload_task(api: Api, file: Path, given: Any = NO_INPUT) -> dict[str, Any]:
    """Create a task from a file, or a new version of the task of that name.

    Args:
        api: The connection.
        file: The task file; `-` = standard input. A Python file is run here, and sent as YAML.
        given: The input that it is to be run with; one that does not fit is refused before anything is stored.

    Returns:
        The task as the API shows it.

    Raises:
        DefinitionError: The task is wrong, or cannot be run; the diagnostics carry the file's name and source.
        InvalidInput: `input.invalid`, `input.requirement`.
    """
    if is_python(file):
        return _upload_python(api, file, given)
    text = read_task_text(file)
    _check_input(text, str(file), given)
    try:
        task: dict[str, Any] = api.post_text(
            "/tasks", text, content_type=content_type_of(file), params=_upload_params(file, given)
        )
    except DefinitionError as error:
        raise with_source(error, str(file), text) from error
    return task


def _upload_params(file: Path, given: Any) -> dict[str, str]:
    # what cannot be run is not stored for a run either
    return {"file": file.name, "by_name": "true", **({} if given is NO_INPUT else {"to_run": "true"})}


def text_to_send(file: Path, text: str) -> str:
    """Return the text of a task file as the API reads it: the text itself, or YAML for a task in Python.

    Raises:
        DefinitionError: The Python file is broken.
    """
    if not is_python(file):
        return text
    from engine.source.python_reader import read_python_task

    return read_python_task(file).to_yaml()


def _check_input(text: str, file: str, given: Any) -> None:
    """Refuse an input that does not fit the schema or the conditions in a text; what else is wrong the API says."""
    if given is NO_INPUT:
        return
    from engine.core.schemas import schema_problems, value_problems
    from engine.core.spec.nodes import node_to_json
    from engine.source.parse import parse_source

    try:
        root = parse_source(text, file)
    except DefinitionError:
        return
    task = node_to_json(root)
    if not isinstance(task, dict):
        return
    schema = task.get("input_schema")
    problems = [] if schema is None or schema_problems(schema) else value_problems(given, schema, whole="input")
    if problems:
        raise InvalidInput(
            f"the input does not fit the task in {file}: {'; '.join(problems)}",
            code="input.invalid",
            hint="nothing was stored or started",
            details={"problems": problems},
        )
    if task.get("require"):
        _check_requirements(root, file, given)


def _check_requirements(root: Node, file: str, given: Any) -> None:
    """Refuse an input for which a condition in `require` of a task does not hold; wrong ones the API reports."""
    from engine.core.plan.compile import compile_task
    from engine.core.plan.ir import AgentSnapshot
    from engine.core.run.require import unmet_requirements
    from engine.core.spec.read import read_task

    spec, findings = read_task(root)
    # the operator's tools are not known here, and what is said about the steps does not matter
    plan, more = compile_task(spec, contracts={}, agent=AgentSnapshot())
    if any(item.path.startswith("require") for item in [*findings.errors, *more.errors]):
        return
    unmet = unmet_requirements(plan, given, now_us=time.time_ns() // 1_000)
    if unmet:
        raise InvalidInput(
            f"the task in {file} does not take this input: {'; '.join(unmet)}",
            code="input.requirement",
            hint="nothing was stored or started",
            details={"problems": unmet},
        )


def _upload_python(api: Api, file: Path, given: Any) -> dict[str, Any]:
    from engine.source.python_reader import read_python_task

    made = read_python_task(file)
    _check_input(made.to_yaml(), str(file), given)
    params = _upload_params(file, given)
    try:
        task: dict[str, Any] = api.post_text("/tasks", made.to_yaml(), content_type="application/yaml", params=params)
    except DefinitionError as error:
        error.diagnostics = tuple(made.placed(error.diagnostics))
        raise with_source(error, made.file, made.source) from error
    return task


def with_source(error: DefinitionError, file: str, text: str) -> DefinitionError:
    """Return the error with the name and text of the local file, so that its lines and carets can be printed.

    Its hint is left out: every diagnostic has its own.
    """
    return DefinitionError(
        error.message if error.code == NOT_RUNNABLE else f"{file} is not a valid task",
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
        name_or_id: Its id or name (of several tasks of one agent the newest counts), `@VERSION` or `@ALIAS` behind.

    Raises:
        NotFound: `task.not_found`, `task.version_not_found`, `alias.not_found`.
        Conflict: `task.ambiguous` if tasks of several agents have that name.
    """
    try:
        task: dict[str, Any] = api.get(f"/tasks/{segment(name_or_id)}")
    except NotFound as error:
        if error.code in ("task.version_not_found", "alias.not_found"):
            raise
        # a name with a slash is no segment of a path, but a query finds it
        found = tasks_of_name(api, name_or_id)
        if not found:
            other = "give a task file, an id or a name; a file must end in .yaml, .yml or .json"
            raise NotFound(
                f"there is no task '{name_or_id}'",
                code="task.not_found",
                hint=near_task(api, name_or_id) or other,
            ) from None
        if len({item["agent_id"] for item in found}) > 1:
            raise Conflict(
                f"tasks of several agents are called '{name_or_id}'",
                code="task.ambiguous",
                hint="give the id of the one that is meant; `everstep tasks ls` shows them",
            ) from None
        return found[0]
    return task


def tasks_of_name(api: Api, name: str) -> list[dict[str, Any]]:
    """Return the tasks of a name, whosever they are, the newest first."""
    query = {"name": name, "limit": MOST_NAMES, "sort_by": "created_at", "direction": "desc"}
    found: list[dict[str, Any]] = api.get("/tasks", **query)["items"]
    return found


def near_task(api: Api, name: str) -> str:
    """Return `did you mean 'x'?` for the stored task whose name is nearest, or an empty text if none is near."""
    from engine.core.diagnostics import did_you_mean

    stored = api.get("/tasks", limit=MOST_NAMES, sort_by="updated_at", direction="desc")["items"]
    return did_you_mean(name.partition("@")[0], {str(task["name"]) for task in stored})


@contextmanager
def naming_near_tasks(api: Api, name: str) -> Iterator[None]:
    """Give the error about a task that is not there the nearest name as its hint.

    Args:
        api: The connection.
        name: What the user called it.
    """
    try:
        yield
    except NotFound as error:
        if error.code == "task.not_found" and not error.hint:
            error.hint = near_task(api, name)
        raise


def task_id_of(api: Api, name_or_id: str) -> str:
    """Return the id of a task of the server, given by id or name."""
    return str(find_task(api, name_or_id)["id"])


def task_of_execution(api: Api, view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task of an execution in its version, for the titles of its steps; empty if it was removed."""
    try:
        task: dict[str, Any] = api.get(f"/tasks/{view['task_id']}", version=view.get("task_version"))
    except NotFound:
        # the execution has its own plan; only titles of steps without a label are lost
        return {}
    return task
