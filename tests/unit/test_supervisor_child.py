"""Tests of the supervision of one process: restart, crash loops, clean stop, and nothing left after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engine.core.errors import EngineError
from engine.edge.supervisor import child as children
from engine.edge.supervisor.child import BACKOFF_S, Child, ChildSpec, Guard, Restarted, describe_exit

READY_THEN_SLEEP = "print('ready', flush=True); import time; time.sleep(60)"


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    guard = Guard()
    await guard.start()
    yield guard
    await guard.close()


def spec_of(code: str, folder: Path, *, grace_s: float = 2.0, waits: bool = True) -> ChildSpec:
    return ChildSpec(
        name="probe",
        command=(sys.executable, "-c", code),
        environment=dict(os.environ),
        log=folder / "probe.log",
        ready_line=(lambda line: line == "ready") if waits else None,
        grace_s=grace_s,
    )


async def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the awaited condition did not come")


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_killed_process_is_started_again(guard: Guard, tmp_path: Path) -> None:
    restarts: list[Restarted] = []
    child = Child(spec_of(READY_THEN_SLEEP, tmp_path), guard, restarts.append)
    await child.start()
    await child.wait_ready()
    first = child.pid

    os.kill(first, signal.SIGKILL)
    await wait_for(lambda: bool(restarts))

    assert restarts[0].reason == "killed by SIGKILL"
    assert restarts[0].pid == child.pid != first
    assert is_alive(child.pid)
    await child.stop()
    assert not is_alive(child.pid)


async def test_a_process_that_keeps_dying_is_started_less_and_less_often(guard: Guard, tmp_path: Path) -> None:
    restarts: list[Restarted] = []
    child = Child(spec_of("print('ready', flush=True)", tmp_path), guard, restarts.append)
    await child.start()
    await wait_for(lambda: len(restarts) >= 3)
    await child.stop()

    assert BACKOFF_S[1] < BACKOFF_S[2] < BACKOFF_S[3]
    assert all(facts.after_s >= pause for facts, pause in zip(restarts, BACKOFF_S[1:4], strict=False))


async def test_a_process_that_works_for_a_while_and_then_dies_each_time_is_started_less_often(
    guard: Guard, tmp_path: Path
) -> None:
    restarts: list[Restarted] = []
    child = Child(spec_of("print('ready', flush=True); import time; time.sleep(1.1)", tmp_path), guard, restarts.append)
    await child.start()
    await wait_for(lambda: len(restarts) >= 3)
    await child.stop()

    assert all(facts.after_s >= pause for facts, pause in zip(restarts, BACKOFF_S[1:4], strict=False))
    assert max(BACKOFF_S) == 10


async def test_a_process_that_has_lived_for_long_is_started_again_at_once(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "STABLE_AFTER_S", 0.0)
    monkeypatch.setattr(children, "BACKOFF_S", (0.0, 60.0))
    restarts: list[Restarted] = []
    child = Child(spec_of(READY_THEN_SLEEP, tmp_path), guard, restarts.append)
    await child.start()
    await child.wait_ready()
    os.kill(child.pid, signal.SIGKILL)
    # after a pause of a minute this would not come
    await wait_for(lambda: bool(restarts))
    await child.stop()


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(guard: Guard, tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY_THEN_SLEEP}"
    child = Child(spec_of(code, tmp_path, grace_s=0.2), guard, lambda _facts: None)
    await child.start()
    await child.wait_ready()

    await child.stop()

    assert not is_alive(child.pid)


async def test_what_a_dead_process_had_started_is_killed_before_the_restart(guard: Guard, tmp_path: Path) -> None:
    helper = tmp_path / "helper.pid"
    code = (
        "import subprocess, sys, pathlib;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(helper)!r}).write_text(str(p.pid)); {READY_THEN_SLEEP}"
    )
    restarts: list[Restarted] = []
    child = Child(spec_of(code, tmp_path), guard, restarts.append)
    await child.start()
    await child.wait_ready()
    pid = int(helper.read_text())
    assert is_alive(pid)

    os.kill(child.pid, signal.SIGKILL)
    await wait_for(lambda: bool(restarts))

    assert not is_alive(pid)
    await child.stop()


async def test_a_process_that_cannot_start_is_reported_with_the_end_of_its_log(guard: Guard, tmp_path: Path) -> None:
    child = Child(spec_of("import sys; sys.exit('the tool module is broken')", tmp_path), guard, lambda _facts: None)
    await child.start()

    with pytest.raises(EngineError) as caught:
        await child.wait_ready()

    assert caught.value.code == "dev.start_failed"
    assert "ended with code 1" in caught.value.message
    assert "the tool module is broken" in caught.value.message
    assert str(tmp_path / "probe.log") in caught.value.hint
    await child.stop()


async def test_a_program_that_does_not_exist_is_reported_like_a_failed_start(guard: Guard, tmp_path: Path) -> None:
    spec = ChildSpec(
        name="probe",
        command=("/no/such/program",),
        environment={},
        log=tmp_path / "probe.log",
        ready_line=lambda line: line == "ready",
    )
    child = Child(spec, guard, lambda _facts: None)
    await child.start()

    with pytest.raises(EngineError, match="No such file"):
        await child.wait_ready()

    await child.stop()


SUPERVISOR = """
import asyncio, os, pathlib, sys
from engine.edge.supervisor.child import Child, ChildSpec, Guard

CHILD = '''
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
plain = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
escaped = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
(folder / 'pids').write_text(f'{os.getpid()} {plain.pid} {escaped.pid}')
print('ready', flush=True)
time.sleep(60)
'''

async def main():
    folder = pathlib.Path(sys.argv[1])
    guard = Guard()
    await guard.start()
    spec = ChildSpec(name='probe', command=(sys.executable, '-c', CHILD, str(folder)), environment=dict(os.environ),
                     log=folder / 'probe.log', ready_line=lambda line: line == 'ready')
    child = Child(spec, guard, lambda facts: None)
    await child.start()
    await child.wait_ready()
    print('up', flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a grandchild that left its session is found through /proc")
async def test_nothing_is_left_when_the_supervisor_is_killed_with_9(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:  # noqa: ASYNC220
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        children = {child.pid for child in psutil.Process(supervisor.pid).children(recursive=True)}
        named = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
        assert len(named) == 3
        # the guard and the probe are ours; both of the probe's children count, even the one with its own session
        assert named < children

        supervisor.kill()
        supervisor.wait()

    await wait_for(lambda: not any(is_alive(pid) for pid in children))


def test_the_end_of_a_process_is_described_in_words() -> None:
    assert describe_exit(0) == "ended with code 0"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-250) == "killed by signal 250"


async def test_a_process_that_is_ended_for_a_reason_is_started_again_at_once_with_it(
    guard: Guard, tmp_path: Path
) -> None:
    restarts: list[Restarted] = []
    child = Child(spec_of(READY_THEN_SLEEP, tmp_path), guard, restarts.append)
    await child.start()
    await child.wait_ready()
    first = child.pid

    await child.restart("tools.py changed")
    await wait_for(lambda: bool(restarts))

    assert (restarts[0].reason, restarts[0].is_asked) == ("tools.py changed", True)
    assert not is_alive(first)
    assert is_alive(restarts[0].pid)
    await child.stop()


async def test_a_process_that_does_not_end_in_its_grace_period_is_killed_and_started_again(
    guard: Guard, tmp_path: Path
) -> None:
    restarts: list[Restarted] = []
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY_THEN_SLEEP}"
    child = Child(spec_of(code, tmp_path, grace_s=0.1), guard, restarts.append)
    await child.start()
    await child.wait_ready()
    first = child.pid

    await child.restart("tools.py changed")
    await wait_for(lambda: bool(restarts))

    assert restarts[0].reason == "tools.py changed"
    assert not is_alive(first)
    await child.stop()


async def test_a_process_whose_log_finds_no_space_gets_ready_and_runs_on(guard: Guard, tmp_path: Path) -> None:
    said = "import pathlib, sys, time; print('x' * 300_000, flush=True); print('ready', flush=True); "
    more = "print('y' * 300_000, flush=True); pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    spec = spec_of(said + more, tmp_path)
    child = Child(
        replace(spec, command=(*spec.command, str(tmp_path / "done")), log=Path("/dev/full")), guard, lambda told: None
    )
    await child.start()
    await child.wait_ready()
    await wait_for((tmp_path / "done").exists)
    assert is_alive(child.pid)
    await child.stop()
