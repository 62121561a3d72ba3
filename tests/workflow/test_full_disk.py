"""A disk that is full ends in a clear state: nothing is damaged, and everything goes on when there is space again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.core.errors import EngineError, Unavailable
from engine.edge.cli.api import Api
from tests.support.dev_process import everstep, running_dev
from tests.workflow.test_backup import until

TASK = """
name: steps
main:
  - {wait_for_input: {info: go?}}
  - {foreach: {in: $ list(range(5)), do: [{sleep: 0.1}, {evaluate: "$ 'x' * 1000"}]}}
  - {evaluate: $ len(_)}
"""
CLEAR = {"unreachable", "temporal.failing", "store.full", "answer.pending"}
"""What requests may be told on a full disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave not a byte free, and return the file that takes all."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
    assert os.statvfs(folder).f_bavail == 0
    return filler


def refused(ask: Any) -> EngineError | None:
    """Ask for something, and return how it was refused."""
    try:
        ask()
    except EngineError as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_everything_stands_still_on_a_full_disk_and_goes_on_after_it(small_disk: Path):
    with running_dev(small_disk / "data", "--no-model") as dev:
        api = Api(dev.address)
        api.post("/tasks/apply", {"tasks": [{"file": "steps.yaml", "source": TASK}]})
        ids = [str(api.post("/tasks/steps/executions", {"input": n})["id"]) for n in range(10)]
        until(lambda: all(api.get(f"/executions/{one}")["status"] == "awaiting_input" for one in ids))
        pids = {name: process.pid for name, process in dev.family().items()}
        filler = fill(small_disk)
        told = [
            refused(lambda: api.put(f"/executions/{ids[0]}", {"status": "running", "input": 1})),
            refused(lambda: api.post("/tasks/steps/executions", {"input": 1})),
        ]
        assert {error.code for error in told if error} <= CLEAR
        full = refused(lambda: api.post("/agents", {"name": "Ada", "about": "y" * 200_000}))
        assert isinstance(full, Unavailable)
        assert full.code == "store.full"
        assert api.get(f"/executions/{ids[1]}")["status"] == "awaiting_input", "reads still answer"
        ready = until(lambda: (found := httpx.get(f"{dev.address}/readyz")).status_code == 503 and found)
        assert "no space left" in ready.json()["store"]["error"]
        doctor = everstep("doctor", "--data-dir", str(small_disk / "data"), "--address", dev.address, "-o", "json")
        states = {check["check"]: check["state"] for check in doctor.json["checks"]}
        assert (doctor.code, states["disk"]) == (1, "error")
        filler.unlink()
        done: set[str] = set()

        def go_on() -> bool:
            for one in ids:
                with contextlib.suppress(EngineError):
                    status = api.get(f"/executions/{one}")["status"]
                    if status == "awaiting_input":
                        api.put(f"/executions/{one}", {"status": "running", "input": 1})
                    elif status != "running":
                        assert status == "succeeded"
                        done.add(one)
            return len(done) == len(ids)

        until(go_on, 90)
        assert [api.get(f"/executions/{one}")["output"] for one in ids] == [5] * len(ids)
        until(lambda: httpx.get(f"{dev.address}/readyz").status_code == 200)
        until(lambda: all(api.get(f"/executions/{one}")["verified"] is not False for one in ids))
        now = {name: process.pid for name, process in dev.family().items()}
        assert {name: now[name] for name in pids} == pids, "no process has died of it"
        assert {event["event"] for event in dev.events} <= {"ready", "task.loaded"}, "and the output is all JSON"
    for name in ("everstep.db", "temporal.db"):
        with contextlib.closing(sqlite3.connect(small_disk / "data" / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
