"""Real servers for tests: the Temporal dev server as a process, ASGI apps on loopback in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from engine.edge.supervisor.temporal import find_temporal, server_command
from tests.support.orphans import dying_with_parent
from tests.support.patience import PATIENCE_S

GRACE_S = 1.0


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TemporalProcess:
    """A dev server with the dev profile.

    Args:
        folder: Where its database is.
        dynamic: Settings beside the dev profile's, as `--dynamic-config-value` takes them.
    """

    def __init__(self, folder: Path, dynamic: Sequence[str] = ()) -> None:
        self.folder = folder
        self.dynamic = dynamic
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its gRPC address."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is well; on a busy machine it takes connections some time before that."""
        program = find_temporal()
        command = [*server_command(program, data_dir=self.folder, port=self.port, ui_port=None)]
        for setting in self.dynamic:
            command += ["--dynamic-config-value", setting]
        health = [str(program), "operator", "cluster", "health", "--address", self.address]
        with (self.folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, preexec_fn=dying_with_parent()
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
                if subprocess.run(health, capture_output=True, check=False).returncode == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the Temporal server did not start: {(self.folder / 'temporal.log').read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextlib.contextmanager
def temporal_process(folder: Path, dynamic: Sequence[str] = ()) -> Iterator[TemporalProcess]:
    """Run a dev server for the length of the block."""
    server = TemporalProcess(folder, dynamic)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _PromptServer(uvicorn.Server):
    """uvicorn without its rests of a tenth of a second, which a thousand tests would wait for at their end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until it is told to stop."""
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections; what is still answered after a second is cut off."""
        del sockets
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 it has only these sets
                    await asyncio.sleep(0.001)
        for task in self.server_state.tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def serve_app(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on loopback for the length of the block and yield its address, `http://127.0.0.1:PORT`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
    server = _PromptServer(config)
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this attribute only
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stopping.set()
        await serving
        listener.close()


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of ours, for processes that a test starts."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("EVERSTEP_", "TEMPORAL_", "OPENAI_", "OTEL_"))
    }
