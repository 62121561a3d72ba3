"""Our programs as processes that tests may kill, each forked from one process that has imported everything.

An interpreter of its own would take longer to import the engine than most tests take. What is forked is a process like
any other; tests of `everstep dev` and of an installation where everything dies start programs as users do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ["pytest", "worker", "engine.edge.server", "engine.edge.cli.main", "engine.edge.cli.services", __name__]
"""What the process that is forked imports before: pytest, since each child imports the main module again."""
_LOCK = threading.Lock()
"""Held while a process is started or asked for its end, which multiprocessing does not bear in two threads."""


class Forked:
    """A program of ours that runs, with the words of `subprocess.Popen`; it leads a session of its own.

    Args:
        words: The program, `worker`, `everstep-repair` or `everstep`, and its arguments.
        environment: All of its variables.
        out: File to which its standard output is appended.
        log: File to which its standard error is appended.
        cwd: Its working directory.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], *, out: Path, log: Path, cwd: Path = ROOT
    ) -> None:
        self._words = list(words)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        given = (self._words, dict(environment), out, log, cwd)
        self._process = context.Process(target=_become, args=given)
        with _LOCK:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            # it may have ended a moment ago, which the process that was forked has not told yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and what it has started in its group, which it may not lead yet."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)


def _become(words: list[str], environment: dict[str, str], out: Path, log: Path, cwd: Path) -> None:
    """Take the place of a program in a process that was just forked."""
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number, path in ((1, out), (2, log)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = words
    sys.exit(_run(words))


def _end_with_parent() -> None:
    """A run that is killed must leave nothing behind; the process that was forked would live on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _run(words: list[str]) -> int:
    program, *arguments = words
    if program == "everstep":
        from engine.edge.cli.main import main

        main()
    import worker

    if program == "everstep-repair":
        worker.repair_main()
    return worker.main(arguments)
