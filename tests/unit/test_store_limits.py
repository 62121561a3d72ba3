"""Turns at backends: whoever asks and however, no minute sees more than is allowed, and nobody waits for nothing."""

from __future__ import annotations

import heapq
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from engine.store.database import open_database
from engine.store.limits import BURST, HELD_US, MINUTE_US, SPARE_US, Bounds, LimitStore, Turn
from engine.store.schema_limits import backend_calls
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
SECOND = 1_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def limits(tmp_path: Path) -> AsyncIterator[LimitStore]:
    database = await open_database(store_url(tmp_path / "limits.db"))
    try:
        yield LimitStore(database)
    finally:
        await database.close()


@dataclass(frozen=True)
class Sent:
    """A call that was sent."""

    at_us: int
    tokens: int
    took_us: int
    backend: str


async def crowd(
    limits: LimitStore, bounds: list[Bounds], *, calls: int, seed: int, late_us: int = 0, over_s: float = 90
) -> list[Sent]:
    """Let calls come at random times and do as they are told; `late_us`: how much later at most they come back."""
    chance = random.Random(seed)
    sent: list[Sent] = []
    # time, number, what it was promised; negative numbers end a call
    due: list[tuple[int, int, Turn | None]] = [
        (T0 + round(chance.random() * over_s * SECOND), number, None) for number in range(1, calls + 1)
    ]
    heapq.heapify(due)
    tokens = {number: chance.randrange(1, 120) for number in range(1, calls + 1)}
    by_name = {bound.backend: bound for bound in bounds}
    while due:
        now_us, number, promised = heapq.heappop(due)
        if number < 0:
            assert promised is not None
            await limits.give_back(by_name[promised.backend], f"c{-number}", sent_us=promised.at_us)
            continue
        turn = await limits.take(bounds, f"c{number}", tokens[number], now_us=now_us, promised=promised)
        assert turn is not None
        if turn.is_now:
            took_us = chance.randrange(50_000, 2 * SECOND)
            sent.append(Sent(now_us, tokens[number], took_us, turn.backend))
            heapq.heappush(due, (now_us + took_us, -number, turn))
        else:
            assert turn.at_us >= now_us or promised is not None
            back_us = max(turn.at_us, now_us + 20_000) + round(chance.random() * late_us)
            heapq.heappush(due, (back_us, number, turn))
    assert len(sent) == calls
    return sent


def most_in_a_minute(sent: list[Sent], *, tokens: bool = False) -> int:
    """Return the most calls, or tokens, that began in any minute."""
    most = 0
    for first in sent:
        inside = [item for item in sent if first.at_us <= item.at_us < first.at_us + MINUTE_US]
        most = max(most, sum(item.tokens for item in inside) if tokens else len(inside))
    return most


def most_at_once(sent: list[Sent]) -> int:
    """Return the most calls that were under way at one time."""
    return max(sum(item.at_us <= first.at_us < item.at_us + item.took_us for item in sent) for first in sent)


@pytest.mark.parametrize("late_us", [0, 2 * SECOND, 30 * SECOND])
@pytest.mark.parametrize("per_minute", [1, 2, 7, 60])
async def test_no_minute_sees_more_requests_than_are_allowed(limits: LimitStore, per_minute: int, late_us: int) -> None:
    calls = min(120, per_minute * 4)
    sent = await crowd(
        limits, [Bounds(backend="b", requests=per_minute)], calls=calls, seed=per_minute, late_us=late_us
    )
    assert most_in_a_minute(sent) <= per_minute
    # and not much less
    assert most_in_a_minute(sent) >= max(1, per_minute * (0.85 if late_us <= 2 * SECOND else 0.5))


@pytest.mark.parametrize("late_us", [0, 10 * SECOND])
async def test_no_minute_sees_more_tokens_than_are_allowed(limits: LimitStore, late_us: int) -> None:
    sent = await crowd(limits, [Bounds(backend="b", tokens=2_000)], calls=100, seed=3, late_us=late_us)
    assert 1_600 <= most_in_a_minute(sent, tokens=True) <= 2_000


async def test_never_more_calls_are_under_way_than_are_allowed(limits: LimitStore) -> None:
    sent = await crowd(limits, [Bounds(backend="b", calls=3)], calls=60, seed=5, over_s=5)
    assert most_at_once(sent) == 3
    # places that are free are taken soon
    assert max(item.at_us + item.took_us for item in sent) - T0 < 1.6 * sum(item.took_us for item in sent) / 3


async def test_all_bounds_hold_at_once_at_several_backends(limits: LimitStore) -> None:
    bounds = [
        Bounds(backend="a", calls=2, requests=20, tokens=900),
        Bounds(backend="b", requests=15),
        Bounds(backend="c", calls=1),
    ]
    sent = await crowd(limits, bounds, calls=110, seed=8)
    by = {bound.backend: [item for item in sent if item.backend == bound.backend] for bound in bounds}
    assert all(by.values())
    assert most_in_a_minute(by["a"]) <= 20
    assert most_in_a_minute(by["a"], tokens=True) <= 900
    assert most_at_once(by["a"]) <= 2
    assert most_in_a_minute(by["b"]) <= 15
    assert most_at_once(by["c"]) == 1


async def test_a_burst_is_served_at_once_and_the_rest_one_after_another(limits: LimitStore) -> None:
    bounds = [Bounds(backend="b", requests=100)]
    turns = [await limits.take(bounds, f"c{number}", 1, now_us=T0) for number in range(20)]
    now = [turn for turn in turns if turn is not None and turn.is_now]
    assert len(now) == 100 * BURST
    later = [turn.at_us for turn in turns if turn is not None and not turn.is_now]
    gaps = {later[number + 1] - later[number] for number in range(len(later) - 1)}
    assert max(gaps) - min(gaps) <= 1
    assert later == sorted(later)


async def test_a_turn_that_is_of_no_use_later_takes_nothing(limits: LimitStore) -> None:
    bounds = [Bounds(backend="b", requests=1)]
    assert await limits.take(bounds, "c1", 1, now_us=T0) == Turn("b", T0, is_now=True)
    assert await limits.take(bounds, "c2", 1, now_us=T0, may_wait=False) is None
    first = await limits.take(bounds, "c3", 1, now_us=T0)
    assert first is not None
    assert MINUTE_US <= first.at_us - T0 <= MINUTE_US + SPARE_US + SECOND


async def test_who_comes_early_keeps_its_turn_and_who_comes_late_gets_it_if_there_is_room(limits: LimitStore) -> None:
    bounds = [Bounds(backend="b", requests=1)]
    await limits.take(bounds, "c1", 1, now_us=T0)
    promised = await limits.take(bounds, "c2", 1, now_us=T0)
    assert promised is not None
    early = await limits.take(bounds, "c2", 1, now_us=T0 + SECOND, promised=promised)
    assert early == promised
    following = await limits.take(bounds, "c3", 1, now_us=T0 + SECOND)
    assert following is not None
    late_us = following.at_us - SECOND
    taken = await limits.take(bounds, "c2", 1, now_us=late_us, promised=promised)
    assert taken == Turn("b", late_us, is_now=True)
    # its own turn has come, but the other one was a moment ago
    moved = await limits.take(bounds, "c3", 1, now_us=following.at_us, promised=following)
    assert moved is not None
    assert late_us + MINUTE_US < moved.at_us < late_us + MINUTE_US + 3 * SECOND


async def test_tokens_that_were_not_used_are_others(limits: LimitStore) -> None:
    bound = Bounds(backend="b", tokens=100)
    assert (await limits.take([bound], "c1", 10, now_us=T0)) == Turn("b", T0, is_now=True)
    blocked = await limits.take([bound], "c2", 10, now_us=T0, may_wait=False)
    assert blocked is None
    await limits.give_back(bound, "c1", sent_us=T0, unused_tokens=10)
    assert (await limits.take([bound], "c2", 10, now_us=T0, may_wait=False)) is not None
    await limits.give_back(bound, "c2", sent_us=T0, unused_tokens=-50)
    later = await limits.take([bound], "c3", 10, now_us=T0)
    assert later is not None
    assert later.at_us > T0 + 30 * SECOND


async def test_the_place_of_a_lost_worker_is_free_after_a_while_and_that_of_a_living_one_is_not(
    limits: LimitStore,
) -> None:
    bounds = [Bounds(backend="b", calls=2)]
    for name in ("lost", "living"):
        assert (await limits.take(bounds, name, 1, now_us=T0)) == Turn("b", T0, is_now=True)
    assert await limits.take(bounds, "c", 1, now_us=T0, may_wait=False) is None
    await limits.hold(["living"], now_us=T0 + HELD_US // 2)
    later = T0 + HELD_US + 1
    assert (await limits.take(bounds, "c", 1, now_us=later)) == Turn("b", later, is_now=True)
    assert await limits.take(bounds, "d", 1, now_us=later, may_wait=False) is None


async def test_a_call_that_is_made_again_takes_one_place(limits: LimitStore) -> None:
    bounds = [Bounds(backend="b", calls=1)]
    for _ in range(2):
        turn = await limits.take(bounds, "c", 1, now_us=T0)
        assert turn is not None
        assert turn.is_now
    count = select(func.count()).select_from(backend_calls)
    assert await limits._database.run(lambda connection: connection.execute(count).scalar_one()) == 1
    await limits.give_back(bounds[0], "c")
    assert await limits._database.run(lambda connection: connection.execute(count).scalar_one()) == 0
