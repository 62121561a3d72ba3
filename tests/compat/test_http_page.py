"""docs/http.md is true: its commands do what they say; and whoever looks around is told where the routes stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
FENCES = re.findall(r"```(yaml|sh)\n(.*?)```", PAGE, re.DOTALL)
TASK = next(text for kind, text in FENCES if kind == "yaml")
MADE = "6f1c2a52-6f0e-4d7e-9a53-0c5f5e1e9b41"
"""An id that a caller makes."""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


def commands(number: int) -> Iterator[list[str]]:
    """Yield the commands of a block, each as its words."""
    block = [text for kind, text in FENCES if kind == "sh"][number].replace("\\\n", "")
    for line in block.splitlines():
        if line.strip() and not line.startswith("#"):
            yield shlex.split(line)


async def send(api: ApiServer, words: list[str], execution_id: str) -> httpx.Response:
    """Send what curl would send."""
    method, headers, body, url = "GET", {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            body = next(rest)
        elif word != "-N":
            url = word.replace("$API", f"{api.url}/api").replace("$ID", execution_id).replace("$UUID", MADE)
    content = TASK if body == "@greet.yaml" else body
    return await api.http.request(method, url, headers=headers, content=content, timeout=PATIENCE_S)


async def test_the_commands_of_the_page_work(lab: Lab, api: ApiServer) -> None:
    execution_id, answers = "", dict[str, Any]()
    async with lab.worker():
        for words in commands(0):
            response = await send(api, words, execution_id)
            assert response.is_success, (words, response.text)
            if words[-1].startswith('{"input"'):
                execution_id = response.json()["id"]
                await until(api.http, execution_id, "awaiting_input")
            answers[next(word for word in words if word.startswith("$API"))] = response
    assert '"type":"finish"' in answers["$API/executions/$ID/events.stream"].text
    assert answers["$API/executions/counts?label=vip"].json()["by_status"] == {"succeeded": 1}
    (listed,) = answers["$API/executions?status=succeeded&label=vip&metadata_filter.order=17&limit=50"].json()["items"]
    assert (listed["id"], listed["output"]) == (execution_id, {"said": "Hello Ada"})
    told = [item["what"] for item in answers["$API/executions/$ID/history"].json()["items"]]
    assert "bob answered main.0" in told


async def test_a_task_is_patched_and_made_under_an_id_as_the_page_says(api: ApiServer) -> None:
    task_id = await create(api.http, TASK)
    made = await api.http.post("/agents", json={"name": "Helper", "canonical_name": "helper"})
    assert made.is_success, made.text
    for words in commands(1):
        response = await send(api, words, "")
        assert response.is_success, (words, response.text)
    assert (await api.http.get(f"/tasks/{task_id}")).json()["description"] == "Says hello."
    assert (await api.http.get(f"/tasks/{MADE}")).json()["agent_id"] == made.json()["id"]


async def test_a_running_one_takes_an_event_and_is_cancelled_as_the_page_says(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, TASK)
    async with lab.worker():
        execution_id = (await start(api.http, task_id, input={"name": "Ada"}))["id"]
        await until(api.http, execution_id, "awaiting_input")
        for words in commands(2):
            response = await send(api, words, execution_id)
            assert response.is_success, (words, response.text)
        assert (await until(api.http, execution_id, "cancelled"))["error"]["message"] == "not needed"


@pytest.mark.parametrize("path", ["/", "/docs", "/agents", "/api", "/api/nowhere"])
async def test_whoever_looks_around_is_told_where_the_routes_stand(api: ApiServer, path: str) -> None:
    response = await api.http.get(f"{api.url}{path}")
    assert response.status_code == 404
    hint = response.json()["hint"]
    assert "/api/openapi.json" in hint
    assert ("ends with /api;" in hint) == (not path.startswith("/api/"))
    assert (await api.http.get(f"{api.url}/api/openapi.json")).json()["openapi"].startswith("3.1")
