"""Gathers the operator's tools: `@tool` objects of the modules in everstep.toml, integrations, services."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.control.integrations import integration_contracts
from engine.control.toolrules import ruled, rules_for
from engine.core.contracts.failures import clip
from engine.core.errors import InvalidInput
from engine.core.plan.ir import ToolContract
from engine.settings import Project, Settings
from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Tool

__all__ = ["ToolCatalog", "load_catalog"]


def load_catalog(project: Project, data_dir: Path | None = None) -> ToolCatalog:
    """Import the project's tool modules, collect their tools, and add what else is switched on.

    The project's folder goes to the end of sys.path, so that tool modules can import their neighbours but none of them
    can hide a module of the engine.

    Args:
        project: The operator's project; `tools.modules` are files relative to its folder, or importable names.
        data_dir: Where copies of fetched documents are kept; None = the data folder of the environment's settings.

    Returns:
        All tools that stand at module level, and the contracts of integrations, OpenAPI services and MCP servers.

    Raises:
        InvalidInput: `config.tool_module` if a module is missing or fails, `config.duplicate_tool` if two tools share a
            name, `config.bad_tool` if a tool has no schema, `config.integration` if an integration cannot work,
            `config.openapi` if a document cannot be had or read, `config.mcp` if an MCP server is registered wrongly.
    """
    folder = str(project.folder.absolute())
    if project.tools.modules and folder not in sys.path:
        sys.path.append(folder)
    owners: dict[str, str] = {}
    sources: dict[str, tuple[str, str]] = {}
    tools: dict[str, Tool[..., Any]] = {}
    for entry in project.tools.modules:
        module = _import(entry, project.folder.absolute())
        for found in _tools_of(module):
            if tools.setdefault(found.name, found) is not found:
                raise InvalidInput(
                    f"two tools are called '{found.name}': one in {owners[found.name]}, one in {entry}",
                    code="config.duplicate_tool",
                    hint="give one of them another name: @tool(name=…)",
                )
            owners.setdefault(found.name, entry)
            sources.setdefault(found.name, (module.__name__, str(module.__file__ or "")))
            found.contract()
    others = integration_contracts(project.tools.integrations)
    for name in others.keys() & tools.keys():
        raise InvalidInput(
            f"two tools are called '{name}': one in {owners[name]}, one in [tools.integrations] of everstep.toml",
            code="config.duplicate_tool",
            hint="give the integration another name, and its provider as `provider`",
        )
    if project.tools.openapi:
        taken = {**owners, **dict.fromkeys(others, "[tools.integrations]")}
        others = {**others, **_operations(project, data_dir, taken)}
    if project.tools.mcp:
        others = {**others, **_of_servers(project, data_dir, {**dict.fromkeys(others, "another service"), **owners})}
    if project.tools.acp:
        others = {**others, **_agents(project, data_dir, {**dict.fromkeys(others, "another service"), **owners})}
    rules = rules_for(tools, project.tools)
    return ToolCatalog(tools, ruled(others, project.tools), sources=sources, rules=rules)


def _operations(project: Project, data_dir: Path | None, owners: Mapping[str, str]) -> dict[str, ToolContract]:
    # it takes 0.1 s to import, which no start without such a service need pay
    from engine.control.openapi.fetching import load_services

    found = load_services(project, data_dir or Settings().data_dir)
    for name in found.keys() & owners.keys():
        raise InvalidInput(
            f"two tools are called '{name}': one in {owners[name]}, one of the OpenAPI service"
            f" '{found[name].spec['service']}'",
            code="config.duplicate_tool",
            hint="give one of them another name",
        )
    return found


def _of_servers(project: Project, data_dir: Path | None, owners: Mapping[str, str]) -> dict[str, ToolContract]:
    # as above: the SDK takes 0.3 s to import
    from engine.control.mcp.keeping import load_servers

    found = load_servers(project, data_dir or Settings().data_dir)
    for name in found.keys() & owners.keys():
        raise InvalidInput(
            f"two tools are called '{name}': one in {owners[name]}, one of the MCP server"
            f" '{found[name].spec['server']}'",
            code="config.duplicate_tool",
            hint="give the server another name",
        )
    return found


def _agents(project: Project, data_dir: Path | None, owners: Mapping[str, str]) -> dict[str, ToolContract]:
    from engine.control.acpagents import load_agents

    for name in project.tools.acp.keys() & owners.keys():
        raise InvalidInput(
            f"two tools are called '{name}': one in {owners[name]}, one in [tools.acp] of everstep.toml",
            code="config.duplicate_tool",
            hint="give the remote agent another name",
        )
    return load_agents(project, data_dir or Settings().data_dir)


def _tools_of(module: ModuleType) -> list[Tool[..., Any]]:
    return [value for value in vars(module).values() if isinstance(value, Tool)]


def _import(entry: str, folder: Path) -> ModuleType:
    try:
        if entry.endswith(".py") or "/" in entry:
            return _import_file(folder / entry, folder)
        return importlib.import_module(entry)
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:  # the operator's code may raise anything, and all of it means one thing
        raise InvalidInput(
            f"tool module '{entry}' cannot be imported: {type(error).__name__}: {error}{_where(error)}",
            code="config.tool_module",
            hint="[tools] modules in everstep.toml names files relative to it, or importable modules",
            details={"traceback": clip("".join(traceback.format_exception(error))[-2000:])},
        ) from error


def _import_file(path: Path, folder: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise InvalidInput(
            f"tool module '{path}' does not exist",
            code="config.tool_module",
            hint="[tools] modules in everstep.toml names files relative to it, or importable modules",
        )
    name = _importable_name(path, folder.resolve())
    if name:
        return importlib.import_module(name)
    # another module has the name already (ours win), so this one gets a name of its own
    name = f"_everstep_tools_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _importable_name(path: Path, folder: Path) -> str:
    """Return the dotted name under which an ordinary import finds this very file, or an empty text.

    Importing by that name keeps one module object, whether a tool file is named in everstep.toml, imported by another
    tool file, or both.
    """
    if not path.is_relative_to(folder):
        return ""
    parts = path.relative_to(folder).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return ""
    name = ".".join(parts)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    return name if spec is not None and spec.origin and Path(spec.origin).resolve() == path else ""


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
