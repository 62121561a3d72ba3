"""The commands `tools ls` and `tools mcp`: the operator's tools as tasks may name them, and what an MCP server has."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.edge.cli.definitions import find_project
from engine.edge.cli.options import Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, table, write, write_rows

if TYPE_CHECKING:
    from engine.control.mcp.definitions import Offered
    from engine.core.plan.ir import ToolContract

WIDTH = 60

tools = typer.Typer(
    name="tools",
    help="Tools of everstep.toml: list them, ask MCP servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@tools.command("ls")
def list_tools(project: ProjectFile = None, output: Output = Mode.TEXT) -> None:
    """List the tools that tasks may name, with what they do to the world and who may use them."""
    from engine.control.tools import load_catalog
    from engine.edge.cli.values import clip
    from engine.obs.logs import lines_to_stderr
    from engine.settings import load_project

    lines_to_stderr()
    contracts = load_catalog(load_project(find_project(project, []))).contracts()
    found = [contracts[name] for name in sorted(contracts)]
    if output is not Mode.TEXT:
        write_rows([_row(contract) for contract in found], output)
        return
    if not found:
        write("everstep.toml names no tools")
        return
    rows = [
        (
            contract.name,
            contract.type,
            contract.effect.value,
            "yes" if contract.repeatable else "no",
            ", ".join(contract.tenants) or "all",
            clip(_plain(contract.description) or "-", WIDTH),
        )
        for contract in found
    ]
    write(table(("TOOL", "TYPE", "EFFECT", "REPEATABLE", "TENANTS", "DESCRIPTION"), rows))


def _row(contract: ToolContract) -> dict[str, Any]:
    from engine.core.plan.drift import definition_hash

    return {
        "name": contract.name,
        "type": contract.type,
        "effect": contract.effect.value,
        "idempotent": contract.idempotent,
        "tenants": list(contract.tenants),
        "description": contract.description,
        "parameters": contract.parameters,
        "timeout_s": contract.timeout_s,
        "hash": definition_hash(contract),
    }


@tools.command("mcp")
def show_server(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a server, as in [tools.mcp.NAME].")],
    project: ProjectFile = None,
    output: Output = Mode.TEXT,
) -> None:
    """Ask an MCP server what it has now: tools, resources and prompts, whether they are offered to tasks or not."""
    from dataclasses import asdict

    from engine.control.mcp.definitions import tools_of
    from engine.control.mcp.keeping import ask_server
    from engine.core.diagnostics import did_you_mean
    from engine.core.errors import NotFound
    from engine.obs.logs import lines_to_stderr
    from engine.settings import load_project

    lines_to_stderr()
    found = load_project(find_project(project, []))
    config = found.tools.mcp.get(name)
    if config is None:
        known = ", ".join(sorted(found.tools.mcp)) or "none"
        hint = did_you_mean(name, found.tools.mcp) or f"everstep.toml has {known}"
        raise NotFound(f"there is no MCP server '{name}'", code="mcp.not_found", hint=hint)
    listing = asyncio.run(ask_server(name, config, found))
    if output is not Mode.TEXT:
        write(as_json(asdict(listing), pretty=output is Mode.JSON))
        return
    offered = tools_of(name, listing, config)
    names = {str(contract.spec["tool"]): key for key, contract in offered.contracts.items()}
    told = listing.server
    server = _plain(f"{told.get('name', name)} {told.get('version', '')}")
    write(f"{server}, protocol {_plain(listing.protocol)}")
    _show("TOOL", "CALLED", [(item, names.get(str(item["name"]), "-")) for item in listing.tools])
    for title, key, items in (
        ("RESOURCE", "uri", listing.resources),
        ("TEMPLATE", "uriTemplate", listing.templates),
    ):
        _show(title, "NAME", [({**item, "name": item[key]}, str(item.get("name", "-"))) for item in items])
    _show("PROMPT", "ARGUMENTS", [(item, _arguments(item)) for item in listing.prompts])
    _show_beside(offered, "resources" in listing.offers, "prompts" in listing.offers)


def _show_beside(offered: Offered, has_resources: bool, has_prompts: bool) -> None:
    """Say how resources and prompts are had, and why a tool is none here."""
    from engine.control.mcp.definitions import GET_PROMPT, READ_RESOURCE

    own = {contract.spec["kind"]: name for name, contract in offered.contracts.items()}
    lines = [
        f"{what} are had by the tool {own[kind]}" if kind in own else f"{what} are not offered to tasks ({label})"
        for what, kind, label, is_there in (
            ("resources", "resource", READ_RESOURCE, has_resources),
            ("prompts", "prompt", GET_PROMPT, has_prompts),
        )
        if is_there
    ]
    lines += [f"{_plain(label)} is left out: {_plain(reason)}" for label, reason in offered.left_out.items()]
    if lines:
        write("\n" + "\n".join(lines))


def _arguments(prompt: Mapping[str, Any]) -> str:
    return ", ".join(str(item.get("name")) for item in prompt.get("arguments") or []) or "-"


def _plain(text: Any) -> str:
    """Return a text of somebody else on one line, without what a terminal would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())


def _show(title: str, second: str, items: Sequence[tuple[Mapping[str, Any], str]]) -> None:
    from engine.edge.cli.values import clip

    if not items:
        return
    rows = [
        (_plain(item["name"]), _plain(beside), clip(_plain(item.get("description") or "-"), WIDTH))
        for item, beside in items
    ]
    write("")
    write(table((title, second, "DESCRIPTION"), rows))
