"""Replies and outputs are kept for equal calls if a step says so: nothing is asked then, and the history says it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.control.sweeping import Sweep
from engine.core.run.events import body_of
from engine.core.run.story import Story
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Price, Project
from engine.store.kept import KeptStore
from engine.store.purging import columns_of_executions
from engine.tooling import tool
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

pytestmark = pytest.mark.usefixtures("both_stores")

ASK = "name: ask\nmain: [{prompt: 'What is {{ _ }}?', model: m, unwrap: true, cache: 1h}]"
called: list[str] = []


@tool(effect="read")
async def look_up(word: str) -> str:
    """Look up a word."""
    called.append(word)
    return f"{word} {len(called)}"


@contextlib.asynccontextmanager
async def model(lab: Lab, *rules: dict[str, Any]) -> AsyncIterator[MockLlm]:
    """Run a model, with a price, that answers with the number of the call unless rules say otherwise."""
    app = create_app(MockScript.model_validate({"rules": [*rules, {"reply": "answer {n}"}]}))
    async with serve_app(app) as url:
        prices = {"*": Price.model_validate({"input": 1, "output": 1})}
        lab.project = Project(backends={"b": BackendConfig(base_url=f"{url}/v1", prices=prices)}, http=lab.http)
        yield app


async def run(lab: Lab, task: str, given: Any = None) -> Any:
    return await asyncio.wait_for(lab.run(task, given), PATIENCE_S)


async def ends_of_calls(lab: Lab, handle: Any) -> list[dict[str, Any]]:
    await lab.until(handle, "finish")
    return [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]


async def test_an_equal_prompt_is_answered_with_the_reply_that_was_kept_and_the_history_says_so(lab: Lab) -> None:
    async with model(lab) as app, lab.worker():
        first, second = await run(lab, ASK, "rain"), await lab.start(ASK, "rain")
        assert (await asyncio.wait_for(lab.end_of(second), PATIENCE_S)).output == first.output == "answer 1"
        (told,) = await ends_of_calls(lab, second)
        assert (await run(lab, ASK, "snow")).output == "answer 2"
        row = await lab.store.get_execution(second.id, tenant=TENANT)
    assert len(app.calls) == 2
    assert told["cached"] is True
    assert told["cost"] == "0"
    assert told["usage"]["total_tokens"] == 0
    assert row is not None


@pytest.mark.parametrize(
    "other",
    [
        ASK.replace("model: m", "model: n"),
        ASK.replace("model: m", "model: m, settings: {temperature: 0.5}"),
        ASK.replace("cache: 1h", "cache: {ttl: 1h, key: 2}"),
        ASK.replace("unwrap: true", "unwrap: true, tools: [look_up]"),
        ASK.replace(", cache: 1h", ""),
    ],
)
async def test_a_call_that_differs_in_anything_is_made(lab: Lab, other: str) -> None:
    lab.tools = (look_up,)
    async with model(lab) as app, lab.worker():
        await run(lab, ASK, "rain")
        assert (await run(lab, other, "rain")).output == "answer 2"
    assert len(app.calls) == 2


async def test_a_reply_is_kept_no_longer_than_its_step_says(lab: Lab) -> None:
    store = KeptStore(lab.store.database)
    assert await store.keep(TENANT, "k", {"a": "\ud800"}, execution_id="x", ttl_s=60, now_us=1_000_000)
    assert await store.find(TENANT, "k", now_us=60_000_000) == {"a": "\ud800"}
    assert await store.find(TENANT, "k", now_us=61_000_000) is None
    assert await store.find("other", "k", now_us=2_000_000) is None
    assert await store.sweep(now_us=61_000_000) == 1
    assert await store.find(TENANT, "k", now_us=2_000_000) is None
    assert await store.keep(TENANT, "old", 1, execution_id="x", ttl_s=1, now_us=0)
    await Sweep(lab.client, lab.store.database, []).look()
    assert await store.find(TENANT, "old", now_us=1) is None


async def test_the_oldest_gives_way_when_all_that_is_kept_is_too_much(lab: Lab) -> None:
    store = KeptStore(lab.store.database, most_in_all=250)
    for number in range(4):
        body = "x" * 98
        assert await store.keep(TENANT, str(number), body, execution_id="x", ttl_s=60, now_us=number)
    assert await store.sweep(now_us=10) == 2
    assert [await store.find(TENANT, str(number), now_us=10) is None for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]


async def test_equal_calls_side_by_side_are_one_call(lab: Lab) -> None:
    task = """
name: crowd
main:
  - over: $ [1] * 20
    parallelism: 20
    map: {prompt: hello, model: m, unwrap: true, cache: 1h}
  - evaluate: $ list(set(_))
"""
    async with model(lab, {"reply": "answer {n}", "delay_s": 0.1}) as app, lab.worker():
        assert (await run(lab, task)).output == ["answer 1"]
    assert len(app.calls) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"reply": "half an ans", "finish_reason": "length"},
        {"tool_calls": [{"name": "look_up", "arguments": {"word": "x"}}]},
        {"status": 400},
    ],
)
async def test_what_is_cut_off_or_calls_tools_or_failed_is_not_kept(lab: Lab, bad: dict[str, Any]) -> None:
    task = ASK.replace("unwrap: true", "on_error: {evaluate: 1}, tools: [look_up]")
    lab.tools = (look_up,)
    async with model(lab, bad | {"times": 1}) as app, lab.worker():
        await run(lab, task, "rain")
        output = (await run(lab, task, "rain")).output
    assert output["choices"][0]["message"]["content"] == "answer 2"
    assert len(app.calls) == 2


async def test_a_reply_that_a_check_refused_is_not_taken_again(lab: Lab) -> None:
    task = ASK.replace(
        "cache: 1h",
        "cache: 1h, check: {if: \"'2' in _\", on_fail: error}, retry: {attempts: 2, initial: 0, on: check.failed}",
    )
    async with model(lab) as app, lab.worker():
        assert (await run(lab, task, "rain")).output == "answer 2"
        assert (await run(lab, task, "rain")).output == "answer 2"
    assert len(app.calls) == 2


async def test_an_output_of_a_tool_that_reads_is_kept_too(lab: Lab) -> None:
    called.clear()
    lab.tools = (look_up,)
    task = "name: t\nmain: [{tool: look_up, arguments: {word: $ _}, cache: 1h}]"
    async with lab.worker():
        first, second = await run(lab, task, "rain"), await lab.start(task, "rain")
        assert (await asyncio.wait_for(lab.end_of(second), PATIENCE_S)).output == first.output == "rain 1"
        (told,) = await ends_of_calls(lab, second)
        assert (await run(lab, task, "snow")).output == "snow 2"
        story = Story()
        for event in await lab.events(second):
            story.apply(event)
    assert called == ["rain", "snow"]
    assert told["cached"] is True
    assert story.steps["main.0"].attempts[0].cached


async def test_a_kept_reply_costs_nothing_of_a_limit(lab: Lab) -> None:
    async with model(lab) as app, lab.worker():
        task = ASK.replace("main:", "limits: {tokens: 600}\nmain:").replace(
            "cache", "settings: {max_tokens: 100}, cache"
        )
        assert (await run(lab, task, "rain")).output == "answer 1"
        tight = task.replace("600", "1")
        assert (await run(lab, tight, "rain")).output == "answer 1"
    assert len(app.calls) == 1


def test_what_is_kept_goes_with_the_execution_that_brought_it() -> None:
    tables = {column.table.name for column in columns_of_executions()}
    assert {"kept_replies", "spending", "spending_reserved"} <= tables


async def test_a_reply_is_not_that_of_a_default_model_that_was_or_of_one_found_by_needs(lab: Lab) -> None:
    bare = ASK.replace("model: m, ", "")
    seeing = bare.replace("unwrap", "needs: {vision: true}, unwrap")
    blind = {"capabilities": {"old": {"vision": False}, "new": {"vision": False}, "third": {"vision": False}}}

    def ask_at(url: str, **config: Any) -> None:
        lab.project = Project(
            backends={"b": BackendConfig.model_validate({"base_url": f"{url}/v1", **blind, **config})}, http=lab.http
        )

    async with serve_app(create_app(MockScript.model_validate({"rules": [{"reply": "answer {n}"}]}))) as url:
        said: list[Any] = []
        for config in (
            {"default_model": "old", "models": ["sees"]},
            {"default_model": "new", "models": ["sees"]},
            {"default_model": "new", "models": ["third", "sees2"]},
        ):
            ask_at(url, **config)
            async with lab.worker():
                said += [(await run(lab, task, "rain")).output for task in (bare, seeing, bare, seeing)]
    assert said == [
        *("answer 1", "answer 2", "answer 1", "answer 2"),
        *("answer 3", "answer 4", "answer 3", "answer 4"),
        *("answer 3", "answer 5", "answer 3", "answer 5"),
    ]
