"""Server-sent events: JSON data with sequence numbers as ids, a comment when there is long nothing to say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple

from fastapi import Request
from starlette.responses import StreamingResponse

from engine.core.values import compact_json

KEEP_ALIVE_S = 15.0
RETRY_MS = 1_000
"""How soon a client comes back after the stream broke."""


class Message(NamedTuple):
    """One event of a stream."""

    id: int
    data: dict[str, Any]


class EventStream(StreamingResponse):
    """Answers with a stream of events.

    Args:
        messages: Batches of events; an empty batch means that nothing happened for a while. The stream ends with them.
        keep_alive_s: Seconds of silence after which a comment is sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self, messages: AsyncIterator[list[Message]], *, keep_alive_s: float = KEEP_ALIVE_S, status_code: int = 200
    ) -> None:
        super().__init__(
            _lines(messages, keep_alive_s),
            status_code=status_code,
            # a buffering proxy would hold the events back
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            media_type=self.media_type,
        )


async def _lines(messages: AsyncIterator[list[Message]], keep_alive_s: float) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    spoken = time.monotonic()
    async with aclosing(messages) as batches:  # type: ignore[type-var]
        async for batch in batches:
            if batch:
                yield "".join(f"id: {message.id}\ndata: {compact_json(message.data)}\n\n" for message in batch)
            elif time.monotonic() - spoken >= keep_alive_s:
                yield ": keep-alive\n\n"
            else:
                continue
            spoken = time.monotonic()


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
