"""Tasks in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

from engine.core.errors import Conflict, NotFound
from engine.core.plan.ir import PLAN_FORMAT
from engine.store.agents import AgentFacts
from engine.store.aliases import AliasFacts
from engine.store.database import open_database
from engine.store.definitions import Definitions, TaskFacts, TaskWrites
from engine.store.migrating import SCRIPTS
from tests.support.postgres import store_url

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def definitions(tmp_path: Path) -> AsyncIterator[Definitions]:
    database = await open_database(store_url(tmp_path / "store.db"))
    yield Definitions(database)
    await database.close()


def task(version: int = 1, **more: Any) -> TaskFacts:
    facts: dict[str, Any] = {
        "id": "t1",
        "tenant": "default",
        "version": version,
        "name": "brew",
        "spec": {"name": "brew", "main": [{"evaluate": {"x": 1}}]},
        "source": "name: brew",
        "plan": {"format": PLAN_FORMAT},
        "plan_hash": f"hash{version}",
        "input_schema": {"type": "object"},
        "created_us": 1,
        "updated_us": version,
    }
    return TaskFacts(**{**facts, **more})


def alias(version: int, name: str = "prod") -> AliasFacts:
    return AliasFacts(tenant="default", task_id="t1", alias=name, version=version, updated_us=7)


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
    agent = AgentFacts(id="a1", tenant="default", name="Ada", created_us=1, updated_us=1)
    with pytest.raises(NotFound):
        await definitions.add_task(task(1, id="t2", agent_id="a1"))
    await definitions.agents.write("a1", lambda present: present or agent, tenant="default")
    await definitions.add_task(task(1))
    await definitions.add_task(task(1, id="t2", agent_id="a1"))
    found = await definitions.find_task("brew", tenant="default", agent_id="a1")
    assert found is not None
    assert found.id == "t2"
    assert await definitions.find_task("brew", tenant="other") is None
    assert [item.id for item in await definitions.list_tasks(tenant="default", agent_id="a1")] == ["t2"]
    assert await definitions.list_tasks(tenant="default", name="other") == []


async def test_versions_are_listed_the_newest_first(definitions: Definitions) -> None:
    for version in (1, 2, 3):
        await definitions.add_task(task(version))
    found = await definitions.list_versions("t1", tenant="default", limit=2)
    assert [item.version for item in found] == [3, 2]
    assert await definitions.list_versions("t1", tenant="other") == []


async def test_a_removed_task_is_found_no_more_and_its_name_is_free(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    await definitions.write_tasks(TaskWrites(removed=["t1"]), tenant="default", now_us=9)
    for version in (None, 1):
        with pytest.raises(NotFound):
            await definitions.get_task("t1", tenant="default", version=version)
    assert await definitions.find_task("brew", tenant="default") is None
    assert await definitions.list_tasks(tenant="default") == []
    await definitions.write_tasks(TaskWrites(added=[task(1, id="t2")], new_names=True), tenant="default", now_us=9)
    assert (await definitions.get_task("t2", tenant="default")).name == "brew"


async def test_a_removed_task_gets_no_new_version(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    await definitions.write_tasks(TaskWrites(removed=["t1"]), tenant="default", now_us=9)
    with pytest.raises(Conflict, match="removed meanwhile"):
        await definitions.add_task(task(2))


async def test_writes_are_made_together_or_not_at_all(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    writes = TaskWrites(added=[task(1, id="t2", name="other"), task(1, id="t3")], removed=["t1"], new_names=True)
    with pytest.raises(Conflict, match="there is a task 'brew' already"):
        await definitions.write_tasks(writes, tenant="default", now_us=9)
    assert [item.id for item in await definitions.list_tasks(tenant="default")] == ["t1"]


async def test_an_alias_moves_only_from_where_it_is_expected(definitions: Definitions) -> None:
    for version in (1, 2):
        await definitions.add_task(task(version))
    await definitions.aliases.put(alias(1), expect=0)
    with pytest.raises(Conflict) as caught:
        await definitions.aliases.put(alias(2), expect=2)
    assert (caught.value.code, caught.value.details) == ("alias.moved", {"version": 1})
    await definitions.aliases.put(alias(2), expect=1)
    assert await definitions.aliases.list_all(tenant="default") == [alias(2)]
    assert await definitions.aliases.list_all(tenant="other") == []


async def test_an_alias_points_to_a_version_that_is_there(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    with pytest.raises(NotFound) as caught:
        await definitions.aliases.put(alias(2))
    assert caught.value.code == "task.version_not_found"
    with pytest.raises(NotFound) as caught:
        await definitions.aliases.remove("t1", "prod", tenant="default")
    assert caught.value.code == "alias.not_found"


async def test_the_aliases_of_a_removed_task_go_with_it(definitions: Definitions) -> None:
    await definitions.add_task(task(1))
    await definitions.aliases.put(alias(1))
    await definitions.write_tasks(TaskWrites(removed=["t1"]), tenant="default", now_us=9)
    assert await definitions.aliases.list_all(tenant="default") == []


async def test_tasks_of_the_first_revision_are_still_there_after_the_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO tasks (tenant, id, version, latest, agent_id, name, description, spec, source, plan,"
            " plan_hash, input_schema, metadata, created_us, updated_us)"
            " VALUES ('default', 't1', 1, 1, '', 'brew', '', '{}', '', '{}', 'h', 'null', '{}', 1, 1)"
        )
    engine.dispose()
    database = await open_database(url.replace("sqlite:", "sqlite+aiosqlite:"))
    found = await Definitions(database).get_task("t1", tenant="default")
    assert (found.name, found.applied_set) == ("brew", "")
    await Definitions(database).write_tasks(TaskWrites(removed=["t1"]), tenant="default", now_us=9)
    await database.close()


def test_the_migration_can_be_taken_back(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        command.downgrade(config, "0001")
        assert "task_aliases" not in inspect(connection).get_table_names()
        assert "deleted_us" not in {column["name"] for column in inspect(connection).get_columns("tasks")}
    engine.dispose()
