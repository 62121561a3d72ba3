"""A store without space refuses what it cannot write by name, keeps what it has, and goes on when there is space."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event, text
from temporalio.service import RPCError, RPCStatusCode

from engine.control.agents import AgentService
from engine.control.blobplaces import FilePlace
from engine.control.connect import temporal_errors
from engine.control.live import LiveEvents
from engine.core.errors import Unavailable
from engine.core.run.events import EventRecord
from engine.edge.cli import doctor
from engine.obs.logs import configure_logging
from engine.store.agents import AgentStore
from engine.store.database import Database, open_database
from engine.store.full import explain_sqlite
from engine.store.projection import ProjectionStore
from engine.store.pulses import API, Heart, PulseStore

LARGE = "x" * 300_000


class Space:
    """Bounds a SQLite file by pages, for every connection of a store.

    Args:
        database: The store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pages = 1_073_741_823
        assert database._direct is not None
        for engine in (database.engine.sync_engine, database._direct):
            event.listen(engine, "begin", self._bound)

    def _bound(self, connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={self.pages}")

    async def take(self) -> None:
        """Leave no page free."""
        async with self._database.read() as connection:
            self.pages = int((await connection.execute(text("PRAGMA page_count"))).scalar_one())

    def give(self) -> None:
        """Leave space again."""
        self.pages = 1_073_741_823


def trouble_of(database: Database) -> str | None:
    """Return the code of what hinders writes."""
    return database.trouble.code if database.trouble is not None else None


async def until(check: Callable[[], Any]) -> None:
    """Wait until a check is true."""
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 nobody sets an event for this
            await asyncio.sleep(0.01)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    yield opened
    await opened.close()


async def test_a_full_store_refuses_by_name_reads_on_and_takes_again(database: Database, tmp_path: Path):
    space, service = Space(database), AgentService(AgentStore(database))
    kept = await service.create({"name": "Ada", "about": "first"}, tenant="default")
    await space.take()
    with pytest.raises(Unavailable) as caught:
        await service.create({"name": "Bob", "about": LARGE}, tenant="default")
    assert (caught.value.code, caught.value.retryable) == ("store.full", True)
    assert str(tmp_path / "store.db") in caught.value.message
    assert caught.value.hint
    assert trouble_of(database) == "store.full"
    assert await service.store.get(kept.id, tenant="default") == kept
    assert [agent.name for agent in await service.store.page(tenant="default")] == ["Ada"], "no half of it"
    space.give()
    await service.create({"name": "Bob", "about": LARGE}, tenant="default")
    assert trouble_of(database) is None
    connection = sqlite3.connect(tmp_path / "store.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_events_wait_in_the_worker_until_the_store_takes_them(database: Database):
    space, store = Space(database), ProjectionStore(database)
    await store.ensure_execution("e1", tenant="default", task_id="t", task_name="t", created_us=1)
    await space.take()
    live = LiveEvents(store, lambda ended: None)
    for seq in range(1, 4):
        body = '{"task": "t", "tenant": "default"}' if seq == 1 else f'{{"path": "main.{seq}", "output": "{LARGE}"}}'
        kind = "init" if seq == 1 else "step"
        live.sink(tuple(EventRecord("e1", "run", seq, 1_800_000_000_000_000 + seq, kind, body, "default")), False)
    running = asyncio.create_task(live.run())
    await until(lambda: trouble_of(database))
    assert await store.list_events("e1", tenant="default") == []
    space.give()
    await until(lambda: live.waiting == 0 and trouble_of(database) is None)
    assert [event.seq for event in await store.list_events("e1", tenant="default")] == [1, 2, 3]
    live.stop()
    await running
    assert trouble_of(database) is None


async def test_a_process_lives_on_without_signs_of_life(database: Database):
    space, pulses = Space(database), PulseStore(database)
    await space.take()
    heart = Heart(pulses, API, lambda: {"note": LARGE})
    await heart.beat()
    assert trouble_of(database) == "store.full"
    assert await pulses.all() == []
    space.give()
    await heart.beat()
    assert [pulse.kind for pulse in await pulses.all()] == [API]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_FULL, "store.full"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "store.full"),
        (sqlite3.SQLITE_IOERR_WRITE, "store.disk"),
        (sqlite3.SQLITE_BUSY, None),
        (sqlite3.SQLITE_CONSTRAINT, None),
    ],
)
def test_what_sqlite_says_of_the_disk_is_told_apart(code: int, said: str | None):
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = code
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = error
    meaning = explain_sqlite(wrapped, "SQLite here")
    assert (meaning and meaning.code) == said


# --- files of large values -------------------------------------------------------------------------------------------


def files_in(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_large_value_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    place, synced = FilePlace(tmp_path / "blobs"), os.fsync

    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable) as caught:
        await place.write("abcd", b"large")
    assert (caught.value.code, caught.value.retryable) == ("blob.full", True)
    assert not await place.has("abcd")
    assert files_in(tmp_path) == [], "nothing half-written is left"
    monkeypatch.setattr(os, "fsync", synced)
    await place.write("abcd", b"large")
    assert await place.read("abcd") == b"large"


async def test_another_error_of_a_file_stays_what_it_is(tmp_path: Path):
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(OSError, match=r"(?i)exists|not a directory"):
        await FilePlace(tmp_path / "blobs").write("abcd", b"large")


PROGRAM = """
import asyncio, resource, sys
from pathlib import Path
from engine.control.blobplaces import FilePlace
from engine.core.errors import Unavailable

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

async def main():
    place = FilePlace(Path(sys.argv[1]))
    try:
        await place.write("abcd", b"x" * 200_000)
    except Unavailable as error:
        print(error.code, await place.has("abcd"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await place.write("abcd", b"x" * 200_000)
    print(len(await place.read("abcd")))

asyncio.run(main())
"""


def test_a_file_that_the_system_cuts_off_is_never_seen(tmp_path: Path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "blobs")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["blob.full", "False", "200000"]), done.stderr
    assert [path.name for path in files_in(tmp_path)] == ["abcd"]


# --- logs and Temporal -----------------------------------------------------------------------------------------------


def test_a_log_line_that_finds_no_space_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    before = structlog.get_config()
    try:
        with open("/dev/full", "w", buffering=1, encoding="utf-8") as full:
            monkeypatch.setattr(sys, "stderr", full)
            configure_logging("info")
            structlog.get_logger("test").error("nobody will read this")
            logging.getLogger("test").error("nor this")
            logging.getLogger().handlers[:] = []
            monkeypatch.undo()
            with contextlib.suppress(OSError):
                full.close()
    finally:
        structlog.configure(**before)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RPCStatusCode.UNKNOWN, "temporal.failing"),
        (RPCStatusCode.INTERNAL, "temporal.failing"),
        (RPCStatusCode.UNAVAILABLE, "unreachable"),
    ],
)
def test_a_temporal_whose_database_fails_is_said_to_fail(status: RPCStatusCode, code: str):
    with pytest.raises(Unavailable) as caught, temporal_errors("here:7233"):
        raise RPCError("something went wrong, please retry", status, b"")
    assert (caught.value.code, caught.value.retryable) == (code, True)


# --- who says it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "state"), [(2_000_000_000, "ok"), (500_000_000, "warning"), (5_000_000, "error")])
def test_doctor_says_how_much_space_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str):
    class Usage:
        def __init__(self, path: Path) -> None:
            assert path == tmp_path, "a folder that is not there yet counts where it will be"
            self.free = free

    monkeypatch.setattr("shutil.disk_usage", Usage)
    found = doctor.check_space(tmp_path / "data" / "deep")
    assert found.state == state
    assert bool(found.remedy) == (state != "ok")
