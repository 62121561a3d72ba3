"""DESIGN §3, "Waits": to which wait an answer goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.core.contracts.execution import AnswerSignal
from engine.core.run.effects import Ok
from engine.core.run.machine import Machine
from tests.compat.apiserver import api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.language.words import started
from tests.support.lab import Lab

TWO = """
name: t
main:
  - parallel:
      - [{sleep: 5}, {wait_for_input: {info: younger}}]
      - wait_for_input: {info: older}
"""


def waiting() -> Machine:
    """Return an execution with two open waits, the one of the second branch opened first."""
    machine, effects = started(TWO)
    kind, name, _ = effects.pop() or ("", "", None)
    assert kind == "timer"
    machine.timer_fired(name)
    machine.run()
    return machine


def test_an_answer_without_an_id_goes_to_the_oldest_open_wait():
    """An answer without an id goes to the oldest open wait."""
    machine = waiting()
    for key in ("first", "second"):
        machine.answer(AnswerSignal(key=key, value=key))
        machine.run()
    assert machine.result is not None
    assert machine.result.outcome == Ok(["second", "first"])


def test_an_answer_with_an_id_goes_to_that_wait():
    """An answer with an id goes to the wait that it names."""
    machine = waiting()
    machine.answer(AnswerSignal(key="a", value="named", wait_id="main.0[0].1"))
    machine.answer(AnswerSignal(key="b", value="rest"))
    machine.run()
    assert machine.result is not None
    assert machine.result.outcome == Ok(["named", "rest"])


@pytest.fixture
async def http(lab: Lab, temporal_address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the native API at a real server."""
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server.http


async def test_the_native_api_asks_which_wait_is_meant(lab: Lab, http: httpx.AsyncClient) -> None:
    """The native API needs the id when several waits are open."""
    task_id = await create(http, TWO.replace("sleep: 5", "sleep: 0.01"))
    async with lab.worker():
        place = f"/executions/{(await start(http, task_id))['id']}"
        waits = (await until_waits(http, place, 2))["waits"]
        vague = await http.put(place, json={"status": "running", "input": "?"})
        assert (vague.status_code, vague.json()["code"]) == (409, "answer.ambiguous")
        for wait in waits:
            answer = {"status": "running", "input": wait["info"], "wait_id": wait["id"]}
            assert (await http.put(place, json=answer)).status_code == 200
        assert (await until(http, place.rpartition("/")[2], "succeeded"))["output"] == ["younger", "older"]


async def until_waits(http: httpx.AsyncClient, place: str, waits: int) -> dict[str, Any]:
    """Return an execution as soon as it has so many open waits."""
    while True:
        body = await until(http, place.rpartition("/")[2], "awaiting_input")
        if len(body["waits"]) >= waits:
            return body
