"""`everstep dev` as a real process for tests: reads what it tells, runs commands against it, sees what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.support.forked import Forked
from tests.support.orphans import dying_with_parent
from tests.support.patience import PATIENCE_S, START_S


def clean_environment(**more: str) -> dict[str, str]:
    """Return our environment without settings of the engine, and with those given."""
    foreign = ("EVERSTEP_", "TEMPORAL_", "OPENAI_", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | more


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


def everstep(*arguments: str, cwd: Path | None = None, timeout_s: float = START_S, **environment: str) -> Ran:
    """Run a command line of the program to its end."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "engine.edge.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean_environment(**environment),
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class DevProcess:
    """A running `everstep dev -o json`.

    Args:
        folder: Its data folder.
        arguments: Further arguments.
        environment: Further variables.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-P", "-m", "engine.edge.cli", "dev", "--port", "0", "--headless", "-o", "json"]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(**environment),
            cwd=folder.parent,
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_event(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Return the first event that fits; those told before count."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((event for event in self.events if wanted(event)), None)
                if found is not None:
                    return found
                if not self._reader.is_alive() or time.monotonic() > deadline:
                    raise AssertionError(f"`dev` did not tell what was awaited, but {self.events}{self._failure()}")
                self._changed.wait(0.1)

    def wait_loaded(self, name: str, version: int = 1) -> None:
        """Wait until a version of a task is loaded."""
        self.wait_event(
            lambda event: event["event"] == "task.loaded" and (event["name"], event["version"]) == (name, version)
        )

    def _failure(self) -> str:
        if self.process.poll() is None or self.process.stderr is None:
            return ""
        return f"; it ended with code {self.process.returncode}: {self.process.stderr.read()}"

    @property
    def ready(self) -> dict[str, Any]:
        """The `ready` event."""
        return self.wait_event(lambda event: event["event"] == "ready", START_S)

    @property
    def address(self) -> str:
        """Address of the API."""
        return str(self.ready["api"])

    def run(self, *arguments: str, timeout_s: float = START_S) -> Ran:
        """Run a command line of the program, in a process that is forked, against this server."""
        environment = clean_environment(EVERSTEP_ADDRESS=self.address)
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            words = ["everstep", *arguments]
            program = Forked(words, environment, out=out, log=err, cwd=self.folder.parent)
            try:
                code = program.wait(timeout_s)
            finally:
                program.kill()
            return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def family(self) -> dict[str, psutil.Process]:
        """Return all its processes by what stands in their command lines."""
        found: dict[str, psutil.Process] = {"dev": psutil.Process(self.process.pid)}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            words = " ".join(child.cmdline())
            for name in ("start-dev", "worker run", "repair", "bundled", "guard.py"):
                if name in words:
                    found[name] = child
        return found

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@contextmanager
def running_dev(folder: Path, *arguments: str, **environment: str) -> Iterator[DevProcess]:
    """Run `everstep dev` for the length of the block; its end is checked."""
    dev = DevProcess(folder, *arguments, **environment)
    try:
        yield dev
    finally:
        if dev.process.poll() is None:
            dev.stop()


def await_all_gone(processes: dict[str, psutil.Process], timeout_s: float = PATIENCE_S) -> dict[str, str]:
    """Return those processes that are still there after the time, by name."""
    _, alive = psutil.wait_procs(list(processes.values()), timeout=timeout_s)
    return {name: str(process) for name, process in processes.items() if process in alive and is_running(process)}


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs and is no zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@contextmanager
def mock_model(script: Path | None = None) -> Iterator[str]:
    """Run `everstep mock-llm` and yield its address."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "engine.edge.cli",
        "mock-llm",
        *(["--script", str(script)] if script else []),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
