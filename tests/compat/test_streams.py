"""Streams of real API processes: many readers, readers that do not read, and processes that are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.apiprocess import Script, SeqReader, api_process, api_processes, ask, script_of

READERS = 200
STEPS = 1_500
AT_ONCE = 100
STREAM = "/api/executions/e1/transitions.stream"
MIB = 1024 * 1024


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    async with script_of(tmp_path) as opened:
        yield opened


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - readers set no event
        await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_a_reader_that_never_reads_harms_none_of_the_two_hundred_on_its_stream(
    tmp_path: Path, script: Script
) -> None:
    with api_process(tmp_path) as api:
        readers = [SeqReader(STREAM, api) for _ in range(READERS - 1)]
        async with asyncio.TaskGroup() as group:
            stuck = await ask(api, STREAM, receive_bytes=4_096)
            for reader in readers:
                group.create_task(reader.read())
            await asyncio.gather(*(reader.opened.wait() for reader in readers))
            # none of them waits for more: what comes from here on is what following costs
            sizes = [api.rss]
            for _ in range(STEPS // AT_ONCE):
                await script.steps(AT_ONCE, output="x" * 200)
                # the slowest of them sets the pace: all go on although one never reads
                await until(lambda: min(len(reader.ids) for reader in readers) >= script.seq)
                sizes.append(api.rss)
            await script.end()
        stuck.close()
    assert all(reader.ids == list(range(1, STEPS + 3)) for reader in readers)
    assert all(reader.breaks == 0 for reader in readers)
    # what 200 readers may hold at once: 64 KiB in uvicorn, 64 KiB and an event in hand, and the window of 4 MiB in
    # records and texts; all events for all readers would be 150 MiB. Load changes how long it takes, not how much
    assert max(sizes) - sizes[0] < 64 * MIB, [size // MIB for size in sizes]


@pytest.mark.timeout(300)
async def test_what_readers_do_not_take_is_kept_nowhere(tmp_path: Path, script: Script) -> None:
    with api_process(tmp_path) as api:
        stuck = [await ask(api, STREAM, receive_bytes=4_096) for _ in range(10)]
        reader = SeqReader(STREAM, api)
        reading = asyncio.create_task(reader.read())
        await reader.opened.wait()
        sizes = [api.rss]
        for _ in range(40):
            await script.steps(20, output="x" * 30_000)
            await until(lambda: len(reader.ids) >= script.seq)
            sizes.append(api.rss)
        await script.end()
        await reading
        for one in stuck:
            one.close()
    assert reader.ids == list(range(1, script.seq + 1))
    # 24 MB were told; kept for each of the ten they would be 240 MB
    assert max(sizes) - sizes[0] < 64 * MIB, [size // MIB for size in sizes]


@pytest.mark.timeout(300)
async def test_readers_get_every_transition_once_and_in_order_while_their_api_is_killed(
    tmp_path: Path, script: Script
) -> None:
    async with api_processes(tmp_path, 2) as (first, second):
        # those of the first come back to itself or go on at the second, those of the second stay
        readers = [SeqReader(STREAM, *apis) for apis in ((first,), (first, second), (second,)) for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read())
            for round_ in range(20):
                await script.steps(25, output=round_)
                if round_ == 10:
                    # not all have got all: some are cut in the middle
                    await until(lambda: max(len(reader.ids) for reader in readers) > script.seq - 25)
                    first.kill()
                    await script.steps(25, output="while it is dead")
                    await asyncio.to_thread(first.start)
                elif round_ % 5 == 0:
                    await until(lambda: min(len(reader.ids) for reader in readers) >= script.seq)
            await script.end()
    assert [reader.ids for reader in readers] == [list(range(1, script.seq + 1))] * len(readers)
    assert [reader.breaks > 0 for reader in readers] == [True] * 10 + [False] * 5


@pytest.mark.usefixtures("both_stores")
async def test_a_stream_goes_on_after_the_last_event_id_at_another_process(tmp_path: Path) -> None:
    # opened here: the fixture above would do it before the test has its store
    async with api_processes(tmp_path, 2) as (first, second), script_of(tmp_path) as script:
        await script.steps(700)
        whole, rest = SeqReader(STREAM, first), SeqReader(STREAM, second)
        rest.ids = list(range(1, 351))
        async with asyncio.TaskGroup() as group:
            for reader in (whole, rest):
                group.create_task(reader.read())
            await until(lambda: min(len(reader.ids) for reader in (whole, rest)) >= script.seq)
            # what is written now reaches both while they wait
            await script.steps(30)
            await script.end()
    assert whole.ids == rest.ids == list(range(1, 733))
