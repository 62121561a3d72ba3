"""Tools for tests that run in processes of their own; a module, because such a process imports it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.core.errors import ToolError
from engine.tooling import ToolContext, tool
from tests.support.patience import PATIENCE_S

CHILD = "import time; time.sleep(600)"


@tool(process=True, effect="read")
def whoami(context: ToolContext, a: int = 1) -> dict[str, object]:
    """Say who runs."""
    print("this is no answer")  # noqa: T201
    os.write(1, b"nor is this\n")
    return {"pid": os.getpid(), "a": a, "key": context.idempotency_key, "tenant": context.tenant}


@tool(process=True, effect="read")
def listen() -> list[str]:
    """Read what there is to read, here and in a program that looks for input."""
    program = subprocess.run(["cat"], capture_output=True, text=True, check=True)
    return [sys.stdin.read(), program.stdout]


@tool(process=True)
def hang(file: str) -> None:
    """Start a process, tell both ids, and never end."""
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    part = Path(f"{file}.part")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(file)
    while True:
        time.sleep(600)


@tool(process=True, effect="read")
def crash(code: int) -> None:
    """End the process."""
    os._exit(code)


@tool(process=True)
def abort() -> None:
    """End the process the hard way."""
    os.abort()


@tool(process=True)
def much(chars: int) -> str:
    """Return a long text."""
    return "x" * chars


@tool(process=True)
def refuse() -> None:
    """Raise an error with a code of its own."""
    raise ToolError("no more seats", code="tool.sold_out", retryable=True, details={"left": 0})


@tool(process=True)
async def ends() -> None:
    """Raise what would end a worker."""
    raise SystemExit("enough")


@tool(process=True, effect="read")
def counts(context: ToolContext, until: int) -> int:
    """Tell how far it is."""
    for number in range(1, until + 1):
        context.progress(number / until)
    context.progress("done with counting")
    return until


async def ids_in(file: Path) -> list[int]:
    """Wait for the ids that `hang` tells."""
    await until(file.exists)
    return [int(word) for word in await asyncio.to_thread(lambda: file.read_text().split())]


async def until(holds: Callable[[], bool]) -> None:
    def look() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    await asyncio.to_thread(look)
