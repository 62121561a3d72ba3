"""Agents and tasks in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import Conflict, NotFound
from engine.store.database import open_database
from engine.store.definitions import AgentFacts, Definitions, TaskFacts


@pytest.fixture
async def definitions(tmp_path: Path) -> AsyncIterator[Definitions]:
    database = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    yield Definitions(database)
    await database.close()


def agent(number: int, **more: Any) -> AgentFacts:
    facts: dict[str, Any] = {
        "id": f"a{number}",
        "tenant": "default",
        "name": f"Agent {number}",
        "instructions": ["be kind", "be brief"],
        "default_settings": {"temperature": 0.5},
        "metadata": {"number": number, "deep": {"odd": number % 2 == 1}},
        "created_us": number,
        "updated_us": number,
    }
    return AgentFacts(**{**facts, **more})


def task(version: int = 1, **more: Any) -> TaskFacts:
    facts: dict[str, Any] = {
        "id": "t1",
        "tenant": "default",
        "version": version,
        "name": "brew",
        "spec": {"name": "brew", "main": [{"evaluate": {"x": 1}}]},
        "source": "name: brew",
        "plan": {"format": 1},
        "plan_hash": f"hash{version}",
        "input_schema": {"type": "object"},
        "created_us": 1,
        "updated_us": version,
    }
    return TaskFacts(**{**facts, **more})


async def test_an_agent_comes_back_as_it_was_stored(definitions: Definitions) -> None:
    await definitions.add_agent(agent(1))
    assert await definitions.get_agent("a1", tenant="default") == agent(1)
    with pytest.raises(NotFound):
        await definitions.get_agent("a1", tenant="other")


async def test_a_canonical_name_is_taken_once_per_tenant(definitions: Definitions) -> None:
    await definitions.add_agent(agent(1, canonical_name="ada"))
    await definitions.add_agent(agent(2, canonical_name="ada", tenant="other"))
    await definitions.add_agent(agent(3))
    await definitions.add_agent(agent(4))
    with pytest.raises(Conflict) as caught:
        await definitions.add_agent(agent(5, canonical_name="ada"))
    assert caught.value.code == "agent.exists"


async def test_agents_are_paged_sorted_and_filtered_by_metadata(definitions: Definitions) -> None:
    for number in range(6):
        await definitions.add_agent(agent(number, updated_us=100 - number))
    pages = [await definitions.list_agents(tenant="default", limit=4, offset=offset) for offset in (0, 4, 8)]
    assert [[item.id for item in page] for page in pages] == [["a0", "a1", "a2", "a3"], ["a4", "a5"], []]
    by_change = await definitions.list_agents(tenant="default", sort_by="updated_at", limit=1)
    assert [item.id for item in by_change] == ["a5"]
    odd = await definitions.list_agents(
        tenant="default", metadata={"deep": {"odd": True}}, limit=2, offset=1, descending=True
    )
    assert [item.id for item in odd] == ["a3", "a1"]


async def test_the_latest_version_of_a_task_is_the_one_that_is_read(definitions: Definitions) -> None:
    for version in (1, 2):
        await definitions.add_task(task(version))
    assert await definitions.get_task("t1", tenant="default") == task(2)
    assert await definitions.get_task("t1", tenant="default", version=1) == task(1)
    assert await definitions.list_tasks(tenant="default") == [task(2)]
    with pytest.raises(NotFound):
        await definitions.get_task("t1", tenant="default", version=3)
    with pytest.raises(NotFound):
        await definitions.get_task("t1", tenant="other")


async def test_two_writers_cannot_store_the_same_version(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    with pytest.raises(Conflict):
        await definitions.add_task(task(1, plan_hash="other"))
    assert await definitions.get_task("t1", tenant="default") == task(1)


async def test_a_task_is_found_by_name_and_agent(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    await definitions.add_task(task(1, id="t2", agent_id="a1"))
    found = await definitions.find_task("brew", tenant="default", agent_id="a1")
    assert found is not None
    assert found.id == "t2"
    assert await definitions.find_task("brew", tenant="other") is None
    assert [item.id for item in await definitions.list_tasks(tenant="default", agent_id="a1")] == ["t2"]
    assert await definitions.list_tasks(tenant="default", name="other") == []
