"""`describe`, `logs`, `answer` and names that are nearly right, against a real API and a real Temporal server."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator

import pytest

from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

ASKING = """
name: asking
main:
  - {label: kept, over: "$ [1, 2]", map: {evaluate: $ _ * 2}}
  - {log: "kept {{ len(_) }}"}
  - parallel:
      - {label: left, approve: "Left?"}
      - {over: "$ [1, 2]", map: {label: both, approve: "{{ _ }}?"}}
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def waiting(api: ApiServer, execution_id: str, number: int) -> None:
    """Return once so many waits of an execution are open."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := (await api.http.get(f"/executions/{execution_id}")).json()["waits"]) != number:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def test_people_get_the_words_of_the_language_and_programs_the_kinds_of_the_plan(
    lab: Lab, api: ApiServer, cli: Cli
) -> None:
    task_id = await create(api.http, "name: words\nmain: [{over: $ _, map: {evaluate: $ _ * 2}}, {log: 'got {{ _ }}'}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id, input=[1, 2]))["id"]
        await until(api.http, execution_id, "succeeded")
    _, out, _ = await cli("describe", execution_id)
    steps = [line.split() for line in out.partition("steps\n")[2].splitlines()]
    assert [steps[0][:3], steps[0][-3:]] == [["over", "2/2", "done"], ["->", "[2,", "4]"]]
    assert steps[1] == ["log", "done", "0", "ms", "got", "[2,", "4]"]
    assert [step["step"] for step in (await cli.json("describe", execution_id))["steps"]] == ["map_reduce  2/2", "log"]

    _, out, _ = await cli("logs", execution_id)
    told = [line.split(maxsplit=2)[2] for line in out.splitlines()]
    assert told[1] == "branch          main.0.map[0]  over  input=1"
    assert told[-1] == "finish          main.1  log  log=got [2, 4]"
    assert [event["type"] for event in await cli.json("logs", execution_id)][:2] == ["init", "init_branch"]


async def test_the_steps_of_an_older_version_have_the_names_of_that_version(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, "name: aging\nmain: [{if: 'True', then: {set: {a: 1}}}, {error: stop}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "failed")
    newer = "name: aging\nmain: [{label: new, evaluate: 1}, {label: names, evaluate: 2}]"
    told = await api.http.put(f"/tasks/{task_id}", content=newer, headers={"content-type": "application/yaml"})
    assert told.json()["version"] == 2
    _, out, _ = await cli("describe", execution_id)
    assert "error    task.error: stop\nat       main.1 (error)\n" in out
    assert "names" not in out


async def test_describe_tells_the_remedy_of_an_error(lab: Lab, api: ApiServer, cli: Cli) -> None:
    call = 'api_call: {method: GET, url: "http://127.0.0.1:1/", headers: {A: "{{ secrets.nowhere }}"}}'
    task_id = await create(api.http, f"name: lacking\ntools: [{{name: f, {call}}}]\nmain: [{{tool: f}}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "failed")
    _, out, _ = await cli("describe", execution_id)
    (told,) = [line for line in out.splitlines() if line.startswith("hint ")]
    assert "everstep secrets set nowhere" in told


async def test_a_wait_is_answered_by_its_label_and_by_the_command_that_describe_shows(
    lab: Lab, api: ApiServer, cli: Cli
) -> None:
    task_id = await create(api.http, ASKING)
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await waiting(api, execution_id, 3)
        code, _, err = await cli("answer", execution_id, "--wait-id", "both", "--input", '{"approved": true}')
        assert code == Exit.FAILED
        assert "error[answer.ambiguous]" in err
        assert "name one (--wait-id): main.2[1].0.map[0].0, main.2[1].0.map[1].0" in err
        code, _, err = await cli("answer", execution_id, "--wait-id", "left", "--input", '{"approved": true}')
        assert code == Exit.OK, err

        for left in (2, 1):
            await waiting(api, execution_id, left)
            _, out, _ = await cli("describe", execution_id)
            words = shlex.split(next(line for line in out.splitlines() if "everstep answer" in line).partition(": ")[2])
            # the last one too: beside a branch there may soon be another
            assert "--wait-id" in words
            code, _, err = await cli(*words[1:])
            assert code == Exit.OK, err
        yes = {"approved": True}
        assert (await until(api.http, execution_id, "succeeded"))["output"] == [yes, [yes, yes]]


async def test_a_name_that_is_nearly_right_is_named(api: ApiServer, cli: Cli) -> None:
    await create(api.http, "name: invoices\nmain: [{evaluate: 1}]")
    for command in (["run"], ["tasks", "versions"], ["tasks", "diff"], ["tasks", "rm"], ["graph"]):
        code, _, err = await cli(*command, "invoice")
        assert code == Exit.NOT_FOUND
        assert err.endswith("hint: did you mean 'invoices'?\n"), err


async def test_executions_are_listed_by_the_name_of_their_task_whoever_s_it_is(api: ApiServer, cli: Cli) -> None:
    task = {"name": "shared", "main": [{"return": {}}]}
    started: dict[str, str] = {}
    for name in ("Ada", "Bob"):
        agent = (await api.http.post("/agents", json={"name": name})).json()["id"]
        task_id = (await api.http.post(f"/agents/{agent}/tasks", json=task)).json()["id"]
        started[task_id] = (await start(api.http, task_id))["id"]
    await start(api.http, await create(api.http, "name: other\nmain: [{return: {}}]"))
    assert {item["id"] for item in await cli.json("ls", "--task", "shared")} == set(started.values())
    assert (await cli.json("ls", "--task", "shared", "--count"))["total"] == 2
    for task_id, execution_id in started.items():
        assert [item["id"] for item in await cli.json("ls", "--task", task_id)] == [execution_id]


async def test_two_versions_of_a_task_are_compared_as_the_hint_says(api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, "name: two\nmain: [{evaluate: 1}]")
    newer = "name: two\nmain: [{evaluate: 2}]"
    await api.http.put(f"/tasks/{task_id}", content=newer, headers={"content-type": "application/yaml"})
    for words in (["two@1", "two@2"], ["two@2", "two@1"]):
        code, _, err = await cli("tasks", "diff", *words)
        assert code == Exit.USAGE
        assert err.endswith("hint: everstep tasks diff two@2 1\n")
    code, out, err = await cli("tasks", "diff", "two@2", "1")
    assert code == Exit.OK, err
    assert "main.0: evaluate 2: the value changed" in out
