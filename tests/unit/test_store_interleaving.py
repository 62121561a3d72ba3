"""Whatever the order in which events reach the store, the same rows remain."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.run.events import EventRecord, roll_digest
from engine.core.run.projection import Progress
from engine.store.database import open_database
from engine.store.projection import ProjectionStore

T0 = 1_800_000_000_000_000
KINDS = ("step", "wait", "resume", "finish_branch", "attempt.failed", "answer.accepted", "finish")


@st.composite
def emissions(draw: st.DrawFn) -> list[EventRecord]:
    """Everything that the runs of one execution ever emitted, failed workflow tasks included.

    A task that failed is done again later from the same number, with events of its own.
    """
    records: list[EventRecord] = []
    start, now = 1, 0
    for run in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)):
        for count, completed in draw(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=6)):
            now += draw(st.integers(1, 3))
            for offset in range(count):
                seq = start + offset
                kind = "init" if seq == 1 else draw(st.sampled_from(KINDS))
                body = {
                    "wait_id": draw(st.sampled_from(["w1", "w2"])),
                    "path": draw(st.sampled_from(["main.0", "main.1", "main.1.then.0"])),
                    "n": now,
                    "task": "t",
                    "tenant": "default",
                }
                records.append(EventRecord("?", run, seq, T0 + now, kind, json.dumps(body)))
            if completed:
                start += count
    return records


def survivors(records: Sequence[EventRecord]) -> list[EventRecord]:
    """Apply the drop rule as it is written."""
    kept = [
        one
        for one in records
        if not any(
            other.run_id == one.run_id and other.seq <= one.seq and other.now_us > one.now_us for other in records
        )
    ]
    return sorted(kept, key=lambda record: (record.seq, record.now_us, record.run_id))


def test_any_interleaving_of_batches_ends_in_the_same_rows(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"))
        store = ProjectionStore(database)

        @settings(max_examples=100, deadline=None)
        @given(emissions(), st.data())
        def check(emitted: list[EventRecord], data: st.DataObject) -> None:
            name = str(uuid.uuid4())
            records = [record._replace(execution_id=name) for record in emitted]
            repeated = data.draw(st.lists(st.sampled_from(records), max_size=5)) if records else []
            arrivals = data.draw(st.permutations([*records, *repeated]))
            cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=5)))
            runner.run(arrive(name, arrivals, cuts))
            runner.run(compare(name, survivors(records)))

        async def arrive(name: str, arrivals: Sequence[EventRecord], cuts: Sequence[int]) -> None:
            for start, end in zip([0, *cuts], [*cuts, len(arrivals)], strict=True):
                await store.append_events(arrivals[start:end], tenant_of={name: "default"})

        async def compare(name: str, expected: Sequence[EventRecord]) -> None:
            assert await store.list_events(name, tenant="default") == list(expected)
            if not expected:
                return
            progress, digest = Progress(), ""
            for record in expected:
                progress.apply(record)
                digest = roll_digest(digest, record.seq, record.type, record.body)
            facts = await store.get_execution(name, tenant="default")
            assert (facts.status, facts.last_seq, facts.transition_count, facts.terminal_seen) == (
                progress.status,
                progress.last_seq,
                progress.transitions,
                progress.ended,
            )
            opened = (await store.open_waits([name], tenant="default")).get(name, [])
            assert opened == progress.open_waits
            assert await store.digest(name) == (len(expected), digest)

        check()
        runner.run(database.close())
