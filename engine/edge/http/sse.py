"""Server-sent events: JSON data with sequence numbers as ids, a comment when there is long nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import structlog
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.core.values import compact_json
from engine.edge.http.connections import connection_of

RETRY_MS = 1_000
"""How soon a client comes back after the stream broke."""
_RETRY = f"retry: {RETRY_MS}\n".encode()
_KEEP_ALIVE = b": keep-alive\n"
"""Both belong to the event that comes next: an empty line behind them would be an event without data for Julep's SDK,
which reads every event as JSON."""

log = structlog.get_logger(__name__)


def sse_text(data: Mapping[str, Any], *, id: int | None = None, event: str = "") -> bytes:
    """Return one event of a stream.

    Args:
        data: What it tells.
        id: Its number, after which a reader goes on; None = it cannot be asked for again.
        event: Its kind; empty = the usual one.
    """
    head = (f"id: {id}\n" if id is not None else "") + (f"event: {event}\n" if event else "")
    return f"{head}data: {compact_json(data)}\n\n".encode(errors="replace")


class EventStream(Response):
    """Answers with a stream of events.

    Nothing is kept for a reader that does not read but what it was handed last: the next events are only made when it
    has taken those, and after `stall_s` its connection is cut.

    Args:
        texts: Texts of events; an empty one means that nothing happened for a while. The stream ends with them;
            where they end with `StreamBroken`, its end is missing.
        stall_s: Seconds after which a reader that takes nothing is cut; it can come back and go on.
        status_code: Status of the answer.
        again: Whether readers are told how soon to come back; not where nothing can be gone on with.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        texts: AsyncIterator[bytes] | None = None,
        *,
        stall_s: float = 300.0,
        status_code: int = 200,
        again: bool = True,
    ) -> None:
        # a buffering proxy would hold the events back; a connection that is cut must not carry anything else
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", "connection": "close"}
        super().__init__(status_code=status_code, headers=headers)
        del self.headers["content-length"]
        self._texts = texts
        self._stall_s = stall_s
        self._again = again

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or its reader is gone."""
        leaving = asyncio.create_task(_left(receive))
        telling = asyncio.create_task(self._tell(scope, send))
        try:
            await asyncio.wait({leaving, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            leaving.cancel()
            telling.cancel()
            await asyncio.gather(leaving, telling, return_exceptions=True)

    async def _tell(self, scope: Scope, send: Send) -> None:
        assert self._texts is not None
        connection = connection_of(scope)
        if connection is not None:
            connection.begin_stream()
        async with aclosing(self._texts) as texts:  # type: ignore[type-var]
            try:
                start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                await self._send(send, start)
                if self._again:
                    await self._send(send, _body(_RETRY))
                async for text in texts:
                    await self._send(send, _body(text or _KEEP_ALIVE))
                await self._send(send, _body(b"", more=False))
            except _Stalled:
                log.info("a reader that takes nothing is dropped", path=scope["path"], after_s=self._stall_s)
                if connection is None:
                    raise
                connection.cut()
            except StreamBroken:
                if connection is None:
                    raise
                connection.break_off()
            else:
                if connection is not None:
                    connection.end_stream(self._stall_s)

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        limit = asyncio.timeout(self._stall_s)
        try:
            async with limit:
                await send(message)
        except TimeoutError:
            if limit.expired():
                raise _Stalled from None
            raise


class StreamBroken(Exception):
    """Ends a stream so that its reader sees that it is not whole: the connection is closed in the middle of it."""


class _Stalled(Exception):
    """A reader took nothing for too long."""


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(text: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


def last_event_id(request: Request, *names: str) -> int:
    """Return the sequence number after which a reader wants to go on.

    Args:
        request: The request; its Last-Event-ID header comes first.
        names: Queries that say the same, e.g. `after_seq`.

    Returns:
        The number, or 0 if there is none that can be read.
    """
    for text in (request.headers.get("last-event-id", ""), *(request.query_params.get(name, "") for name in names)):
        if text.isascii() and text.isdigit():
            return min(int(text), 2**62 - 1)
    return 0
