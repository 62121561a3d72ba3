"""Prompts under load at three backends of which each fails in its own way."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.core.run.events import body_of
from engine.core.run.story_words import entry
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Project, RoutingConfig, RoutingPolicy
from tests.support.lab import Lab
from tests.support.servers import serve_app

COUNT = 120
TASK = """
name: crowd
main:
  - over: $ list(range(_.count))
    parallelism: 40
    map:
      prompt: "Item {{ _ }}"
      model: m
      unwrap: true
  - evaluate: $ sorted(set(_)) == sorted(_) and len(_)
"""
SLOW: list[dict[str, Any]] = [{"reply": "{last}", "delay_s": 0.15}]
LIMITED: list[dict[str, Any]] = [{"times": 25, "status": 429, "retry_after_s": 0.02}, {"reply": "{last}"}]
BREAKING: list[dict[str, Any]] = [
    {"times": 2, "reply": "{last} and more", "cut_after_chars": 3},
    {"times": 10, "status": 503},
    {"reply": "{last}"},
]


@contextlib.asynccontextmanager
async def servers(
    lab: Lab, policy: RoutingPolicy, *, own_models: bool = False, **rules: list[dict[str, Any]]
) -> AsyncIterator[dict[str, MockLlm]]:
    """Run scripted servers, all with the model `m` or each with its own, and let the laboratory's worker ask them."""
    async with contextlib.AsyncExitStack() as opened:
        apps = {name: create_app(MockScript.model_validate({"rules": own})) for name, own in rules.items()}
        urls = {name: await opened.enter_async_context(serve_app(app)) for name, app in apps.items()}
        backends = {
            name: BackendConfig(base_url=f"{url}/v1", models=[name if own_models else "m"])
            for name, url in urls.items()
        }
        lab.project = Project(backends=backends, routing=RoutingConfig(policy=policy), http=lab.http)
        yield apps


@pytest.mark.parametrize("policy", ["order", "least_loaded", "fastest", "round_robin"])
async def test_every_prompt_is_answered_once_by_whoever_is_well(lab: Lab, policy: RoutingPolicy) -> None:
    await _crowd(lab, policy, TASK)


@pytest.mark.parametrize("policy", ["order", "least_loaded"])
async def test_every_prompt_of_a_list_of_models_is_answered_once(lab: Lab, policy: RoutingPolicy) -> None:
    await _crowd(lab, policy, TASK.replace("model: m", "model: [limited, breaking, slow]"), own_models=True)


async def _crowd(lab: Lab, policy: RoutingPolicy, task: str, *, own_models: bool = False) -> None:
    rules = servers(lab, policy, own_models=own_models, limited=LIMITED, breaking=BREAKING, slow=SLOW)
    async with rules as apps, lab.worker():
        handle = await lab.start(task, {"count": COUNT})
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
    assert ended.output == COUNT
    whole = {"limited": 1, "breaking": 2, "slow": 0}
    answered = Counter(
        call["idempotency_key"] for name, app in apps.items() for call in app.calls if call["rule"] == whole[name]
    )
    assert len(answered) == COUNT
    assert set(answered.values()) == {1}
    events = await lab.events(handle)
    told = [body_of(event) for event in events if event.type == "effect.finished"]
    assert [body["outcome"] for body in told] == ["ok"] * COUNT, "no attempt of a step is used up"
    failed = Counter(item["code"] for body in told for item in body["route"].get("tried", ()))
    asked = {name: Counter(call["rule"] for call in app.calls) for name, app in apps.items()}
    assert failed["backend.rate_limited"] == asked["limited"][0]
    assert failed["backend.cut_off"] == asked["breaking"][0]
    assert failed["backend.overloaded"] == asked["breaking"][1]
    assert sum(failed.values()) > 0


async def test_the_history_says_who_failed_before_one_answered(lab: Lab) -> None:
    both = servers(lab, "order", first=[{"status": 503}], second=[{"reply": "fine"}])
    async with both, lab.worker():
        handle = await lab.start("name: t\nmain: [{prompt: hi, model: m, unwrap: true}]")
        assert (await lab.end_of(handle)).output == "fine"
        body = await lab.until(handle, "effect.finished")
    (record,) = [event for event in await lab.events(handle) if event.type == "effect.finished"]
    assert "at second, after first (backend.overloaded) failed" in entry(record)["what"]
    assert body["backend"] == "second"
    assert body["route"] == {"policy": "order", "tried": [{"backend": "first", "code": "backend.overloaded"}]}
