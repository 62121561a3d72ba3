"""Which backend answers a call if several can, and what happens if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from activities.backends.base import Embeddings, Tell, tell_nobody
from activities.candidates import FAILS_OVER, Candidate, Fit, Route
from activities.routing import BREAKS_AFTER, BROKEN_S, MEASURED_S, MOST_PAUSE_S, UNSAID_PAUSE_S, Router
from engine.core.contracts.activities import ChatParams, ChatResult, Usage
from engine.core.errors import BackendError
from engine.settings import BackendConfig, Group, Price, RoutingPolicy

OVERLOADED = BackendError("busy", code="backend.overloaded", retryable=True)


def limited(seconds: float | None) -> BackendError:
    details = {} if seconds is None else {"retry_after_s": seconds}
    return BackendError("slow down", code="backend.rate_limited", retryable=True, details=details)


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A backend that fails, waits and answers as it is told."""

    def __init__(self, name: str, *models: str, price: float | None = None, most: int = 10) -> None:
        prices = {} if price is None else {"*": Price(input=Decimal(price), output=Decimal(price))}
        self.name = name
        self.config = BackendConfig(base_url="http://unused", models=list(models), prices=prices, max_connections=most)
        self.problem: BackendError | None = None
        self.until: asyncio.Event | None = None
        self.takes_s = 1.0
        self.asked: list[str] = []

    async def chat(self, params: ChatParams, tell: Tell = tell_nobody) -> ChatResult:
        raise AssertionError("the router asks by what it is given")

    async def embed(self, model: str, texts: Sequence[str], **more: Any) -> Embeddings:
        raise AssertionError("the router asks by what it is given")

    async def list_models(self) -> list[str]:
        return []

    async def has_model(self, name: str) -> bool:
        return name in self.config.models

    async def aclose(self) -> None:
        pass


class Scene:
    """A router over scripted backends and a clock."""

    def __init__(
        self, *backends: Scripted, policy: RoutingPolicy = "order", groups: dict[str, Group] | None = None
    ) -> None:
        self.clock = Clock()
        self.backends = backends
        self.router = Router(backends, policy, groups, self.clock)

    async def ask(self, model: str | list[str] = "m", fit: Fit | None = None) -> tuple[str, Route | None]:
        """Return who answered, and the route."""

        async def call(item: Candidate, n: int) -> ChatResult:
            del n
            backend = item.backend
            assert isinstance(backend, Scripted)
            backend.asked.append(item.model)
            if backend.until is not None:
                await backend.until.wait()
            self.clock.now += backend.takes_s
            if backend.problem is not None:
                raise backend.problem
            usage = Usage(completion_tokens=10)
            return ChatResult(
                id="1", model=item.model, backend=backend.name, created=0, message={}, finish_reason="stop", usage=usage
            )

        result, route = await self.router.ask(model, call, fit=fit or Fit())
        return result.backend, route

    async def answers(self, count: int, model: str | list[str] = "m") -> list[str]:
        return [(await self.ask(model))[0] for _ in range(count)]


def told(route: Route | None) -> dict[str, Any]:
    assert route is not None
    return route.to_json()


# --- who is asked ----------------------------------------------------------------------------------------------------


async def test_the_first_of_those_that_name_a_model_is_asked_and_the_others_are_not() -> None:
    first, second, other = Scripted("a", "m"), Scripted("b", "m"), Scripted("c", "x")
    answered, route = await Scene(other, first, second).ask()
    assert (answered, told(route)) == ("a", {"policy": "order"})
    assert (second.asked, other.asked) == ([], [])


async def test_without_a_choice_nothing_is_told_of_a_route() -> None:
    assert await Scene(Scripted("a", "m"), Scripted("b", "x")).ask() == ("a", None)


async def test_backends_that_take_any_model_stand_in_for_nobody() -> None:
    # they may know the name or not: an error that passes would become one that stays
    any_one, any_two = Scripted("a"), Scripted("b")
    any_one.problem = OVERLOADED
    with pytest.raises(BackendError, match="busy"):
        await Scene(any_one, any_two).ask()
    assert any_two.asked == []


async def test_a_group_has_models_of_several_names_at_several_backends() -> None:
    groups = {"fast": Group(models=["b/large:8b", "org/tiny", "m"])}
    backends = [Scripted("a", "m", "org/tiny"), Scripted("b", "m", "large:8b"), Scripted("c")]
    scene = Scene(*backends, policy="round_robin", groups=groups)
    await scene.answers(4, "fast")
    assert [backend.asked for backend in backends] == [["org/tiny", "m"], ["large:8b", "m"], []]


async def test_a_member_that_no_backend_has_is_named_with_its_group() -> None:
    scene = Scene(Scripted("a", "m"), groups={"fast": Group(models=["n"])})
    with pytest.raises(BackendError, match="'n', which the group 'fast' names") as caught:
        await scene.ask("fast")
    assert caught.value.code == "backend.unknown_model"
    assert "fast" in caught.value.hint


async def test_a_name_that_nobody_has_gets_the_nearest_one() -> None:
    with pytest.raises(BackendError) as caught:
        await Scene(Scripted("a", "llama-3"), groups={"quick": Group(models=["llama-3"])}).ask("quik")
    assert caught.value.code == "backend.unknown_model"
    assert "quick" in caught.value.hint


# --- policies --------------------------------------------------------------------------------------------------------


async def test_round_robin_asks_in_turns() -> None:
    scene = Scene(Scripted("a", "m"), Scripted("b", "m"), Scripted("c", "m"), policy="round_robin")
    assert await scene.answers(5) == ["a", "b", "c", "a", "b"]


async def test_the_cheapest_is_asked_and_one_without_a_price_last() -> None:
    unknown, dear, cheap = Scripted("u", "m"), Scripted("d", "m", price=9), Scripted("c", "m", price=1)
    scene = Scene(unknown, dear, cheap, policy="cheapest")
    assert await scene.answers(1) == ["c"]
    cheap.problem = OVERLOADED
    assert await scene.answers(1) == ["d"]


async def test_the_least_loaded_for_its_size_is_asked() -> None:
    small, large = Scripted("small", "m", most=2), Scripted("large", "m", most=8)
    scene = Scene(small, large, policy="least_loaded")
    small.until = large.until = asyncio.Event()
    running = []
    for _ in range(6):
        running.append(asyncio.create_task(scene.ask()))
        await asyncio.sleep(0)
    assert (len(small.asked), len(large.asked)) == (2, 4)
    small.until.set()
    await asyncio.gather(*running)


async def test_the_fastest_is_asked_once_all_were_measured_and_measured_again_after_a_while() -> None:
    slow, fast = Scripted("slow", "m"), Scripted("fast", "m")
    slow.takes_s, fast.takes_s = 5.0, 0.5
    scene = Scene(slow, fast, policy="fastest")
    assert await scene.answers(4) == ["slow", "fast", "fast", "fast"]
    slow.takes_s = 0.1
    scene.clock.now += MEASURED_S
    answered = await scene.answers(30)
    assert answered[0] == "slow"
    # a moving average believes it in time
    assert answered[-1] in ("slow", "fast")


# --- failing over ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(FAILS_OVER))
async def test_errors_that_pass_go_to_the_next_and_stand_in_the_route(code: str) -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    first.problem = BackendError("no", code=code, retryable=True)
    answered, route = await Scene(first, second).ask()
    assert answered == "b"
    assert told(route) == {"policy": "order", "tried": [{"backend": "a", "code": code}]}


@pytest.mark.parametrize(
    "problem",
    [
        *(BackendError("no", code=f"backend.{kind}") for kind in ("auth", "context_too_long", "refused", "not_found")),
        # a reply arrived, which must not be asked and paid for again elsewhere
        BackendError("no", code="backend.bad_reply", retryable=True),
        # an address that is none
        BackendError("no", code="backend.unreachable", retryable=False),
    ],
    ids=lambda problem: problem.code,
)
async def test_other_errors_go_nowhere(problem: BackendError) -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    first.problem = problem
    with pytest.raises(BackendError) as caught:
        await Scene(first, second).ask()
    assert (caught.value.code, caught.value.details["tried"]) == (
        problem.code,
        [{"backend": "a", "code": problem.code}],
    )
    assert second.asked == []


async def test_if_all_fail_the_first_ones_error_is_told_with_the_shortest_pause_that_all_ask_for() -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    first.problem, second.problem = limited(30.0), limited(2.0)
    with pytest.raises(BackendError) as caught:
        await Scene(first, second).ask()
    error = caught.value
    assert (error.code, error.retryable, error.details["retry_after_s"]) == ("backend.rate_limited", True, 2.0)
    assert [item["backend"] for item in error.details["tried"]] == ["a", "b"]
    assert "b (backend.rate_limited)" in error.hint
    second.problem = OVERLOADED
    with pytest.raises(BackendError) as caught:
        await Scene(first, second).ask()
    assert "retry_after_s" not in caught.value.details


# --- out of order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked_for", "pause_s"), [(5.0, 5.0), (None, UNSAID_PAUSE_S), (1e9, MOST_PAUSE_S)])
async def test_one_that_limits_its_rate_is_passed_over_for_as_long_as_it_asks(
    asked_for: float | None, pause_s: float
) -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    first.takes_s = second.takes_s = 0.0
    scene = Scene(first, second)
    first.problem = limited(asked_for)
    assert await scene.answers(1) == ["b"]
    first.problem = None
    scene.clock.now += pause_s * 0.99
    answered, route = await scene.ask()
    assert answered == "b"
    assert told(route)["passed_over"] == [{"backend": "a", "why": "limits its rate"}]
    scene.clock.now += pause_s * 0.02
    assert await scene.answers(1) == ["a"]


async def test_one_that_fails_again_and_again_is_passed_over_until_one_call_has_tried_it() -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    first.takes_s = second.takes_s = 0.0
    scene = Scene(first, second)
    first.problem = OVERLOADED
    await scene.answers(BREAKS_AFTER + 5)
    assert len(first.asked) == BREAKS_AFTER
    scene.clock.now += BROKEN_S
    first.until = asyncio.Event()
    probe = asyncio.create_task(scene.ask())
    await asyncio.sleep(0)
    answered, route = await scene.ask()
    assert (answered, len(first.asked)) == ("b", BREAKS_AFTER + 1)
    assert told(route)["passed_over"] == [{"backend": "a", "why": "is being tried"}]
    first.until.set()
    assert (await probe)[0] == "b"
    assert await scene.answers(1) == ["b"]
    first.problem = None
    scene.clock.now += BROKEN_S
    assert await scene.answers(2) == ["a", "a"]


async def test_calls_that_wait_for_a_turn_leave_the_try_to_one_of_them() -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    scene = Scene(first, second)
    first.problem = OVERLOADED
    await scene.answers(BREAKS_AFTER)
    scene.clock.now += BROKEN_S
    asked: list[str] = []
    everybody, waiting = asyncio.Event(), 0

    async def choose(items: Sequence[Candidate]) -> Candidate:
        nonlocal waiting
        waiting += 1
        if waiting == 10:
            everybody.set()
        await everybody.wait()
        return items[0]

    async def call(item: Candidate, n: int) -> int:
        asked.append(item.backend.name)
        if item.backend is first:
            raise OVERLOADED
        return n

    await asyncio.gather(*(scene.router.ask("m", call, choose) for _ in range(10)))
    assert (asked.count("a"), asked.count("b")) == (1, 10)
    # who was given up for another by its turn is tried by the next call
    scene.clock.now += BROKEN_S
    first.problem = None

    async def other(items: Sequence[Candidate]) -> Candidate:
        return items[1]

    async def nested(item: Candidate, n: int) -> str:
        return (await scene.ask())[0]

    assert (await scene.router.ask("m", nested, other))[0] == "a"


async def test_if_all_are_out_of_order_the_one_that_is_due_first_is_asked_all_the_same() -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    scene = Scene(first, second)
    first.problem, second.problem = limited(50.0), limited(20.0)
    with pytest.raises(BackendError):
        await scene.ask()
    second.problem = None
    assert await scene.answers(1) == ["b"]
    assert await Scene(first).router.ask("m", _well) == (1, None)


async def _well(item: Candidate, n: int) -> int:
    del item, n
    return 1


async def test_a_call_that_is_cancelled_says_nothing_of_its_backend() -> None:
    first, second = Scripted("a", "m"), Scripted("b", "m")
    scene = Scene(first, second)
    first.until = asyncio.Event()
    for _ in range(BREAKS_AFTER):
        task = asyncio.create_task(scene.ask())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    first.until = None
    assert await scene.answers(1) == ["a"]


# --- several names ---------------------------------------------------------------------------------------------------


async def test_a_list_is_asked_in_its_order_and_goes_on_to_the_next_name() -> None:
    first, second, third = Scripted("a", "small"), Scripted("b", "large"), Scripted("c", "large")
    scene = Scene(third, second, first)
    assert (await scene.ask(["small", "large"]))[0] == "a"
    first.problem = third.problem = OVERLOADED
    answered, route = await scene.ask(["small", "large"])
    assert answered == "b"
    assert told(route) == {
        "policy": "order",
        "tried": [
            {"backend": "a", "model": "small", "code": "backend.overloaded"},
            {"backend": "c", "model": "large", "code": "backend.overloaded"},
        ],
    }


async def test_groups_in_a_list_keep_their_own_order_and_place() -> None:
    backends = [Scripted("a", "x"), Scripted("b", "x", price=1), Scripted("c", "y", price=0)]
    scene = Scene(*backends, groups={"cheap": Group(models=["x"], policy="cheapest")})
    assert (await scene.ask(["cheap", "y"]))[0] == "b"
    backends[1].problem = OVERLOADED
    _, route = await scene.ask(["y", "cheap"])
    assert [item.asked for item in backends] == [[], ["x"], ["y"]]
    answered, route = await scene.ask(["cheap", "y"])
    assert (answered, [item["backend"] for item in told(route)["tried"]]) == ("a", ["b"])


async def test_other_policies_than_order_choose_among_all_names() -> None:
    dear, cheap = Scripted("d", "first", price=9), Scripted("c", "second", price=1)
    scene = Scene(dear, cheap, policy="cheapest")
    answered, route = await scene.ask(["first", "second"])
    assert (answered, told(route)["policy"]) == ("c", "cheapest")


async def test_names_that_nobody_has_are_passed_over_and_told() -> None:
    scene = Scene(Scripted("a", "m"))
    answered, route = await scene.ask(["lost", "m"])
    assert answered == "a"
    assert told(route) == {"policy": "order", "passed_over": [{"model": "lost", "why": "no backend has it"}]}
    with pytest.raises(BackendError) as caught:
        await scene.ask(["lost", "gone"])
    assert (caught.value.code, "'lost'" in caught.value.message) == ("backend.unknown_model", True)


@pytest.mark.parametrize("kind", ["auth", "context_too_long", "refused", "not_found", "unknown_model", "bad_reply"])
async def test_a_list_goes_on_only_after_errors_that_pass(kind: str) -> None:
    first, second = Scripted("a", "x"), Scripted("b", "y")
    # a bad reply may be asked for again, but it arrived and has been paid for
    first.problem = BackendError("no", code=f"backend.{kind}", retryable=kind == "bad_reply")
    with pytest.raises(BackendError) as caught:
        await Scene(first, second).ask(["x", "y"])
    assert caught.value.code == f"backend.{kind}"
    assert (first.asked, second.asked) == (["x"], [])


async def test_one_backend_with_two_models_of_a_list_is_asked_for_both() -> None:
    only = Scripted("a", "x", "y")
    only.problem = OVERLOADED
    with pytest.raises(BackendError):
        await Scene(only).ask(["x", "y"])
    assert only.asked == ["x", "y"]
