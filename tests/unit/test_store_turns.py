"""Whose turn it is: places are bounded at every level, tenants and lanes take turns, priority and age decide next."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.store.turns import Group, Held, Holder, Limits, choose, is_unbound


def group(tenant: str = "a", lane: str = "t", **more: object) -> Group:
    """Return a group of ten starts of a task that may run five at a time."""
    values = {
        "tenant": tenant,
        "lane": lane,
        "priority": 3,
        "task_id": "t",
        "limit_key": "",
        "single_key": "",
        "busy": "",
        "task_limit": 5,
        "key_limit": None,
        "waiting": 10,
        "oldest_us": 0,
    }
    return Group(**{**values, **more})  # type: ignore[arg-type]


def lanes(chosen: list[Group]) -> list[str]:
    return [item.lane for item in chosen]


def test_no_more_are_chosen_than_there_are_places() -> None:
    held = Held.of([Holder("a", "t", "", "", "", 2)])
    assert len(choose([group()], held, Limits(), {}, most=100)) == 3


def test_places_that_others_hold_do_not_count() -> None:
    held = Held.of([Holder("a", "other", "", "", "", 9), Holder("b", "t", "", "", "", 9)])
    assert len(choose([group()], held, Limits(), {}, most=100)) == 5


def test_keys_of_a_task_take_turns_however_long_their_queues_are() -> None:
    groups = [group(lane=key, limit_key=key, key_limit=9, waiting=n) for key, n in (("x", 1000), ("y", 2), ("z", 2))]
    assert Counter(lanes(choose(groups, Held(), Limits(), {}, most=100))) == {"x": 2, "y": 2, "z": 1}


def test_a_key_has_its_own_bound_within_that_of_the_task() -> None:
    groups = [group(lane=key, limit_key=key, key_limit=1) for key in "xyz"]
    held = Held.of([Holder("a", "t", "y", "", "", 1)])
    assert sorted(lanes(choose(groups, held, Limits(), {}, most=100))) == ["x", "z"]


def test_tenants_take_turns_whoever_came_first() -> None:
    groups = [group("a", task_limit=None, waiting=1000, oldest_us=1), group("b", task_limit=None, oldest_us=2)]
    chosen = choose(groups, Held(), Limits(running=6), {}, most=100)
    assert [item.tenant for item in chosen] == ["a", "b", "a", "b", "a", "b"]


def test_turns_go_on_from_one_look_to_the_next() -> None:
    groups = [group("a", task_limit=None, oldest_us=1), group("b", task_limit=None, oldest_us=2)]
    turns = {("a", ""): 7, ("b", ""): 5}
    assert [item.tenant for item in choose(groups, Held(), Limits(running=1), turns, most=100)] == ["b"]


def test_a_tenant_has_its_bound_and_the_installation_one_over_all() -> None:
    groups = [group(name, task_limit=None) for name in "abc"]
    limits = Limits(running=5, per_tenant=2)
    chosen = choose(groups, Held.of([Holder("c", "t", "", "", "", 2)]), limits, {}, most=100)
    assert Counter(item.tenant for item in chosen) == {"a": 2, "b": 1}


def test_priority_comes_before_turns_within_a_tenant_and_not_across_tenants() -> None:
    groups = [
        group("a", "low", priority=5, task_limit=None, waiting=9),
        group("a", "high", priority=1, task_limit=None, waiting=2),
        group("b", "mine", priority=5, task_limit=None, waiting=9),
    ]
    assert lanes(choose(groups, Held(), Limits(running=6), {}, most=100)) == [
        "high",
        "mine",
        "high",
        "mine",
        "low",
        "mine",
    ]


def test_one_that_is_full_does_not_hold_up_what_comes_after_it() -> None:
    groups = [group(lane="full", task_id="f", task_limit=1, priority=1), group(lane="free", task_id="g", priority=5)]
    held = Held.of([Holder("a", "f", "", "", "", 1)])
    assert set(lanes(choose(groups, held, Limits(), {}, most=3))) == {"free"}


@pytest.mark.parametrize("busy", ["queue", "skip", "replace"])
def test_of_a_singleton_one_is_chosen_and_none_while_one_runs(busy: str) -> None:
    single = group(busy=busy, single_key="k", task_limit=None)
    assert len(choose([single], Held(), Limits(), {}, most=100)) == 1
    held = Held.of([Holder("a", "t", "", "k", busy, 1)])
    assert choose([single], held, Limits(), {}, most=100) == []
    other_key = Held.of([Holder("a", "t", "", "other", busy, 1)])
    assert len(choose([single], other_key, Limits(), {}, most=100)) == 1


@pytest.mark.parametrize(
    ("held", "limits", "why"),
    [
        ([Holder("a", "t", "k", "s", "queue", 1)], Limits(), "singleton"),
        ([Holder("a", "t", "k", "", "", 2)], Limits(), "key"),
        ([Holder("a", "t", "j", "", "", 5)], Limits(), "task"),
        ([Holder("a", "u", "", "", "", 3)], Limits(per_tenant=3), "tenant"),
        ([Holder("b", "u", "", "", "", 3)], Limits(running=3), "installation"),
        ([], Limits(running=3, per_tenant=1), ""),
    ],
)
def test_it_is_said_what_a_start_waits_for(held: list[Holder], limits: Limits, why: str) -> None:
    wanted = group(limit_key="k", key_limit=2, busy="queue", single_key="s")
    assert Held.of(held).blocks(wanted, limits) == why


def test_what_nothing_bounds_needs_no_turn() -> None:
    assert is_unbound(group(task_limit=None), Limits())
    assert not is_unbound(group(), Limits())
    assert not is_unbound(group(task_limit=None), Limits(running=9))
    assert not is_unbound(group(task_limit=None, busy="queue"), Limits())
