"""Of calls that begin with the same long text one goes ahead, so that the others find it in the provider's cache."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from activities.warming import LEAST_TOKENS, WARM_S, Warming, beginning_of
from engine.core.contracts.activities import CallContext, ChatParams
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Project
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

LONG = "All of this is known. " * LEAST_TOKENS
ANTHROPIC = BackendConfig(kind="anthropic")
CROWD = """
name: crowd
main:
  - over: $ list(range(8))
    parallelism: 8
    map:
      prompt:
        - {role: system, content: $ inputs[0].known}
        - {role: user, content: "Item {{ _ }}"}
      model: m
"""


@contextlib.asynccontextmanager
async def model(lab: Lab, kind: str, rules: list[dict[str, Any]]) -> AsyncIterator[MockLlm]:
    app = create_app(MockScript.model_validate({"rules": rules}))
    async with serve_app(app) as url:
        base_url = url if kind == "anthropic" else f"{url}/v1"
        config = BackendConfig.model_validate({"kind": kind, "base_url": base_url, "models": ["m"]})
        lab.project = Project(backends={"b": config}, http=lab.http)
        yield app


def call(*messages: dict[str, Any], **more: Any) -> ChatParams:
    context = CallContext(tenant="t", execution_id="e", path="main.0", key="k")
    return ChatParams(context=context, messages=list(messages), **more)


async def run(lab: Lab, known: str) -> None:
    task = CROWD.replace("inputs[0]", "input")
    assert (await lab.run(task, {"known": known})).error is None


async def test_the_first_of_a_fan_out_goes_ahead_until_its_reply_begins(lab: Lab) -> None:
    async with model(lab, "anthropic", [{"reply": "ok", "delay_s": 0.3}]) as app, lab.worker():
        await run(lab, LONG)
        times = sorted(item["time"] for item in app.calls)
        assert len(times) == 8
        assert times[1] - times[0] >= 0.3, "the others waited for the whole pause of the first reply"


async def test_when_the_first_one_fails_the_next_one_goes_ahead(lab: Lab) -> None:
    rules: list[dict[str, Any]] = [{"status": 400, "times": 1, "delay_s": 0.2}, {"reply": "ok", "delay_s": 0.2}]
    task = CROWD.replace("inputs[0]", "input").replace("model: m", "model: m\n      on_error: {evaluate: 1}")
    async with model(lab, "anthropic", rules) as app, lab.worker():
        assert (await lab.run(task, {"known": LONG})).error is None
    times = sorted(item["time"] for item in app.calls)
    assert len(times) == 8
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.2


async def test_nobody_waits_for_ever_for_one_that_never_begins() -> None:
    warming = Warming(patience_s=0.01)
    async with warming.turn("x"), asyncio.timeout(PATIENCE_S), warming.turn("x"), warming.turn("x"):
        pass


async def test_what_was_read_once_needs_nobody_ahead_until_the_provider_forgets_it() -> None:
    now = 0.0
    warming = Warming(lambda: now)
    async with warming.turn("x") as begun:
        begun()
        async with warming.turn("x"), warming.turn("x"):
            now = WARM_S + 1
    waits = asyncio.create_task(warming.turn("x").__aenter__())
    async with warming.turn("x"):
        await asyncio.sleep(0)
        assert not waits.done()
    await waits


def test_what_calls_begin_with_is_tools_and_system_text_or_what_the_author_marked() -> None:
    system, marked = {"role": "system", "content": LONG}, {"type": "text", "text": LONG, "cache_control": {"type": "x"}}
    ask = {"role": "user", "content": "a"}

    def begins(*messages: dict[str, Any], **more: Any) -> str:
        return beginning_of(call(*messages, **more), [ANTHROPIC])

    assert begins(system, ask) == begins(system, ask | {"content": "b"}) != ""
    assert begins(system, ask) != begins(system, ask, model="other")
    parts = [{"role": "user", "content": [marked, {"type": "text", "text": text}]} for text in ("a", "b")]
    assert begins(parts[0]) == begins(parts[1]) != ""
    assert begins({"role": "user", "content": LONG}) == ""
    assert begins(system, ask, settings={"cache_control": None}) == ""
    assert beginning_of(call(system, ask), [BackendConfig(base_url="http://x")]) == ""
    assert beginning_of(call(system, ask), [BackendConfig(base_url="http://x", warm_first=True)]) != ""
