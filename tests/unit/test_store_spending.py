"""What is used up of limits and budgets: whoever reserves at the same time, no pot is promised twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.store.database import Database, open_database
from engine.store.schema_spending import spending, spending_reserved
from engine.store.spending import HELD_US, KEPT_US, Amount, MustWait, Pot, Refused, SpendingStore
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
POT = Pot(tenant="", key="team/1/all", budget="team", since_us=1, tokens=100)

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[list[Database]]:
    """The same store, as two processes see it."""
    opened = [await open_database(store_url(tmp_path / "spending.db")) for _ in range(2)]
    try:
        yield opened
    finally:
        for database in opened:
            await database.close()


@pytest.fixture
def store(databases: list[Database]) -> SpendingStore:
    return SpendingStore(databases[0])


async def take(
    store: SpendingStore, call_id: str, least: int, most: int = 0, *, pots: tuple[Pot, ...] = (POT,), at_us: int = T0
) -> Refused | MustWait | None:
    amounts = Amount(0, least), Amount(0, most or least)
    return await store.reserve(pots, call_id, execution_id="e", least=amounts[0], most=amounts[1], now_us=at_us)


async def used(store: SpendingStore) -> tuple[int, int]:
    """Return the tokens that are used of the pot, and those that are reserved."""
    found = await store.spent("team", since_us=1, now_us=T0)
    return sum(item.used.tokens for item in found), sum(item.reserved.tokens for item in found)


async def test_calls_of_several_workers_together_never_reserve_more_than_there_is(databases: list[Database]) -> None:
    stores, chance = [SpendingStore(database) for database in databases], random.Random(5)
    left, most_reserved = 100, 0
    waiting = [(f"c{number}", chance.randrange(1, 30)) for number in range(30)]
    spent = 0
    while waiting:
        answers = await asyncio.gather(
            *(take(stores[number % 2], name, tokens) for number, (name, tokens) in enumerate(waiting))
        )
        taken = [item for item, answer in zip(waiting, answers, strict=True) if answer is None]
        most_reserved = max(most_reserved, sum(tokens for _, tokens in taken))
        assert sum(tokens for _, tokens in taken) <= left
        assert taken or all(isinstance(answer, Refused) for answer in answers), "somebody can always go on"
        for name, tokens in taken:
            really = chance.randrange(1, tokens + 1)
            spent, left = spent + really, left - really
            await stores[chance.randrange(2)].settle([POT], name, Amount(0, really))
        waiting = [item for item, answer in zip(waiting, answers, strict=True) if isinstance(answer, MustWait)]
    assert most_reserved > 30, "several went side by side"
    assert await used(stores[0]) == (spent, 0)


async def test_a_call_that_may_use_more_than_is_left_goes_when_it_is_alone(store: SpendingStore) -> None:
    assert await take(store, "a", 1, 1_000) is None
    assert isinstance(await take(store, "b", 1, 1_000), MustWait)
    await store.settle([POT], "a", Amount(0, 60))
    assert await take(store, "b", 1, 1_000) is None
    await store.settle([POT], "b", Amount(0, 60))
    refused = await take(store, "c", 1, 1_000)
    assert isinstance(refused, Refused)
    assert (refused.used, refused.is_cost) == (Amount(0, 120), False)


async def test_what_is_certain_to_be_too_much_is_refused_and_not_let_wait(store: SpendingStore) -> None:
    assert await take(store, "a", 90) is None
    assert isinstance(await take(store, "b", 20), MustWait)
    assert isinstance(await take(store, "c", 101), Refused)


async def test_a_call_takes_of_all_its_pots_or_of_none(store: SpendingStore) -> None:
    small = Pot(tenant="acme", key="small/1/all", budget="small", since_us=1, tokens=5)
    refused = await take(store, "a", 10, pots=(POT, small))
    assert isinstance(refused, Refused)
    assert refused.pot.budget == "small"
    assert await take(store, "b", 100) is None


async def test_a_call_that_is_made_again_gives_up_what_it_reserved_before(store: SpendingStore) -> None:
    for _ in range(3):
        assert await take(store, "a", 90) is None
    assert isinstance(await take(store, "b", 20), MustWait)


async def test_what_a_lost_worker_reserved_lapses_and_what_a_living_one_holds_does_not(store: SpendingStore) -> None:
    assert await take(store, "lost", 40) is None
    assert await take(store, "living", 40) is None
    await store.hold(["living"], now_us=T0 + HELD_US // 2)
    assert isinstance(await take(store, "c", 60, at_us=T0 + HELD_US - 1), MustWait)
    assert await take(store, "c", 60, at_us=T0 + HELD_US) is None
    assert isinstance(await take(store, "d", 60, at_us=T0 + HELD_US), MustWait)


async def test_what_an_execution_knows_to_have_used_counts_if_the_store_knows_less(store: SpendingStore) -> None:
    pot = Pot(tenant="acme", key="/e", execution_id="e", cost_nano=10, known=Amount(8, 0))
    answer = await store.reserve([pot], "a", execution_id="e", least=Amount(3), most=Amount(3), now_us=T0)
    assert isinstance(answer, Refused)
    assert (answer.used, answer.is_cost) == (Amount(8, 0), True)


async def test_a_call_without_an_answer_uses_nothing(store: SpendingStore) -> None:
    assert await take(store, "a", 90) is None
    await store.settle([POT], "a", None)
    assert await take(store, "b", 100) is None


async def test_old_periods_and_what_nobody_gave_back_in_them_go(
    databases: list[Database], store: SpendingStore
) -> None:
    old = Pot(tenant="", key="team/5/all", budget="team", since_us=5, tokens=9)
    new_us = 5 + KEPT_US + 1
    new = Pot(tenant="", key=f"team/{new_us}/all", budget="team", since_us=new_us, tokens=9)
    await store.settle([old], "a", Amount(0, 1))
    assert await take(store, "lost", 1, pots=(old,), at_us=5) is None
    await store.settle([new], "b", Amount(0, 1))
    for table, keys in ((spending, [new.key]), (spending_reserved, [])):
        rows = await databases[0].run(lambda connection, table=table: connection.execute(table.select()).all())  # type: ignore[misc]
        assert [row.pot for row in rows] == keys
