"""The tool activity with the operator's Python functions."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import functools
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.runner import ToolActivities
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.errors import BackendError, ToolError
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig
from engine.tooling import Tool, ToolCatalog, ToolContext, tool

CONTEXT = CallContext(tenant="acme", execution_id="e1", path="main.0", key="e1/main.0", attempt=3)


def params(item: Tool[..., Any], arguments: dict[str, Any], *, timeout_s: float = 10.0) -> ToolParams:
    return ToolParams(context=CONTEXT, tool=item.contract(), arguments=arguments, timeout_s=timeout_s)


async def call(item: Tool[..., Any], *, timeout_s: float = 10.0, threads: int = 4, **arguments: Any) -> Any:
    activities = ToolActivities(ToolCatalog.of(item), HttpConfig(), threads=threads)
    result = await ActivityEnvironment().run(activities.call, params(item, arguments, timeout_s=timeout_s))
    return result.output


async def failure(item: Tool[..., Any], *, timeout_s: float = 10.0, **arguments: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call(item, timeout_s=timeout_s, **arguments)
    assert caught.value.non_retryable
    return caught.value


async def test_an_async_tool_runs_in_the_event_loop_and_a_plain_one_in_a_thread() -> None:
    @tool
    async def inside() -> str:
        return threading.current_thread().name

    @tool
    def beside() -> str:
        return threading.current_thread().name

    assert await call(inside) == threading.current_thread().name
    assert await call(beside) == "everstep-tool"


async def test_a_plain_function_that_wraps_an_async_one_is_awaited() -> None:
    async def real(a: int) -> int:
        return a + 1

    @tool
    @functools.wraps(real)
    def wrapper(a: int) -> Any:
        return real(a)

    assert await call(wrapper, a=1) == 2


class Item(BaseModel):
    price: float


async def test_arguments_become_the_types_that_the_function_asks_for() -> None:
    @tool
    def describe(day: dt.date, items: list[Item], sign: str = "+") -> str:
        return f"{day.year}{sign}{sum(item.price for item in items)}"

    assert await call(describe, day="2025-01-01", items=[{"price": 1}, {"price": 2.5}]) == "2025+3.5"


async def test_the_context_says_who_calls() -> None:
    @tool
    def whoami(*, me: ToolContext) -> list[Any]:
        return [me.idempotency_key, me.execution_id, me.path, me.attempt, me.tenant]

    assert await call(whoami) == ["e1/main.0", "e1", "main.0", 3, "acme"]


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Model(BaseModel):
    day: dt.date


async def test_results_of_common_types_become_json() -> None:
    @tool
    def mixed() -> Any:
        return {"point": Point(1, {"a"}), "models": (Model(day=dt.date(2025, 1, 2)),), 3: dt.timedelta(seconds=1.5)}

    assert await call(mixed) == {"point": {"x": 1, "tags": ["a"]}, "models": [{"day": "2025-01-02"}], "3": 1.5}


@pytest.mark.parametrize("value", [object(), float("nan"), {"a": lambda: None}], ids=["object", "nan", "function"])
async def test_a_result_that_is_not_json_is_a_bad_result(value: Any) -> None:
    @tool
    def odd() -> Any:
        return value

    error = await failure(odd)
    assert error.type == "tool.bad_result"
    assert "'odd'" in error.message


async def test_a_result_that_contains_itself_is_a_bad_result() -> None:
    @tool
    def endless() -> Any:
        loop: list[Any] = []
        loop.append(loop)
        return loop

    assert (await failure(endless)).type == "tool.bad_result"


@tool
def add(a: int, b: int = 0) -> int:
    """Add."""
    return a + b


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"a": "one"}, "a: 'one' is not of type 'integer'"),
        ({}, "'a' is a required property"),
        ({"a": 1, "c": 2}, "'c' was unexpected"),
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_refused_before_the_call(
    arguments: dict[str, Any], part: str
) -> None:
    error = await failure(add, **arguments)
    assert error.type == "tool.bad_arguments"
    assert part in error.message
    assert error.details[0]["retryable"] is False


async def test_arguments_that_fit_an_old_schema_but_not_the_function_are_refused() -> None:
    contract = dataclasses.replace(add.contract(), parameters=None)
    activities = ToolActivities(ToolCatalog.of(add), HttpConfig())
    stale = ToolParams(context=CONTEXT, tool=contract, arguments={"a": []}, timeout_s=1)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(activities.call, stale)
    assert caught.value.type == "tool.bad_arguments"
    assert "a: Input should be a valid integer" in caught.value.message


async def test_a_tool_that_this_worker_lacks_is_named_with_the_known_ones() -> None:
    activities = ToolActivities(ToolCatalog.of(add), HttpConfig())
    lost = ToolParams(context=CONTEXT, tool=ToolContract(name="ad", type="python"), arguments={}, timeout_s=1)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(activities.call, lost)
    assert caught.value.type == "tool.unknown"
    assert caught.value.details[0]["hint"] == "did you mean 'add'? known tools: add"


async def test_an_exception_of_a_tool_is_told_bounded_with_the_end_of_its_traceback() -> None:
    @tool
    def explode() -> None:
        raise ValueError("boom " * 1000)

    error = await failure(explode)
    assert error.type == "tool.failed"
    assert error.message.startswith("tool 'explode' failed: ValueError: boom")
    assert len(error.message) < 700
    body = error.details[0]
    assert body["retryable"] is False
    assert body["details"]["exception"] == "ValueError"
    (frame,) = body["details"]["traceback"].split("  File ")[1:]
    assert "in explode" in frame


async def test_a_tool_may_choose_its_own_code_and_say_that_it_is_worth_another_try() -> None:
    @tool
    def busy() -> None:
        raise ToolError("come back", code="tool.busy", retryable=True, details={"retry_after_s": 2, "queue": {1: (2,)}})

    body = (await failure(busy)).details[0]
    assert (body["code"], body["retryable"], body["retry_after_s"]) == ("tool.busy", True, 2)
    assert body["details"] == {"queue": {"1": [2]}}


async def test_a_code_that_does_not_begin_with_tool_is_refused_by_name_with_one_that_would_do() -> None:
    @tool
    def book() -> None:
        raise ToolError("the books are closed", code="books.closed", retryable=True)

    body = (await failure(book)).details[0]
    assert (body["code"], body["retryable"]) == ("tool.failed", False)
    assert body["message"] == (
        "tool 'book' raised an error with the code 'books.closed', which does not begin with 'tool.': "
        "the books are closed"
    )
    assert body["hint"] == "raise ToolError with a code such as 'tool.books_closed'"
    assert body["details"]["code"] == "books.closed"


async def test_a_bare_tool_dot_is_no_code() -> None:
    @tool
    def book() -> None:
        raise ToolError("closed", code="tool.")

    assert (await failure(book)).type == "tool.failed"


@pytest.mark.parametrize(
    "raised",
    [
        BackendError("x", retryable=True),
        ToolError("x", code="limit.steps"),
        SystemExit(1),
        KeyboardInterrupt(),
        StopIteration(1),
        asyncio.CancelledError(),
        TimeoutError("own"),
    ],
    ids=lambda raised: type(raised).__name__,
)
async def test_nothing_that_a_plain_tool_raises_passes_for_something_else(raised: BaseException) -> None:
    @tool
    def rogue() -> None:
        raise raised

    assert (await failure(rogue)).type == "tool.failed"


@pytest.mark.parametrize("raised", [SystemExit(1), asyncio.CancelledError(), TimeoutError("own")])
async def test_nothing_that_an_async_tool_raises_passes_for_something_else(raised: BaseException) -> None:
    @tool
    async def rogue() -> None:
        raise raised

    assert (await failure(rogue)).type == "tool.failed"


@pytest.mark.parametrize(("effect", "retryable"), [("read", True), ("write", False)])
async def test_a_tool_that_takes_too_long_may_be_repeated_only_if_that_does_no_harm(
    effect: ToolEffect, retryable: bool
) -> None:
    release = threading.Event()

    @tool(effect=effect)
    def slow() -> None:
        release.wait(10)

    error = await failure(slow, timeout_s=0.05)
    release.set()
    assert error.type == "tool.timeout"
    assert error.details[0]["retryable"] is retryable


async def test_the_late_result_of_a_cancelled_plain_tool_is_dropped_and_its_slot_comes_back() -> None:
    release, ended = threading.Event(), threading.Event()

    @tool
    def slow(wait: bool) -> str:
        if wait:
            release.wait(10)
            ended.set()
        return "done"

    activities = ToolActivities(ToolCatalog.of(slow), HttpConfig(), threads=1)
    environment = ActivityEnvironment()
    first = asyncio.create_task(environment.run(activities.call, params(slow, {"wait": True})))
    await asyncio.sleep(0.05)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    # the only thread is still busy with what nobody waits for
    second = asyncio.create_task(ActivityEnvironment().run(activities.call, params(slow, {"wait": False})))
    await asyncio.sleep(0.05)
    assert not second.done()
    release.set()
    assert (await second).output == "done"
    assert ended.is_set()


async def test_plain_tools_run_at_one_time_up_to_the_limit() -> None:
    running: list[int] = []
    peak = 0
    lock = threading.Lock()

    @tool
    def work(number: int) -> None:
        nonlocal peak
        with lock:
            running.append(number)
            peak = max(peak, len(running))
        time.sleep(0.02)
        with lock:
            running.remove(number)

    activities = ToolActivities(ToolCatalog.of(work), HttpConfig(), threads=3)
    calls = (ActivityEnvironment().run(activities.call, params(work, {"number": number})) for number in range(9))
    await asyncio.gather(*calls)
    assert peak == 3
