"""Three model servers, each with a fault of its own, that count what they were asked; run as one process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MODEL = "m"
MINUTE_S = 60.0
CHUNKS = 8


@dataclass(frozen=True, slots=True)
class Character:
    """How a server behaves.

    Attributes:
        latency_s: Time until the last chunk of a reply.
        most_at_once: Calls under way at one time; more are refused with 503.
        per_minute: Calls in any sixty seconds; more are refused with 429 and Retry-After.
        retry_after_s: What such a refusal asks for.
        refuses_every: Of so many calls one is refused with 429 although there is room; 0 = none.
        breaks_every: Of so many calls one breaks off in the middle of its stream; 0 = none.
    """

    latency_s: float
    most_at_once: int = 10_000
    per_minute: int = 1_000_000
    retry_after_s: float = 2.0
    refuses_every: int = 0
    breaks_every: int = 0


CHARACTERS: dict[str, Character] = {
    "slow": Character(1.2, most_at_once=32),
    "limited": Character(0.15, per_minute=120, refuses_every=10),
    "dying": Character(0.2, breaks_every=4),
}
"""The servers of the demonstration, by name."""


@dataclass
class Seen:
    """What a server was asked.

    Attributes:
        calls: All calls.
        whole: How often each prompt was answered to the end.
        over_minute: Calls that were refused because a minute was full.
        over_at_once: Calls that were refused because too many were under way.
        refused: Calls that were refused for no such reason.
        broken: Streams that broke off.
        at_once: Calls under way now.
        peak: Most of them at one time.
        minute: Times of the calls that were taken in the last minute.
        peak_minute: Most of them in a minute.
    """

    calls: int = 0
    whole: Counter[str] = field(default_factory=Counter)
    over_minute: int = 0
    over_at_once: int = 0
    refused: int = 0
    broken: int = 0
    at_once: int = 0
    peak: int = 0
    minute: deque[float] = field(default_factory=deque)
    peak_minute: int = 0

    def told(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        names = ("calls", "over_minute", "over_at_once", "refused", "broken", "peak", "peak_minute")
        return {name: getattr(self, name) for name in names} | {"whole": dict(self.whole)}


class Faulty:
    """One server; GET /seen tells what it saw, DELETE /seen begins anew."""

    def __init__(self, character: Character) -> None:
        """Start with nothing seen.

        Args:
            character: How it behaves.
        """
        self._is = character
        self._seen = Seen()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/seen":
            if scope["method"] == "DELETE":
                self._seen = Seen()
            await _send_json(send, self._seen.told())
        elif scope["method"] == "GET":
            await _send_json(send, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0}]})
        else:
            await self._chat(json.loads(await _read(receive)), send)

    async def _chat(self, body: dict[str, Any], send: Send) -> None:
        seen, me = self._seen, self._is
        seen.calls += 1
        number, now = seen.calls, time.monotonic()
        while seen.minute and now - seen.minute[0] >= MINUTE_S:
            seen.minute.popleft()
        if seen.at_once >= me.most_at_once:
            seen.over_at_once += 1
            await _send_json(send, {"error": {"message": "too many calls"}}, status=503)
            return
        if len(seen.minute) >= me.per_minute:
            seen.over_minute += 1
            await self._refuse(send)
            return
        seen.minute.append(now)
        seen.peak_minute = max(seen.peak_minute, len(seen.minute))
        if me.refuses_every and number % me.refuses_every == 0:
            seen.refused += 1
            await self._refuse(send)
            return
        seen.at_once += 1
        seen.peak = max(seen.peak, seen.at_once)
        try:
            breaks = bool(me.breaks_every) and number % me.breaks_every == 0
            await self._stream(str(body["messages"][-1]["content"]), send, breaks=breaks)
        finally:
            seen.at_once -= 1

    async def _stream(self, prompt: str, send: Send, *, breaks: bool) -> None:
        await send(_start(200, b"text/event-stream"))
        for number in range(CHUNKS):
            await asyncio.sleep(self._is.latency_s / CHUNKS)
            if breaks and number == CHUNKS // 2:
                self._seen.broken += 1
                # leaving the response unfinished makes the server drop the connection
                return
            await send({"type": "http.response.body", "body": _chunk(f"{prompt} {number} ", None), "more_body": True})
        usage = {"prompt_tokens": 8, "completion_tokens": CHUNKS, "total_tokens": 8 + CHUNKS}
        end = _chunk("", "stop", usage) + b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end})
        self._seen.whole[prompt] += 1

    async def _refuse(self, send: Send) -> None:
        after = [(b"retry-after", f"{self._is.retry_after_s:g}".encode())]
        await _send_json(send, {"error": {"message": "slow down"}}, status=429, headers=after)


def _chunk(text: str, finish: str | None, usage: dict[str, int] | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    body: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    body |= {"choices": [choice]} | ({"usage": usage} if usage else {})
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _start(status: int, kind: bytes, more: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *(more or [])]}


async def _send_json(
    send: Send, body: Any, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    text = json.dumps(body).encode()
    length = (b"content-length", str(len(text)).encode())
    await send(_start(status, b"application/json", [length, *(headers or [])]))
    await send({"type": "http.response.body", "body": text})


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def serve() -> None:
    """Serve all three on free ports of loopback until SIGTERM; prints {name: url} when ready."""
    urls: dict[str, str] = {}
    servers: list[tuple[uvicorn.Server, socket.socket]] = []
    for name, character in CHARACTERS.items():
        # a socket that names TCP: only then does asyncio switch Nagle's algorithm off
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        urls[name] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            Faulty(character), log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=1
        )
        servers.append((uvicorn.Server(config), listener))
    serving = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in servers]
    while not all(server.started for server, _ in servers):  # noqa: ASYNC110 - uvicorn tells it by this attribute only
        await asyncio.sleep(0.005)
    print(json.dumps(urls), flush=True)
    await asyncio.gather(*serving)
    for _, listener in servers:
        listener.close()


if __name__ == "__main__":
    # uvicorn raises the signal once more when it has stopped; by then it has been obeyed
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    asyncio.run(serve())
