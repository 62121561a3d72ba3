"""The command `validate`: checks task files and prints what is wrong with them, for people and for other programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import __version__
from engine.core.errors import DefinitionError
from engine.edge.cli.definitions import compile_file
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import ProjectFile
from engine.edge.cli.output import Mode, as_json, note, write, write_rows
from engine.source.python_paths import split_name

if TYPE_CHECKING:
    from engine.control.compiling import Compiled
    from engine.core.diagnostics import Diagnostic
    from engine.edge.cli.taskfiles import FoundFile
    from engine.source.reports import FileFindings


class FindingsMode(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    SARIF = "sarif"
    GITHUB = "github"


FindingsOutput = Annotated[
    FindingsMode,
    typer.Option(
        "--output",
        "-o",
        help="How to print: text, json, jsonl, sarif (for code scanning) or github (for its workflows).",
    ),
]


@dataclass(frozen=True, slots=True)
class Checked:
    """A task file and what was found in it.

    Attributes:
        file: The file.
        text: Its text.
        compiled: The task; None if it is wrong.
        error: What is wrong; None if nothing is.
    """

    file: Path
    text: str
    compiled: Compiled | None
    error: DefinitionError | None

    @property
    def findings(self) -> Sequence[Diagnostic]:
        """Errors and warnings."""
        if self.compiled is not None:
            return self.compiled.warnings
        return () if self.error is None else self.error.diagnostics


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Task files, and folders that are searched for them."),
    ],
    output: FindingsOutput = FindingsMode.TEXT,
    project: ProjectFile = None,
) -> None:
    """Check task files and print everything that is wrong with them, with line and column.

    In folders, files that are no tasks are passed over.

    Exits with 2 if there is an error; warnings alone are no reason. `everstep explain CODE` tells more about a finding.
    """
    from engine.edge.cli.taskfiles import find_tasks

    checked: list[Checked] = []
    for found in find_tasks(paths).files:
        checked.append(_check_found(found, project))
        if output is FindingsMode.TEXT:
            write(_as_text(checked[-1]))
    _write_for_programs(checked, output)
    _note_same_names(checked)
    if any(item.compiled is None for item in checked):
        raise typer.Exit(Exit.USAGE)


def _note_same_names(checked: Sequence[Checked]) -> None:
    """Tell of tasks with one name; each is right by itself, so that no finding in a file says so."""
    files: dict[str, list[str]] = {}
    for item in checked:
        if item.compiled is not None:
            files.setdefault(item.compiled.plan.task, []).append(str(item.file))
    for name, same in files.items():
        if len(same) > 1:
            note(f"warning: {' and '.join(same)} are all called '{name}'; `everstep apply` refuses them together")


def _check_found(found: FoundFile, project: Path | None) -> Checked:
    if found.error is not None:
        return Checked(split_name(found.path)[0], found.text, None, found.error)
    return check_file(found.path, found.text, project)


def check_file(file: Path, text: str, project: Path | None) -> Checked:
    """Compile a task file and return what was found.

    Args:
        file: The file; `-` = standard input.
        text: Its text.
        project: The operator's everstep.toml; None = the nearest one.

    Raises:
        InvalidInput: everstep.toml is wrong.
    """
    # findings lie in the file, whichever of its tasks they are about
    shown = split_name(file)[0]
    try:
        return Checked(shown, text, compile_file(file, text, project), None)
    except DefinitionError as error:
        return Checked(shown, text, None, error)


def _write_for_programs(checked: Sequence[Checked], output: FindingsMode) -> None:
    from engine.source.reports import github_commands, sarif_log

    rows = [found.to_json(str(item.file)) for item in checked for found in item.findings]
    if output is FindingsMode.JSON:
        valid = all(item.compiled is not None for item in checked)
        write(as_json({"valid": valid, "files": [_facts(item) for item in checked], "diagnostics": rows}))
    elif output is FindingsMode.JSONL:
        write_rows(rows, Mode.JSONL)
    elif output is FindingsMode.SARIF:
        write(as_json(sarif_log(_in_repository(checked), version=__version__)))
    elif output is FindingsMode.GITHUB:
        for line in github_commands(_in_repository(checked)):
            write(line)


def _in_repository(checked: Sequence[Checked]) -> list[FileFindings]:
    """Return the findings under names as GitHub knows the files: from the top of the repository, where there is one."""
    from engine.source.reports import FileFindings

    top = os.environ.get("GITHUB_WORKSPACE", "")
    return [
        FileFindings(str(_below(Path(top).resolve(), item.file) if top else item.file), item.findings)
        for item in checked
    ]


def _below(top: Path, file: Path) -> Path:
    place = file.resolve()
    return place.relative_to(top) if place.is_relative_to(top) else file


def _facts(checked: Checked) -> dict[str, Any]:
    name = None if checked.compiled is None else checked.compiled.plan.task
    return {"file": str(checked.file), "valid": checked.compiled is not None, "task": name}


def _as_text(checked: Checked) -> str:
    from engine.core.diagnostics import render_diagnostics

    file, text, error = checked.file, checked.text, checked.error
    lines = [render_diagnostics(checked.findings, file=str(file), source=text)] if checked.findings else []
    if checked.compiled is not None:
        plan = checked.compiled.plan
        steps = sum(len(block.ops) for block in plan.blocks)
        lines.append(f"{file}: task '{plan.task}' is valid ({steps} step{'s' if steps != 1 else ''})")
    elif error is not None and not lines:
        lines.append(f"{file}: error[{error.code}]: {error.message}")
    return "\n".join(lines)
