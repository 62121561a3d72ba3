"""Whatever the order in which events and ends reach the store, the same rows remain in all its tables."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord, roll_digest, roll_time
from engine.core.run.progress import Progress
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore
from engine.store.rebuilding import DERIVED, rows_of
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
KINDS = (
    # those that go on with a row of an earlier event come up more often
    *("wait", "resume") * 2,
    *("effect.started", "effect.finished", "attempt.failed") * 3,
    *("execution.paused", "execution.continued", "deadline.changed"),
    "step",
    "finish_branch",
    "branch.failed",
    "answer.accepted",
    "error",
    "cancelled",
    "finish",
)
PATHS = ("main.0", "main.1", "main.1.then.0")
ENDS = (ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)

pytestmark = pytest.mark.usefixtures("both_stores")


def body_of_any(draw: st.DrawFn, now: int) -> dict[str, Any]:
    """Return a body with what events of all types tell, so that each type finds its own."""
    path = draw(st.sampled_from(PATHS))
    code = draw(st.sampled_from(["wait.expired", "backend.refused"]))
    usage = {"prompt_tokens": now, "completion_tokens": 2, "total_tokens": now + 2}
    parts = {"cached_tokens": now // 2, "cache_write_tokens": 1, "reasoning_tokens": 2}
    return {
        "path": path,
        "effect_id": draw(st.sampled_from(["main.0#1", "main.0#2"])),
        "attempt": 1,
        "kind": draw(st.sampled_from(["prompt", "tool_call", "foreach"])),
        "name": f"n{now}",
        "outcome": draw(st.sampled_from(["ok", "failed", "cancelled"])),
        "usage": draw(st.sampled_from([None, usage, usage | parts])),
        "cost": draw(st.sampled_from([None, f"0.0{now}"])),
        "model": draw(st.sampled_from(["m1", "m2"])),
        "backend": "b1",
        "retry_in_s": draw(st.sampled_from([None, 0.5])),
        "error": {"code": code, "message": "no", "step": draw(st.sampled_from(PATHS))},
        "wait_id": draw(st.sampled_from(["w1", "w2"])),
        "output": now,
        "actor": draw(st.sampled_from(["", "ann"])),
        "reason": f"because {now}",
        "expired": draw(st.booleans()),
        "deadline_us": draw(st.sampled_from([None, T0 + now])),
        "repeated": draw(st.booleans()),
    }


INIT = {
    "task": "t",
    "task_id": "t1",
    "tenant": "default",
    "created_us": T0 - 5,
    "labels": ["red", "x" * 300],
    "metadata": {"team": {"name": "a"}, "n": 1},
    "actor": "bob",
    "forked": {"kind": "fork", "execution_id": "e0", "path": "main.1", "seed": "e0", "keys": "e0"},
}


@st.composite
def emissions(draw: st.DrawFn) -> list[EventRecord]:
    """Everything that the runs of one execution ever emitted, failed workflow tasks included.

    A task that failed is done again later from the same number, with events of its own.
    """
    records: list[EventRecord] = []
    start, now = 1, 0
    for run in draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)):
        for count, completed in draw(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=6)):
            now += draw(st.integers(1, 3))
            for offset in range(count):
                seq = start + offset
                kind = "init" if seq == 1 else draw(st.sampled_from(KINDS))
                body = {**INIT, "input": now} if kind == "init" else body_of_any(draw, now)
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


def renamed(rows: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[dict[str, Any]]]:
    """Return rows without the name of their execution, and without the verdict on its events."""
    return {
        table: [
            {column: value for column, value in row.items() if value != name and column != "verified"} for row in found
        ]
        for table, found in rows.items()
    }


def test_any_interleaving_of_events_and_ends_leaves_the_same_rows(tmp_path: Path, both_stores: str) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(open_database(store_url(tmp_path / "store.db")))
        store = ProjectionStore(database)

        async def rows(name: str) -> dict[str, list[dict[str, Any]]]:
            return renamed(await database.run(lambda connection: rows_of(connection, name)), name)

        async def arrive(name: str, actions: Sequence[Any]) -> None:
            unsettled = None
            for action in actions:
                if isinstance(action, ExecutionEnd):
                    unsettled = None if await store.settle([action]) else action
                elif action == "ensure":
                    named: dict[str, Any] = {"task_id": "t1", "task_name": "t", "labels": ["red"], "created_us": T0 - 5}
                    await store.ensure_execution(name, tenant="default", **named)
                else:
                    await store.append_events(action, tenant_of={name: "default"})
            if unsettled is not None:
                await store.settle([unsettled])

        async def check_facts(name: str, expected: Sequence[EventRecord], end: ExecutionEnd | None) -> None:
            assert await store.list_events(name, tenant="default") == list(expected)
            progress, digest, times = Progress(), "", 0
            for record in expected:
                progress.apply(record)
                digest = roll_digest(digest, record.seq, record.type, record.body)
                times = roll_time(times, record.now_us)
            facts = await store.get_execution(name, tenant="default")
            assert (facts.last_seq, facts.transition_count, facts.terminal_seen, facts.usage) == (
                progress.last_seq,
                progress.transitions,
                progress.ended,
                progress.usage,
            )
            if end is None:
                assert facts.status == progress.status
                opened = (await store.open_waits([name], tenant="default")).get(name, [])
                assert opened == progress.open_waits
                attempts = await store.list_attempts(name, tenant="default")
                assert attempts == sorted(progress.attempts.values(), key=lambda facts: facts.place)
            assert await store.digest(name) == (len(expected), digest, times)

        async def compare(records: list[EventRecord], actions: list[Any], names: Sequence[str], **more: Any) -> None:
            mixed, ordered, replaced = names
            kept = survivors(records)
            end, ensured = more["end"], ["ensure"] if more["ensured"] else []
            if not kept and not ensured:
                return
            await arrive(mixed, named(actions, mixed))
            await arrive(ordered, [*ensured, *named([kept, *([end] if end else [])], ordered)])
            assert await rows(mixed) == await rows(ordered)
            await check_facts(mixed, [record._replace(execution_id=mixed) for record in kept], end)
            # a repair that finds the right events puts right whatever stood there
            wrong = [record._replace(now_us=T0 + 99) for record in records]
            await arrive(replaced, [*ensured, *named([wrong, *([end] if end else [])], replaced)])
            runs: dict[str, list[EventRecord]] = {record.run_id: [] for record in records}
            for record in kept:
                runs[record.run_id].append(record._replace(execution_id=replaced))
            await store.replace_runs(replaced, runs, tenant="default")
            if end:
                await store.settle([named([end], replaced)[0]])
            assert await rows(replaced) == await rows(ordered)

        def named(actions: Sequence[Any], name: str) -> list[Any]:
            done: list[Any] = []
            for action in actions:
                if isinstance(action, ExecutionEnd):
                    error = {"code": "task.error"} if action.status is ExecutionStatus.FAILED else None
                    done.append(ExecutionEnd(name, action.status, action.closed_us, error=error))
                elif action == "ensure":
                    done.append(action)
                else:
                    done.append([record._replace(execution_id=name) for record in action])
            return done

        @settings(max_examples=150 if both_stores == "sqlite" else 30, deadline=None)
        @given(emissions(), st.data())
        def check(records: list[EventRecord], data: st.DataObject) -> None:
            repeated = data.draw(st.lists(st.sampled_from(records), max_size=5)) if records else []
            mostly_in_order = [*records, *repeated]
            # in the order in which they were emitted they extend the rows; in any other the rows are made anew
            arrivals = data.draw(st.one_of(st.just(mostly_in_order), st.permutations(mostly_in_order)))
            cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=5)))
            ends = zip([0, *cuts], [*cuts, len(arrivals)], strict=True)
            actions: list[Any] = [arrivals[start:end] for start, end in ends]
            end = data.draw(st.sampled_from([None, *ENDS]))
            told = None if end is None else ExecutionEnd("?", end, T0 + 500)
            ensured = data.draw(st.booleans())
            for extra in [*([told] if told else []), *(["ensure"] if ensured else [])]:
                actions.insert(data.draw(st.integers(0, len(actions))), extra)
            names = [str(uuid.uuid4()) for _ in range(3)]
            runner.run(compare(records, actions, names, end=told, ensured=ensured))

        check()
        runner.run(database.close())


def test_the_comparison_looks_at_every_derived_table() -> None:
    assert sorted(table.name for table in DERIVED) == ["attempts", "events", "execution_tags", "executions", "waits"]
