"""The commands `backup` and `restore`: a copy of all that `everstep dev` keeps, and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.edge.cli.options import DataDir, Output
from engine.edge.cli.output import Mode, as_json, write
from engine.edge.cli.services import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from engine.edge.supervisor.backups import Backup


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make; must not exist, or be empty.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    output: Output = Mode.TEXT,
) -> None:
    """Copy store, Temporal and large values of a data folder into a new folder; everything may run meanwhile.

    For PostgreSQL and a Temporal of your own, see docs/backup.md.
    """
    from engine.edge.supervisor.backups import make_backup
    from engine.settings import Settings

    made = make_backup(Settings(data_dir=data_dir), target)
    if output is Mode.TEXT:
        write(f"backed up {data_dir} to {target}: {_tell(made)}")
    else:
        write(as_json({"folder": str(target), **_facts(made)}, pretty=output is Mode.JSON))


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `everstep backup` made.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    output: Output = Mode.TEXT,
) -> None:
    """Check a backup and put it into a data folder that holds no state; `everstep dev` goes on from there."""
    from engine.edge.supervisor.backups import restore_backup
    from engine.settings import Settings

    found = restore_backup(Settings(data_dir=data_dir), source)
    if output is Mode.TEXT:
        write(f"restored {source}, made {found.made_at}, to {data_dir}: {_tell(found)}")
    else:
        write(as_json({"folder": str(data_dir), **_facts(found)}, pretty=output is Mode.JSON))


def _facts(found: Backup) -> dict[str, object]:
    """Return a backup as JSON without the list of its files: {made_at, engine, revision, executions, files, bytes}."""
    return {**asdict(found), "files": len(found.files), "bytes": found.total_bytes}


def _tell(found: Backup) -> str:
    counted = ", ".join(f"{count} {status}" for status, count in found.executions.items()) or "none"
    return f"{len(found.files)} files, {found.total_bytes / 1e6:.1f} MB, executions: {counted}"
