"""The overview's reads: what they remember, and that they count calls as the executions themselves do."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.run.events import EventRecord
from engine.store import overview
from engine.store.database import open_database
from engine.store.filters import Span
from engine.store.overview import OverviewReader
from engine.store.projection import ProjectionStore
from engine.store.usage import UsageReader
from tests.support.postgres import store_url


@pytest.fixture
async def store(both_stores: str, tmp_path: Path) -> AsyncIterator[ProjectionStore]:
    database = await open_database(store_url(tmp_path / "store.db"))
    yield ProjectionStore(database)
    await database.close()


def call(seq: int, number: int, **end: Any) -> list[EventRecord]:
    """Return the two events of a model call that has ended just now."""
    now_us = time.time_ns() // 1_000
    about = {"path": f"main.{number}", "kind": "prompt", "effect_id": f"c{number}", "name": "m", "attempt": 1}
    bodies = [("effect.started", about), ("effect.finished", {**about, **end})]
    return [
        EventRecord("e", "r", seq + place, now_us, kind, json.dumps(body)) for place, (kind, body) in enumerate(bodies)
    ]


async def test_a_reply_without_a_price_is_counted_the_same_everywhere(store: ProjectionStore) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    parts = {"cached_tokens": 1, "cache_write_tokens": 7, "reasoning_tokens": 2}
    good = {"outcome": "ok", "reply": {"content": "x"}, "usage": usage}
    records = [
        *call(1, 0, **{**good, "usage": usage | parts}, model="m", backend="b", cost="0.5"),
        *call(3, 1, **good, model="m", backend="b"),
        # a server that names no model: its reply has no price either
        *call(5, 2, **good, backend="b"),
        # nothing came, so nothing is unpriced
        *call(7, 3, outcome="failed", error={"code": "backend.overloaded", "message": "busy"}),
    ]
    await store.append_events(records, tenant_of={"e": "default"})
    told = (await store.get_execution("e", tenant="default")).usage.to_json()
    hour = (await OverviewReader(store.database).hour(tenant="default")).usage.to_json()
    report = (await UsageReader(store.database).report("model", tenant="default", span=Span())).total.to_json()
    assert (told["llm_calls"], told["unpriced_calls"], told["cost"]) == (4, 2, "0.5")
    assert {name: told[name] for name in parts} == parts
    assert hour == told
    assert {name: report[name] for name in told} == told


async def test_the_last_hour_is_remembered_for_so_many_tenants_only(
    store: ProjectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_REMEMBERED", 3)
    reader = OverviewReader(store.database)
    for number in range(10):
        await reader.hour(tenant=f"t{number}")
    assert list(reader._hours) == ["t7", "t8", "t9"]
