"""`everstep serve` as a process that a test can kill, and readers of its streams on sockets of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil

from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore
from tests.support.forked import Forked
from tests.support.patience import PATIENCE_S, START_S
from tests.support.postgres import store_url
from tests.support.servers import clean_environment, free_port

_IDS = re.compile(rb"^id: (\d+)$", re.MULTILINE)


class ApiProcess:
    """`everstep serve` over the store `lab.db` of a folder.

    Args:
        folder: Its data folder.
        environment: Further variables.

    Attributes:
        port: Its port.
        sessions: Ids of the sessions that its processes led, one for each start.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.sessions: list[int] = []
        self._folder = folder
        self._environment = {
            **clean_environment(),
            "EVERSTEP_DATA_DIR": str(folder),
            "EVERSTEP_DATABASE_URL": store_url(folder / "lab.db"),
            "EVERSTEP_PROJECT_FILE": str(folder / "everstep.toml"),
            # nobody listens there: streams must not need Temporal
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
            **environment,
        }
        self._process: Forked | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss(self) -> int:
        """Memory of the process in bytes."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = self._folder / f"api-{self.port}.log"
        words = ["everstep", "serve", "--port", str(self.port)]
        self._process = Forked(words, self._environment, out=log, log=log)
        self.sessions.append(self._process.pid)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                return
            time.sleep(0.05)
        log_text = log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the API did not get ready:\n{log_text[-4000:]}")

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let it end; kill it if it takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None


@contextlib.contextmanager
def api_process(folder: Path, **environment: str) -> Iterator[ApiProcess]:
    """Run an API process for the length of the block."""
    api = ApiProcess(folder, **environment)
    try:
        api.start()
        yield api
    finally:
        api.stop()


@contextlib.asynccontextmanager
async def api_processes(folder: Path, count: int, **environment: str) -> AsyncIterator[list[ApiProcess]]:
    """Run so many API processes for the length of the block; they start at the same time."""
    apis = [ApiProcess(folder, **environment) for _ in range(count)]
    try:
        await asyncio.gather(*(asyncio.to_thread(api.start) for api in apis))
        yield apis
    finally:
        await asyncio.gather(*(asyncio.to_thread(api.stop) for api in apis))


class HasPort(Protocol):
    """An API on loopback, in a process of its own or not."""

    @property
    def port(self) -> int:
        """Its port."""
        ...


async def ask(api: HasPort, path: str, *, last_id: str = "", receive_bytes: int = 0) -> socket.socket:
    """Ask for a stream and return the socket after its headers were read."""
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(made, ("127.0.0.1", api.port))
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nConnection: close\r\n"
        head += f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        await loop.sock_sendall(made, f"{head}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            part = await loop.sock_recv(made, 1)
            if not part:
                raise ConnectionError("closed before the headers")
            answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer
    except BaseException:
        made.close()
        raise
    return made


async def chunks_of(made: socket.socket) -> AsyncIterator[bytes]:
    """Yield the chunks of a chunked body until it ends.

    Raises:
        ConnectionError: It breaks off.
    """
    reader, writer = await asyncio.open_connection(sock=made, limit=2**22)
    try:
        while True:
            line = await reader.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError("broken off")
            size = int(line, 16)
            data = await reader.readexactly(size + 2)
            if size == 0:
                return
            yield data[:-2]
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("broken off") from error
    finally:
        writer.close()


class SeqReader:
    """Reads a stream and keeps the ids of all whole events; comes back after the last one when it breaks.

    Attributes:
        ids: What was told.
        breaks: How often the connection broke.
    """

    def __init__(self, path: str, *apis: HasPort) -> None:
        self.ids: list[int] = []
        self.breaks = 0
        self.opened = asyncio.Event()
        self._path = path
        self._apis = apis

    async def read(self) -> None:
        """Read until the server ends the stream."""
        while True:
            api = self._apis[self.breaks % len(self._apis)]
            try:
                made = await ask(api, self._path, last_id=str(self.ids[-1]) if self.ids else "")
                await self._read(made)
                return
            except (ConnectionError, OSError):
                self.breaks += 1
                await asyncio.sleep(0.05)

    async def _read(self, made: socket.socket) -> None:
        rest = b""
        async for chunk in chunks_of(made):
            self.opened.set()
            whole, mark, rest = (rest + chunk).rpartition(b"\n\n")
            self.ids += [int(found) for found in _IDS.findall(whole + mark)]


class Script:
    """Writes an execution's events into the store, as a worker does.

    Args:
        store: The store.
        execution_id: The execution.
        run_id: Its run.
    """

    def __init__(self, store: ProjectionStore, execution_id: str = "e1", run_id: str = "r1") -> None:
        self._store = store
        self._id = execution_id
        self._run = run_id
        self._began = time.time_ns() // 1_000
        self.seq = 0

    async def begin(self) -> None:
        """Write the first event."""
        await self._emit("init", [_body(task="t", task_id="t1", tenant="default", input=1)])

    async def steps(self, count: int, *, output: Any = None) -> None:
        """Write so many steps in one transaction."""
        body = _body(path="main.0", index=0, kind="evaluate", label="", output=output, next=None)
        await self._emit("step", [body] * count)

    async def end(self) -> None:
        """Write the last event and settle."""
        await self._emit("finish", [_body(output=1)])
        await self._store.settle([ExecutionEnd(self._id, ExecutionStatus.SUCCEEDED, time.time_ns() // 1_000, output=1)])

    async def _emit(self, kind: str, bodies: list[str]) -> None:
        now_us = time.time_ns() // 1_000
        records = [
            EventRecord(self._id, self._run, self.seq + number, now_us, kind, body)
            for number, body in enumerate(bodies, start=1)
        ]
        self.seq += len(records)
        await self._store.append_events(records)


def _body(**members: Any) -> str:
    return json.dumps({"workflow": "main", "scope": "", **members})


@contextlib.asynccontextmanager
async def script_of(folder: Path) -> AsyncIterator[Script]:
    """Open the store of a folder and begin an execution there."""
    database = await open_database(store_url(folder / "lab.db"))
    try:
        script = Script(ProjectionStore(database))
        await script.begin()
        yield script
    finally:
        await database.close()
