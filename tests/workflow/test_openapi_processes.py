"""OpenAPI services with the API and a worker as processes: changes are taken over, and the key is found nowhere."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.backends.openapi_app import SECRET, shop
from tests.support.apiprocess import api_processes
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess
from tests.support.servers import serve_app

TASK = """
name: pets
main:
  - tool: shop_putPet
    arguments: {pet_id: "7", name: Rex}
  - tool: shop_echo
    arguments: {}
  - tool: shop_fail
    arguments: {status: 500}
    on_error: {evaluate: {echo: $ _.headers, error: $ error}}
"""
SERVICE = """
[tools.openapi.shop]
document = "{url}/openapi.json"
auth = {{header = "X-Shop-Key", env = "SHOP_KEY"}}
refresh_s = 1
"""


def without(app: FastAPI, path: str) -> dict[str, Any]:
    """Return the document of a service as if it did not have a path yet."""
    whole = app.openapi()
    return {**whole, "paths": {name: item for name, item in whole["paths"].items() if name != path}}


async def accepted(api: httpx.AsyncClient) -> httpx.Response:
    """Store the task as soon as the API takes it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = await api.post("/api/tasks", content=TASK, headers={"Content-Type": "application/yaml"})
        if answer.is_success or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.1)


def files_with(text: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.timeout(120)
async def test_a_changed_document_is_taken_over_by_api_and_worker_and_the_key_is_found_nowhere(lab: Lab) -> None:
    app = shop()
    app.openapi_schema = without(app, "/echo")
    async with serve_app(app) as url:
        worker = WorkerProcess(lab, [], {"SHOP_KEY": SECRET, "EVERSTEP_LOG_LEVEL": "debug"})
        with (lab.folder / "everstep.toml").open("a") as project:
            project.write(SERVICE.format(url=url))
        worker.start()
        settings = {
            "TEMPORAL_ADDRESS": lab.client.service_client.config.target_host,
            "EVERSTEP_TASK_QUEUE": lab.queue,
            "EVERSTEP_LOG_LEVEL": "debug",
        }
        try:
            await worker.ready()
            async with (
                api_processes(lab.folder, 1, **settings) as (process,),
                httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S) as api,
            ):
                refused = await api.post("/api/tasks", content=TASK, headers={"Content-Type": "application/yaml"})
                assert refused.status_code == 400
                assert "there is no tool 'shop_echo'" in refused.text
                app.openapi_schema = None
                assert (await accepted(api)).is_success
                begun = await api.post("/api/tasks/pets/executions", json={"input": {}})
                execution = begun.json()["id"]
                ended = await lab.end_of(lab.client.get_workflow_handle(execution, result_type=dict))
                told = [
                    (await api.get(f"/api/executions/{execution}{part}")).text for part in ("", "/history", "/steps")
                ]
                told.append((await api.get("/api/tasks/pets")).text)
        finally:
            await worker.stop()
    assert ended.output["echo"]["x-shop-key"] == "***"
    assert ended.output["error"]["code"] == "tool.http_status"
    assert any("shop_putPet" in text for text in told)
    for form in (SECRET, SECRET[:12]):
        assert [text for text in told if form in text] == []
        # logs of both processes, the store, kept documents
        assert files_with(form, lab.folder) == []
    assert len(files_with("shop_putPet", lab.folder)) >= 1
    assert "openapi operations changed" in (lab.folder / f"api-{process.port}.log").read_text()
