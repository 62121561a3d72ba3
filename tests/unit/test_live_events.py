"""The live path between workflow threads and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.control.live import LiveEvents
from engine.core.run.events import EventRecord


def record(seq: int) -> tuple[object, ...]:
    return tuple(EventRecord("e", "r", seq, 1_800_000_000_000_000, "step", "{}"))


class Store:
    """A store that fails as often as told and says which executions ended."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[list[int]] = []

    async def append_events(self, records: Sequence[EventRecord]) -> list[str]:
        if self.failures:
            self.failures -= 1
            raise OSError("disk full")
        self.batches.append([item.seq for item in records])
        return ["e"] if any(item.seq == 3 for item in records) else []


async def test_events_are_written_in_order_and_the_ended_ones_are_told():
    store, ended = Store(), []

    def on_ended(ids: list[str]) -> None:
        ended.extend(ids)

    live = LiveEvents(store, on_ended)
    running = asyncio.create_task(live.run())
    for seq in (1, 2, 3):
        live.sink(record(seq), False)
    live.stop()
    await running
    assert [seq for batch in store.batches for seq in batch] == [1, 2, 3]
    assert ended == ["e"]


async def test_events_of_a_replay_say_nothing_new():
    store = Store()

    def on_ended(ids: list[str]) -> None:
        raise AssertionError(ids)

    live = LiveEvents(store, on_ended)
    live.sink(record(1), True)
    await live.flush()
    assert store.batches == []


async def test_a_store_that_fails_loses_nothing(monkeypatch):
    monkeypatch.setattr("engine.control.live.RETRY_S", 0.01)
    store = Store(failures=3)

    def on_ended(ids: list[str]) -> None:
        assert ids == ["e"]

    live = LiveEvents(store, on_ended)
    live.sink(record(3), False)
    await live.flush()
    assert store.batches == [[3]]


async def test_a_queue_that_is_full_drops_events_instead_of_blocking_a_workflow(monkeypatch):
    monkeypatch.setattr("engine.control.live.MOST_QUEUED", 2)
    store = Store()

    def on_ended(ids: list[str]) -> None:
        raise AssertionError(ids)

    live = LiveEvents(store, on_ended)
    for seq in (1, 2, 4, 5):
        live.sink(record(seq), False)
    await live.flush()
    assert store.batches == [[1, 2]]
