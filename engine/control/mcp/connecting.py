"""Opens a session with an MCP server, by whichever way it is reached, and asks it what it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from mcp import ClientSession, types
from mcp.shared.exceptions import McpError
from mcp.shared.session import RequestResponder
from pydantic import BaseModel

from engine import __version__
from engine.control.credentials import Mask, secrets_of
from engine.control.guard import AddressGuard
from engine.control.mcp.definitions import Listing
from engine.control.mcp.failing import CONNECTION_CLOSED, Failures, flat, opening_failure
from engine.control.mcp.http import open_address
from engine.control.mcp.stdio import run_program, secrets_in
from engine.core.contracts.failures import clip
from engine.settings import McpConfig

OPEN_TIMEOUT_S = 20.0
"""Programs that are fetched when they start take their time."""
LIST_TIMEOUT_S = 8.0
"""Both fit into the time that `everstep dev` lets a worker take to start."""
MAX_PAGES = 50
MAX_ITEMS = 2_000
MAX_LINE_CHARS = 2_000
_LEVELS = {"debug": "debug", "info": "info", "notice": "info", "warning": "warning"}

# the SDK's own lines hold addresses and messages whole; what matters of them is told here
logging.getLogger("mcp").setLevel(logging.CRITICAL)

log = structlog.get_logger("everstep.mcp")


@dataclass(frozen=True, slots=True)
class Connection:
    """A session that is open.

    Attributes:
        server: The name of the server.
        session: The SDK's session.
        told: What the server said of itself.
        failures: What became of requests that got no answer of the server's own.
        mask: Takes out of texts what the server was told as a credential.
    """

    server: str
    session: ClientSession
    told: types.InitializeResult
    failures: Failures
    mask: Mask


@asynccontextmanager
async def connect_server(
    name: str,
    config: McpConfig,
    *,
    folder: Path,
    guard: AddressGuard,
    on_changed: Callable[[], None] | None = None,
    quiet: bool = False,
) -> AsyncIterator[Connection]:
    """Keep a session open for the length of the block; it must be left by the task that entered it.

    Args:
        name: The name under which the server is registered.
        config: How it is reached.
        folder: The folder of everstep.toml.
        guard: Decides about addresses.
        on_changed: Called when the server says that what it has is other than it was.
        quiet: Write what a program prints into the log for debugging alone: many greet whoever starts them.

    Raises:
        ToolError: `tool.credentials`, `tool.address_refused`, `tool.unreachable`: the session could not be opened, or
            it broke; or what the block raised.
    """
    failures = Failures()
    secrets = secrets_of(config.auth, f"the MCP server '{name}'") if config.url else secrets_in(name, config)
    mask = Mask(secrets.values())
    try:
        async with AsyncExitStack() as stack:
            way = open_address(name, config, guard, failures) if config.url else None
            streams = await stack.enter_async_context(way or run_program(name, config, folder, failures, quiet=quiet))
            hears = _Hears(name, mask, on_changed)
            session = await stack.enter_async_context(
                ClientSession(
                    *streams,
                    logging_callback=hears.line,
                    message_handler=hears.message,
                    client_info=types.Implementation(name="everstep", version=__version__),
                )
            )
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                told = await session.initialize()
            try:
                yield Connection(name, session, told, failures, mask)
            finally:
                failures.closing = True
                failures.over.set()
    except (Exception, BaseExceptionGroup) as error:
        # the SDK's task groups wrap whatever goes through them, our own errors too
        if any(isinstance(item, asyncio.CancelledError) for item in flat(error)):
            raise
        raise mask.error(opening_failure(name, error, failures)) from None


class _Hears:
    """What a server says beside its answers."""

    def __init__(self, name: str, mask: Mask, on_changed: Callable[[], None] | None) -> None:
        self._name = name
        self._mask = mask
        self._on_changed = on_changed

    async def line(self, params: types.LoggingMessageNotificationParams) -> None:
        """Write a line of the server's log into ours."""
        data = params.data if isinstance(params.data, str) else repr(params.data)
        text = clip(self._mask.text(data), MAX_LINE_CHARS)
        tell = getattr(log, _LEVELS.get(params.level, "error"))
        tell("mcp server says", server=self._name, line=text, logger_of_server=clip(params.logger or "", 100))

    async def message(
        self,
        message: RequestResponder[types.ServerRequest, types.ClientResult] | types.ServerNotification | Exception,
    ) -> None:
        """Take note of changed definitions; all else is handled, or of no use."""
        if not isinstance(message, types.ServerNotification) or self._on_changed is None:
            return
        changed = (
            types.ToolListChangedNotification,
            types.ResourceListChangedNotification,
            types.PromptListChangedNotification,
        )
        if isinstance(message.root, changed):
            self._on_changed()


async def list_server(connection: Connection) -> Listing:
    """Ask a server for all that it has.

    Raises:
        ToolError: `tool.unreachable` if it does not say.
    """
    session, offered = connection.session, connection.told.capabilities
    found: dict[str, list[dict[str, Any]]] = {}
    offers = [name for name in ("tools", "resources", "prompts") if getattr(offered, name) is not None]
    try:
        async with asyncio.timeout(LIST_TIMEOUT_S):
            if "tools" in offers:
                found["tools"] = await _all(lambda page: session.list_tools(params=page), "tools")
            if "resources" in offers:
                found["resources"] = await _all(lambda page: session.list_resources(params=page), "resources")
                found["templates"] = await _templates(session)
            if "prompts" in offers:
                found["prompts"] = await _all(lambda page: session.list_prompts(params=page), "prompts")
    except (Exception, TimeoutError) as error:
        failure = opening_failure(connection.server, error, connection.failures)
        raise connection.mask.error(failure) from None
    told = connection.told
    listing = Listing(
        server=told.serverInfo.model_dump(mode="json", by_alias=True, exclude_none=True),
        protocol=str(told.protocolVersion),
        offers=offers,
        **found,
    )
    masked = {key: connection.mask.json(getattr(listing, key)) for key in found}
    return Listing(listing.server, listing.protocol, offers=offers, **masked)


async def _templates(session: ClientSession) -> list[dict[str, Any]]:
    try:
        return await _all(lambda page: session.list_resource_templates(params=page), "resourceTemplates")
    except McpError as error:
        if error.error.code == CONNECTION_CLOSED:
            raise
        # servers that have resources need not have these
        return []


async def _all(ask: Callable[[types.PaginatedRequestParams], Awaitable[BaseModel]], key: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await ask(types.PaginatedRequestParams(cursor=cursor))
        body = page.model_dump(mode="json", by_alias=True, exclude_none=True)
        items += body[key]
        cursor = body.get("nextCursor")
        if not cursor or len(items) >= MAX_ITEMS:
            break
    return items[:MAX_ITEMS]
