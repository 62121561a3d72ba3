"""Writers of the same rows at the same time leave what they would have left one after another, on both databases."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from engine.core.errors import Conflict
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.store.aliases import AliasFacts
from engine.store.database import Database, open_database
from engine.store.definitions import Definitions, TaskFacts, TaskWrites
from engine.store.ends import ExecutionEnd
from engine.store.locks import lock_executions, lock_row
from engine.store.projection import ProjectionStore
from engine.store.pulses import PulseStore
from engine.store.schema import executions, pulses, tasks
from engine.store.upkeep import Upkeep
from tests.support.postgres import store_url

pytestmark = pytest.mark.usefixtures("both_stores")

T0 = 1_800_000_000_000_000
NAMES = [f"e{number}" for number in range(12)]
STEPS = 30
PROCESSES = 4


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[list[Database]]:
    """The same store, opened as several processes would."""
    opened = [await open_database(store_url(tmp_path / "store.db")) for _ in range(PROCESSES)]
    yield opened
    for database in opened:
        await database.close()


def events_of(name: str) -> list[EventRecord]:
    """Everything that an execution emits: steps, a wait that is answered, calls, its end."""
    records: list[EventRecord] = []

    def add(kind: str, /, **body: Any) -> None:
        seq = len(records) + 1
        records.append(EventRecord(name, "run-1", seq, T0 + seq, kind, json.dumps(body)))

    add("init", workflow="main", scope="", input=1, task="brew", task_id="t1", version=1, tenant="default")
    for number in range(STEPS):
        add("step", path=f"main.{number}", workflow="main", index=number, scope="", kind="evaluate", output=number)
        if number == STEPS // 2:
            wait = {"path": "main.w", "workflow": "main", "index": 0, "scope": "", "kind": "wait_for_input"}
            add("wait", **wait, wait_id="w1", info={})
            add("resume", **wait, wait_id="w1", output=1)
    add("finish", workflow="main", scope="", output="done")
    return records


Work = Callable[[ProjectionStore], Coroutine[Any, Any, Any]]


def works(seed: int) -> list[Work]:
    """All that is written of the executions by workers, API and repair, in an order that is chance."""
    chance = random.Random(seed)
    batches: list[list[EventRecord]] = []
    for name in NAMES:
        records = events_of(name)
        while records:
            size = chance.randint(1, 6)
            batches.append(records[:size])
            records = records[size:]
    chance.shuffle(batches)
    # one batch of a worker holds events of several executions
    mixed = [
        [record for batch in batches[start : start + 3] for record in batch] for start in range(0, len(batches), 3)
    ]
    todo = [append(batch) for batch in [*mixed, *chance.choices(mixed, k=5)]]
    for name in NAMES:
        todo += [ensure(name), replace(name), check({name: 7, chance.choice(NAMES): 7})]
    chance.shuffle(todo)
    return todo


def append(batch: list[EventRecord]) -> Work:
    tenants = dict.fromkeys(NAMES, "default")
    return lambda store: store.append_events(batch, tenant_of=tenants)


def ensure(name: str) -> Work:
    named: dict[str, Any] = {"tenant": "default", "task_id": "t1", "task_name": "brew"}
    return lambda store: store.ensure_execution(name, **named, input=1, created_us=T0 + 1)


def replace(name: str) -> Work:
    return lambda store: store.replace_runs(name, {"run-1": events_of(name)}, tenant="default")


def check(lengths: dict[str, int]) -> Work:
    return lambda store: Upkeep(store.database).mark_checked(lengths)


async def rows_of(store: ProjectionStore) -> dict[str, Any]:
    return {name: await Upkeep(store.database).rows_of(name) for name in NAMES}


def end_of(name: str) -> ExecutionEnd:
    return ExecutionEnd(name, ExecutionStatus.SUCCEEDED, T0 + 1_000, output="done", events=STEPS + 4, digest="?")


@pytest.mark.parametrize("seed", range(3))
async def test_executions_written_at_once_have_the_rows_of_executions_written_in_turn(
    databases: list[Database], tmp_path: Path, seed: int
) -> None:
    stores = [ProjectionStore(database) for database in databases]
    todo = zip(works(seed), itertools.cycle(stores), strict=False)
    await asyncio.gather(*(work(store) for work, store in todo))
    await asyncio.gather(*(store.settle([end_of(name) for name in NAMES]) for store in stores))
    found = await rows_of(stores[0])

    quiet = await open_database(store_url(tmp_path / "quiet.db"))
    in_turn = ProjectionStore(quiet)
    for work in works(seed):
        await work(in_turn)
    await in_turn.settle([end_of(name) for name in NAMES])
    expected = await rows_of(in_turn)
    await quiet.close()
    assert found == expected
    assert {len(rows["events"]) for rows in found.values()} == {STEPS + 4}


async def test_a_transaction_reads_behind_the_lock_what_the_one_before_it_wrote(databases: list[Database]) -> None:
    def begin(connection: Connection) -> None:
        row = {"tenant": "default", "id": "e", "status": "running", "created_us": 0, "updated_us": 0, "interpreter": 1}
        connection.execute(insert(executions).values(row))

    def count(connection: Connection) -> None:
        lock_executions(connection, ["e", "f"])
        before = connection.execute(select(executions.c.transition_count)).scalar_one()
        connection.execute(update(executions).values(transition_count=before + 1))

    await databases[0].run(begin, write=True)
    await asyncio.gather(*(database.run(count, write=True) for database in databases for _ in range(25)))
    async with databases[0].read() as connection:
        assert (await connection.execute(select(executions.c.transition_count))).scalar_one() == 25 * PROCESSES


async def test_locks_in_any_order_never_wait_for_each_other(databases: list[Database]) -> None:
    done: list[int] = []

    def take(connection: Connection, names: list[str]) -> None:
        lock_executions(connection, names)
        done.append(1)

    there, back = [f"e{number}" for number in range(300)], [f"e{number}" for number in reversed(range(300))]
    jobs = [
        database.run(functools.partial(take, names=names), write=True)
        for database in databases
        for names in (there, back) * 5
    ]
    await asyncio.gather(*jobs)
    assert len(done) == PROCESSES * 10


async def test_a_row_is_inserted_once_by_those_who_update_or_insert_it(databases: list[Database]) -> None:
    def put(connection: Connection) -> None:
        lock_row(connection, "pulses", "one")
        more = update(pulses).where(pulses.c.name == "one").values(at_us=pulses.c.at_us + 1)
        if not connection.execute(more).rowcount:
            connection.execute(insert(pulses).values(name="one", kind="temporal", at_us=1))

    await asyncio.gather(*(database.run(put, write=True) for database in databases for _ in range(5)))
    await asyncio.gather(*(PulseStore(database).write("worker", "two", {}) for database in databases for _ in range(5)))
    async with databases[0].read() as connection:
        rows = (await connection.execute(select(pulses.c.name, pulses.c.at_us).order_by(pulses.c.name))).all()
    assert [row.name for row in rows] == ["one", "two"]
    assert rows[0].at_us == 5 * PROCESSES


# --- definitions ---------------------------------------------------------------------------------------------------


def task(version: int, **more: Any) -> TaskFacts:
    facts: dict[str, Any] = {"id": "t1", "tenant": "default", "name": "brew", "spec": {}, "source": "", "plan": {}}
    times = {"created_us": 1, "updated_us": version}
    return TaskFacts(**{**facts, **times, "version": version, "plan_hash": f"h{version}", **more})


async def test_of_two_who_write_the_same_version_one_is_told(databases: list[Database]) -> None:
    definitions = [Definitions(database) for database in databases]
    for version in range(1, 6):
        outcomes = await asyncio.gather(*(one.add_task(task(version)) for one in definitions), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == PROCESSES - 1
        assert all(isinstance(outcome, Conflict) and outcome.code == "task.exists" for outcome in refused)
    async with databases[0].read() as connection:
        latest = (await connection.execute(select(tasks.c.version).where(tasks.c.latest.is_(True)))).scalars().all()
    assert latest == [5]


async def test_of_those_who_move_an_alias_from_the_same_version_one_does(databases: list[Database]) -> None:
    definitions = [Definitions(database) for database in databases]
    for version in (1, 2):
        await definitions[0].add_task(task(version))

    def alias(version: int) -> AliasFacts:
        return AliasFacts(tenant="default", task_id="t1", alias="prod", version=version, updated_us=1)

    for expect, version in ((0, 1), (1, 2)):
        moves = (one.aliases.put(alias(version), expect=expect) for one in definitions)
        outcomes = await asyncio.gather(*moves, return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == PROCESSES - 1
        assert all(isinstance(outcome, Conflict) and outcome.code == "alias.moved" for outcome in refused)


async def test_a_new_task_gets_its_name_once(databases: list[Database]) -> None:
    writes = [TaskWrites(added=[task(1, id=f"t{number}")], new_names=True) for number in range(PROCESSES)]
    outcomes = await asyncio.gather(
        *(
            Definitions(database).write_tasks(write, tenant="default", now_us=1)
            for database, write in zip(databases, writes, strict=True)
        ),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    async with databases[0].read() as connection:
        assert (await connection.execute(select(func.count()).select_from(tasks))).scalar() == 1
