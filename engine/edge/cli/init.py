"""The command `init`: makes a project with a task, a tool and a test of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from engine.core.errors import Conflict, InvalidInput
from engine.edge.cli.init_files import IGNORE_FILE, SAMPLE_INPUT, SCHEMA_FILE, TASK_FILE, project_files
from engine.edge.cli.output import write


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to make it; made if it is missing.")
    ] = Path(),
) -> None:
    """Make a project: a task, a Python tool, a test, everstep.toml, and the schema for your editor.

    Files that exist already are never overwritten.
    """
    files = project_files()
    kept = folder / IGNORE_FILE
    if kept.exists():
        # most folders of a repository have one, and the project works without ours
        del files[IGNORE_FILE]
    create_files(folder, files)
    for name in files:
        write(f"made {folder / name}")
    if IGNORE_FILE not in files:
        write(f"kept {kept}; it should ignore .everstep/, where `everstep dev` keeps its data")
    write(f"\n{SCHEMA_FILE} lets editors complete and check tasks (the first line of {TASK_FILE} names it).\nnext:")
    for line in next_commands(folder):
        write(f"  {line}")


def create_files(folder: Path, files: dict[str, str]) -> None:
    """Write files into a folder, all of them or none.

    Args:
        folder: The folder; made if it is missing.
        files: Texts by name, relative to the folder.

    Raises:
        Conflict: `init.exists` if one of them exists already.
        InvalidInput: `file.unwritable` with the reason.
    """
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise Conflict(
            f"{folder} has {', '.join(there)} already",
            code="init.exists",
            hint="give another folder, or move these files away; nothing was written",
        )
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # `x`: a file that appears in this very moment is not overwritten either
            with path.open("x", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise InvalidInput(
            f"{error.filename or folder} cannot be written: {error.strerror}", code="file.unwritable"
        ) from error


def next_commands(folder: Path) -> list[str]:
    """Return three commands that work next: the tests, a run with made-up replies, everything on this machine."""
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    return [
        f"{enter}everstep test",
        f"everstep dry-run {TASK_FILE} -i '{SAMPLE_INPUT}'",
        f"everstep dev {TASK_FILE}",
    ]
