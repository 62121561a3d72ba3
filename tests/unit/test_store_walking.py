"""Lists that walk through an index in their order: what is equal, when a walk gives up, and no plan that sorts."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    String,
    cast,
    column,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    table,
)

from engine.core.kinds import ExecutionStatus
from engine.store import listing, walking
from engine.store.database import Database, open_database
from engine.store.filters import ExecutionFilter, Span, narrowed, tag_terms
from engine.store.listing import SORTS, ExecutionLists
from engine.store.migrating import SCRIPTS
from tests.support.postgres import store_url
from tests.unit.test_store_listing import T0, Row, passes_naively, walk, write

ORDERS = ("updated_us", "closed_us", "cost_nano", "total_tokens")
SORTS_ROWS = "TEMP B-TREE FOR ORDER BY"


@pytest.fixture
async def database(both_stores: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


def made(count: int) -> list[Row]:
    """Return executions of which no two filters below choose the same."""
    chance = random.Random(7)
    return [
        Row(
            id=f"e{number:03d}",
            created_us=T0 + number // 2,
            updated_us=T0 + chance.randrange(40),
            closed_us=chance.choice([None, T0 + chance.randrange(9)]),
            cost_nano=chance.choice([None, 0, chance.randrange(9)]),
            total_tokens=chance.randrange(5),
            task_id=chance.choice(["t1", "t1", "t2"]),
            status=chance.choice(["succeeded", "failed"]),
            labels=tuple(label for label in ("x", "y") if chance.random() < 0.5),
            metadata={"priority": chance.choice([1, True, 1.0, "1", 2]), "order": {"region": chance.choice("ab")}},
        )
        for number in range(count)
    ]


def listed(rows: list[Row], wanted: ExecutionFilter, sort_by: str, *, descending: bool) -> list[str]:
    """Return the ids of a list as a naive filter and a sort make it."""

    def place(row: Row) -> tuple[int, str]:
        value = getattr(row, SORTS[sort_by])
        return (-1 if value is None else value, row.id)

    return [
        row.id for row in sorted(filter(lambda row: passes_naively(row, wanted), rows), key=place, reverse=descending)
    ]


BROAD = {
    "task": ExecutionFilter(task_id="t1"),
    "task and status": ExecutionFilter(task_id="t1", statuses=[ExecutionStatus.FAILED]),
    "label": ExecutionFilter(labels=["x"]),
    "two labels": ExecutionFilter(labels=["x", "y"]),
    "label and task": ExecutionFilter(labels=["x"], task_id="t2"),
    "number": ExecutionFilter(metadata={"priority": 1}),
    "truth": ExecutionFilter(metadata={"priority": True}),
    "two members": ExecutionFilter(metadata={"priority": 1, "order": {"region": "a"}}),
    "time": ExecutionFilter(created=Span(T0 + 4, T0 + 20), task_id="t1"),
    "cost": ExecutionFilter(min_cost_nano=1),
    "nothing": ExecutionFilter(labels=["x"], task_id="t3"),
}


# --- what is found -------------------------------------------------------------------------------------------------


async def test_a_number_finds_all_that_equal_it_under_the_same_name_in_every_order(database: Database) -> None:
    values: list[Any] = [1, True, 1.0, "1", 2, False, [1], None]
    rows = [
        Row(
            id=f"e{number:02d}",
            created_us=T0 + number,
            cost_nano=number % 3,
            metadata={"priority": values[number % len(values)], "other": 1.0, "order": {"region": "ab"[number % 2]}},
        )
        for number in range(48)
    ]
    await write(database, rows)
    lists = ExecutionLists(database)
    both = {"order": {"region": "a"}}
    for asked in (1, True, 1.0, 2, "1", 0, 3):
        for metadata in ({"priority": asked}, {"priority": asked, **both}, {"priority": asked, "other": True}):
            wanted = ExecutionFilter(metadata=metadata)
            for sort_by in SORTS:
                for descending in (True, False):
                    expected = listed(rows, wanted, sort_by, descending=descending)
                    assert await walk(lists, wanted, limit=8, sort_by=sort_by, descending=descending) == expected
            assert (await lists.count(wanted, tenant="default")).total == sum(
                passes_naively(row, wanted) for row in rows
            )
    assert len(listed(rows, ExecutionFilter(metadata={"priority": 1}), "cost", descending=True)) == 18


async def test_of_equal_values_only_those_are_looked_for_that_the_tenant_has_under_the_name(
    database: Database,
) -> None:
    others = [Row(id="b", tenant="other", metadata={"n": True}), Row(id="c", metadata={"m": True}, labels=("1",))]
    await write(database, [Row(id="a", metadata={"n": 1.0}), *others])

    async def kept(value: Any) -> tuple[str, ...]:
        (term,) = tag_terms(ExecutionFilter(metadata={"n": value}))
        async with database.read() as connection:
            return (await connection.run_sync(lambda sync: narrowed(sync, "default", term))).values

    assert await kept(1) == ("1.0",)
    assert await kept(0) == ("0",)
    assert await kept("1.0") == ('"1.0"',)
    await write(database, [Row(id="d", metadata={"n": True})])
    assert sorted(await kept(1)) == ["1.0", "true"]


@pytest.mark.parametrize("both_stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("most", "part"), [(1, 1), (12, 5), (30, 1), (1_000, 5), (1_000, 250)])
async def test_a_list_is_the_same_whether_a_walk_fills_its_pages_gives_up_or_comes_to_the_end(
    most: int, part: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "WALK", most)
    monkeypatch.setattr(walking, "PART", part)
    # all sets are large
    monkeypatch.setattr(listing, "FEW", 0)
    monkeypatch.setattr(listing, "SOME", 0)
    rows = made(40)
    await write(database, rows)
    lists = ExecutionLists(database)
    for wanted in BROAD.values():
        for sort_by in SORTS:
            for descending in (True, False):
                expected = listed(rows, wanted, sort_by, descending=descending)
                order: dict[str, Any] = {"sort_by": sort_by, "descending": descending}
                assert await walk(lists, wanted, limit=6, **order) == expected
                page = await lists.page(wanted, tenant="default", limit=3, offset=2, **order)
                assert [facts.id for facts in page.items] == expected[2:5]


# --- how it is found -----------------------------------------------------------------------------------------------


@contextmanager
def asked_of(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that a store is asked."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        del connection, cursor, rest
        asked.append((statement, parameters))

    engine = database._direct or database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def plan_of(database: Database, asked: list[tuple[str, Any]]) -> list[str]:
    async with database.read() as connection:
        found: list[str] = []
        for statement, parameters in asked:
            rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            found += [str(row.detail) for row in rows]
        return found


# PostgreSQL plans by what it knows of the data
@pytest.mark.parametrize("both_stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", [name for name in BROAD if name != "nothing"])
async def test_a_page_of_a_common_filter_is_found_without_sorting_and_without_counting(
    name: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in a store of which this is a small part
    for bound in ("FEW", "SOME"):
        monkeypatch.setattr(listing, bound, 5)
    await write(database, made(150))
    for sort_by, descending in itertools.product(SORTS, (True, False)):
        with asked_of(database) as asked:
            page = await ExecutionLists(database).page(
                BROAD[name], tenant="default", limit=5, sort_by=sort_by, descending=descending
            )
        assert len(page.items) == 5
        steps = await plan_of(database, asked)
        assert not [step for step in steps if SORTS_ROWS in step], (sort_by, steps)
        searched = [step for step in steps if step.startswith("SEARCH start")]
        assert all("COVERING INDEX" in step for step in searched), (sort_by, steps)
        inside = [step for step in steps if step.startswith("SEARCH executions USING COVERING INDEX")]
        if searched and sort_by != "created_at":
            assert f"_{SORTS[sort_by]}_id_created_us (tenant=?)" in searched[0]
            # one row is searched for, whatever else is asked of it
            assert all("(tenant=? AND created_us=? AND id=?" in step for step in inside), (sort_by, steps)
            assert not [statement for statement, _ in asked if "count(" in statement]


NUMBERS = table("numbers", column("n", Integer))


@pytest.mark.parametrize(
    ("rows", "passes", "needed", "found", "looked"),
    [
        (100, lambda n: True, 3, [0, 1, 2], 10),
        (100, lambda n: n % 4 == 0, 5, [0, 4, 8, 12, 16], 20),
        (100, lambda n: n > 80, 5, None, 10),  # given up at once
        (100, lambda n: n < 4, 9, None, 20),  # given up when it gets too slow
        (100, lambda n: n % 10 == 0, 4, [0, 10, 20, 30], 40),
        (7, lambda n: False, 5, [], 7),  # there are no more
        (14, lambda n: n < 5, 6, [0, 1, 2, 3, 4], 14),
        (100, lambda n: True, 41, None, 0),  # longer than a walk may be
    ],
)
def test_a_walk_looks_at_no_more_than_it_needs_and_gives_up_when_it_does_not_get_on(
    rows: int,
    passes: Callable[[int], bool],
    needed: int,
    found: list[int] | None,
    looked: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walking, "WALK", 40)
    monkeypatch.setattr(walking, "PART", 10)
    seen: list[int] = []

    def look(number: int) -> bool:
        seen.append(number)
        return passes(number)

    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.connection.driver_connection.create_function("look", 1, look)  # type: ignore[union-attr]
        connection.exec_driver_sql("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
        connection.execute(insert(NUMBERS), [{"n": number} for number in range(rows)])
        number = NUMBERS.c.n
        query = select(number.label("key"), cast(number, String).label("id"), func.look(number).label("passes"))
        got = walking.walk(connection, query.order_by(number), needed)
    engine.dispose()
    assert got == (None if found is None else [(number, str(number)) for number in found])
    # a driver may be one row ahead
    assert looked <= len(seen) <= looked + bool(looked)


# --- the indexes ---------------------------------------------------------------------------------------------------


def indexes(connection: Connection) -> set[tuple[str | None, ...]]:
    found = {tuple(index["column_names"]) for index in inspect(connection).get_indexes("executions")}
    return {columns for columns in found if set(columns) & set(ORDERS) and len(columns) < 5}


def migrated(engine: Engine, run: Callable[[Config, str], None], revision: str) -> set[tuple[str | None, ...]]:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        run(config, revision)
        return indexes(connection)


def test_the_indexes_of_orders_are_made_anew_and_go_back(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    before = {("tenant", column, "id") for column in ORDERS}
    after = {("tenant", column, "id", "created_us") for column in ORDERS}
    assert migrated(engine, command.upgrade, "0004") == before
    assert migrated(engine, command.upgrade, "0005") == after
    assert migrated(engine, command.downgrade, "0004") == before
    assert migrated(engine, command.upgrade, "0005") == after
    engine.dispose()
