"""How a store is opened, brought up to date and written to by several processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from engine.core.errors import Unavailable
from engine.store.changes import Changes
from engine.store.database import migrate, open_database
from engine.store.migrating import HEAD, SCRIPTS, current_revision
from engine.store.schema import NAMING, projection, truth
from engine.store.schema_docs import WORDS
from tests.support.patience import PATIENCE_S, START_S

OPEN = "import asyncio, sys; from engine.store.database import migrate; asyncio.run(migrate(sys.argv[1]))"


def url_of(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'deep' / 'store.db'}"


def test_the_newest_revision_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    both = MetaData(naming_convention=NAMING)
    for metadata in (truth, projection):
        for table in metadata.sorted_tables:
            table.to_metadata(both)

    def differences(connection: Connection) -> list[object]:
        # the full-text index of SQLite is a table that keeps its own tables
        ours = {"include_name": lambda name, kind, parents: not str(name).startswith(WORDS)}
        return list(compare_metadata(MigrationContext.configure(connection, opts=ours), both))

    database = await open_database(url_of(tmp_path))
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


OF_ALL_TENANTS = {
    "pulses",  # signs of life of processes, which work for all of them
    *("blobs", "blob_holders"),  # payloads, which nobody asks for
    *("backend_limits", "backend_sent", "backend_calls"),  # the operator's backends, whose limits they share
    # and what is known of these
    *("registry_marks", "registry_entries", "backend_states", "found_models", "model_pulls"),
}


def test_every_table_and_every_key_has_the_tenant() -> None:
    for metadata in (truth, projection):
        for table in metadata.sorted_tables:
            if table.name in OF_ALL_TENANTS:
                continue
            assert table.primary_key.columns.keys()[0] == "tenant", table.name


async def test_stores_that_are_opened_at_once_are_migrated_one_after_another(tmp_path: Path) -> None:
    same = url_of(tmp_path / "same")
    urls = [same, same, same, *(url_of(tmp_path / str(number)) for number in range(3))]
    opened = await asyncio.gather(*(open_database(url) for url in urls))
    for database in opened:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(current_revision) == HEAD
        await database.close()


def test_stores_that_several_threads_open_at_once_are_migrated_one_after_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, migrate(url_of(tmp_path / str(number % 2)))) for number in range(4)]:
            done.result()


async def test_a_start_on_a_ready_store_costs_milliseconds(tmp_path: Path) -> None:
    await migrate(url_of(tmp_path))
    started = time.process_time()
    await migrate(url_of(tmp_path))
    assert time.process_time() - started < 0.1


async def test_every_connection_has_its_pragmas(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    expected = {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 10_000, "foreign_keys": 1}
    for transaction in (database.read, database.write):
        async with transaction() as connection:
            found = {name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in expected}
        assert found == expected
    await database.close()


def test_several_processes_may_start_at_once(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-W", "error", "-c", OPEN, url_of(tmp_path)]) for _ in range(4)]
    assert [child.wait(START_S) for child in children] == [0, 0, 0, 0]


async def test_a_store_of_a_newer_engine_is_refused(tmp_path: Path) -> None:
    await migrate(url_of(tmp_path))
    with sqlite3.connect(tmp_path / "deep" / "store.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Unavailable) as caught:
        await migrate(url_of(tmp_path))
    assert caught.value.code == "store.newer"


async def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))

    async def fail_midway() -> None:
        async with database.write() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'x'")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await fail_midway()
    async with database.read() as connection:
        found = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        assert found.scalar() == HEAD
    await database.close()


async def test_writers_of_one_process_queue_instead_of_failing(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    async with database.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE counter (n INTEGER)")
        await connection.exec_driver_sql("INSERT INTO counter VALUES (0)")

    async def count() -> None:
        async with database.write() as connection:
            before = (await connection.exec_driver_sql("SELECT n FROM counter")).scalar_one()
            await connection.exec_driver_sql("UPDATE counter SET n = ?", (before + 1,))

    await asyncio.gather(*(count() for _ in range(50)))
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("SELECT n FROM counter")).scalar() == 50
    await database.close()


# --- changes -------------------------------------------------------------------------------------------------------


async def test_a_reader_is_woken_by_a_write_of_another_process(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    changes = Changes(database)
    async with changes.subscribe() as reader:
        assert await reader.wait(PATIENCE_S)  # the first look counts as one
        assert not await reader.wait(0.1)
        with sqlite3.connect(tmp_path / "deep" / "store.db") as connection:
            connection.execute("CREATE TABLE other (n INTEGER)")
        connection.close()
        assert await reader.wait(PATIENCE_S)
        async with database.write() as ours:
            await ours.exec_driver_sql("INSERT INTO other VALUES (1)")
        assert await reader.wait(PATIENCE_S)
        assert not await reader.wait(0.1)
    await changes.close()
    await database.close()


async def test_nobody_looks_while_nobody_waits(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    changes = Changes(database)
    for _ in range(2):
        async with changes.subscribe() as one, changes.subscribe() as two:
            assert await one.wait(PATIENCE_S)
            assert await two.wait(PATIENCE_S)
        await asyncio.sleep(0.1)
        assert "store-changes" not in {task.get_name() for task in asyncio.all_tasks()}
    await database.close()


async def test_closing_the_watch_waits_for_the_last_look_of_readers_that_have_left(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    changes = Changes(database)
    async with changes.subscribe() as reader:
        assert await reader.wait(PATIENCE_S)
    assert "store-changes" in {task.get_name() for task in asyncio.all_tasks()}
    await changes.close()
    assert "store-changes" not in {task.get_name() for task in asyncio.all_tasks()}
    await database.close()


async def test_closing_the_watch_ends_every_wait(tmp_path: Path) -> None:
    database = await open_database(url_of(tmp_path))
    changes = Changes(database)
    async with changes.subscribe() as reader:
        await reader.wait(PATIENCE_S)
        waiting = asyncio.create_task(reader.wait(600))
        await asyncio.sleep(0.05)
        await changes.close()
        assert await asyncio.wait_for(waiting, PATIENCE_S)
        assert await reader.wait(600)
    async with changes.subscribe() as late:
        assert await late.wait(600)
    await database.close()
