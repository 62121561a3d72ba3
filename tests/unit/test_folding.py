"""Telling the steps of long executions: what is remembered, gone on with and told anew, and who waits for whom."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.seeding import BATCH, Made, Maker
from engine.control import folding
from engine.control.folding import FoldedStory, Folder
from engine.core.errors import InvalidInput
from engine.core.run.events import EventRecord
from engine.core.run.story import Story
from engine.core.run.story_views import step_row, story_view
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from engine.store.stories import StoryReader
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url


class CountedReader(StoryReader):
    """Counts the events that are read."""

    read = 0

    async def batches(self, execution_id: str, *, tenant: str, after_seq: int = 0) -> AsyncIterator[list[EventRecord]]:
        async for batch in super().batches(execution_id, tenant=tenant, after_seq=after_seq):
            self.read += len(batch)
            yield batch


@pytest.fixture
async def store(both_stores: str, tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    database = await open_database(store_url(tmp_path / "store.db"))
    yield ProjectionStore(database)
    await database.close()


@pytest.fixture
def reader(store: ProjectionStore) -> CountedReader:
    return CountedReader(store.database)


@pytest.fixture
def folder(reader: CountedReader) -> Folder:
    return Folder(reader)


def made_of(steps: int, number: int = 7) -> Made:
    """Return an execution that has not ended."""
    made = Maker(number, words=3).execution(0, steps=steps)
    made.records = [record for record in made.records if record.type != "finish"]
    return made


async def write(store: ProjectionStore, records: list[EventRecord]) -> None:
    for begin in range(0, len(records), BATCH * 4):
        await store.append_events(records[begin : begin + BATCH * 4])


async def fold(folder: Folder, store: ProjectionStore, made: Made) -> FoldedStory:
    return await folder.fold(await store.get_execution(made.id, tenant=made.tenant))


def views_of(folded: FoldedStory) -> Any:
    rows = [step_row(step, folded.totals[step.path]) for step in folded.order]
    return json.dumps([story_view(folded.story, folded.totals[""]), rows])


def told_at_once(records: list[EventRecord]) -> Any:
    story = Story(folding.KEPT_CHARS).extend(records)
    return views_of(FoldedStory(story, tuple(story.walk()), story.totals()))


async def test_an_open_execution_is_gone_on_with_and_never_read_again(
    folder: Folder, reader: CountedReader, store: ProjectionStore
) -> None:
    made = made_of(900)
    await write(store, made.records[:500])
    first = await fold(folder, store, made)
    assert reader.read == 500
    assert await fold(folder, store, made) is first
    assert reader.read == 500
    for end in (501, 640, len(made.records)):
        await write(store, made.records[:end])
        assert views_of(await fold(folder, store, made)) == told_at_once(made.records[:end])
        assert reader.read == end


async def test_no_number_of_events_is_too_many_to_be_compared(
    folder: Folder, reader: CountedReader, store: ProjectionStore
) -> None:
    # the sum of three such times is as high as that of 10,000 real ones, and no column of either store holds it
    records = [record._replace(now_us=record.now_us + 2**62) for record in made_of(60).records]
    await write(store, records)
    facts = await store.get_execution(records[0].execution_id, tenant="default")
    assert await folder.fold(facts) is await folder.fold(facts)
    assert reader.read == len(records)


@pytest.mark.parametrize("what", ["another time", "an event less", "a missing one"])
async def test_a_story_is_told_anew_when_the_repair_has_replaced_events(
    what: str, folder: Folder, store: ProjectionStore
) -> None:
    made = made_of(60)
    right = made.records
    middle = right[30]
    other = middle._replace(body=right[31].body, now_us=middle.now_us + 1)
    wrong = {
        "another time": [*right[:30], other, *right[31:]],
        "an event less": [*right, right[-1]._replace(seq=right[-1].seq + 1)],
        "a missing one": [*right[:30], *right[31:]],
    }[what]
    await store.replace_runs(made.id, {middle.run_id: wrong}, tenant=made.tenant)
    assert views_of(await fold(folder, store, made)) == told_at_once(wrong)
    await store.replace_runs(made.id, {middle.run_id: right}, tenant=made.tenant)
    assert views_of(await fold(folder, store, made)) == told_at_once(right)


async def test_an_open_execution_is_told_anew_after_a_while_whatever_happened(
    folder: Folder, reader: CountedReader, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_of(60)
    changed = made.records[30]._replace(body=made.records[31].body)
    await write(store, made.records)
    await fold(folder, store, made)
    # as many events with the same numbers and times: no mark tells that one says something else
    right = [*made.records[:30], changed, *made.records[31:]]
    await store.replace_runs(made.id, {changed.run_id: right}, tenant=made.tenant)
    monkeypatch.setattr(folding, "REMEMBERED_S", -1.0)
    assert views_of(await fold(folder, store, made)) == told_at_once(right)


async def test_a_reader_that_leaves_in_the_middle_of_a_fold_costs_nothing_of_the_story(
    folder: Folder, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "SLICE_S", 0.0)  # one event at a time
    made = made_of(400)
    await write(store, made.records[:200])
    await fold(folder, store, made)
    await write(store, made.records)
    leaving = asyncio.create_task(fold(folder, store, made))
    known = folder._remembered[made.tenant, made.id]
    while known.story.last_seq < 250:  # noqa: ASYNC110 the fold tells nobody how far it is
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert known.story.last_seq < len(made.records)
    assert views_of(await fold(folder, store, made)) == told_at_once(made.records)
    assert (len(folder._executions), len(folder._tenants)) == (0, 0)


async def test_a_fold_lets_everybody_else_have_a_turn_after_each_slice(
    folder: Folder, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "SLICE_S", 0.0)
    made = made_of(300)
    await write(store, made.records)
    folding_it = asyncio.create_task(fold(folder, store, made))
    turns = 0
    while not folding_it.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= len(made.records)


async def test_a_tenant_that_waits_for_long_folds_does_not_hold_up_another(
    folder: Folder, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "LIGHT_EVENTS", 0)
    long, other = made_of(50, 1), made_of(50, 2)
    await write(store, other.records)
    theirs = await store.get_execution(other.id, tenant=other.tenant)
    held, release = asyncio.Event(), asyncio.Event()

    class Held(StoryReader):
        async def batches(
            self, execution_id: str, *, tenant: str, after_seq: int = 0
        ) -> AsyncIterator[list[EventRecord]]:
            if tenant == "greedy":
                held.set()
                await release.wait()
            async for batch in super().batches(execution_id, tenant=other.tenant, after_seq=after_seq):
                yield batch

    folder = Folder(Held(store.database))
    greedy = [
        dataclasses.replace(theirs, id=f"{long.id}{number}", tenant="greedy") for number in range(folding.AT_ONCE * 3)
    ]
    tasks = [asyncio.create_task(folder.fold(facts)) for facts in greedy]
    await held.wait()
    folded = await asyncio.wait_for(folder.fold(theirs), PATIENCE_S)
    assert views_of(folded) == told_at_once(other.records)
    assert not any(task.done() for task in tasks)
    release.set()
    await asyncio.gather(*tasks)


async def test_what_is_remembered_is_bounded_in_number_and_in_steps(
    folder: Folder, reader: CountedReader, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MOST_REMEMBERED", 4)
    monkeypatch.setattr(folding, "MOST_REMEMBERED_STEPS", 100)
    small = [Maker(number, words=3).execution(number, steps=3) for number in range(6)]
    long = made_of(400)
    for made in (*small, long):
        await write(store, made.records)
    for made in small:
        await fold(folder, store, made)
    assert [key[1] for key in folder._remembered] == [made.id for made in small[2:]]
    # a single one that is longer than all may be is remembered, alone
    await fold(folder, store, long)
    assert [key[1] for key in folder._remembered] == [long.id]
    read = reader.read
    await fold(folder, store, long)
    assert reader.read == read


async def test_an_execution_that_is_too_long_for_memory_is_refused_before_anything_is_read(
    folder: Folder, reader: CountedReader, store: ProjectionStore
) -> None:
    made = made_of(3)
    await write(store, made.records)
    facts = await store.get_execution(made.id, tenant=made.tenant)
    with pytest.raises(InvalidInput, match="100,001 events") as refused:
        await folder.fold(dataclasses.replace(facts, last_seq=folding.MOST_EVENTS + 1))
    assert (refused.value.code, reader.read) == ("story.too_long", 0)


async def test_a_long_execution_keeps_less_of_each_value(
    folder: Folder, store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "KEPT_IN_ALL_CHARS", 2_000)
    made = made_of(30)
    wide = [
        record._replace(body=json.dumps({**json.loads(record.body), "output": "x" * 400}))
        if record.type == "step"
        else record
        for record in made.records
    ]
    await write(store, wide)
    folded = await fold(folder, store, made)
    kept = [step.output for step in folded.order if step.output is not None]
    most = 2_000 // len(wide)
    assert kept
    assert all(value.cut and len(str(value.value)) == most + 1 for value in kept)
