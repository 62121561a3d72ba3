"""Who sends which spans: the live path as it stores events, whoever stores an end, the repair for mended rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.control.tracing import ExecutionTelemetry
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord, roll_digest
from engine.obs.metrics import ENDED, EVENTS_WRITTEN, STARTED
from engine.obs.telemetry import SpanData, Telemetry
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore

T0 = 1_700_000_000_000_000
TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Kept(Telemetry):
    """Telemetry that keeps what it is given."""

    traces = True
    metrics = True

    def __init__(self) -> None:
        self.spans: list[SpanData] = []
        self.counts: Counter[str] = Counter()

    def emit(self, spans: Iterable[SpanData]) -> None:
        """See `Telemetry.emit`."""
        self.spans += spans

    def count(self, name: str, amount: int = 1, attributes: Mapping[str, str] | None = None) -> None:
        """See `Telemetry.count`."""
        self.counts[name + "".join((attributes or {}).values())] += amount

    @property
    def names(self) -> list[str]:
        """Names of all spans."""
        return sorted(span.name for span in self.spans)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    """A store of the test's own."""
    database = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'e.db'}")
    yield ProjectionStore(database)
    await database.close()


def story(execution_id: str = "e1") -> list[EventRecord]:
    """Return the events of an execution with two steps."""
    place: dict[str, Any] = {"kind": "evaluate", "scope": "s", "workflow": "main"}
    bodies: Sequence[tuple[str, dict[str, Any]]] = [
        ("init", {"task": "t", "tenant": "default", "scope": "s", "workflow": "main", "input": 1, "trace": TRACE}),
        ("step", {**place, "path": "main.0", "index": 0, "output": 1, "next": 1}),
        ("finish", {**place, "path": "main.1", "index": 1, "output": 2, "next": None}),
    ]
    return [
        EventRecord(execution_id, "run", seq, T0 + seq, type_, json.dumps(body))
        for seq, (type_, body) in enumerate(bodies, 1)
    ]


def end_of(records: Sequence[EventRecord]) -> ExecutionEnd:
    """Return what Temporal says of the end of such an execution."""
    digest = ""
    for record in records:
        digest = roll_digest(digest, record.seq, record.type, record.body)
    return ExecutionEnd("e1", ExecutionStatus.SUCCEEDED, T0 + 9, output=2, events=len(records), digest=digest)


ALL = ["execution t", "step main.0", "step main.1"]


async def test_a_process_that_saw_everything_sends_each_span_once(store: ProjectionStore) -> None:
    kept, events = Kept(), story()
    told = ExecutionTelemetry(kept, store)
    await store.append_events(events)
    told.stored(events)
    assert kept.names == ["step main.0", "step main.1"]
    await store.settle([end_of(events)])
    await store.settle([end_of(events)])
    await told.close()
    assert kept.names == ALL
    assert kept.counts == {STARTED: 1, EVENTS_WRITTEN: 3, f"{ENDED}succeeded": 1}


async def test_the_process_that_stores_the_end_of_what_another_began_sends_all_spans(store: ProjectionStore) -> None:
    kept, events = Kept(), story()
    await store.append_events(events)
    told = ExecutionTelemetry(kept, store)
    told.stored(events[1:])
    await store.settle([end_of(events)])
    await told.close()
    assert kept.names == ALL


async def test_spans_of_events_that_were_lost_come_with_their_repair(store: ProjectionStore) -> None:
    kept, events = Kept(), story()
    told = ExecutionTelemetry(kept, store)
    await store.append_events([events[0], events[2]])
    assert await store.settle([end_of(events)]) == {"e1": False}
    await told.close()
    assert "step main.0" not in kept.names
    await store.replace_runs("e1", {"run": events}, tenant="default")
    assert await store.settle([end_of(events)]) == {"e1": True}
    await told.close()
    assert set(kept.names) == set(ALL)
    assert kept.counts == {f"{ENDED}succeeded": 1}


async def test_a_terminated_execution_has_its_span_with_the_error(store: ProjectionStore) -> None:
    kept, events = Kept(), story()
    told = ExecutionTelemetry(kept, store)
    await store.append_events(events[:2])
    told.stored(events[:2])
    error = {"code": "execution.terminated", "message": "by hand"}
    await store.settle([ExecutionEnd("e1", ExecutionStatus.FAILED, T0 + 9, error=error)])
    await told.close()
    root = next(span for span in kept.spans if span.name == "execution t")
    assert root.error == ("execution.terminated", "by hand")
    assert root.attributes["everstep.status"] == "failed"


async def test_an_event_that_cannot_be_read_costs_spans_and_nothing_else(store: ProjectionStore) -> None:
    kept, events = Kept(), story()
    told = ExecutionTelemetry(kept, store)
    told.stored([events[0], events[1]._replace(body="{")])
    assert kept.names == []
