"""Signs of life: written, read, judged; and what the API says of the age of the projection by them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from engine.control.connect import TemporalConnection
from engine.core.errors import Unavailable
from engine.edge.http import freshness as freshness_module
from engine.edge.http.freshness import Freshness
from engine.edge.native.metrics import ApiMetrics
from engine.obs.telemetry import Telemetry
from engine.settings import Settings
from engine.store.database import Database, open_database
from engine.store.pulses import FRESH_S, REPAIR, WORKER, Heart, Pulse, PulseStore, process_name
from engine.store.schema import pulses
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "pulses.db"))
    yield opened
    await opened.close()


async def age(database: Database, seconds: float) -> None:
    """Make all pulses older."""
    async with database.write() as connection:
        await connection.execute(update(pulses).values(at_us=pulses.c.at_us - round(seconds * 1e6)))


async def test_a_process_is_alive_until_it_is_silent_or_says_goodbye(database: Database):
    store = PulseStore(database)
    await store.write(WORKER, "worker:a:1", {"queue": "q"})
    await store.write(WORKER, "worker:a:2", {"stopped": True})
    found = {pulse.name: pulse.is_alive for pulse in await store.all()}
    assert found == {"worker:a:1": True, "worker:a:2": False}
    await age(database, FRESH_S + 1)
    assert [pulse.is_alive for pulse in await store.all()] == [False, False]
    await store.write(WORKER, "worker:a:1", {})
    assert {pulse.name: pulse.is_alive for pulse in await store.all()}["worker:a:1"]


async def test_a_heart_beats_at_once_and_says_goodbye(database: Database):
    store = PulseStore(database)
    heart = Heart(store, REPAIR, lambda: {"scanned_us": 5})
    heart.start()
    await heart.stop()
    (pulse,) = await store.all()
    assert (pulse.name, pulse.kind) == (process_name(REPAIR), REPAIR)
    assert pulse.info == {"scanned_us": 5, "stopped": True}


async def test_rows_of_long_dead_processes_go_and_the_server_is_remembered(database: Database):
    store = PulseStore(database)
    await store.write(WORKER, "worker:old:1", {})
    await store.write_temporal({"namespace_id": "n1"})
    await age(database, 200_000)
    await store.write(WORKER, "worker:new:2", {})
    assert [pulse.name for pulse in await store.all()] == ["worker:new:2"]
    assert await store.read_temporal() == {"namespace_id": "n1"}


class Connection(TemporalConnection):
    """One whose server answers or does not, as it is told."""

    answers = True

    def __init__(self) -> None:
        super().__init__(Settings(), address="127.0.0.1:1")

    async def check(self) -> None:
        """Answer or not."""
        from engine.control.connect import unreachable

        if not self.answers:
            raise unreachable("127.0.0.1:1", "it is switched off")


async def look(freshness: Freshness, store: PulseStore) -> tuple[str, float | None]:
    """Let the watch look once; return reason and age."""
    watched: Any = freshness
    watched._is_down = not await watched._temporal_answers()
    watched.take(await store.all(), time.time_ns() // 1_000)
    return freshness.reason, freshness.age_s


async def test_the_age_is_that_of_the_last_scan_when_temporal_or_the_keepers_are_away(database: Database):
    store, temporal = PulseStore(database), Connection()
    freshness = Freshness(database, temporal)
    assert await look(freshness, store) == ("", None), "nobody has ever kept it, so nothing can have been missed"
    scanned_us = time.time_ns() // 1_000 - 42_000_000
    await store.write(REPAIR, "repair:a:1", {"scanned_us": scanned_us, "scan_every_s": 40})
    assert await look(freshness, store) == ("", None), "it has much to look at, and is not late"
    temporal.answers = False
    reason, age_s = await look(freshness, store)
    assert reason == "temporal"
    assert age_s is not None
    assert age_s >= 42
    temporal.answers = True
    await age(database, FRESH_S + 1)
    reason, age_s = await look(freshness, store)
    assert reason == "keepers"
    assert age_s is not None
    assert age_s >= 42
    await store.write(WORKER, "worker:a:2", {})
    reason, age_s = await look(freshness, store)
    assert reason == "repair", "a worker sees its own events, and nothing of what other hands do"
    assert age_s is not None
    assert age_s >= 42
    await store.write(REPAIR, "repair:a:3", {"scanned_us": time.time_ns() // 1_000})
    assert await look(freshness, store) == ("", None)


async def test_a_repair_that_never_completes_a_scan_is_told_although_its_processes_live(database: Database):
    store, freshness = PulseStore(database), Freshness(database, Connection())
    await store.write(WORKER, "worker:a:1", {})
    assert await look(freshness, store) == ("", None), "an installation without a repair has chosen so"
    await store.write(REPAIR, "repair:a:1", {"scanned_us": 0})
    assert await look(freshness, store) == ("", None), "its first scan takes a moment"
    later_us = time.time_ns() // 1_000 + 60_000_000
    await store.write(REPAIR, "repair:a:2", {"scanned_us": 0})
    freshness.take(await store.all(), later_us)
    assert freshness.reason == "repair"
    assert freshness.age_s is not None


async def test_the_watch_goes_on_when_the_store_has_been_away(database: Database, monkeypatch: pytest.MonkeyPatch):
    await PulseStore(database).write(REPAIR, "repair:a:1", {"stopped": True})
    looks: list[int] = []
    back, read = asyncio.Event(), PulseStore.all

    async def first_away(self: PulseStore) -> list[Pulse]:
        looks.append(1)
        if len(looks) == 1:
            raise Unavailable("the store does not answer", code="store.unreachable")
        if len(looks) == 3:
            back.set()
        return await read(self)

    monkeypatch.setattr(PulseStore, "all", first_away)
    monkeypatch.setattr(freshness_module, "LOOK_S", 0.01)
    freshness = Freshness(database, Connection())
    freshness.start()
    async with asyncio.timeout(PATIENCE_S):
        await back.wait()
    await freshness.stop()
    assert freshness.reason == "keepers", "it has read what the store says since it is back"


async def test_a_store_that_is_away_leaves_the_count_of_executions_as_it_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    async def away(database: Database) -> dict[str, int]:
        raise Unavailable("the store does not answer", code="store.unreachable")

    monkeypatch.setattr("engine.edge.native.metrics.count_by_status", away)
    metrics = ApiMetrics(Telemetry(), database)
    metrics._counted = {"succeeded": 3}
    await metrics.refresh()
    assert [count for count, _ in metrics._read()] == [3]


async def test_the_last_word_of_a_repair_stays_until_another_repair_speaks(database: Database):
    store = PulseStore(database)
    await store.write(REPAIR, "repair:a:1", {"scanned_us": 1})
    await age(database, 200_000)
    await store.write(WORKER, "worker:a:2", {})
    assert {pulse.name for pulse in await store.all()} == {"repair:a:1", "worker:a:2"}
    await store.write(REPAIR, "repair:a:3", {"scanned_us": 2})
    assert {pulse.name for pulse in await store.all()} == {"repair:a:3", "worker:a:2"}
