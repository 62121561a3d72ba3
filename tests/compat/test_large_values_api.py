"""An output of 50 MB as the API and the command line show it, and an input of that size."""

from __future__ import annotations

import random
import socket
import uuid
from collections.abc import AsyncIterator

import pytest

from engine.control.repair import Repair
from engine.core.values import MAX_VALUE_BYTES
from engine.tooling import tool
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.s3 import s3_settings
from worker import replay_run

pytestmark = pytest.mark.usefixtures("both_stores")

ROOM = 1_000
"""For what stands around a largest value."""


@tool(effect="write")
async def make(size: int) -> str:
    """Make a text by chance, which compression hardly shortens; it must not be made twice."""
    return random.Random(size).randbytes(size // 2).hex()


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    lab.tools = (make,)
    settings = settings_for(lab.folder, task_queue=lab.queue)
    contracts = {make.contract().name: make.contract()}
    async with api_server(settings, temporal=temporal_address, contracts=contracts) as server:
        yield server


async def test_50_mb_go_through_a_step_the_store_the_api_and_the_command_line(
    lab: Lab, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    size = MAX_VALUE_BYTES - ROOM
    api.http.timeout = 50
    async with lab.worker():
        task_id = await create(api.http, f"name: large\nmain: [{{tool: make, arguments: {{size: {size}}}}}]")
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "succeeded")
    await Repair(lab.client, lab.store, replay_run).settle_ended()
    wanted = await make(size)
    assert (await api.http.get(f"/executions/{execution_id}")).json()["output"] == wanted
    [item] = (await api.http.get("/executions")).json()["items"]
    assert item["output"] == wanted
    code, out, err = await Cli(api.url, capsys)("result", execution_id)
    assert code == 0, err
    assert wanted in out


async def test_a_larger_output_ends_the_step_and_not_the_worker(lab: Lab, api: ApiServer) -> None:
    async with lab.worker():
        task_id = await create(
            api.http, f"name: too-large\nmain: [{{tool: make, arguments: {{size: {MAX_VALUE_BYTES + 2}}}}}]"
        )
        execution_id = (await start(api.http, task_id))["id"]
        ended = await until(api.http, execution_id, "failed")
    assert "50 MB" in ended["error"]["message"]


async def test_a_start_whose_input_cannot_be_stored_is_refused_and_nothing_is_started(
    lab: Lab, temporal_address: str
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    place = s3_settings(f"http://127.0.0.1:{port}", lab.folder, "away", make=False)
    named = ("blobs", "blobs_endpoint", "blobs_access_key", "blobs_secret_key")
    settings = settings_for(lab.folder, task_queue=lab.queue, **{name: getattr(place, name) for name in named})
    async with api_server(settings, temporal=temporal_address) as api:
        task_id = await create(api.http, "name: plain\nmain: [{evaluate: $ 1}]")
        given = {"input": await make(600_000), "id": str(uuid.uuid4())}
        refused = await api.http.post(f"/tasks/{task_id}/executions", json=given)
        assert (refused.status_code, refused.json()["code"]) == (503, "blob.unreachable")
        assert (await api.http.get(f"/executions/{given['id']}")).status_code == 404
        # what is small needs no place
        small = await api.http.post(f"/tasks/{task_id}/executions", json={"input": 1, "id": given["id"]})
        assert small.status_code == 201
        await lab.client.get_workflow_handle(given["id"]).terminate()
