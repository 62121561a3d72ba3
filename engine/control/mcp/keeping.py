"""Gets what MCP servers have: from themselves, or from a kept copy if they are not there, with changes of it told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from engine.control.mcp.definitions import Listing, refused, tools_of
from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import canonical_json
from engine.settings import McpConfig, Project

FOLDER = "mcp"
OPERATORS = frozenset({"tool.address_refused", "tool.credentials"})
"""What the operator has to mend, and no copy may hide."""

log = structlog.get_logger("everstep.mcp")


def load_servers(project: Project, data_dir: Path) -> dict[str, ToolContract]:
    """Return the tools of all MCP servers of a project by name.

    Each is asked, all at once; programs are started for it, and ended. Where one does not answer, the copy of what it
    had counts, which the log says; without a copy the process starts without its tools, which the log says as well.

    Args:
        project: The operator's project.
        data_dir: Folder in which copies are kept.

    Raises:
        InvalidInput: `config.mcp` if a server cannot be reached as it is registered, or its tools cannot be tools;
            `config.duplicate_tool` if tools of two servers have one name.
    """
    # a thread with a loop of its own: who loads a catalog may or may not run in a loop
    with ThreadPoolExecutor(1, thread_name_prefix="mcp") as thread:
        return thread.submit(asyncio.run, reload_servers(project, data_dir)).result()


async def reload_servers(
    project: Project, data_dir: Path, *, programs: bool = True, known: Mapping[str, ToolContract] | None = None
) -> dict[str, ToolContract]:
    """Do the same in a running loop.

    Args:
        project: As for `load_servers`.
        data_dir: As for `load_servers`.
        programs: Whether programs are started; if not, of each the copy counts that workers keep of it.
        known: Tools that stay as they are where a server does not answer and no copy is kept.

    Raises:
        InvalidInput: As `load_servers`.
    """
    copies = Copies(data_dir)
    servers = project.tools.mcp
    found = await asyncio.gather(
        *(_listing_of(name, config, project, copies, programs) for name, config in servers.items()),
        return_exceptions=True,
    )
    tools: dict[str, ToolContract] = {}
    for (name, config), outcome in zip(servers.items(), found, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            mine = {key: item for key, item in (known or {}).items() if item.spec.get("server") == name}
            tools.update({key: item for key, item in mine.items() if item.type == "mcp"})
            continue
        offered = tools_of(name, outcome, config)
        for label, reason in offered.left_out.items():
            log.warning("mcp tool left out", server=name, tool=label, reason=reason)
        for key, contract in offered.contracts.items():
            if key in tools:
                raise InvalidInput(
                    f"two tools are called '{key}': one of MCP server '{tools[key].spec['server']}', one of '{name}'",
                    code="config.duplicate_tool",
                    hint="give one of the servers another name",
                )
            tools[key] = contract
    return tools


async def ask_server(name: str, config: McpConfig, project: Project) -> Listing:
    """Open a session with a server, ask what it has, and end the session.

    Raises:
        ToolError: `tool.unreachable`, `tool.credentials` or `tool.address_refused`.
    """
    # the SDK takes 0.3 s to import, which only those pay that have such a server
    from engine.control.guard import AddressGuard
    from engine.control.mcp.connecting import connect_server, list_server

    guard = AddressGuard(project.http)
    async with connect_server(name, config, folder=project.folder, guard=guard, quiet=True) as connection:
        return await list_server(connection)


async def _listing_of(name: str, config: McpConfig, project: Project, copies: Copies, programs: bool) -> Listing | None:
    copy = copies.read(name, config)
    if config.command and not programs:
        return copy
    try:
        listing = await ask_server(name, config, project)
    except ToolError as error:
        if error.code in OPERATORS and (copy is None or error.code != "tool.credentials"):
            raise refused(name, error.message, error.hint) from error
        if copy is None and not error.retryable:
            raise refused(name, error.message, error.hint) from error
        if copy is None:
            log.error("mcp server cannot be asked, its tools are not there", server=name, reason=error.message)
        else:
            log.warning("mcp server cannot be asked, its kept copy is used", server=name, reason=error.message)
        return copy
    copies.keep(name, config, listing)
    return listing


@dataclass(frozen=True, slots=True)
class Copies:
    """What servers had when they were asked last, as files of the data folder.

    Attributes:
        data_dir: The data folder.
    """

    data_dir: Path

    def read(self, name: str, config: McpConfig) -> Listing | None:
        """Return the copy of a server that is registered like this; None if there is none, or none that can be read."""
        try:
            body = json.loads(self._path(name, config).read_text(encoding="utf-8"))
            return Listing(**body["listing"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, name: str, config: McpConfig, listing: Listing) -> None:
        """Write a copy, unless it says what is there; one that cannot be written is told in the log."""
        if self.read(name, config) == listing:
            return
        path = self._path(name, config)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            # the data folder itself may be made here; each is its owner's alone
            path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump({"server": name, "listing": asdict(listing)}, file)
            draft.replace(path)
        except OSError as error:
            # the definitions themselves are here: only a start without the server would want the copy
            log.warning("mcp definitions not kept", file=str(path), reason=str(error))
            draft.unlink(missing_ok=True)

    def _path(self, name: str, config: McpConfig) -> Path:
        # another program, or another place, is another server
        where = canonical_json([name, config.command, config.args, config.cwd, config.env, config.url])
        mark = hashlib.blake2b(where.encode(), digest_size=16).hexdigest()
        return self.data_dir / FOLDER / f"{mark}.json"
