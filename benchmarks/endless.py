"""Two servers that never end what they began, and tell when somebody gives it up: a model, and an MCP server.

`python -m benchmarks.endless FILE model` serves the model over HTTP and prints its address; `… FILE mcp` is the MCP
server on standard input and output. What happens is a line {what, at} in the file, `at` in seconds of the machine's
monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PIECE_S = 0.05


class Endless:
    """A model that writes for ever.

    Args:
        note: Takes what happens.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        self._note("model began")
        gone = asyncio.create_task(_until_gone(receive))
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
        body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        piece = b"data: " + json.dumps(body).encode() + b"\n\n"
        while not gone.done():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.wait([gone], timeout=PIECE_S)
        self._note("model given up")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve_model(note: Callable[[str], None]) -> None:
    """Serve the model on a free port of loopback until SIGTERM; prints {url} when ready."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            Endless(note), log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this attribute only
            await asyncio.sleep(0.005)
        print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1"}), flush=True)
        await serving


def serve_mcp(note: Callable[[str], None]) -> None:
    """Serve the tool `wait`, which waits until it is cancelled, on standard input and output."""
    import anyio
    from mcp.server.fastmcp import FastMCP

    server = FastMCP("endless", log_level="ERROR")

    @server.tool()
    async def wait() -> str:
        """Wait until cancelled."""
        note("tool began")
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            note("tool given up")
            raise
        return ""

    server.run("stdio")


def main() -> None:
    """Serve what the arguments say."""
    path, what = Path(sys.argv[1]), sys.argv[2]

    def note(event: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": event, "at": time.monotonic()}) + "\n")

    if what == "mcp":
        serve_mcp(note)
        return
    # uvicorn raises the signal once more when it has stopped; by then it has been obeyed
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    asyncio.run(serve_model(note))


if __name__ == "__main__":
    main()
