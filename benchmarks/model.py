"""The fake LLM as a process: engine.edge.mockllm with two models, and a count of calls by idempotency key."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from engine.edge.mockllm.app import MockLlm
from engine.edge.mockllm.script import MockRule, MockScript

FAST = "fast"
"""Model that answers at once."""
SLOW = "slow"
"""Model that answers after 50 ms."""
SLOW_S = 0.05
REPLY = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class CountingModel:
    """The mock model; GET /bench/count tells {calls, distinct}, DELETE starts anew."""

    def __init__(self) -> None:
        """Start with no calls."""
        rules = [MockRule(model=FAST, reply=REPLY), MockRule(model=SLOW, reply=REPLY, delay_s=SLOW_S)]
        self._mock = MockLlm(MockScript(models=[FAST, SLOW], rules=rules))
        self._calls = 0
        self._keys: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == "/bench/count":
            if scope["method"] == "DELETE":
                self._calls = 0
                self._keys.clear()
                self._mock.reset()
            body = json.dumps({"calls": self._calls, "distinct": len(self._keys)}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        if scope["type"] == "http" and scope["method"] == "POST":
            self._calls += 1
            self._keys.add(next((value for name, value in scope["headers"] if name == b"idempotency-key"), b""))
        await self._mock(scope, receive, send)


async def serve() -> None:
    """Serve on a free port of loopback until SIGTERM; prints {"url": …, "port": …} when ready."""
    # a socket that names TCP: only then does asyncio switch Nagle's algorithm off
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        config = uvicorn.Config(
            CountingModel(), log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this attribute only
            await asyncio.sleep(0.005)
        port = listener.getsockname()[1]
        print(json.dumps({"url": f"http://127.0.0.1:{port}/v1", "port": port}), flush=True)
        await serving


if __name__ == "__main__":
    # uvicorn raises the signal once more when it has stopped; by then it has been obeyed
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    asyncio.run(serve())
