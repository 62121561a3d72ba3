"""The commands `agents ls` and `show`, `users ls`, `projects ls`: who there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.edge.cli.options import DEFAULT_ADDRESS, Address, ApiKey, Output
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

if TYPE_CHECKING:
    from engine.edge.cli.api import Api

PAGE = 500


def _group(name: str, text: str) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=text,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


agents = _group("agents", "Agents: list them, show one with its tools.")
users = _group("users", "Users with whom agents talk: list them.")
projects = _group("projects", "Projects of agents, users and files: list them.")


@agents.command("ls")
def list_agents(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List agents, the oldest first."""
    _list("/agents", ("name", "canonical_name", "model", "project"), address, api_key, output)


@agents.command("show")
def show_agent(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Id of the agent or how it begins, or canonical name.")],
    address: Address = DEFAULT_ADDRESS,
    api_key: ApiKey = None,
    output: Output = Mode.TEXT,
) -> None:
    """Show an agent with its tools."""
    from engine.edge.cli.api import Api
    from engine.edge.cli.doorlists import lines_of
    from engine.edge.cli.values import moment, segment

    api = Api(address, api_key)
    path = f"/agents/{segment(api.whole_id('agents', agent))}"
    view = {**api.get(path), "tools": _all(api, f"{path}/tools")}
    if output is not Mode.TEXT:
        write(as_json(view, pretty=output is Mode.JSON))
        return
    written = {name: as_json(view[name], pretty=False) for name in ("default_settings", "metadata") if view[name]}
    instructions = view["instructions"]
    told = {
        **{name: view[name] for name in ("id", "name", "canonical_name", "about", "model", "project")},
        "instructions": instructions if isinstance(instructions, str) else "\n  ".join(instructions),
        **written,
        "tools": ", ".join(f"{tool['name']} ({tool['type']})" for tool in view["tools"]),
        "created": moment(view["created_at"]),
        "changed": moment(view["updated_at"]),
    }
    write(lines_of(told))


@users.command("ls")
def list_users(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List users, the oldest first."""
    _list("/users", ("name", "about", "project"), address, api_key, output)


@projects.command("ls")
def list_projects(address: Address = DEFAULT_ADDRESS, api_key: ApiKey = None, output: Output = Mode.TEXT) -> None:
    """List projects, the oldest first."""
    _list("/projects", ("name", "canonical_name"), address, api_key, output)


def _list(path: str, names: Sequence[str], address: str, api_key: str | None, output: Mode) -> None:
    from engine.edge.cli.api import Api
    from engine.edge.cli.values import clip, moment

    found = _all(Api(address, api_key), path)
    if output is not Mode.TEXT:
        write_rows(found, output)
        return
    rows = [
        (item["id"], *(clip(item[name] or "-", 40) for name in names), moment(item["updated_at"])) for item in found
    ]
    write(table(("ID", *(name.replace("_", " ").upper() for name in names), "CHANGED"), rows))


def _all(api: Api, path: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while items := api.get(path, limit=PAGE, offset=len(found))["items"]:
        found += items
    return found
