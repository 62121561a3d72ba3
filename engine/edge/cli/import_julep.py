"""The command `import julep`: tells what a folder of Julep's files holds, and takes it over into the API."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.core.errors import InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, note, write, write_rows

if TYPE_CHECKING:
    from engine.core.kinds import Dialect
    from engine.edge.cli.importchecks import Checked
    from engine.edge.cli.importing import Taken
    from engine.source.julep_folder import JulepFolder

imports = typer.Typer(
    name="import",
    help="Take over what was made for other systems.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class GivenDialect(StrEnum):
    """How tasks are read."""

    AUTO = "auto"
    JULEP_2024 = "julep-2024"
    JULEP_2025 = "julep-2025"


@imports.callback()
def _root() -> None:
    """Keep `julep` a word of its own though it is the only command."""


@imports.command("julep", short_help="Check a folder of Julep tasks, agents and tools, and take it over.")
def import_julep(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Folder of YAML and JSON files.")
    ],
    apply: Annotated[
        bool, typer.Option("--apply", help="Store everything, if nothing is wrong with any of it.")
    ] = False,
    agent: Annotated[
        str, typer.Option("--agent", help="Id or canonical name of the agent of tasks that do not say whose they are.")
    ] = "",
    dialect: Annotated[
        GivenDialect, typer.Option("--dialect", help="How tasks are read; auto = as each of them shows.")
    ] = GivenDialect.AUTO,
    project: ProjectFile = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Tell what a folder of Julep's files holds and what is wrong with it; with --apply, store it, ids kept.

    Exits with 2 if a file cannot be taken over; nothing is stored then.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.importmodels import known_models, with_unknown_models
    from engine.source.julep_folder import read_julep_folder

    found = read_julep_folder(folder)
    if not found.files:
        raise InvalidInput(
            f"there is nothing of Julep's in {folder}",
            code="import.nothing",
            hint="a task is a .yaml, .yml or .json file with `main:`, an agent one with `name:` and `instructions:`",
        )
    api = Api(address, api_key)
    checked = _check(found, folder, project, dialect)
    known = known_models(api)
    if known is not None:
        checked = with_unknown_models(checked, known)
    is_ok = all(item.is_ok for item in checked) and not found.lost
    if output is Mode.TEXT:
        _show(checked, found)
    taken: list[Taken] = []
    if apply and is_ok:
        from engine.edge.cli.importing import Importer

        taken = Importer(api, agent).take(checked)
    _tell_end(checked, taken, found, output)
    if not is_ok:
        raise typer.Exit(Exit.USAGE)


def _check(found: JulepFolder, folder: Path, project: Path | None, dialect: GivenDialect) -> list[Checked]:
    from engine.control.tools import load_catalog
    from engine.edge.cli.definitions import find_project
    from engine.edge.cli.importchecks import check_folder
    from engine.obs.logs import lines_to_stderr
    from engine.settings import load_project

    lines_to_stderr()
    contracts = load_catalog(load_project(find_project(project, [folder]))).contracts()
    chosen: dict[GivenDialect, Dialect] = {
        GivenDialect.JULEP_2024: "julep-2024",
        GivenDialect.JULEP_2025: "julep-2025",
    }
    return check_folder(found, contracts=contracts, dialect=chosen.get(dialect))


def _show(checked: list[Checked], found: JulepFolder) -> None:
    for item in checked:
        if item.findings:
            write(item.rendered())
        for difference in item.differences:
            write(f"{item.file.path}: {difference.path}: {difference.text}")
        write(_verdict(item))
    for path in found.lost:
        write(f"{path}: julep.yaml names this file, and it is not there")
    for path in found.others:
        note(f"skipped {path}: it is no task, agent or tool")


def _verdict(item: Checked) -> str:
    if item.file.error is not None:
        return f"{item.file.path}: it cannot be read"
    said = "can be taken over" if item.is_ok else "cannot be taken over as it is"
    dialect = f" ({item.evidence.dialect}: {item.evidence.why})" if item.evidence else ""
    return f"{item.file.path}: {item.file.kind} '{item.file.name}' {said}{dialect}"


def _tell_end(checked: list[Checked], taken: list[Taken], found: JulepFolder, output: Mode) -> None:
    done = {item.file: {"change": item.change, "id": item.id} for item in taken}
    rows = [{**item.to_json(), **done.get(item.file.path, {"change": None, "id": None})} for item in checked]
    if output is Mode.JSONL:
        write_rows(rows, output)
    elif output is Mode.JSON:
        is_ok = all(item.is_ok for item in checked) and not found.lost
        others = {"skipped": [str(path) for path in found.others], "lost": [str(path) for path in found.lost]}
        write(as_json({"ok": is_ok, "applied": bool(taken), "files": rows, **others}))
    else:
        _tell_people(rows, bad=sum(not item.is_ok for item in checked) + len(found.lost))


def _tell_people(rows: list[dict[str, Any]], *, bad: int) -> None:
    stored = [row for row in rows if row["id"] is not None]
    for row in stored:
        write(f"{row['change']} {row['kind']} '{row['name']}': {row['id']}")
    counts = sorted(Counter(str(row["kind"]) for row in rows).items())
    told = ", ".join(_counted(kind, count) for kind, count in counts)
    note(f"{told}; {f'{bad} cannot be taken over' if bad else 'all can be taken over'}")
    if not stored:
        note("nothing was stored" + ("" if bad else "; --apply stores it"))


def _counted(kind: str, count: int) -> str:
    plain = "unreadable file" if kind == "unreadable" else kind
    return f"{count} {plain}{'s' if count != 1 else ''}"
