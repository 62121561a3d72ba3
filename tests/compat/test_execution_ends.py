"""Answers and cancels at the end of an execution, through the native API on a real Temporal server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.core.run.events import EventRecord
from engine.store.projection import ProjectionStore
from tests.compat.apiserver import api_server, settings_for
from tests.compat.test_native_api import ASK, create, start, until
from tests.support.lab import Lab

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def http(lab: Lab, temporal_address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server.http


@pytest.mark.parametrize("key", [None, "k1"])
async def test_an_answer_that_ends_the_execution_is_not_told_that_it_came_too_late(
    http: httpx.AsyncClient, lab: Lab, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    look = ProjectionStore.answer_events
    ended = asyncio.Event()
    early = [True]

    async def look_too_early(self: ProjectionStore, execution_id: str, **more: Any) -> list[EventRecord]:
        """See nothing the first time, and give that back only when the execution has ended."""
        if "after_seq" in more and early:
            early.clear()
            await ended.wait()
            return []
        return await look(self, execution_id, **more)

    monkeypatch.setattr(ProjectionStore, "answer_events", look_too_early)
    task_id = await create(http, ASK)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        await until(http, execution, "awaiting_input")
        body = {"status": "running", "input": True, **({"key": key} if key else {})}
        answering = asyncio.create_task(http.put(f"/executions/{execution}", json=body))
        done = await until(http, execution, "succeeded")
        ended.set()
        answer = await answering
    assert done["output"] == {"answer": True}
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded"), answer.text
    assert not early


async def test_a_cancelled_execution_says_that_its_finally_steps_failed(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, ASK + "finally: [{error: nobody is at home}]\n")
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        await until(http, execution, "awaiting_input")
        body = {"status": "cancelled", "reason": "changed my mind", "actor": "Ada"}
        assert (await http.put(f"/executions/{execution}", json=body)).status_code == 200
        error = (await until(http, execution, "cancelled"))["error"]
    assert (error["code"], error["message"]) == ("execution.cancelled", "changed my mind")
    assert error["details"]["actor"] == "Ada"
    assert error["details"]["finally"]["message"] == "nobody is at home"
