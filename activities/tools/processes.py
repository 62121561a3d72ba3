"""Calls Python functions in processes of their own, which are killed with all they started when a call must end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from engine.core.contracts.activities import ToolParams
from engine.core.errors import ToolError
from engine.core.values import Json, compact_json
from engine.tooling.catalog import ToolCatalog
from engine.tooling.definition import Tool

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

Report = Callable[[str | float], None]


class ProcessCalls:
    """Starts a process for each call.

    Args:
        catalog: The operator's tools, and where they were found.
        slots: Most processes at one time; further calls wait, at the cost of their own time.
        max_bytes: Longest answer of a process.
    """

    def __init__(self, catalog: ToolCatalog, slots: int, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._catalog = catalog
        self._slots = asyncio.Semaphore(slots)
        self._max_bytes = max_bytes

    async def call(self, tool: Tool[..., Any], params: ToolParams, report: Report) -> Json:
        """Call a tool; when this is cancelled, the process and what it started are dead before it returns.

        Args:
            tool: The tool.
            params: The call; its arguments fit the contract's schema.
            report: Takes what the tool says of its progress.

        Returns:
            What the function returned, as JSON.

        Raises:
            ToolError: Those of the function, tool.crashed if its process ended without an answer, tool.too_large if
                the answer is too long.
        """
        asked = self.question(tool, params)
        async with self._slots:
            process = await self._start()
            try:
                return await self._converse(process, tool, params, asked, report)
            finally:
                await _end(process)

    def question(self, tool: Tool[..., Any], params: ToolParams) -> dict[str, Any]:
        """Return what the process of a call is told."""
        module, file = self._catalog.source_of(tool.name)
        return {
            "module": module,
            "file": file,
            "path": sys.path,
            "environment": os.environ.get("PYTHONPATH"),
            "tool": tool.name,
            "contract": asdict(params.tool),
            "arguments": params.arguments,
            "context": {**asdict(params.context), "allow": None},
        }

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "activities.tools.childprocess"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # the modules of the tool are found where this process finds them, in the same order
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            limit=self._max_bytes,
            # a group of its own, so that what the tool starts can be ended with it
            start_new_session=True,
        )

    async def _converse(
        self, process: Process, tool: Tool[..., Any], params: ToolParams, asked: dict[str, Any], report: Report
    ) -> Json:
        assert process.stdin is not None
        assert process.stdout is not None
        # one that died at once says so by the end of its output; its input stays open: the end of it means our death
        with contextlib.suppress(ConnectionError):
            process.stdin.write(f"{compact_json(asked)}\n".encode("utf-8", "surrogatepass"))
            await process.stdin.drain()
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError as error:
                raise ToolError(
                    f"tool '{tool.name}': the result is larger than {self._max_bytes // (1024 * 1024)} MB",
                    code="tool.too_large",
                    hint="return less, or write it somewhere and return where it is",
                ) from error
            if not line.endswith(b"\n"):
                raise _crashed(tool, params, await process.wait())
            told: dict[str, Any] = json.loads(line)
            if "progress" in told:
                report(told["progress"])
            elif "error" in told:
                raise ToolError(**told["error"])
            else:
                return told["result"]


async def _end(process: Process) -> None:
    """Kill a process and what it started, and take its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _crashed(tool: Tool[..., Any], params: ToolParams, code: int) -> ToolError:
    by = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with the exit code {code}"
    return ToolError(
        f"tool '{tool.name}': its process {by} before it had a result",
        code="tool.crashed",
        hint="look at the log of the worker; a SIGKILL that nobody sent means that memory ran out",
        retryable=params.tool.repeatable,
        details={"exit_code": code},
    )
