"""Tests of following executions: what readers share, what each of them is told, and what is left when they go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from engine.control import followed, window
from engine.control.following import Follower
from engine.control.window import Slot, Window, gapless
from engine.core.errors import NotFound
from engine.core.run.events import EventRecord
from engine.core.run.projection import Stamp
from engine.edge.http.services import Services, open_services
from tests.compat.apiserver import settings_for
from tests.support.apiprocess import Script

NOBODY = "127.0.0.1:1"
shown: list[int] = []


def number(record: EventRecord) -> bytes:
    shown.append(record.seq)
    return b"%d " % record.seq


def even(record: EventRecord) -> bytes | None:
    return number(record) if record.seq % 2 == 0 else None


@pytest.fixture(autouse=True)
def nothing_shown() -> None:
    shown.clear()


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(settings_for(tmp_path), contracts={}, temporal_address=NOBODY) as opened:
        yield opened


@pytest.fixture
async def script(services: Services) -> Script:
    made = Script(services.store)
    await made.begin()
    return made


class Reader:
    """A reader in a task of its own; told = the numbers it was told."""

    def __init__(self, follower: Follower, *, view: Any = number, after: int = 0) -> None:
        self.told: list[int] = []
        self._events = follower.events("e1", tenant="default", view=view, after_seq=after)
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with contextlib.aclosing(self._events) as texts:  # type: ignore[type-var]
            async for text in texts:
                self.told += [int(part) for part in text.split()]

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def got(self, seq: int) -> None:
        while not self.told or self.told[-1] < seq:  # noqa: ASYNC110 - the test's own limit ends it
            await asyncio.sleep(0.005)


async def reads_of(services: Services, script: Script, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count what so many readers make the store read while twenty batches are told."""
    readers = [Reader(services.follower) for _ in range(count)]
    await asyncio.gather(*(reader.got(script.seq) for reader in readers))
    reads = 0
    run = services.database.run

    async def counting(work: Any, **more: Any) -> Any:
        nonlocal reads
        reads += not more.get("write", False)
        return await run(work, **more)

    with monkeypatch.context() as patch:
        patch.setattr(services.database, "run", counting)
        for _ in range(20):
            await script.steps(5)
            await asyncio.gather(*(reader.got(script.seq) for reader in readers))
    await asyncio.gather(*(reader.leave() for reader in readers))
    assert all(reader.told == list(range(1, script.seq + 1)) for reader in readers)
    return reads


async def test_reads_of_the_store_do_not_grow_with_the_readers(
    services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one look reads the execution and its events; one more may find nothing, and every second a quiet one comes
    alone = await reads_of(services, script, 1, monkeypatch)
    many = await reads_of(services, script, 100, monkeypatch)
    assert 20 <= alone <= 200
    assert 20 <= many <= 200


async def test_an_event_is_made_into_text_once_for_all_readers_of_a_view(services: Services, script: Script) -> None:
    readers = [Reader(services.follower) for _ in range(50)]
    await asyncio.gather(*(reader.got(1) for reader in readers))
    shown.clear()
    await script.steps(30)
    await asyncio.gather(*(reader.got(31) for reader in readers))
    await asyncio.gather(*(reader.leave() for reader in readers))
    assert shown == list(range(2, 32))


async def test_readers_from_the_beginning_share_the_reads_of_what_is_past(services: Services, script: Script) -> None:
    await script.steps(1_999)
    await script.end()
    readers = [Reader(services.follower) for _ in range(30)]
    await asyncio.gather(*(reader.task for reader in readers))
    assert all(reader.told == list(range(1, 2_002)) for reader in readers)
    # 60,000 texts if every reader made its own
    assert len(shown) < 10_000


async def test_a_reader_that_falls_behind_the_window_reads_on_in_the_store(
    services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = services.follower.events("e1", tenant="default", view=number)
    told = [int(part) for part in (await anext(slow)).split()]
    quick = Reader(services.follower)
    for _ in range(15):
        await script.steps(200)
        await quick.got(script.seq)
    await script.end()
    await quick.task
    async with contextlib.aclosing(slow) as texts:  # type: ignore[type-var]
        async for text in texts:
            told += [int(part) for part in text.split()]
    assert window.WINDOW_EVENTS < 3_000
    assert told == quick.told == list(range(1, 3_003))


async def test_readers_begin_after_the_event_that_they_know(services: Services, script: Script) -> None:
    await script.steps(99)
    readers = [Reader(services.follower, after=after) for after in (50, 0, 99, 20)]
    await asyncio.gather(*(reader.got(100) for reader in readers))
    late = Reader(services.follower, after=100)
    await script.steps(50)
    await script.end()
    await asyncio.gather(*(reader.task for reader in (*readers, late)))
    for reader, after in zip((*readers, late), (50, 0, 99, 20, 100), strict=True):
        assert reader.told == list(range(after + 1, 152))


async def test_a_view_leaves_events_out(services: Services, script: Script) -> None:
    reader = Reader(services.follower, view=even)
    await script.steps(8)
    await script.end()
    await reader.task
    assert reader.told == [2, 4, 6, 8, 10]


async def test_a_silent_stream_gives_a_sign_of_life(services: Services, script: Script) -> None:
    stream = services.follower.events("e1", tenant="default", view=even, keep_alive_s=0.05)
    assert [await anext(stream) for _ in range(3)] == [b"", b"", b""]
    await script.steps(1)
    while not (text := await anext(stream)):
        pass
    assert text == b"2 "
    await stream.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_left_when_the_last_reader_leaves(services: Services, script: Script) -> None:
    before = asyncio.all_tasks()
    readers = [Reader(services.follower) for _ in range(3)]
    status = services.follower.status("e1", tenant="default")
    await anext(status)
    await asyncio.gather(*(reader.got(1) for reader in readers))
    await asyncio.gather(*(reader.leave() for reader in readers))
    await status.aclose()  # type: ignore[attr-defined]
    while asyncio.all_tasks() - before:  # noqa: ASYNC110 - the test's own limit ends it
        await asyncio.sleep(0.005)
    assert not services.follower._followed


async def test_a_store_that_fails_for_a_moment_breaks_no_stream(
    services: Services, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "RETRY_S", 0.01)
    reader = Reader(services.follower)
    await reader.got(1)
    failed = 0

    async def fails(*_: Any, **__: Any) -> Any:
        nonlocal failed
        failed += 1
        raise OperationalError("select", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(services.store, "get_execution", fails)
        await script.steps(5)
        while failed < 3:  # noqa: ASYNC110 - the test's own limit ends it
            await asyncio.sleep(0.005)
    await script.end()
    await reader.task
    assert reader.told == list(range(1, 8))


async def test_the_page_of_a_reader_that_leaves_still_reaches_the_others(services: Services, script: Script) -> None:
    await script.steps(500)
    await script.end()
    gate = asyncio.Event()
    since = services.store.events_since

    async def waiting(*arguments: Any, **more: Any) -> Any:
        await gate.wait()
        return await since(*arguments, **more)

    services.store.events_since = waiting  # type: ignore[method-assign]
    first, second = Reader(services.follower), Reader(services.follower)
    await asyncio.sleep(0)
    await first.leave()
    gate.set()
    await second.task
    assert second.told == list(range(1, 503))


async def test_an_unknown_execution_is_not_found(services: Services) -> None:
    with pytest.raises(NotFound):
        await anext(services.follower.events("nobody", tenant="default", view=number))
    with pytest.raises(NotFound):
        await anext(services.follower.status("nobody", tenant="default"))


async def test_another_tenants_execution_is_not_found(services: Services, script: Script) -> None:
    del script
    with pytest.raises(NotFound):
        await anext(services.follower.events("e1", tenant="other", view=number))


async def test_the_status_is_told_at_once_and_at_its_changes(services: Services, script: Script) -> None:
    seen: list[str] = []

    async def watch() -> None:
        async for change in services.follower.status("e1", tenant="default"):
            if change is not None:
                seen.append(change.facts.status.value)

    watching = asyncio.create_task(watch())
    while not seen:  # noqa: ASYNC110 - the test's own limit ends it
        await asyncio.sleep(0.005)
    await script.steps(1)
    while len(seen) < 2:  # noqa: ASYNC110 - the test's own limit ends it
        await asyncio.sleep(0.005)
    await script.end()
    await watching
    assert seen == ["starting", "running", "succeeded"]
    again = services.follower.status("e1", tenant="default")
    assert [change.facts.status.value async for change in again if change is not None] == ["succeeded"]


# --- the window ----------------------------------------------------------------------------------------------------


def record(seq: int, body: str = "{}") -> EventRecord:
    return EventRecord("e1", "r1", seq, 1, "step", body)


def test_a_window_keeps_the_latest_events_at_their_positions() -> None:
    kept = Window(most_events=3)
    kept.add([record(1), record(2)])
    kept.add([record(3), record(4), record(5)])
    assert (kept.first, kept.end) == (2, 5)
    assert [slot.record.seq for slot in kept.since(2)] == [3, 4, 5]
    assert [slot.record.seq for slot in kept.since(4)] == [5]
    assert list(kept.since(5)) == []


def test_a_window_is_bounded_by_the_size_of_its_events_but_keeps_one() -> None:
    kept = Window(most_chars=100)
    kept.add([record(seq, "x" * 40) for seq in range(1, 6)])
    assert [slot.record.seq for slot in kept.since(kept.first)] == [4, 5]
    kept.add([record(6, "x" * 500)])
    assert [slot.record.seq for slot in kept.since(kept.first)] == [6]


def test_events_are_ready_up_to_the_first_missing_one() -> None:
    assert gapless(0, [record(1), record(2), record(4)]) == 2
    assert gapless(3, [record(5)]) == 0
    # a replaced one takes its followers with it
    assert gapless(9, [record(5), record(6), record(8)]) == 2


def test_a_slot_keeps_that_a_view_leaves_it_out() -> None:
    slot = Slot(record(3))
    assert [slot.text(even), slot.text(number), slot.text(number), slot.text(even)] == [None, b"3 ", b"3 ", None]
    assert shown == [3]


def test_only_what_is_later_or_behind_is_news() -> None:
    seen = Stamp(5, 100)
    assert window.is_news(seen, record(6)._replace(now_us=100))
    assert window.is_news(seen, record(3)._replace(now_us=101))
    assert not window.is_news(seen, record(5)._replace(now_us=100))
    assert window.seen_after(seen, record(3)._replace(now_us=101)) == Stamp(3, 101)
