"""What became of calls of an MCP server that got no answer of its own, and how that is told as errors of tools."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
from mcp.shared.exceptions import McpError

from engine.core.contracts.failures import clip
from engine.core.errors import ToolError

NO_ANSWER = -32_099
"""JSON-RPC code of an answer that we made because the server's did not come."""
TOO_LARGE = -32_098
CONNECTION_CLOSED = -32_000


@dataclass
class Failures:
    """What went wrong within a session.

    Attributes:
        by_id: Why a request got no answer of the server's own, by its number.
        ended: Why the session is over; empty = it is not, or we ended it.
        closing: Whether we are ending it.
        forgotten: Requests that were refused because the server does not know the session any more.
        over: Set when the session is over, whoever ended it: nobody waits for an answer any longer.
    """

    by_id: dict[int, ToolError] = field(default_factory=dict)
    ended: str = ""
    closing: bool = False
    forgotten: set[int | None] = field(default_factory=set)
    over: asyncio.Event = field(default_factory=asyncio.Event)


def too_large(server: str, most: int) -> ToolError:
    """Return the error of an answer that is beyond the bound."""
    return ToolError(
        f"the answer of the MCP server '{server}' is larger than {most // (1024 * 1024)} MB",
        code="tool.too_large",
        hint="ask the tool for less, for example page by page",
    )


def opening_failure(server: str, error: BaseException, failures: Failures) -> ToolError:
    """Return the error that says why a session could not be opened; nothing was called.

    Args:
        server: Its name.
        error: What was raised, perhaps a group.
        failures: Those of the session.
    """
    own = next(iter(failures.by_id.values()), None)
    for item in flat(error):
        if isinstance(item, ToolError):
            own = item
    if own is not None and (own.code != "tool.http_status" or own.retryable):
        return own
    if own is not None:
        return ToolError(own.message, code="tool.unreachable", details=own.details)
    reasons = [f"{failures.ended}"] if failures.ended else [_reason(item) for item in flat(error)]
    return ToolError(
        f"no session with the MCP server '{server}': {clip('; '.join(dict.fromkeys(reasons)), 1_000)}",
        code="tool.unreachable",
        retryable=True,
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, httpx.HTTPStatusError):
        # its text holds the whole address
        return f"it answered {error.response.status_code}, which leads elsewhere or nowhere"
    text = error.error.message if isinstance(error, McpError) else str(error)
    return text or type(error).__name__


def flat(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, however deep, or the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for item in error.exceptions:
            yield from flat(item)
    else:
        yield error
