"""The commands `tasks ls`, `rm`, `diff`, `versions` and `alias`: what is stored, how it changed, what is in use."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.edge.cli.exits import Exit
from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, note, table, write, write_rows

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

PAGE = 500

tasks = typer.Typer(
    name="tasks",
    help="Stored tasks: list, remove, compare, versions, aliases.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of a task.")]


@tasks.command("ls")
def list_tasks(
    name: Annotated[str, typer.Option("--name", help="Only tasks of this name.")] = "",
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List tasks in their latest versions, with their aliases."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import clip, moment

    api = Api(address, api_key)
    found = _all_of(api, "/tasks", name=name)
    aliases: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in api.get("/aliases")["items"]:
        aliases[item["task_id"]].append(item)
    found.sort(key=lambda task: (str(task["name"]), str(task["created_at"])))
    if output is not Mode.TEXT:
        write_rows([_brief(task, aliases[task["id"]]) for task in found], output)
        return
    agents = {}
    if any(task.get("agent_id") for task in found):
        agents = {item["id"]: str(item["name"]) for item in _all_of(api, "/agents")}
    rows = [
        (
            str(task["name"]),
            str(task["id"]),
            agents.get(task.get("agent_id"), "-"),
            str(task["version"]),
            _told(aliases[task["id"]]) or "-",
            moment(task["updated_at"]),
            clip(task.get("description") or "-", 50),
        )
        for task in found
    ]
    titles = ("TASK", "ID", "AGENT", "VERSION", "ALIASES", "CHANGED", "DESCRIPTION")
    # an id is long, so it stands there only where names do not tell the tasks apart
    left_out = {
        *(("ID",) if len({task["name"] for task in found}) == len(found) else ()),
        *(() if agents else ("AGENT",)),
    }
    shown = [number for number, title in enumerate(titles) if title not in left_out]
    write(table([titles[number] for number in shown], [[row[number] for number in shown] for row in rows]))


def _all_of(api: Api, path: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = api.get(path, limit=PAGE, offset=len(found), **query)["items"]
        found += page
        if len(page) < PAGE:
            return found


def _brief(task: Mapping[str, Any], aliases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("id", "name", "version", "agent_id", "description", "plan_hash", "metadata", "created_at", "updated_at")
    return {
        **{key: task.get(key) for key in names},
        "aliases": {item["alias"]: item["version"] for item in aliases},
    }


def _told(aliases: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{item['alias']}={item['version']}" for item in aliases)


@tasks.command("rm")
def remove_tasks(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or ids of tasks.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Remove tasks with all their versions; their executions go on, their names are free."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import find_task
    from engine.edge.cli.values import segment

    api = Api(address, api_key)
    # all are looked up before the first one goes, so that a misspelt name removes nothing
    ids = [name if "@" in name else str(find_task(api, name)["id"]) for name in names]
    removed = [api.delete(f"/tasks/{segment(task_id)}") for task_id in ids]
    if output is not Mode.TEXT:
        write_rows(removed, output)
        return
    for item in removed:
        write(f"removed {item['name']} ({item['id']})")


@tasks.command("versions")
def list_versions(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", min=1, max=999, help="Most versions.")] = 20,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """List the versions of a task, the newest first."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import naming_near_tasks
    from engine.edge.cli.values import moment, segment

    api = Api(address, api_key)
    with naming_near_tasks(api, name):
        found = api.get(f"/tasks/{segment(name)}/versions", limit=limit)["items"]
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (str(item["version"]), ", ".join(item["aliases"]) or "-", moment(item["created_at"]), item["plan_hash"][:12])
        for item in found
    ]
    write(table(("VERSION", "ALIASES", "CREATED", "PLAN"), rows))


@tasks.command("alias")
def set_alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, such as prod.")],
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="A version, `latest`, or another alias.")
    ] = "latest",
    remove: Annotated[bool, typer.Option("--rm", help="Delete the alias; the version stays.")] = False,
    expect: Annotated[
        int | None, typer.Option("--expect", min=0, help="Refuse unless it points to this version now; 0 = is new.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Let an alias point to a version: `run NAME@ALIAS` then means that version."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import naming_near_tasks
    from engine.edge.cli.values import segment

    api = Api(address, api_key)
    path = f"/tasks/{segment(name)}/aliases/{segment(alias)}"
    if remove:
        api.delete(path)
        note(f"{name}@{alias} is gone")
        return
    wanted: int | str = int(version) if version.isascii() and version.isdigit() else version
    with naming_near_tasks(api, name):
        set_to = api.put(path, {"version": wanted, "expect": expect})
    write(f"{name}@{alias} is version {set_to['version']}" if output is Mode.TEXT else as_json(set_to))


@tasks.command("diff")
def diff(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of a task; NAME@3 for one version.")],
    other: Annotated[
        str,
        typer.Argument(metavar="[FILE|VERSION]", help="A file to compare the task with, or an older version."),
    ] = "",
    fail_on_gain: Annotated[
        bool, typer.Option("--fail-on-gain", help="Exit 1 if the newer one may touch more than the older one.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Show how a task changed: its text, its steps in words, and what the change newly permits.

    With a file: from the stored task to the file. With a version: from that one to the latest (or to NAME@VERSION).
    With neither: from the version before.
    """
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import content_type_of, looks_like_file, naming_near_tasks, text_to_send, with_source
    from engine.edge.cli.values import segment
    from engine.source.task_text import read_task_text

    api = Api(address, api_key)
    path = f"/tasks/{segment(name)}/diff"
    if other and looks_like_file(other):
        from engine.core.errors import DefinitionError

        file = Path(other)
        text = text_to_send(file, read_task_text(file))
        try:
            with naming_near_tasks(api, name):
                compared = api.post_text(path, text, content_type=content_type_of(file), params={"file": file.name})
        except DefinitionError as error:
            raise with_source(error, str(file), text) from error
    else:
        _check_version(name, other)
        with naming_near_tasks(api, name):
            compared = api.get(path, **{"from": other})
    if output is not Mode.TEXT:
        write(as_json(compared, pretty=output is Mode.JSON))
    else:
        _show_diff(name, other, compared)
    if fail_on_gain and compared["gains"]:
        raise typer.Exit(Exit.FAILED)


def _check_version(name: str, other: str) -> None:
    """Refuse `diff invoices@2 invoices@1`: the second word is a version alone."""
    from engine.core.errors import InvalidInput

    head, mark, which = other.rpartition("@")
    if not mark:
        return
    older, newer = which, name
    if head == name.rpartition("@")[0] and which.isdigit() and (after := name.rpartition("@")[2]).isdigit():
        older, newer = str(min(int(which), int(after))), f"{head}@{max(int(which), int(after))}"
    raise InvalidInput(
        f"'{other}' is no version of {name.partition('@')[0]}: the second word is a number, an alias or a file",
        code="usage",
        hint=f"everstep tasks diff {newer} {older}",
    )


def _show_diff(name: str, other: str, compared: Mapping[str, Any]) -> None:
    before, after = compared["before"].splitlines(), compared["after"].splitlines()
    old = f"{name.partition('@')[0]}@{compared['from']}" if compared["from"] else "(nothing)"
    new = f"{name.partition('@')[0]}@{compared['to']}" if compared["to"] else other
    lines = list(difflib.unified_diff(before, after, old, new, lineterm=""))
    if not lines:
        write(f"{old} and {new} have the same text")
    for line in lines:
        write(line)
    for title, items in (
        ("steps and settings", compared["changes"]),
        ("dispatch, beside the plan", compared["dispatch"]),
        ("it may newly", compared["gains"]),
        ("it may no longer", compared["losses"]),
    ):
        if items:
            write(f"\n{title}:")
            for item in items:
                write(f"  {item}")
    if lines and not compared["gains"]:
        write("\nit may touch nothing that it could not touch before")
