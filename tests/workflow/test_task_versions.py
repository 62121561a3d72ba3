"""Executions keep the version they were started with, by whatever name it was found, and outlive their task."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

ASKS = """\
name: asks
main:
  - wait_for_input: {info: {question: sure?}}
  - return: {version: 1, answer: $ _}
"""
SAYS = """\
name: says
main:
  - evaluate: {version: 1}
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


async def put(http: httpx.AsyncClient, text: str) -> dict[str, Any]:
    answer = await http.post("/tasks?by_name=true", content=text, headers={"content-type": "application/yaml"})
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


async def until(http: httpx.AsyncClient, execution_id: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        body = dict((await http.get(f"/executions/{execution_id}")).json())
        if body["status"] == status:
            return body
        assert time.monotonic() < deadline, body
        await asyncio.sleep(0.02)


async def test_an_execution_keeps_its_version_and_goes_on_when_its_task_is_removed(lab: Lab, api: ApiServer) -> None:
    http = api.http
    made = await put(http, ASKS)
    async with lab.worker():
        started = (await http.post("/tasks/asks/executions", json={})).json()
        await until(http, started["id"], "awaiting_input")
        assert (await put(http, ASKS.replace("version: 1", "version: 2")))["version"] == 2
        assert (await http.delete("/tasks/asks")).status_code == 202
        answered = await http.put(f"/executions/{started['id']}", json={"status": "running", "input": "yes"})
        assert answered.status_code == 200, answered.text
        ended = await until(http, started["id"], "succeeded")
    assert ended["output"] == {"version": 1, "answer": "yes"}
    assert (ended["task_id"], ended["task_version"]) == (made["id"], 1)
    listed = (await http.get("/executions", params={"task_id": made["id"]})).json()["items"]
    assert [item["id"] for item in listed] == [started["id"]]
    assert (await http.post("/tasks/asks/executions", json={})).status_code == 404


async def test_an_execution_is_started_by_version_and_alias(lab: Lab, api: ApiServer) -> None:
    http = api.http
    for number in (1, 2, 3):
        await put(http, SAYS.replace("version: 1", f"version: {number}"))
    await http.put("/tasks/says/aliases/prod", json={"version": 2})
    outputs = {}
    async with lab.worker():
        for name in ("says", "says@1", "says@prod", "says@latest"):
            started = await http.post(f"/tasks/{name}/executions", json={})
            assert started.status_code == 201, started.text
            outputs[name] = (await until(http, started.json()["id"], "succeeded"))["output"]["version"]
    assert outputs == {"says": 3, "says@1": 1, "says@prod": 2, "says@latest": 3}
    refused = await http.post("/tasks/says@pord/executions", json={})
    assert (refused.status_code, refused.json()["code"]) == (404, "alias.not_found")


async def test_the_command_run_takes_an_alias(lab: Lab, api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        await put(api.http, SAYS.replace("version: 1", f"version: {number}"))
    await api.http.put("/tasks/says/aliases/prod", json={"version": 1})
    async with lab.worker():
        words = ["run", "says@prod", "-o", "json", "--address", api.url]
        assert await asyncio.to_thread(run_command, words) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["output"], told["task_version"]) == ({"version": 1}, 1)
    assert await asyncio.to_thread(run_command, ["run", "says@pord", "--address", api.url]) == Exit.NOT_FOUND
    assert "error[alias.not_found]: the task 'says' has no alias 'pord'" in capsys.readouterr().err
