"""A real MCP server of the official SDK for tests: over stdio as a program, or as an ASGI app; it keeps a journal.

What happens in it is a line of JSON each in the file that MCP_JOURNAL names: {event, pid, …}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.types import ToolAnnotations
from pydantic import BaseModel

from engine.settings import McpConfig
from tests.backends.loopback import serving
from tests.support.patience import PATIENCE_S

SECRET = "s3cr3t/key+of=the server"
READS = ToolAnnotations(readOnlyHint=True, idempotentHint=True)


class Weather(BaseModel):
    """A structured result."""

    place: str
    degrees: float


def make_server(journal: Path, secret: str = "") -> FastMCP:
    """Return the server.

    Args:
        journal: Its journal.
        secret: What it shows where it is asked to.
    """
    server = FastMCP("exam", log_level="ERROR")

    def note(event: str, **facts: Any) -> None:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")

    note("started", secret=bool(secret))

    @server.tool(annotations=READS)
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool(structured_output=False)
    def greet(name: str) -> str:
        """Greet somebody."""
        note("greeted", name=name)
        return f"Hello {name}"

    @server.tool()
    def weather(place: str) -> Weather:
        """Tell the weather."""
        return Weather(place=place, degrees=21.5)

    @server.tool(structured_output=False)
    def picture() -> list[Any]:
        """Show a picture."""
        return ["a dot", Image(data=b"\x89PNG", format="png")]

    @server.tool()
    def fail(reason: str) -> str:
        """Fail."""
        raise ValueError(f"{reason} {secret}")

    @server.tool(structured_output=False, annotations=READS)
    def big(megabytes: int) -> str:
        """Return much."""
        return "x" * (megabytes * 1024 * 1024)

    @server.tool(annotations=READS)
    async def wait() -> str:
        """Wait until cancelled."""
        note("waiting")
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            note("cancelled")
            raise
        return ""

    @server.tool()
    def crash() -> str:
        """End the server."""
        note("crashing")
        sys.stderr.write(f"it is over {secret}\n")
        sys.stderr.flush()
        os._exit(3)

    @server.tool(annotations=ToolAnnotations(idempotentHint=True))
    def crash_once() -> str:
        """End the server the first time."""
        if '"crashing once"' not in journal.read_text(encoding="utf-8"):
            note("crashing once")
            os._exit(4)
        return "done"

    @server.tool(structured_output=False)
    async def tell_all(ctx: Context[Any, Any, Any]) -> str:
        """Show everything that the server knows of a call."""
        await ctx.info(f"the key is {secret}")
        sys.stderr.write(f"printed {secret}\n")
        meta = ctx.request_context.meta
        shown = {} if meta is None else meta.model_dump(exclude_none=True)
        request = ctx.request_context.request
        headers = dict(request.headers) if request is not None else {}
        variables = sorted(os.environ)
        return json.dumps({"secret": secret, "meta": shown, "headers": headers, "variables": variables})

    @server.tool(structured_output=False)
    async def steps(ctx: Context[Any, Any, Any]) -> str:
        """Tell progress, then wait until the journal says that somebody heard."""
        await ctx.report_progress(1, 2, f"half of {secret}")
        await happened(journal, "heard")
        return "ok"

    @server.tool(structured_output=False)
    async def learn(ctx: Context[Any, Any, Any]) -> str:
        """Have one tool more, and add differently."""
        server.add_tool(lambda: "new", name="extra", description="One more.")
        await ctx.session.send_tool_list_changed()
        return "learnt"

    @server.resource("memo://one", name="one")
    def memo() -> str:
        """A memo."""
        return "remember"

    @server.resource("note://{name}")
    def named(name: str) -> str:
        """A note."""
        return f"note {name}"

    @server.prompt()
    def ask(topic: str) -> str:
        """Ask about a topic."""
        return f"What is {topic}?"

    return server


def program(journal: Path, **more: Any) -> McpConfig:
    """Return how the server is registered as a program."""
    return McpConfig.model_validate(
        {
            "command": sys.executable,
            "args": ["-m", "tests.support.mcp_server"],
            "cwd": str(Path(__file__).parents[2]),
            "env": {"MCP_JOURNAL": str(journal), "MCP_SECRET": "env:EXAM_KEY"},
            **more,
        }
    )


@asynccontextmanager
async def served(server: FastMCP) -> AsyncIterator[str]:
    """Serve it over HTTP on loopback and yield its address."""
    async with managed(server) as app, serving(app) as url:
        yield f"{url}/mcp"


@asynccontextmanager
async def managed(server: FastMCP) -> AsyncIterator[Any]:
    """Let a server keep sessions for the length of the block, and yield its app."""
    app, up, stop = server.streamable_http_app(), asyncio.Event(), asyncio.Event()

    async def manage() -> None:
        # a task of its own: fixtures begin and end in different ones, which the SDK does not bear
        async with server.session_manager.run():
            up.set()
            await stop.wait()

    managing = asyncio.create_task(manage())
    await up.wait()
    try:
        yield app
    finally:
        stop.set()
        await managing


def journal_of(path: Path) -> list[dict[str, Any]]:
    """Return what has happened so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def happened(path: Path, event: str, *, count: int = 1) -> dict[str, Any]:
    """Wait until something has happened so many times, and return the last of it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = [item for item in journal_of(path) if item["event"] == event]
        if len(found) >= count:
            return found[count - 1]
        await asyncio.sleep(0.01)
    raise AssertionError(f"no {count}. {event}; seen {journal_of(path)}")


if __name__ == "__main__":
    make_server(Path(os.environ["MCP_JOURNAL"]), os.environ.get("MCP_SECRET", "")).run("stdio")
