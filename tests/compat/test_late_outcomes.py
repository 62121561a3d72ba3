"""What became of a request is left open while the events that tell it are missing, since their worker died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete
from temporalio.client import WorkflowHandle

from engine.control.executions import LATE_EVENTS_S
from engine.control.replaying import repair_execution
from engine.control.settling import settle_from_temporal
from engine.core.contracts.execution import (
    SIGNAL_ANSWER,
    SIGNAL_CONTROL,
    SIGNAL_MESSAGE,
    AnswerSignal,
    ControlSignal,
    MessageSignal,
)
from engine.store.schema import events
from tests.compat.apiserver import api_server, settings_for
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S
from worker import replay_run

pytestmark = pytest.mark.usefixtures("both_stores")

ASK = "name: ask\nmain: [{wait_for_input: {info: go}}, {evaluate: $ _}]"
TALK = "name: talk\nmain: [{listen: {do: {evaluate: $ _}, until: $ True}}]"
KEY = "mine"


@pytest.fixture
async def http(lab: Lab, temporal_address: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=1.0) as server:
        yield server.http


async def ended_without(lab: Lab, handle: WorkflowHandle[Any, Any], kind: str) -> None:
    """Let an execution end, and lose its events of a kind, as a worker does that dies before it has written them."""
    assert (await lab.end_of(handle)).error is None
    await lab.until(handle, "finish")
    lost = delete(events).where(events.c.execution_id == handle.id, events.c.type == kind)
    assert await lab.store.database.run(lambda connection: connection.execute(lost).rowcount, write=True)
    await settle_from_temporal(lab.client, lab.store, handle.id)
    assert (await lab.store.get_execution(handle.id, tenant=TENANT)).verified is False


async def repaired(lab: Lab, handle: WorkflowHandle[Any, Any]) -> None:
    """Restore what is missing, as the repair process does."""
    assert await repair_execution(lab.client, lab.store, handle.id, replay_run)
    await settle_from_temporal(lab.client, lab.store, handle.id)


async def test_an_answer_that_was_taken_is_not_refused_because_its_event_is_missing(
    lab: Lab, http: httpx.AsyncClient
) -> None:
    async def answer(key: str) -> httpx.Response:
        body = {"status": "running", "input": 1}
        return await http.put(f"/executions/{handle.id}", json=body, headers={"Idempotency-Key": key})

    async with lab.worker():
        handle = await lab.start(ASK)
        await lab.until(handle, "wait")
        await handle.signal(SIGNAL_ANSWER, AnswerSignal(key=KEY, value=1, wait_id="main.0", actor="ada"))
        await ended_without(lab, handle, "answer.accepted")
        unsure = await answer(KEY)
        assert (unsure.status_code, unsure.json()["code"]) == (504, "answer.pending")
        await repaired(lab, handle)
        taken = await answer(KEY)
        assert (taken.status_code, taken.json()["status"]) == (200, "succeeded")
        other = await answer("another")
        assert (other.status_code, other.json()["code"]) == (409, "answer.not_waiting")


async def test_an_answer_that_was_taken_is_told_once_its_event_is_restored(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with lab.worker(), api_server(settings, temporal=temporal_address, answer_timeout_s=PATIENCE_S) as patient:
        handle = await lab.start(ASK)
        await lab.until(handle, "wait")
        await handle.signal(SIGNAL_ANSWER, AnswerSignal(key=KEY, value=1, wait_id="main.0", actor="ada"))
        await ended_without(lab, handle, "answer.accepted")
        # the SDK does not repeat a request that comes back as open, so it must not come back so while there is hope
        body, headers = {"status": "running", "input": 1}, {"Idempotency-Key": KEY}
        asking = asyncio.create_task(patient.http.put(f"/executions/{handle.id}", json=body, headers=headers))
        await asyncio.sleep(2 * LATE_EVENTS_S)
        assert not asking.done()
        await repaired(lab, handle)
        taken = await asking
        assert (taken.status_code, taken.json()["status"]) == (200, "succeeded")


async def test_a_pause_that_was_granted_is_not_refused_because_its_event_is_missing(
    lab: Lab, http: httpx.AsyncClient
) -> None:
    async def pause(key: str) -> httpx.Response:
        return await http.post(f"/executions/{handle.id}/pause", json={}, headers={"Idempotency-Key": key})

    async with lab.worker():
        handle = await lab.start(ASK)
        await lab.until(handle, "wait")
        await handle.signal(SIGNAL_CONTROL, ControlSignal(kind="pause", key=KEY, actor="ada"))
        await handle.signal(SIGNAL_CONTROL, ControlSignal(kind="continue", key="then", actor="ada"))
        await lab.answer(handle, 1)
        await ended_without(lab, handle, "execution.paused")
        unsure = await pause(KEY)
        assert (unsure.status_code, unsure.json()["code"]) == (504, "control.pending")
        await repaired(lab, handle)
        assert (await pause(KEY)).status_code == 200
        other = await pause("another")
        assert (other.status_code, other.json()["code"]) == (409, "execution.closed")


async def test_a_message_that_was_taken_is_not_refused_because_its_event_is_missing(
    lab: Lab, http: httpx.AsyncClient
) -> None:
    async def send(message_id: str) -> httpx.Response:
        return await http.post(f"/executions/{handle.id}/messages", json={"id": message_id, "value": 1})

    async with lab.worker():
        handle = await lab.start(TALK)
        await lab.until(handle, "wait")
        await handle.signal(SIGNAL_MESSAGE, MessageSignal(id=KEY, value=1))
        await ended_without(lab, handle, "message.taken")
        unsure = await send(KEY)
        assert (unsure.status_code, unsure.json()["code"]) == (504, "message.pending")
        await repaired(lab, handle)
        taken = await send(KEY)
        assert (taken.status_code, taken.json()["disposition"]) == (200, "started")
        other = await send("another")
        assert (other.status_code, other.json()["code"]) == (409, "execution.closed")
