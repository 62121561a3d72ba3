"""The command `dry-run`, and how task files are compiled with the tools of their project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import DefinitionError, InvalidInput, run_error_from_json
from engine.core.kinds import ExecutionStatus
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import PROJECT_FILE, InputFile, InputJson, Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, note, report_error, write, write_rows, write_value
from engine.edge.cli.values import parse_json, read_file, read_input
from engine.source.python_paths import is_python
from engine.source.task_text import read_task_text

if TYPE_CHECKING:
    from engine.control.compiling import Compiled
    from engine.dryrun.running import DryRun

MOST_NAMES = 5


def dry_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The task file.")],
    input_json: InputJson = None,
    input_file: InputFile = None,
    replies: Annotated[
        Path | None, typer.Option("--replies", help="JSON file: replies by step label, step path or tool name.")
    ] = None,
    answers: Annotated[
        list[str] | None, typer.Option("--answer", metavar="JSON", help="Answer to the next wait; may be repeated.")
    ] = None,
    output: Output = Mode.TEXT,
    project: ProjectFile = None,
) -> None:
    """Run a task in memory: no server, no model, no tool; replies are scripted or made up."""
    from engine.dryrun.scripted import dry_run as run_dry

    text = read_task_text(file)
    try:
        compiled = compile_file(file, text, project)
        compiled.check_runs()
    except DefinitionError as error:
        raise _with_place(error, file, text) from error
    table = parse_json(read_file(replies), option=f"--replies {replies}") if replies else {}
    if not isinstance(table, dict):
        raise InvalidInput(f"{replies} is not an object", code="input.invalid", hint='such as {"summarise": "short"}')
    given = read_input(input_json, input_file)
    told = [parse_json(item, option="--answer") for item in answers or ()]
    ran = run_dry(compiled.plan, given, replies=table, answers=told)
    events = [{"seq": item.seq, "type": item.type, "body": item.body} for item in ran.events]
    if output is Mode.JSONL:
        write_rows(events, output)
    elif output is Mode.TEXT:
        _note_events(compiled.spec, events)
    _finish_dry_run(ran, events, output)


def _finish_dry_run(ran: DryRun, events: list[dict[str, Any]], output: Mode) -> None:
    status, value, error = _outcome_of(ran)
    facts = {"status": status, "output": value, "error": error, "waits": list(ran.waits)}
    facts["invented"] = list(ran.invented)
    if ran.invented and output is Mode.TEXT:
        note(_invented_text(ran.invented))
    if output is Mode.JSON:
        write(as_json({**facts, "events": events}))
    elif output is Mode.JSONL:
        write(as_json(facts, pretty=False))
    elif status == ExecutionStatus.SUCCEEDED:
        write_value(value, output)
    elif status == ExecutionStatus.AWAITING_INPUT:
        note(f"waits for input at {', '.join(ran.waits)}; give one with --answer JSON")
    elif error is not None:
        report_error(run_error_from_json(error), as_json_text=False)
    if status != ExecutionStatus.SUCCEEDED:
        raise typer.Exit(Exit.FAILED)


def _invented_text(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    script = as_json({names[0]: "…"}, pretty=False)
    return f"replies were made up for: {shown}; script them with --replies FILE.json, such as {script}"


def _outcome_of(ran: DryRun) -> tuple[str, Any, dict[str, Any] | None]:
    from engine.core.run.effects import Failed, Ok

    if ran.finished is None:
        return ExecutionStatus.AWAITING_INPUT, None, None
    outcome = ran.finished.outcome
    if isinstance(outcome, Ok):
        return ExecutionStatus.SUCCEEDED, outcome.value, None
    error = outcome.error.to_json() if isinstance(outcome, Failed) else {"code": "cancelled", "message": "cancelled"}
    return ExecutionStatus.FAILED, None, error


def compile_file(file: Path, text: str, project_file: Path | None) -> Compiled:
    """Compile a task file with the tools of the project it belongs to; a Python file is run for it.

    Args:
        file: The file.
        text: Its text.
        project_file: The operator's everstep.toml; None = the one beside the file, else the one here.

    Returns:
        Plan, specification and warnings.

    Raises:
        DefinitionError: The task is wrong.
        InvalidInput: everstep.toml is wrong.
    """
    from engine.control.compiling import compile_text, compile_tree
    from engine.control.tools import load_catalog
    from engine.obs.logs import lines_to_stderr
    from engine.settings import load_project

    lines_to_stderr()
    catalog = load_catalog(load_project(find_project(project_file, [file])))
    if is_python(file):
        from engine.source.python_reader import read_python_task

        made = read_python_task(file)
        return compile_tree(made.root, source=made.source, file=made.file, contracts=catalog.contracts())
    return compile_text(text, file=str(file), contracts=catalog.contracts())


def find_project(given: Path | None, files: list[Path]) -> Path:
    """Return the everstep.toml that counts: the given one, else the one beside the first file, else the one here.

    Args:
        given: The user's choice.
        files: Task files or folders that the command was given.

    Raises:
        InvalidInput: The given file does not exist.
    """
    if given is not None:
        if not given.is_file():
            raise InvalidInput(f"{given} does not exist", code="config.missing", hint="check --project")
        return given
    here = Path(PROJECT_FILE)
    if not files:
        return here
    beside = (files[0] if files[0].is_dir() else files[0].parent) / PROJECT_FILE
    return beside if beside.is_file() else here


def _with_place(error: DefinitionError, file: Path, text: str) -> DefinitionError:
    from engine.edge.cli.tasks import with_source

    return with_source(error, str(file), text)


def _note_events(task: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> None:
    from engine.edge.cli.eventtext import TYPE_WIDTH, EventLines
    from engine.edge.cli.titles import titles_of

    lines = EventLines(titles_of(task), 100)
    for event in events:
        kind, *parts = lines.line(event)
        note("  ".join(part for part in (f"{kind:<{TYPE_WIDTH}}", *parts) if part))
    if lines.cut:
        note("long values were cut; -o jsonl prints them whole")
