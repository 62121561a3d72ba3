"""One supervised process: started tied to its supervisor, its output kept in a log, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.core.errors import EngineError
from engine.edge.supervisor import bind, guard
from engine.edge.supervisor.places import tail

START_TIMEOUT_S = 30.0
STABLE_AFTER_S = 20.0
"""A process that was ready and lived so long after it is not in a crash loop: it is started again at once.

Some work for seconds before they come upon what kills them."""
BACKOFF_S = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before a start, by how many times in a row the process did not live long."""
RETRY_START_S = 0.2
READ_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run and how to know that it works.

    Attributes:
        name: Name in messages and of the log file.
        command: Program and arguments.
        environment: Its whole environment.
        log: Where its output goes.
        ready_line: Says whether a line of its standard output means "ready"; None = do not wait for a line.
        probe: Says whether it can be used; called every 20 ms until it says yes; None = no probe.
        grace_s: Seconds between SIGTERM and SIGKILL.
        retry_codes: Exit codes that mean "what I need is not there yet": such a failed start is tried again.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready_line: Callable[[str], bool] | None = None
    probe: Callable[[], Awaitable[bool]] | None = None
    grace_s: float = 5.0
    retry_codes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Restarted:
    """A process died, or was ended for that, and was started again.

    Attributes:
        name: Its name.
        pid: The new pid.
        reason: How the old one ended, such as `killed by SIGKILL`; or why it was ended.
        after_s: Seconds from its end to the new start.
        is_asked: Whether it was ended on purpose.
    """

    name: str
    pid: int
    reason: str
    after_s: float
    is_asked: bool = False


class Guard:
    """The process that kills everything should the supervisor be killed (guard.py)."""

    def __init__(self) -> None:
        self.token = os.urandom(16).hex()
        self._groups: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the guard; it ignores the signals of the terminal and ends when we do."""
        self._process = await asyncio.create_subprocess_exec(
            # isolated and without site-packages: it starts in 20 ms and user code cannot shadow its imports
            *(sys.executable, "-I", "-S", guard.__file__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._tell(f"mark {self.token}")
        for group in self._groups:
            self._tell(f"+{group}")

    async def add(self, group: int) -> None:
        """Have a process group killed if we are; starts a new guard if the old one was killed."""
        self._groups.add(group)
        if self._process is None or self._process.returncode is not None:
            await self.start()
        else:
            self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """Say that a group has ended, so that its number may be somebody else's."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    async def close(self) -> None:
        """Let the guard make its last sweep and wait until it has."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()
        await self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(f"{line}\n".encode())


@dataclass(slots=True)
class Child:
    """Keeps one process alive until `stop`.

    Attributes:
        spec: What to run.
        guard: Who kills it if we are killed.
        on_restart: Told of every restart.
        pid: Pid of the present process; 0 before the first.
    """

    spec: ChildSpec
    guard: Guard
    on_restart: Callable[[Restarted], None]
    pid: int = 0
    _process: asyncio.subprocess.Process | None = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: asyncio.Task[None] | None = None
    _failures: int = 0
    _output: int = -1
    _ready_s: float | None = None
    _asked: str = ""

    async def start(self) -> None:
        """Start the process and the task that keeps it alive; returns before the process is ready."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    async def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the process can be used for the first time.

        Args:
            timeout_s: Longest wait in seconds.

        Raises:
            EngineError: `dev.start_failed` with the end of its log, if it ended before or took too long.
        """
        ready = asyncio.create_task(self._ready.wait())
        waiting: set[asyncio.Task[object]] = {ready}
        if self._keeper is not None:
            waiting.add(self._keeper)
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not self._ready.is_set():
                raise self._start_failure(timeout_s)
        finally:
            ready.cancel()

    async def restart(self, reason: str, *, grace_s: float | None = None) -> None:
        """End the process; the keeper starts it again at once.

        Args:
            reason: Why; for whoever is told of restarts.
            grace_s: Seconds between SIGTERM and SIGKILL; None = those of the spec.
        """
        process = self._process
        if process is not None and process.returncode is None:
            self._asked = reason
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    asyncio.shield(process.wait()), self.spec.grace_s if grace_s is None else grace_s
                )
                return
            process.kill()

    async def stop(self, *, at_once: bool = False) -> None:
        """End the process for good: SIGTERM, then SIGKILL for it and whatever it started.

        Args:
            at_once: Send SIGKILL without a grace period.
        """
        self._stopped.set()
        process = self._process
        if process is not None and process.returncode is None:
            if not at_once:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(process.wait()), self.spec.grace_s)
            guard.kill_group(process.pid)
            await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _spawn(self) -> None:
        spec = self.spec
        # A pipe of our own: asyncio lets `wait` return only when its pipes are closed, and what a dead process had
        # started would keep them open.
        reading, writing = os.pipe()
        try:
            process = await self._exec(spec, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._process, self.pid, self._output = process, process.pid, reading
        await self.guard.add(process.pid)

    async def _exec(self, spec: ChildSpec, output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", bind.__file__, str(os.getpid()), *spec.command),
            env={**spec.environment, guard.MARK_VARIABLE: self.guard.token},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            # its own session: Ctrl-C in the terminal reaches the supervisor only, which then ends things in order
            start_new_session=True,
        )

    async def _keep(self) -> None:
        while not self._stopped.is_set():
            process = self._process
            assert process is not None
            self._ready_s = None
            watching = asyncio.create_task(self._watch(self._output))
            code = await process.wait()
            ended = time.monotonic()
            guard.kill_group(process.pid)
            self.guard.remove(process.pid)
            # a process that left the group may hold the output open for ever, so the last lines get a moment only
            await asyncio.wait({watching}, timeout=0.2)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if self._stopped.is_set():
                return
            if not self._ready.is_set():
                if code not in self.spec.retry_codes:
                    # a process that never was ready is a failed start: wait_ready tells the user
                    return
                await asyncio.sleep(RETRY_START_S)
                await self._spawn()
                continue
            asked, self._asked = self._asked, ""
            healthy = bool(asked) or self._was_stable(ended)
            self._failures = 0 if healthy else self._failures + 1
            await asyncio.sleep(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
            if self._stopped.is_set():
                return
            await self._spawn()
            reason, after_s = asked or describe_exit(code), time.monotonic() - ended
            self.on_restart(Restarted(self.spec.name, self.pid, reason, after_s, bool(asked)))

    def _was_stable(self, ended_s: float) -> bool:
        return self._ready_s is not None and ended_s - self._ready_s >= STABLE_AFTER_S

    def _set_ready(self) -> None:
        if self._ready_s is None:
            self._ready_s = time.monotonic()
            self._ready.set()

    async def _watch(self, output: int) -> None:
        probing = asyncio.create_task(self._probe())
        try:
            await self._copy_output(output)
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _probe(self) -> None:
        spec = self.spec
        if spec.probe is not None:
            while not await spec.probe():  # noqa: ASYNC110 - another process cannot set our event
                await asyncio.sleep(0.02)
            self._set_ready()
        elif spec.ready_line is None:
            self._set_ready()

    async def _copy_output(self, output: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", 0)
        )
        with contextlib.closing(transport):
            await self._copy_lines(reader)

    async def _copy_lines(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        said = self.spec.ready_line is None
        with self.spec.log.open("ab", buffering=0) as log:
            while chunk := await reader.read(READ_BYTES):
                # on a full disk lines get lost; a process whose output nobody reads would be stopped by it
                with contextlib.suppress(OSError):
                    log.write(chunk)
                if said:
                    continue
                *lines, rest = (rest + chunk).split(b"\n")
                if any(self._is_ready(line) for line in lines):
                    said, rest = True, b""
                    self._set_ready()

    def _is_ready(self, line: bytes) -> bool:
        return self.spec.ready_line is not None and self.spec.ready_line(line.decode("utf-8", "replace").strip())

    def _start_failure(self, timeout_s: float) -> EngineError:
        process = self._process
        code = process.returncode if process is not None else None
        how = f"was not ready within {timeout_s:g} s" if code is None else describe_exit(code)
        log = tail(self.spec.log)
        return EngineError(
            f"the {self.spec.name} process {how}{': ' if log else ''}\n{log}".rstrip(),
            code="dev.start_failed",
            hint=f"its whole output is in {self.spec.log}",
            details={"process": self.spec.name},
        )


def describe_exit(code: int) -> str:
    """Say how a process ended: `ended with code 1` or `killed by SIGKILL`."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
