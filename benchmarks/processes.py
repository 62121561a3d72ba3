"""Child processes of the bench: start with a ready line, CPU time, kill -9 and restart, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from engine.edge.supervisor import bind

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without settings that would change what is measured, with some of our own.

    Args:
        more: Variables to add.
    """
    # without its byte code a process compiles the whole engine at each start, which no installed one does
    ours = ("EVERSTEP_", "TEMPORAL_", "OPENAI_", "BENCH_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | dict(more or {})


class Process:
    """A child process that can be killed and started again.

    Args:
        name: What messages and the log file call it.
        command: Program and arguments.
        environment: All of its environment.
        folder: Where its log goes.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = (sys.executable, "-I", "-S", bind.__file__, str(os.getpid()), *command)
        self._environment = dict(environment)
        self._log = folder / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._spent_s = 0.0

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it; returns at once."""
        with self._log.open("ab") as log:
            # bind.py ends the child when the bench itself is killed
            self._child = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=self._environment, cwd=ROOT
            )

    async def ready_line(self, *, wanted: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """Wait for a line of JSON on standard output.

        Args:
            wanted: Says whether a line is the one waited for.

        Raises:
            RuntimeError: It ended before, or the time passed.
        """
        assert self._child is not None
        out = self._child.stdout
        assert out is not None
        async with asyncio.timeout(READY_TIMEOUT_S):
            while line := await asyncio.to_thread(out.readline):
                body: dict[str, Any] = json.loads(line)
                if wanted(body):
                    return body
        raise RuntimeError(f"{self.name} ended before it was ready: {self.log_tail()}")

    async def accepting(self, port: int) -> None:
        """Wait until it takes connections on a port of loopback.

        Raises:
            RuntimeError: It ended, or the time passed.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self._child is not None and self._child.poll() is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.005)
        raise RuntimeError(f"{self.name} does not answer on port {port}: {self.log_tail()}")

    def cpu_s(self) -> float:
        """Return the CPU seconds (user + system) of all its lives so far, living children included."""
        return self._spent_s + self._cpu_now()

    def _cpu_now(self) -> float:
        if self._child is None or self._child.poll() is not None:
            return 0.0
        me = psutil.Process(self._child.pid)
        total = 0.0
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._child is not None
        self._spent_s += self._cpu_now()
        self._child.kill()
        self._child.wait()
        self._close()

    async def stop(self) -> None:
        """End it with SIGTERM, after a while with SIGKILL; does nothing if it has ended."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._spent_s += self._cpu_now()
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._child.wait, STOP_TIMEOUT_S)
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()
        self._close()

    def _close(self) -> None:
        if self._child is not None and self._child.stdout is not None:
            self._child.stdout.close()
        self._child = None

    def log_tail(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
