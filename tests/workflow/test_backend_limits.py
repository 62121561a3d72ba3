"""Calls beyond what a backend allows wait for their turn: nothing is exceeded, lost, or held up by them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.control.describing import describe
from engine.control.stuck import Diagnosis
from engine.core.run.events import body_of
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, BackendLimits, Project
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

pytestmark = pytest.mark.usefixtures("both_stores")

CROWD = """
name: crowd
main:
  - over: $ list(range(_.count))
    parallelism: 50
    map: {prompt: "Item {{ _ }}", model: m, unwrap: true}
  - evaluate: $ len(set(_))
"""


@contextlib.asynccontextmanager
async def limited(lab: Lab, delay_s: float = 0.0, **limits: int) -> AsyncIterator[MockLlm]:
    """Run a backend with limits beside one without any."""
    rules = [{"reply": "{last}", "delay_s": delay_s}]
    app = create_app(MockScript.model_validate({"rules": rules}))
    free = BackendConfig(base_url=lab.llm_url, models=["free"])
    async with serve_app(app) as url:
        bound = BackendConfig(base_url=f"{url}/v1", models=["m"], limits=BackendLimits(**limits))
        lab.project = Project(backends={"bound": bound, "free": free}, http=lab.http)
        yield app


async def told(lab: Lab, handle: Any) -> list[dict[str, Any]]:
    await lab.until(handle, "finish")
    return [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]


def most_at_once(app: MockLlm, delay_s: float) -> int:
    times: list[float] = [call["time"] for call in app.calls]
    return max(sum(at <= first < at + delay_s for at in times) for first in times)


async def test_a_backend_is_never_asked_more_calls_at_one_time_than_it_allows(lab: Lab) -> None:
    async with limited(lab, 0.1, calls=3) as app, lab.worker():
        handle = await lab.start(CROWD, {"count": 30})
        assert (await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)).output == 30
        calls = await told(lab, handle)
    assert len(app.calls) == 30
    assert most_at_once(app, 0.1) <= 3
    assert [(call["outcome"], call["attempt"]) for call in calls] == [("ok", 1)] * 30
    waited = [call["route"]["waited_s"] for call in calls if "route" in call]
    assert len(waited) >= 20
    assert all("deliveries" not in call for call in calls), "nobody lost a worker"


async def test_a_backend_is_asked_no_more_in_a_minute_than_it_allows(lab: Lab) -> None:
    async with limited(lab, requests_per_minute=120) as app, lab.worker():
        began = time.time()
        handle = await lab.start(CROWD, {"count": 20})
        assert (await asyncio.wait_for(lab.end_of(handle), PATIENCE_S)).output == 20
    times = sorted(call["time"] for call in app.calls)
    assert len(times) == 20
    # twelve at once, then one every half second; from the start, since the first ones may reach the backend late
    assert times[-1] - began > 3.9


async def test_calls_that_wait_hold_no_slot_and_a_cancel_reaches_them(lab: Lab) -> None:
    async with limited(lab, requests_per_minute=1) as app, lab.worker(max_concurrent_activities=2):
        crowd = await lab.start(CROWD, {"count": 12})
        await lab.until(crowd, "effect.finished")
        ended = await asyncio.wait_for(lab.run("name: t\nmain: [{prompt: hi, model: free, unwrap: true}]"), PATIENCE_S)
        assert ended.output == "hi"
        found = await describe(lab.client, crowd.id)
        while not all(call.attempt > 1 for call in found.activities) or len(found.activities) < 11:
            await asyncio.sleep(0.05)
            found = await describe(lab.client, crowd.id)
        assert await Diagnosis(lab.client).of(crowd.id, found) is None
        await lab.cancel(crowd, "too slow")
        assert (await asyncio.wait_for(lab.end_of(crowd), PATIENCE_S)).cancelled
    assert len(app.calls) == 1, "it did not wait for the next turn"
