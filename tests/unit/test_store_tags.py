"""The tags that lists find executions by."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.run.events import EventRecord
from engine.core.run.tags import clip_tag
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from engine.store.rebuilding import rows_of
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    database = await open_database(store_url(tmp_path / "store.db"))
    yield ProjectionStore(database)
    await database.close()


def event(seq: int, type_: str, /, **body: Any) -> EventRecord:
    return EventRecord("e1", "r1", seq, T0 + seq, type_, json.dumps(body))


def init(**more: Any) -> EventRecord:
    return event(1, "init", task="t", task_id="t1", tenant="default", **more)


def replied(seq: int, model: str, backend: str = "b1") -> EventRecord:
    body = {"path": "main.0", "effect_id": f"main.0#{seq}", "kind": "prompt", "attempt": 1, "outcome": "ok"}
    return event(seq, "effect.finished", model=model, backend=backend, **body)


async def tags(store: ProjectionStore) -> set[tuple[str, str, str, int]]:
    rows = await store.database.run(lambda connection: rows_of(connection, "e1"))
    return {(row["kind"], row["name"], row["value"], row["created_us"] - T0) for row in rows["execution_tags"]}


async def ensure(store: ProjectionStore, created_us: int = T0) -> None:
    named: dict[str, Any] = {"task_id": "t1", "task_name": "t", "labels": ["red"], "metadata": {"a": {"b": 1}}}
    await store.ensure_execution("e1", tenant="default", created_us=created_us, **named)


NAMED = {("label", "", "red"), ("meta", "a", "{}"), ("meta", "a.b", "1")}


async def test_labels_and_members_of_the_metadata_are_there_from_the_start(store: ProjectionStore) -> None:
    await ensure(store)
    assert await tags(store) == {(*tag, 0) for tag in NAMED}


async def test_models_and_backends_that_answered_are_told_once_each(store: ProjectionStore) -> None:
    await store.append_events([init(created_us=T0), replied(2, "m1"), replied(3, "m1")])
    await store.append_events([replied(4, "m1"), replied(5, "m2", "b2")])
    assert await tags(store) == {
        ("model", "", "m1", 0),
        ("model", "", "m2", 0),
        ("backend", "", "b1", 0),
        ("backend", "", "b2", 0),
    }


async def test_tags_carry_the_time_of_their_row_whoever_told_it_first(store: ProjectionStore) -> None:
    await store.append_events([event(2, "step", path="main.0"), replied(3, "m1")], tenant_of={"e1": "default"})
    assert await tags(store) == {("model", "", "m1", 2), ("backend", "", "b1", 2)}
    await ensure(store, T0 - 7)
    expected = {(*tag, -7) for tag in {*NAMED, ("model", "", "m1"), ("backend", "", "b1")}}
    assert await tags(store) == expected
    await store.append_events([init(created_us=T0 - 9, labels=["blue"])])
    assert await tags(store) == {("label", "", "blue", -9), ("model", "", "m1", -9), ("backend", "", "b1", -9)}
    assert (await store.get_execution("e1", tenant="default")).created_us == T0 - 9


async def test_tags_of_dropped_replies_go(store: ProjectionStore) -> None:
    await store.append_events([init(created_us=T0, labels=["red"]), replied(2, "m1")])
    await store.append_events([event(2, "step", path="main.0")._replace(now_us=T0 + 50)])
    assert await tags(store) == {("label", "", "red", 0)}


async def test_labels_that_no_event_told_survive_a_rebuild(store: ProjectionStore) -> None:
    await ensure(store)
    await store.append_events([event(3, "step", path="main.0"), replied(4, "m1")])
    await store.append_events([event(2, "step", path="main.0")])
    assert await tags(store) == {(*tag, 0) for tag in {*NAMED, ("model", "", "m1"), ("backend", "", "b1")}}


async def test_a_long_label_is_found_by_its_beginning_and_a_hash(store: ProjectionStore) -> None:
    long = "x" * 300
    await store.append_events([init(created_us=T0, labels=[long, f"{long}y"])])
    values = {value for _, _, value, _ in await tags(store)}
    assert values == {clip_tag(long), clip_tag(f"{long}y")}
    assert len(values) == 2
