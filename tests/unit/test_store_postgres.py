"""PostgreSQL as the store: its URL, its errors, cut connections, processes that start at once, what it cannot hold."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from engine.core.errors import EngineError, InvalidInput, Unavailable
from engine.edge.cli.doctor import check_store
from engine.store.changes import Changes
from engine.store.database import Database, migrate, open_database
from engine.store.migrating import HEAD, current_revision
from engine.store.postgres import KEPT_ALIVE
from engine.store.schema import NAMING, agents, projection, pulses, tasks, truth
from engine.store.schema_docs import WORDS
from tests.support.cutting import Line, line_to
from tests.support.patience import PATIENCE_S, START_S
from tests.support.postgres import GUARDED, PASSWORD, PostgresServer

OPEN = "import asyncio, sys; from engine.store.database import migrate; asyncio.run(migrate(sys.argv[1]))"


@pytest.fixture
def name(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database."""
    name = f"u{abs(hash(request.node.nodeid)):x}"
    postgres.execute(f"CREATE DATABASE {name}")
    yield name
    postgres.drop(name)


@pytest.fixture
async def database(postgres: PostgresServer, name: str) -> AsyncIterator[Database]:
    opened = await open_database(postgres.url(name))
    yield opened
    await opened.close()


@pytest.fixture
def cut_line(postgres: PostgresServer) -> Iterator[Line]:
    """A line to the server that can be cut."""
    with line_to(postgres.port) as line:
        yield line


@pytest.fixture
async def far(cut_line: Line, name: str) -> AsyncIterator[Database]:
    """The empty database behind the line."""
    opened = await open_database(PostgresServer(cut_line.port).url(name))
    yield opened
    await opened.close()


async def error_of(url: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await migrate(url)
    return caught.value


# --- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
async def test_every_form_of_the_url_opens_the_same_database(postgres: PostgresServer, name: str, scheme: str) -> None:
    url = postgres.url(name).replace("postgresql", scheme)
    database = await open_database(url)
    assert database.place == f"PostgreSQL {name} at 127.0.0.1:{postgres.port}"
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT current_database()"))).scalar() == name
    await database.close()


async def test_words_of_the_url_that_other_programs_know_are_taken(postgres: PostgresServer, name: str) -> None:
    words = "sslmode=disable&connect_timeout=3&application_name=mine&pool_size=2"
    database = await open_database(f"{postgres.url(name)}?{words}")
    async with database.read() as connection:
        assert (await connection.execute(text("SHOW application_name"))).scalar() == "mine"
    assert database.engine.pool.size() == 2  # type: ignore[attr-defined]
    await database.close()


async def test_the_server_looks_whether_a_silent_process_is_still_there(postgres: PostgresServer, name: str) -> None:
    # the server's own limits do not count in the middle of a statement, and its system's is two hours
    database = await open_database(postgres.url(name))
    async with database.read() as connection:
        shown = {setting: (await connection.execute(text(f"SHOW {setting}"))).scalar() for setting in KEPT_ALIVE}
    await database.close()
    assert shown.pop("tcp_user_timeout") in ("60000", "1min")
    assert shown == {"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "4"}


async def test_the_longest_time_of_a_statement_stands_in_the_url(postgres: PostgresServer, name: str) -> None:
    database = await open_database(f"{postgres.url(name)}?command_timeout=0.2")
    with pytest.raises(Unavailable) as caught:
        async with database.read() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert caught.value.code == "store.unreachable"
    await database.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/secret",
        "postgresql://u:secret@h:port/db",
        "mysql://u:secret@h/db",
        "postgresql+psycopg://u:secret@h/db",
        "postgresql://u:secret@h/db?pool_size=many",
        "postgresql://u:secret@h/db?pool_size=0",
        "postgresql://u:secret@h/db?colour=red",
        "secret",
    ],
)
async def test_a_url_that_is_none_is_refused_without_showing_its_password(url: str) -> None:
    error = await error_of(url)
    assert error.code == "store.bad_url"
    assert "secret" not in f"{error.message} {error.hint} {error.__cause__}"


async def test_what_is_wrong_is_said_and_the_password_is_not(postgres: PostgresServer, name: str) -> None:
    wrong = await error_of(postgres.url(name, user=GUARDED, password="wr0ng"))
    assert wrong.code == "store.refused"
    assert GUARDED in wrong.message
    assert "wr0ng" not in f"{wrong.message} {wrong.hint}"

    missing = await error_of(postgres.url("nowhere"))
    assert (missing.code, "'nowhere'" in missing.message) == ("store.missing", True)

    silent = await error_of("postgresql://u:wr0ng@127.0.0.1:1/db")
    assert (silent.code, silent.retryable) == ("store.unreachable", True)
    assert "db at 127.0.0.1:1" in silent.message
    assert "wr0ng" not in f"{silent.message} {silent.hint}"


async def test_a_password_with_any_character_opens(postgres: PostgresServer, name: str) -> None:
    postgres.execute(f"GRANT ALL ON SCHEMA public TO {GUARDED}", database=name)
    await migrate(postgres.url(name, user=GUARDED, password=quote(PASSWORD, safe="")))


async def test_a_user_who_may_not_make_tables_is_told_so(postgres: PostgresServer, name: str) -> None:
    error = await error_of(postgres.url(name, user=GUARDED, password=quote(PASSWORD, safe="")))
    assert (error.code, "CREATE" in error.hint) == ("store.read_only", True)


def test_doctor_says_which_store_it_is_and_whether_it_answers(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERSTEP_DATABASE_URL", postgres.url(name))
    found = {item.check: item for item in check_store(tmp_path)}["store"]
    assert (found.state, found.message) == (
        "warning",
        f"PostgreSQL {name} at 127.0.0.1:{postgres.port} has no tables yet",
    )
    asyncio.run(migrate(postgres.url(name)))
    found = {item.check: item for item in check_store(tmp_path)}["store"]
    assert (found.state, found.message) == ("ok", f"PostgreSQL {name} at 127.0.0.1:{postgres.port} answers")
    monkeypatch.setenv("EVERSTEP_DATABASE_URL", postgres.url("nowhere"))
    found = {item.check: item for item in check_store(tmp_path)}["store"]
    assert (found.state, "createdb nowhere" in found.remedy) == ("error", True)


# --- tables --------------------------------------------------------------------------------------------------------


async def test_the_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    both = MetaData(naming_convention=NAMING)
    for metadata in (truth, projection):
        for table in metadata.sorted_tables:
            table.to_metadata(both)

    def differences(connection: Connection) -> list[object]:
        # an index over an expression, which only migrations know
        opts = {"include_object": lambda _thing, name, *_: name != WORDS}
        return list(compare_metadata(MigrationContext.configure(connection, opts=opts), both))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_every_text_is_sorted_by_its_bytes_and_has_no_length(database: Database) -> None:
    def texts(connection: Connection) -> set[tuple[str, str]]:
        tables = inspect(connection).get_table_names()
        columns = text(
            "SELECT data_type, collation_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'alembic_version' AND data_type LIKE '%char%' "
            "OR table_schema = 'public' AND data_type = 'text'"
        )
        assert {table.name for table in (*truth.sorted_tables, *projection.sorted_tables)} <= set(tables)
        return {tuple(row) for row in connection.execute(columns)}

    async with database.engine.connect() as connection:
        assert await connection.run_sync(texts) == {("text", "C")}


def test_several_processes_may_start_at_once(postgres: PostgresServer, name: str) -> None:
    command = [sys.executable, "-W", "error", "-c", OPEN, postgres.url(name)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait(START_S) for child in children] == [0, 0, 0, 0]
    assert [row["version_num"] for row in postgres.execute("SELECT * FROM alembic_version", database=name)] == [HEAD]


async def test_stores_that_are_opened_at_once_are_migrated_once(postgres: PostgresServer, name: str) -> None:
    opened = await asyncio.gather(*(open_database(postgres.url(name)) for _ in range(4)))
    for database in opened:
        async with database.engine.connect() as connection:
            assert await connection.run_sync(current_revision) == HEAD
        await database.close()


async def test_a_store_of_a_newer_engine_is_refused(postgres: PostgresServer, name: str, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert (await error_of(postgres.url(name))).code == "store.newer"


# --- transactions --------------------------------------------------------------------------------------------------


async def test_a_failed_write_leaves_nothing_behind(database: Database) -> None:
    def fail_midway(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = 'x'"))
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await database.run(fail_midway, write=True)
    async with database.read() as connection:
        assert await connection.run_sync(current_revision) == HEAD


async def select_one(database: Database, *, times: int = 1) -> set[object]:
    """Read in so many transactions side by side; return the connections of the driver that they had."""

    async def once() -> object:
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
            return (await connection.get_raw_connection()).driver_connection

    return set(await asyncio.gather(*(once() for _ in range(times))))


async def test_cut_connections_are_replaced_before_they_are_used(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    before: set[Any] = await select_one(database, times=5)
    await asyncio.to_thread(postgres.cut, name)
    while not all(connection.is_closed() for connection in before):  # noqa: ASYNC110 - the server takes its time
        await asyncio.sleep(0.01)
    assert not before & await select_one(database, times=5)
    async with database.write() as connection:
        await connection.execute(insert(pulses).values(name="p", kind="api", at_us=1))


@pytest.mark.parametrize("says_so", [True, False])
async def test_connections_that_were_cut_while_the_loop_was_busy_are_replaced_too(
    cut_line: Line, far: Database, says_so: bool
) -> None:
    before = await select_one(far, times=5)
    cut_line.cut(says_so=says_so)  # the loop has no time to read it before the connections are wanted
    assert not before & await select_one(far, times=5)
    cut_line.cut(says_so=says_so)
    async with far.write() as connection:
        await connection.execute(insert(pulses).values(name="p", kind="api", at_us=1))


async def give_up(cut_line: Line, database: Database) -> set[object]:
    """Have connections that the server has ended and the line has not; return them."""
    before = await select_one(database, times=5)
    cut_line.cut(closes=False)
    for _ in range(3):  # the loop reads the server's last word
        await asyncio.sleep(0)
    assert not any(connection.is_closed() for connection in before)  # type: ignore[attr-defined]
    return before


@pytest.mark.parametrize("write", [True, False])
async def test_a_transaction_on_a_connection_that_the_server_has_given_up_runs_again(
    cut_line: Line, far: Database, write: bool
) -> None:
    before = await give_up(cut_line, far)
    assert await far.run(lambda connection: connection.execute(text("SELECT 1")).scalar(), write=write) == 1
    assert not before & await select_one(far, times=5)


@pytest.mark.parametrize("transaction", ["read", "write"])
async def test_one_caller_is_told_of_a_connection_that_the_server_has_given_up_and_the_next_has_another(
    cut_line: Line, far: Database, transaction: str
) -> None:
    before = await give_up(cut_line, far)
    with pytest.raises(Unavailable, match="the connection was cut") as caught:
        async with getattr(far, transaction)() as connection:
            await connection.execute(text("SELECT 1"))
    assert (caught.value.code, caught.value.retryable) == ("store.unreachable", True)
    assert not before & await select_one(far, times=5)


async def test_a_transaction_whose_connection_is_cut_runs_again(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> None:
        connection.execute(insert(pulses).values(name=f"p{len(tries)}", kind="api", at_us=1))
        tries.append(1)
        if len(tries) == 1:
            postgres.cut(name)
        connection.execute(select(pulses)).all()

    await database.run(work, write=True)
    assert len(tries) == 2
    async with database.read() as connection:
        assert (await connection.execute(select(pulses.c.name))).scalars().all() == ["p1"]


async def test_a_connection_that_is_cut_again_and_again_is_told_to_the_caller(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    def work(connection: Connection) -> None:
        postgres.cut(name)
        connection.execute(select(pulses)).all()

    with pytest.raises(Unavailable) as caught:
        await database.run(work)
    assert (caught.value.code, caught.value.retryable) == ("store.unreachable", True)


async def test_two_who_wait_for_each_other_both_end(database: Database) -> None:
    """The server ends one of them, and that one begins again."""
    begun = 0

    def count(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            nonlocal begun
            for name in (first, second):
                connection.execute(text("UPDATE pulses SET at_us = at_us + 1 WHERE name = :name"), {"name": name})
                begun += 1
                if begun <= 2:
                    connection.execute(text("SELECT pg_sleep(0.2)"))

        return work

    async with database.write() as connection:
        await connection.execute(insert(pulses), [{"name": name, "kind": "api", "at_us": 0} for name in "ab"])
    await asyncio.gather(
        database.run(count("a", "b"), write=True),
        database.run(count("b", "a"), write=True),
    )
    async with database.read() as connection:
        assert (await connection.execute(select(pulses.c.at_us))).scalars().all() == [2, 2]


async def test_a_caller_who_goes_away_leaves_no_connection_behind(database: Database) -> None:
    asked = asyncio.create_task(database.run(lambda connection: connection.execute(text("SELECT pg_sleep(30)"))))
    while not database.engine.pool.checkedout():  # type: ignore[attr-defined]  # noqa: ASYNC110 - a pool sets no event
        await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1


async def test_a_pool_that_is_in_use_is_said_to_be_busy(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.postgres.POOL_WAIT_S", 0.05)
    database = await open_database(f"{postgres.url(name)}?pool_size=1")
    async with database.read():
        with pytest.raises(Unavailable) as caught:
            await database.run(lambda connection: connection.execute(text("SELECT 1")))
    assert (caught.value.code, caught.value.retryable) == ("store.busy", True)
    await database.close()


# --- what it cannot hold -------------------------------------------------------------------------------------------


async def test_a_nul_becomes_the_sign_for_what_cannot_be_shown(database: Database) -> None:
    row = {"tenant": "default", "id": "a", "name": "x\0y", "canonical_name": None, "created_us": 1, "updated_us": 1}
    async with database.write() as connection:
        await connection.execute(insert(agents).values(row))
    async with database.read() as connection:
        assert (await connection.execute(select(agents.c.name))).scalar() == "x\ufffdy"
        assert (await connection.execute(select(agents.c.id).where(agents.c.name == "x\0y"))).scalar() == "a"
        assert (await connection.execute(select(agents.c.id).where(agents.c.id == "\0"))).scalar() is None


async def test_a_value_that_does_not_fit_is_the_callers_mistake(database: Database) -> None:
    chance = random.Random(1)
    endless = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    row = {"tenant": "default", "id": "a", "name": "x", "canonical_name": endless, "created_us": 1, "updated_us": 1}
    for attempt in (
        insert(agents).values(row),
        insert(agents).values({**row, "canonical_name": None, "created_us": 2**63}),
        select(tasks).where(tasks.c.version == 2**31),
        select(agents).where(agents.c.created_us == 2**64),
    ):
        with pytest.raises(InvalidInput) as caught:
            async with database.write() as connection:
                await connection.execute(attempt)
        assert caught.value.code == "store.unfit"


async def test_a_row_that_is_there_already_is_no_error_of_the_store(database: Database) -> None:
    row = {"tenant": "default", "id": "a", "name": "x", "canonical_name": None, "created_us": 1, "updated_us": 1}
    async with database.write() as connection:
        await connection.execute(insert(agents).values(row))
    with pytest.raises(IntegrityError):
        await database.run(lambda connection: connection.execute(insert(agents).values(row)), write=True)


# --- changes -------------------------------------------------------------------------------------------------------


LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'LISTEN%'"


async def write_one(database: Database, name: str) -> None:
    async with database.write() as connection:
        await connection.execute(insert(pulses).values(name=name, kind="api", at_us=1))


async def test_a_reader_is_woken_by_a_write_of_another_process_and_by_nothing_else(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    other = await open_database(postgres.url(name))
    changes = Changes(database)
    async with changes.subscribe() as reader:
        assert await reader.wait(PATIENCE_S)  # when it begins to listen it looks once
        assert not await reader.wait(0.1)
        await write_one(other, "one")
        assert await reader.wait(PATIENCE_S)
        await other.run(lambda connection: connection.execute(select(pulses)).all(), write=True)  # writes nothing
        assert not await reader.wait(0.1)
        await write_one(database, "two")
        assert await reader.wait(PATIENCE_S)
        assert not await reader.wait(0.1)
    await changes.close()
    await other.close()


async def test_a_watch_whose_connection_was_cut_listens_again(
    postgres: PostgresServer, name: str, database: Database
) -> None:
    listening = LISTENING.format(name)
    changes = Changes(database)
    async with changes.subscribe() as reader:
        assert await reader.wait(PATIENCE_S)
        await asyncio.to_thread(postgres.cut, name)
        assert await reader.wait(PATIENCE_S)  # something may have been missed
        while not await asyncio.to_thread(postgres.execute, listening):  # noqa: ASYNC110 - a server sets no event
            await asyncio.sleep(0.01)  # until it listens again
        while await reader.wait(0.2):
            pass  # it looked once more
        await write_one(database, "one")
        assert await reader.wait(PATIENCE_S)
    await changes.close()


async def test_a_watch_ends_while_the_server_is_gone(postgres: PostgresServer, name: str, database: Database) -> None:
    changes = Changes(database)
    async with changes.subscribe() as reader:
        assert await reader.wait(PATIENCE_S)
        await asyncio.to_thread(postgres.drop, name)
        assert await reader.wait(PATIENCE_S)
        await changes.close()
        assert await reader.wait(600)
    await asyncio.to_thread(postgres.execute, f"CREATE DATABASE {name}")


async def test_nobody_listens_while_nobody_waits(postgres: PostgresServer, name: str, database: Database) -> None:
    listening = LISTENING.format(name)
    changes = Changes(database)
    async with changes.subscribe() as one, changes.subscribe() as two:
        assert await one.wait(PATIENCE_S)
        assert await two.wait(PATIENCE_S)
        assert len(await asyncio.to_thread(postgres.execute, listening)) == 1
        watch = next(task for task in asyncio.all_tasks() if task.get_name() == "store-changes")
    await watch
    assert await asyncio.to_thread(postgres.execute, listening) == []


NO_SPACE = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
"""What the server says when its disk is full, without filling one."""


async def test_a_server_without_space_is_told_by_name_until_it_takes_again(database: Database):
    def fail(connection: Connection) -> None:
        connection.execute(text(NO_SPACE))

    with pytest.raises(Unavailable) as caught:
        await database.run(fail, write=True)
    assert (caught.value.code, caught.value.retryable) == ("store.full", True)
    assert database.place.removeprefix("PostgreSQL ") in caught.value.message
    assert database.trouble is not None
    assert database.trouble.code == "store.full"
    await database.run(lambda connection: connection.execute(select(1)).scalar(), write=True)
    assert database.trouble is None
