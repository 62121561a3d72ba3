"""What all workers are told of a backend: it is passed over until a check or a call finds it well again."""

from __future__ import annotations

from typing import Any

import pytest

from activities.candidates import Candidate
from activities.routing import Router
from engine.core.errors import BackendError
from engine.settings import BackendConfig


class Named:
    """A backend that nobody calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.config = BackendConfig(base_url="http://127.0.0.1:9/v1", models=["m"])

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")


class Asked:
    """Counts who is asked; those that are named fail in a way that passes."""

    def __init__(self, *failing: str) -> None:
        self.names: list[str] = []
        self._failing = failing

    async def __call__(self, item: Candidate, failed: int) -> str:
        del failed
        self.names.append(item.backend.name)
        if item.backend.name in self._failing:
            raise BackendError("no", code="backend.overloaded", retryable=True)
        return item.backend.name


def router_of(*names: str) -> Router:
    return Router([Named(name) for name in names])


async def test_one_that_is_told_to_be_down_is_passed_over_with_the_reason() -> None:
    router, asked = router_of("a", "b"), Asked()
    router.tell({"a": "does not answer (backend.unreachable)"})
    result, route = await router.ask(["m"], asked)
    assert (result, asked.names) == ("b", ["b"])
    assert route is not None
    assert route.passed_over == [{"backend": "a", "why": "does not answer (backend.unreachable)"}]
    router.tell({})
    assert (await router.ask(["m"], asked))[0] == "a"


async def test_a_call_for_which_nobody_else_is_left_tries_it_and_opens_the_way_again() -> None:
    router, asked = router_of("a", "b"), Asked("b")
    router.tell({"a": "does not answer"})
    assert (await router.ask(["m"], asked))[0] == "a"
    assert asked.names == ["b", "a"]
    after = Asked()
    assert (await router.ask(["m"], after))[0] == "a"
    assert after.names == ["a"]


async def test_a_call_that_finds_it_down_leaves_it_passed_over() -> None:
    router, asked = router_of("a", "b"), Asked("a", "b")
    router.tell({"a": "does not answer"})
    for _ in range(2):
        with pytest.raises(BackendError, match="no"):
            await router.ask(["m"], asked)
    assert asked.names == ["b", "a", "b", "a"]


async def test_the_only_one_is_asked_whatever_was_told() -> None:
    router, asked = router_of("a"), Asked()
    router.tell({"a": "does not answer"})
    assert (await router.ask(["m"], asked))[0] == "a"
