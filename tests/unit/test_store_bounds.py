"""Texts as long as their columns take them: both stores hold them in every index, and lists find them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.values import compact_json
from engine.store.database import Database, open_database
from engine.store.ends import ExecutionEnd
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists
from engine.store.projection import ProjectionStore
from tests.support.postgres import store_url

TASK = "0b0e5a52-8f1c-4d0a-9f57-0a4a5f3f6a11"


@pytest.fixture
async def database(both_stores: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


def _noise(length: int) -> str:
    # of four bytes each, and without a pattern: PostgreSQL would squeeze repetitions until they fit
    chance = random.Random(length)
    return "".join(chr(chance.randrange(0x20000, 0x2A000)) for _ in range(length))


async def test_an_execution_with_endless_names_is_stored_and_found(database: Database) -> None:
    text = _noise(4_000)
    init = {
        "workflow": "main",
        "scope": "",
        "input": None,
        "task": text,
        "task_id": TASK,
        "version": 1,
        "agent_id": TASK,
        "tenant": "default",
        "metadata": {text[:900]: text},
        "labels": [text],
        "actor": text,
        "parent": {"execution_id": TASK, "path": text},
        "created_us": 1_800_000_000_000_000,
    }
    error = {"error": {"code": f"tool.{text}", "message": "m"}}
    records = [
        EventRecord("e1", "r1", 1, 1_800_000_000_000_000, EventType.INIT.value, compact_json(init)),
        EventRecord("e1", "r1", 2, 1_800_000_000_000_001, EventType.ERROR.value, compact_json(error)),
    ]
    store = ProjectionStore(database)
    await store.append_events(records)
    end = ExecutionEnd("e1", ExecutionStatus.FAILED, 1_800_000_000_000_002, error=error["error"])
    await store.settle([end])
    lists = ExecutionLists(database)
    for wanted in (ExecutionFilter(), ExecutionFilter(task_id=TASK), ExecutionFilter(labels=[text])):
        assert [facts.id for facts in (await lists.page(wanted, tenant="default")).items] == ["e1"]
