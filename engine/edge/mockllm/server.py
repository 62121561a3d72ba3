"""Runs the mock LLM server as a process: binds, says where, serves until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from engine.core.errors import InvalidInput
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import load_script


def serve(host: str = "127.0.0.1", port: int = 0, script_path: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM; prints one JSON line {"url": "http://127.0.0.1:PORT/v1"} when ready.

    Args:
        host: Address to bind to.
        port: Port; 0 = any free one.
        script_path: The script; None = every call is echoed.

    Raises:
        InvalidInput: `config.invalid` if the script is wrong, `port.in_use` if the port is taken.
    """
    app = create_app(load_script(script_path) if script_path else None)
    with _bind(host, port) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=1)
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn raises the signal once more when it has stopped; by then it has been obeyed
            signal.signal(number, _already_obeyed)
        asyncio.run(_run(uvicorn.Server(config), listener))


def _already_obeyed(number: int, frame: FrameType | None) -> None:
    del number, frame


async def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells it by this attribute only
        await asyncio.sleep(0.005)
    if server.started:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(json.dumps({"url": f"http://{shown}:{port}/v1"}), flush=True)  # noqa: T201 - read by the parent process
    await serving


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only for sockets that name TCP; with it a streamed reply takes 40 ms longer
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {error.strerror}",
            code="port.in_use",
            hint="choose another --port, or 0 for any free one",
        ) from error
    listener.listen(2048)
    return listener
