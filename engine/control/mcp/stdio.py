"""Runs an MCP server as a child process: messages over standard streams, its log into ours, no child left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import ErrorData, JSONRPCError, JSONRPCMessage

from engine.control.credentials import Mask, variable
from engine.control.mcp.failing import NO_ANSWER, TOO_LARGE, Failures, too_large
from engine.core.contracts.failures import clip
from engine.core.errors import ToolError
from engine.settings import McpConfig

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
MAX_LINE_CHARS = 2_000
LAST_LINES = 5
"""Of what a server wrote before it ended, for the error that says so."""
LEAVE_S = 2.0
"""How long a server may take to end once its input is closed, and again once it is asked to."""
PASSED_ON = ("EVERSTEP_SUPERVISOR",)
"""By which `everstep dev` finds what its worker left behind."""
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+)')
_ID_LAST = re.compile(rb'"id"\s*:\s*(\d+)\s*\}\s*$')
"""Where servers write the number of an answer; what stands between may hold others."""
TAIL_BYTES = 200
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

log = structlog.get_logger("everstep.mcp")


def secrets_in(name: str, config: McpConfig) -> dict[str, str]:
    """Return the values of the variables that `env` refers to, by their names in the server.

    Raises:
        ToolError: `tool.credentials` if one is not set.
    """
    return {
        own: variable(value.removeprefix("env:"), f"the MCP server '{name}'", in_request=False)
        for own, value in config.env.items()
        if value.startswith("env:")
    }


@asynccontextmanager
async def run_program(
    name: str, config: McpConfig, folder: Path, failures: Failures, *, quiet: bool = False
) -> AsyncIterator[Streams]:
    """Run a server for the length of the block.

    At its end, or if this process ends in any way, the server's input is closed; it is killed if it stays.

    Args:
        name: The name under which it is registered.
        config: How it is started.
        folder: The folder of everstep.toml.
        failures: Take down what became of calls that got no answer of the server's own.
        quiet: Write what it says into the log for debugging alone.

    Raises:
        ToolError: `tool.credentials`, or `tool.unreachable` if it cannot be started.
    """
    secrets = secrets_in(name, config)
    server = _Program(name, await _spawn(name, config, folder, secrets), Mask(secrets.values()), failures, quiet)
    try:
        yield server.open()
    finally:
        await server.close()


async def _spawn(name: str, config: McpConfig, folder: Path, secrets: dict[str, str]) -> asyncio.subprocess.Process:
    command = str(folder / config.command) if "/" in config.command else config.command
    plain = {key: value for key, value in config.env.items() if key not in secrets}
    passed = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            command,
            *config.args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder / config.cwd,
            # the variables of this process hold keys that are none of the server's business
            env={**get_default_environment(), **passed, **plain, **secrets},
            # a group of its own: what it starts is ended with it, and Ctrl-C is ours
            start_new_session=True,
            preexec_fn=None if _LIBC is None else _end_with_parent,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(
            f"the MCP server '{name}' cannot be started: {config.command}: {reason}",
            code="tool.unreachable",
            hint=f"mend command or cwd of [tools.mcp.{name}] in everstep.toml",
        ) from error


def _end_with_parent() -> None:
    # runs in the child between fork and exec: a server that ignores the end of its input dies with a killed worker
    assert _LIBC is not None
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL)


class _Program:
    """A running server and what carries its messages."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, mask: Mask, failures: Failures, quiet: bool
    ) -> None:
        self._name = name
        self._tell = log.debug if quiet else log.info
        self._process = process
        self._mask = mask
        self._failures = failures
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> Streams:
        """Carry messages from now on."""
        outer_in, inner_in = anyio.create_memory_object_stream[Incoming](0)
        outer_out, inner_out = anyio.create_memory_object_stream[SessionMessage](0)
        told = asyncio.create_task(self._listen(), name=f"mcp-log-{self._name}")
        reading = asyncio.create_task(self._read(outer_in, told), name=f"mcp-read-{self._name}")
        writing = asyncio.create_task(self._write(inner_out), name=f"mcp-write-{self._name}")
        self._tasks = [told, reading, writing]
        return inner_in, outer_out

    async def _read(self, out: MemoryObjectSendStream[Incoming], told: asyncio.Task[None]) -> None:
        """Hand on messages, one a line, until the server closes its output; then those that wait are told so."""
        assert self._process.stdout is not None
        async with out:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for line in _lines(self._process.stdout):
                    message = self._message(line)
                    if message is not None:
                        await out.send(message)
            if not self._failures.closing:
                # how it ended, and what it wrote last, says why
                leaving = asyncio.create_task(self._process.wait())
                await asyncio.wait({told, leaving}, timeout=LEAVE_S)
                leaving.cancel()
                self._failures.ended = self._how_it_ended()
                self._failures.over.set()

    def _message(self, line: bytes | _Cut) -> Incoming | None:
        if isinstance(line, _Cut):
            found = _ID_FIRST.match(line.head) or _ID_LAST.search(line.tail)
            if found is None:
                log.warning("mcp message too large, left out", server=self._name)
                return None
            return self._in_place(int(found[1]), TOO_LARGE, too_large(self._name, MAX_MESSAGE_BYTES))
        try:
            return SessionMessage(JSONRPCMessage.model_validate_json(line))
        except ValueError:
            found = _ID_FIRST.match(line) or _ID_LAST.search(line[-TAIL_BYTES:])
            if found is not None and b'"jsonrpc"' in line:
                # an answer all the same, for which somebody waits; one that is nested too deep is such
                why = f"the answer of the MCP server '{self._name}' cannot be read"
                return self._in_place(int(found[1]), NO_ANSWER, ToolError(why, code="tool.bad_reply"))
            if line.strip():
                # a program that prints; the text may be anything
                self._say(line.decode("utf-8", "replace"))
            return None

    def _in_place(self, number: int, code: int, failure: ToolError) -> SessionMessage:
        """Return the answer to a request whose own cannot be used, and take down why."""
        self._failures.by_id[number] = failure
        error = JSONRPCError(jsonrpc="2.0", id=number, error=ErrorData(code=code, message=failure.message))
        return SessionMessage(JSONRPCMessage(error))

    async def _write(self, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert self._process.stdin is not None
        async with outgoing:
            with contextlib.suppress(OSError):
                async for item in outgoing:
                    text = item.message.model_dump_json(by_alias=True, exclude_none=True)
                    self._process.stdin.write(text.encode("utf-8", "surrogatepass") + b"\n")
                    await self._process.stdin.drain()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr, MAX_LINE_CHARS * 4):
            self._say((line.head if isinstance(line, _Cut) else line).decode("utf-8", "replace"))

    def _say(self, line: str) -> None:
        text = clip(self._mask.text(line.rstrip()), MAX_LINE_CHARS)
        if text:
            self._last.append(text)
            self._tell("mcp server says", server=self._name, line=text)

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        how = "closed its output" if code is None else f"ended with {code}"
        said = f"; it said: {' | '.join(self._last)}" if self._last else ""
        return f"the MCP server '{self._name}' {how}{clip(said, MAX_LINE_CHARS)}"

    async def close(self) -> None:
        """End the server and all that it started: first kindly."""
        self._failures.closing = True
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            for number in (None, signal.SIGTERM):
                if number is not None:
                    _signal(process.pid, number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), LEAVE_S)
                    break
        finally:
            # what it has started may have outlived it, and a cancel must leave nobody behind
            _signal(process.pid, signal.SIGKILL)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class _Cut:
    """A line that is too long; its beginning and its end."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.tail = b""

    def ended(self, piece: bytes) -> _Cut:
        """Take another piece of it, and return it."""
        self.tail = (self.tail + piece[-TAIL_BYTES:])[-TAIL_BYTES:]
        return self


async def _lines(stream: asyncio.StreamReader, most: int = MAX_MESSAGE_BYTES) -> AsyncIterator[bytes | _Cut]:
    """Yield lines; of those that are too long only that there was one."""
    parts: list[bytes] = []
    size = 0
    cut: _Cut | None = None
    while chunk := await stream.read(CHUNK_BYTES):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            if cut is not None or size + len(piece) > most:
                yield (cut or _Cut(b"".join(parts)[:CHUNK_BYTES] or piece[:CHUNK_BYTES])).ended(piece)
            else:
                yield b"".join([*parts, piece])
            parts, size, cut = [], 0, None
        size += len(rest)
        if cut is not None:
            cut.ended(rest)
            continue
        parts.append(rest)
        if size > most:
            cut, parts = _Cut(b"".join(parts)[:CHUNK_BYTES]).ended(rest), []
    if size and cut is None:
        yield b"".join(parts)
