"""One execution that cannot be settled or repaired stands in the way of no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from engine.control import repair as repair_module
from engine.control import settler as settler_module
from engine.control.repair import Repair
from engine.control.scan import Report, each
from engine.control.settler import Settler
from engine.core.errors import Unavailable
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore
from engine.store.reading import OpenExecution
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000


class Ends:
    """Settling in which some executions are poison."""

    def __init__(self) -> None:
        self.settled: list[str] = []

    async def settle(self, client: Any, store: Any, execution_id: str) -> str:
        if execution_id.startswith("bad"):
            raise RuntimeError("the result cannot be decoded")
        self.settled.append(execution_id)
        return "settled"

    async def read(self, client: Any, execution_id: str) -> str:
        if execution_id.startswith("bad"):
            raise RuntimeError("the result cannot be decoded")
        return execution_id

    async def store(self, client: Any, store: Any, ends: list[str]) -> None:
        self.settled += ends


class FewRows:
    """A store that gives its oldest unsettled rows, as many as asked for."""

    def __init__(self, ends: Ends, ids: list[str]) -> None:
        self.ends, self.ids = ends, ids

    async def unsettled(self, limit: int) -> list[OpenExecution]:
        left = [name for name in self.ids if name not in self.ends.settled]
        return [
            OpenExecution(name, "t", ExecutionStatus.SUCCEEDED, 1, 0, 0, terminal_seen=True) for name in left[:limit]
        ]

    async def unverified(self, limit: int, *, newest: bool = False) -> list[OpenExecution]:
        return []


async def test_the_settler_goes_on_after_an_end_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch):
    ends = Ends()
    monkeypatch.setattr(settler_module, "read_end", ends.read)
    monkeypatch.setattr(settler_module, "store_ends", ends.store)
    settler = Settler(None, None)  # type: ignore[arg-type]
    settler.note(["bad", "good"])
    task = asyncio.create_task(settler.run())
    await asyncio.sleep(0.02)
    settler.note(["better"])
    await asyncio.sleep(0.02)
    settler.stop()
    await task
    assert ends.settled == ["good", "better"]


async def test_the_settler_tries_again_when_the_store_fails(monkeypatch: pytest.MonkeyPatch):
    ends, failures = Ends(), iter([OSError("disk full")])

    async def store(client: Any, store: Any, batch: list[str]) -> None:
        for error in failures:
            raise error
        await ends.store(client, store, batch)

    monkeypatch.setattr(settler_module, "read_end", ends.read)
    monkeypatch.setattr(settler_module, "store_ends", store)
    monkeypatch.setattr(settler_module, "PAUSE_S", 0.01)
    settler = Settler(None, None)  # type: ignore[arg-type]
    task = asyncio.create_task(settler.run())
    settler.note(["one", "two"])
    async with asyncio.timeout(PATIENCE_S):
        while len(ends.settled) < 2:  # noqa: ASYNC110 the settler sets no event
            await asyncio.sleep(0.01)
    settler.stop()
    await task
    assert sorted(ends.settled) == ["one", "two"]


async def test_the_settler_settles_what_was_noted_before_it_was_stopped(monkeypatch: pytest.MonkeyPatch):
    ends = Ends()
    monkeypatch.setattr(settler_module, "read_end", ends.read)
    monkeypatch.setattr(settler_module, "store_ends", ends.store)
    settler = Settler(None, None)  # type: ignore[arg-type]
    settler.note([f"e{number}" for number in range(250)])
    settler.stop()
    await settler.run()
    assert len(ends.settled) == 250


async def test_repair_goes_on_after_ends_that_cannot_be_read_however_many(monkeypatch: pytest.MonkeyPatch):
    ends = Ends()
    monkeypatch.setattr(repair_module, "settle_from_temporal", ends.settle)
    store = FewRows(ends, [f"bad{number}" for number in range(250)] + ["good"])
    repair = Repair(None, store, None)  # type: ignore[arg-type]
    await repair.settle_ended()
    await repair.settle_ended()
    assert ends.settled == ["good"]


async def test_the_repair_outlives_whatever_a_turn_of_it_raises(monkeypatch: pytest.MonkeyPatch):
    stopping = asyncio.Event()
    errors: list[Exception] = [
        ValueError("Out of range float values are not JSON compliant"),
        ExceptionGroup("several", [KeyError("a"), RPCError("away", RPCStatusCode.UNAVAILABLE, b"")]),
        Unavailable("the store does not answer", code="store.unreachable"),
    ]

    class Failing:
        async def unsettled(self, limit: int) -> list[OpenExecution]:
            if len(errors) == 1:
                stopping.set()
            raise errors.pop(0)

    monkeypatch.setattr(repair_module, "POLL_S", 0.01)
    async with asyncio.timeout(PATIENCE_S):
        await Repair(None, Failing(), None).run(stopping)  # type: ignore[arg-type]
    assert errors == []


async def test_what_has_ended_is_settled_while_a_scan_lasts(monkeypatch: pytest.MonkeyPatch):
    ends, stopping, scanning = Ends(), asyncio.Event(), asyncio.Event()

    async def long_scan(self: Repair) -> Report:
        scanning.set()
        await stopping.wait()
        return Report()

    monkeypatch.setattr(repair_module, "settle_from_temporal", ends.settle)
    monkeypatch.setattr(Repair, "scan", long_scan)
    monkeypatch.setattr(repair_module, "POLL_S", 0.01)
    store = FewRows(ends, [])
    running = asyncio.create_task(Repair(None, store, None).run(stopping))  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE_S):
        await scanning.wait()
        store.ids.append("late")
        while ends.settled != ["late"]:  # noqa: ASYNC110 the repair sets no event
            await asyncio.sleep(0.01)
    assert not running.done()
    stopping.set()
    await running


async def test_work_on_one_execution_that_fails_stops_no_other_and_a_dead_server_stops_all():
    done: list[str] = []

    async def work(name: str) -> None:
        if name == "bad":
            raise ValueError("1e400")
        if name == "away":
            raise RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
        done.append(name)

    await each(["bad", "good", "bad", "better"], work)
    assert sorted(done) == ["better", "good"]
    with pytest.raises(ExceptionGroup) as caught:
        await each(["away"], work)
    assert isinstance(caught.value.exceptions[0], RPCError)


@pytest.mark.usefixtures("both_stores")
async def test_what_is_not_verified_is_read_from_either_end(tmp_path: Path):
    database = await open_database(store_url(tmp_path / "store.db"))
    store = ProjectionStore(database)
    ids = ["c", "a", "b"]
    for number, name in enumerate(ids, 1):
        body = json.dumps({"task": "t", "task_id": "t1", "tenant": "default"})
        await store.append_events([EventRecord(name, "r1", 1, T0 + number, "init", body)])
        # each counted one event more than is stored
        await store.settle([ExecutionEnd(name, ExecutionStatus.FAILED, T0 + 9, events=2, digest="x")])
    assert [item.id for item in await store.unverified(limit=2)] == ["c", "a"]
    assert [item.id for item in await store.unverified(limit=2, newest=True)] == ["b", "a"]
    await database.close()
