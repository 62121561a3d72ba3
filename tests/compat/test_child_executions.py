"""Child executions in the native API and the command line: who started whom, and where one reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab

pytestmark = pytest.mark.usefixtures("both_stores")

CHILD = "name: double\nmain: {evaluate: $ _.n * 2}"
PARENT = "name: parent\nmain: [{task: double, arguments: {n: $ _.n}, label: doubled}, {evaluate: $ _ + 1}]"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


async def run_both(lab: Lab, api: ApiServer) -> tuple[dict[str, Any], str]:
    """Run the parent to its end; return it and the id of its child."""
    await create(api.http, CHILD)
    task_id = await create(api.http, PARENT)
    async with lab.worker():
        started = await start(api.http, task_id, input={"n": 4})
        parent = await until(api.http, started["id"], "succeeded", "failed")
        events = (await api.http.get(f"/executions/{parent['id']}/events")).json()["items"]
        (child_id,) = [event["body"]["child_id"] for event in events if event["type"] == "effect.started"]
        await until(api.http, child_id, "succeeded")
    return parent, str(child_id)


async def test_an_execution_says_who_started_it_and_lists_can_be_cut_down_to_its_children(lab: Lab, api: ApiServer):
    parent, child_id = await run_both(lab, api)
    assert parent["output"] == 9
    assert (parent["parent_id"], parent["parent_path"]) == (None, None)
    child = (await api.http.get(f"/executions/{child_id}")).json()
    assert (child["parent_id"], child["parent_path"]) == (parent["id"], "main.0")
    assert (child["task_name"], child["input"], child["output"]) == ("double", {"n": 4}, 8)
    listed = (await api.http.get("/executions", params={"parent_id": parent["id"]})).json()["items"]
    assert [item["id"] for item in listed] == [child_id]
    everything = (await api.http.get("/executions")).json()["items"]
    assert {item["id"] for item in everything} == {parent["id"], child_id}


async def test_the_transition_of_the_step_names_the_child(lab: Lab, api: ApiServer):
    parent, child_id = await run_both(lab, api)
    found = (await api.http.get(f"/executions/{parent['id']}/transitions")).json()["items"]
    (step,) = [item for item in found if item["step_label"] == "doubled"]
    assert step["metadata"]["child_id"] == child_id
    assert step["metadata"]["step_type"] == "task"


async def test_the_commands_show_parent_and_child(lab: Lab, api: ApiServer, capsys: pytest.CaptureFixture[str]):
    parent, child_id = await run_both(lab, api)
    cli = Cli(api.url, capsys)
    code, out, err = await cli("ls")
    assert code == Exit.OK, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][-1] == "PARENT"
    assert {row[0]: row[-1] == parent["id"] for row in rows[1:]} == {parent["id"]: False, child_id: True}
    code, out, err = await cli("ls", "--parent", parent["id"])
    assert [line.split()[0] for line in out.splitlines()[1:]] == [child_id]
    code, out, err = await cli("describe", child_id)
    assert f"{parent['id']} (main.0)" in out
    code, out, err = await cli("logs", parent["id"])
    assert [f"child={child_id}" in line for line in out.splitlines() if "  call  " in line] == [True]
    code, out, err = await cli("describe", parent["id"])
    assert code == Exit.OK, err
    assert [child_id in line for line in out.splitlines() if "doubled" in line] == [True]


async def test_a_wait_of_a_child_is_answered_like_any_other(lab: Lab, api: ApiServer):
    await create(api.http, "name: asks\nmain: [{wait_for_input: {info: sure?}}]")
    task_id = await create(api.http, "name: parent\nmain: [{task: asks}]")
    async with lab.worker():
        started = await start(api.http, task_id)
        child_id = await _waiting_child(api, started["id"])
        answered = await api.http.put(f"/executions/{child_id}", json={"status": "running", "input": "yes"})
        assert answered.status_code == 200, answered.text
        ended = await until(api.http, started["id"], "succeeded", "failed")
    assert ended["output"] == "yes"


async def _waiting_child(api: ApiServer, parent_id: str) -> str:
    while True:
        listed = (await api.http.get("/executions", params={"parent_id": parent_id})).json()["items"]
        if listed and listed[0]["status"] == "awaiting_input":
            return str(listed[0]["id"])
        await asyncio.sleep(0.02)
