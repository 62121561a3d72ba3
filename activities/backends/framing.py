"""Cuts the body of a streamed reply into the data of its events: server-sent events, or one JSON text a line."""

from __future__ import annotations

from collections.abc import AsyncIterator

from activities.backends.reply import TooLarge


async def sse_events(parts: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[bytes]:
    """Cut a server-sent event stream into the data of its events; their names and ids are left out.

    Lines are cut at CR and LF bytes only: httpx's own line reader also cuts at U+2028 and the like, which stand
    unescaped in the JSON of several servers.

    Args:
        parts: The body as it arrives.
        max_bytes: Most bytes of the body.

    Yields:
        The data of each event that has any.

    Raises:
        TooLarge: If the body passes `max_bytes`.
    """
    data: list[bytes] = []
    async for line in _lines(parts, max_bytes):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


async def json_lines(parts: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[bytes]:
    """Cut a body with one JSON text a line into its lines; empty ones are left out.

    Args:
        parts: The body as it arrives.
        max_bytes: Most bytes of the body.

    Yields:
        Each line.

    Raises:
        TooLarge: If the body passes `max_bytes`.
    """
    async for line in _lines(parts, max_bytes):
        if line:
            yield line


async def _lines(parts: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    rest, total = b"", 0
    async for part in parts:
        total += len(part)
        if total > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")
