"""Keys of requests that came without one: what a repetition finds, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from engine.store.database import Database, open_database
from engine.store.idempotency import OURS, IdempotencyStore, Standing
from engine.store.retries import ANSWERED_US, CLEAN_US, KEPT_US, RetryStore
from engine.store.schema_retries import blind_retries
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[list[Database]]:
    """The same store, as two processes see it."""
    opened = [await open_database(store_url(tmp_path / "retries.db")) for _ in range(2)]
    try:
        yield opened
    finally:
        for database in opened:
            await database.close()


async def rows(database: Database) -> int:
    query = select(func.count()).select_from(blind_retries)
    return await database.run(lambda connection: connection.execute(query).scalar_one())


async def test_a_repetition_finds_the_key_of_the_latest_first_try_at_any_process(databases: list[Database]) -> None:
    first, second = [RetryStore(database) for database in databases]
    await first.begin("a", "f", "k1", now_us=T0)
    assert await second.again("a", "f", "new", now_us=T0 + 1) == "k1"
    # an equal request that somebody wants a second time
    await second.begin("a", "f", "k2", now_us=T0 + 2)
    assert [await store.again("a", "f", "new", now_us=T0 + 3) for store in (first, second)] == ["k2", "k2"]


async def test_keys_of_other_requests_and_of_other_tenants_are_not_found(databases: list[Database]) -> None:
    store = RetryStore(databases[0])
    await store.begin("a", "f", "k1", now_us=T0)
    assert await store.again("a", "g", "own", now_us=T0) == "own"
    assert await store.again("b", "f", "other", now_us=T0) == "other"
    assert await store.again("a", "f", "new", now_us=T0) == "k1"


async def test_a_repetition_whose_first_try_never_came_has_one_key_from_then_on(databases: list[Database]) -> None:
    stores = [RetryStore(database) for database in databases]
    keys = await asyncio.gather(
        *(stores[number % 2].again("a", "f", f"k{number}", now_us=T0 + number) for number in range(10))
    )
    assert len(set(keys)) == 1
    assert await rows(databases[0]) == 1


async def test_a_key_is_forgotten_an_hour_after_the_last_try(databases: list[Database]) -> None:
    store = RetryStore(databases[0])
    await store.begin("a", "f", "k1", now_us=T0)
    assert await store.again("a", "f", "new", now_us=T0 + KEPT_US - 1) == "k1"
    assert await store.again("a", "f", "new", now_us=T0 + 2 * KEPT_US - 2) == "k1"
    assert await store.again("a", "f", "new", now_us=T0 + 3 * KEPT_US - 2) == "new"
    await store.begin("a", "g", "k2", now_us=T0 + 3 * KEPT_US)
    # the next look takes all that is old
    await store.begin("a", "h", "k3", now_us=T0 + 4 * KEPT_US + CLEAN_US)
    assert await rows(databases[0]) == 1


async def test_a_key_whose_request_was_answered_is_forgotten_soon_but_not_that_of_the_next_one(
    databases: list[Database],
) -> None:
    store = RetryStore(databases[0])
    await store.begin("a", "f", "k1", now_us=T0)
    await store.answered("a", "f", "k1", now_us=T0)
    # a lost answer was waited for before it was asked for again, and that may take its time
    assert await store.again("a", "f", "new", now_us=T0 + ANSWERED_US - 1) == "k1"
    assert await store.again("a", "f", "new", now_us=T0 + ANSWERED_US + 1) == "k1"
    await store.answered("a", "f", "k1", now_us=T0 + ANSWERED_US + 2)
    assert await store.again("a", "f", "k2", now_us=T0 + 2 * ANSWERED_US + 2) == "k2"
    await store.answered("a", "f", "k1", now_us=T0 + 2 * ANSWERED_US + 2)
    assert await store.again("a", "f", "k3", now_us=T0 + 4 * ANSWERED_US) == "k2"


async def test_answers_to_such_requests_are_kept_no_longer_than_their_keys(databases: list[Database]) -> None:
    answers = IdempotencyStore(databases[0])
    for key in (f"{OURS}1", "of the caller"):
        held = await answers.reserve("a", key, "f", now_us=T0)
        await answers.answer("a", key, held.reserved_us, status=201, body="made")
    await answers.reserve("a", "another", "f", now_us=T0 + KEPT_US + CLEAN_US)
    found = [
        await answers.reserve("a", key, "f", now_us=T0 + KEPT_US + CLEAN_US) for key in (f"{OURS}1", "of the caller")
    ]
    assert [one.standing for one in found] == [Standing.FIRST, Standing.ANSWERED]
