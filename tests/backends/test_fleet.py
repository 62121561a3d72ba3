"""A worker's backends while they change: what is the same stays, and what is used is closed by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from activities.backends.base import Backend
from activities.fleet import Fleet
from engine.settings import BackendConfig, Price

URL = "http://127.0.0.1:9/v1"


class Adapter:
    """An adapter that says when it is closed."""

    def __init__(self, name: str, config: BackendConfig) -> None:
        self.name = name
        self.config = config
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")


def make(name: str, config: BackendConfig) -> Backend:
    return Adapter(name, config)


def configs(*names: str, **more: Any) -> dict[str, BackendConfig]:
    return {name: BackendConfig(base_url=URL, **more) for name in names}


def fleet_of(*names: str) -> Fleet:
    fleet = Fleet(())
    fleet.change(configs(*names), make)
    return fleet


def names_of(backends: Sequence[Backend]) -> list[str]:
    return [backend.name for backend in backends]


async def settled(fleet: Fleet) -> None:
    await asyncio.gather(*fleet._closing)


async def test_what_has_the_same_connection_stays_and_is_told_the_rest() -> None:
    fleet = fleet_of("a", "b")
    before = fleet.backends
    fleet.router._health["a"].failures = 2
    fleet.change(configs("b", "a", models=["m"], prices={"*": Price(input=1, output=1)}), make)
    assert [id(backend) for backend in fleet.backends] == [id(before[1]), id(before[0])]
    assert fleet.backends[0].config.models == ["m"]
    assert fleet.router._health["a"].failures == 2
    await settled(fleet)
    assert not any(backend.is_closed for backend in before)  # type: ignore[attr-defined]


async def test_another_address_or_key_is_another_adapter_of_which_nothing_is_known() -> None:
    for more in ({"api_key_env": "KEY"}, {"api_key_secret": "key"}, {"max_connections": 7}, {"api": "responses"}):
        fleet = fleet_of("a")
        before = fleet.backends[0]
        fleet.router._health["a"].failures = 2
        fleet.change(configs("a", **more), make)
        assert fleet.backends[0] is not before
        assert fleet.router._health["a"].failures == 0
        await settled(fleet)
        assert before.is_closed  # type: ignore[attr-defined]


async def test_what_a_call_may_come_upon_is_closed_when_the_call_has_ended() -> None:
    fleet = fleet_of("a", "b")
    first = fleet.backends[0]
    with fleet.lease():
        fleet.change(configs("b"), make)
        second = fleet.backends[0]
        fleet.change(configs("c"), make)
        third = fleet.backends[0]
        with fleet.lease():
            fleet.change({}, make)
        await settled(fleet)
        # the outer call may still come upon all of them, as it began before any was taken away
        assert not any(backend.is_closed for backend in (first, second, third))  # type: ignore[attr-defined]
    await settled(fleet)
    assert all(backend.is_closed for backend in (first, second, third))  # type: ignore[attr-defined]


async def test_a_call_that_begins_later_keeps_nothing_that_is_gone() -> None:
    fleet = fleet_of("a")
    gone = fleet.backends[0]
    with fleet.lease():
        fleet.change(configs("b"), make)
        later = fleet.lease()
        later.__enter__()
    await settled(fleet)
    assert gone.is_closed  # type: ignore[attr-defined]
    assert not fleet.backends[0].is_closed  # type: ignore[attr-defined]
    later.__exit__(None, None, None)


async def test_at_the_end_all_is_closed() -> None:
    fleet = fleet_of("a", "b")
    kept = fleet.backends
    with fleet.lease():
        fleet.change(configs("a"), make)
        await fleet.aclose()
    assert all(backend.is_closed for backend in kept)  # type: ignore[attr-defined]
    assert names_of(fleet.backends) == ["a"]
