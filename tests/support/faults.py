"""A line to a server that does what networks do: it cuts, delays, falls silent, or says what no server would say."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

NOTICED_S = 10.0
_READ = 65_536
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the end of the connection is a RST."""


class Fault(StrEnum):
    """What a line does."""

    CUT = "cut"
    """All connections end with a RST, and new ones too while it lasts."""
    DELAY = "delay"
    """What is said arrives later."""
    HALF_OPEN = "half-open"
    """All is accepted and nothing arrives; connections of that time never come to life again.

    After a while the server's side ends, as its system does that hears nothing from the other one (`KEPT_ALIVE`).
    """
    GARBAGE = "garbage"
    """Instead of the next answer comes what no server says, and then the end of the connection."""


@dataclass(eq=False)
class _Pair:
    """One connection through the line."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    dead: bool = False
    spoiled: bool = False


@dataclass
class FaultLine:
    """See the module.

    Args:
        server_port: Where the server listens on loopback.
        seed: For the garbage.

    Attributes:
        port: Where clients connect.
        fault: What it does now; None = it passes everything on.
        delay_s: How much later things arrive under `delay`.
        counts: How many connections met which fault.
    """

    server_port: int
    seed: int = 0
    port: int = 0
    fault: Fault | None = None
    delay_s: float = 0.3
    counts: Counter[Fault] = field(default_factory=Counter)
    _pairs: set[_Pair] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def begin(self, fault: Fault) -> None:
        """Let a fault begin; it meets the connections that there are, and those that come."""
        self.fault = fault
        for pair in list(self._pairs):
            self._meet(pair)

    def end(self) -> None:
        """Pass on again what comes; what was silent stays so."""
        self.fault = None
        for pair in self._pairs:
            pair.spoiled = False

    async def last(self, fault: Fault, seconds: float) -> None:
        """Let a fault last so long."""
        self.begin(fault)
        await asyncio.sleep(seconds)
        self.end()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FaultLine]:
        """Listen for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _meet(self, pair: _Pair) -> None:
        if self.fault is None:
            return
        self.counts[self.fault] += 1
        if self.fault is Fault.CUT:
            _reset(pair.client)
            pair.server.close()
        elif self.fault is Fault.HALF_OPEN:
            pair.dead = True
            asyncio.get_running_loop().call_later(NOTICED_S, _reset, pair.server)
        elif self.fault is Fault.GARBAGE:
            pair.spoiled = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back: asyncio.StreamWriter | None = None
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.server_port)
            pair = _Pair(writer, back)
            self._pairs.add(pair)
            self._meet(pair)
            ways = [
                asyncio.create_task(self._pass_on(pair, reader, back, answers=False)),
                asyncio.create_task(self._pass_on(pair, there, writer, answers=True)),
            ]
            self._tasks.update(ways)
            await asyncio.gather(*ways)
            self._tasks.difference_update(ways)
            self._pairs.discard(pair)
        except OSError:
            # nobody is there: as when a host has no such service
            pass
        except asyncio.CancelledError:
            # the end of the line; a server task that is cancelled would be logged as an error
            pass
        finally:
            _reset(writer)
            if back is not None:
                back.close()
            self._tasks.discard(task)

    async def _pass_on(
        self, pair: _Pair, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while said := await source.read(_READ):
                if self.fault is Fault.DELAY and not pair.dead:
                    await asyncio.sleep(self.delay_s)
                if pair.dead:
                    continue
                if pair.spoiled and answers:
                    # no letter, no length, no frame and no line of any protocol begins like this
                    target.write(bytes(self._chance.randrange(0x80, 0x100) for _ in range(200)))
                    await target.drain()
                    break
                target.write(said)
                await target.drain()
        if not pair.dead:
            pair.client.close()
            pair.server.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    own: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError):
        if own is not None and own.fileno() >= 0:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def fault_line(server_port: int, *, seed: int = 0) -> AsyncIterator[FaultLine]:
    """Open a line to a server of loopback for the length of the block."""
    async with FaultLine(server_port, seed).running() as line:
        yield line
