"""What `run`, `answer` and `cancel` write down about an execution, and how its views end, fail and add up children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.edge.cli.api import Api
from engine.edge.cli.exits import Exit
from engine.edge.cli.reload import Stamp, _load_changed
from engine.edge.mockllm.script import MockScript
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab

ASKS = "name: asks\nmain: [{wait_for_input: {info: {q: well}}}, {if: $ _, then: {return: 1}, else: {error: no}}]"
KID = "name: kid\nmain: [{prompt: 'say {{ _ }}', unwrap: true}]"
PARENT = "name: parent\nmain: [{label: all, over: '$ range(2)', map: {task: kid, arguments: $ _}}, {prompt: hello}]"
USED = {"rules": [{"reply": "ok", "usage": {"prompt_tokens": 4, "completion_tokens": 1}}]}


@dataclass
class Told:
    """Keeps what `dev` is told."""

    texts: list[str]

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Keep a text."""
        del event, facts
        self.texts.append(text)


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def test_a_run_has_its_labels_metadata_and_actor_and_happens_once_with_its_key(
    lab: Lab, api: ApiServer, cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "asks.yaml"
    file.write_text(ASKS)
    told = ["--label", "red", "--label", "big", "--metadata", '{"a": {"b": 1}}', "--meta", "a.c=x", "--actor", "ann"]
    code, first, err = await cli("run", str(file), "-d", *told, "--key", "order-17")
    assert code == Exit.OK, err
    assert await cli("run", str(file), "-d", *told, "--key", "order-17") == (Exit.OK, first, err)
    (item,) = await cli.json("ls", "--label", "red", "--label", "big", "--meta", "a.c=x")
    assert (item["id"], item["metadata"], item["actor"]) == (first.strip(), {"a": {"b": 1, "c": "x"}}, "ann")

    async with lab.worker():
        await until(api.http, item["id"], "awaiting_input")
        answered = ["answer", item["id"], "--input", "false", "--key", "mine", "--actor", "bob"]
        assert (await cli(*answered))[0] == Exit.OK
        await until(api.http, item["id"], "failed")
        code, _, err = await cli(*answered)
        assert (code, err) == (Exit.OK, f"execution {item['id']} took the answer\n"), "with its key it counts once"
    _, out, _ = await cli("history", item["id"])
    assert out.count("bob answered main.0") == 1

    _, out, _ = await cli("ls", "--error", "task")
    rows = [line.split() for line in out.splitlines()]
    assert (rows[0][-1], rows[1][0], rows[1][-1]) == ("ERROR", item["id"], "task.error")
    assert await cli.json("ls", "--error", "tas") == []
    assert len(await cli.json("ls", "--error", "task.error")) == 1


async def test_what_is_wrong_with_an_input_is_said_of_the_input(api: ApiServer, cli: Cli) -> None:
    schema = "input_schema: {type: object, required: [customer]}\n"
    await create(api.http, f"name: strict\n{schema}main: [{{evaluate: 1}}]")
    code, _, err = await cli("run", "strict")
    assert (code, "strict': input: 'customer' is a required property" in err) == (Exit.USAGE, True)


async def test_a_good_version_stays_only_if_there_was_one(api: ApiServer, tmp_path: Path) -> None:
    file, told = tmp_path / "saved.yaml", Told([])
    stamps: dict[Path, Stamp] = {}
    loaded: set[Path] = set()
    for text in ("main: [{evaluat: 1}]", "main: [{evaluate: 1}]", "main: [{evaluat: 12}]"):
        file.write_text(f"name: saved\n{text}")
        await asyncio.to_thread(_load_changed, Api(api.url), [file], stamps, told, loaded)
    first, second, third = told.texts
    assert first.startswith(f"{file} is not loaded:\n")
    assert second == f"task 'saved' version 1 is loaded from {file}"
    assert third.startswith(f"{file} is not loaded, the last good version stays:\n")


async def test_who_cancelled_is_known(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, ASKS)
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "awaiting_input")
        await cli("event", execution_id, "hint", "--actor", "dora")
        assert (await cli("cancel", execution_id, "--reason", "enough", "--actor", "carl"))[0] == Exit.OK
        await until(api.http, execution_id, "cancelled")
    _, out, _ = await cli("history", execution_id)
    assert "the execution was cancelled by carl: enough" in out
    assert "dora sent the event 'hint'" in out


async def test_the_story_of_a_terminated_execution_ends_with_it(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, ASKS)
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "awaiting_input")
        before = (await api.http.get(f"/executions/{execution_id}/history")).json()["items"]
        await lab.client.get_workflow_handle(execution_id).terminate(reason="by hand")
        view = await until(api.http, execution_id, "failed")
    actor = view["error"]["details"]["actor"]
    items = (await api.http.get(f"/executions/{execution_id}/history")).json()["items"]
    assert items[:-1] == before
    what = f"the execution was ended by {actor}: execution.terminated: by hand"
    told = {"at": view["closed_at"], "seq": None, "type": "execution.terminated", "what": what, "path": None}
    assert items[-1] == {**told, "data": {"error": view["error"]}}

    # a full page leaves it to the next one
    query = {"limit": len(before)}
    page = (await api.http.get(f"/executions/{execution_id}/history", params=query)).json()
    assert page["items"] == before
    query["cursor"] = page["next_cursor"]
    page = (await api.http.get(f"/executions/{execution_id}/history", params=query)).json()
    assert (page["items"], page["next_cursor"]) == (items[-1:], None)

    _, out, _ = await cli("history", execution_id)
    assert [line for line in out.splitlines() if what in line] != []
    for words in (("logs", execution_id), ("logs", "-f", execution_id)):
        _, out, _ = await cli(*words)
        assert out.splitlines()[-1].endswith(what)


async def test_what_children_used_stands_beside_them_and_in_the_sum(lab: Lab, api: ApiServer, cli: Cli) -> None:
    lab.mock.use(MockScript.model_validate(USED))
    await create(api.http, KID)
    task_id = await create(api.http, PARENT)
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "succeeded")
    children = [item["id"] for item in await cli.json("ls", "--parent", execution_id[:8])]
    assert len(children) == 2
    for child in children:
        await until(api.http, child, "succeeded")
    used = "1 model call, 5 tokens, price of 1 call unknown"
    _, out, _ = await cli("describe", execution_id)
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line.strip())
    assert facts["used"] == f"{used} (with 2 children: 3 model calls, 15 tokens, price of 3 calls unknown)"
    _, out, _ = await cli("steps", execution_id)
    for child in children:
        assert f"ran execution {child}: succeeded, {used}\n" in out
    _, out, _ = await cli("steps", execution_id, "main.0.map[1].0")
    (line,) = [line for line in out.splitlines() if "ran as execution" in line]
    assert f"(succeeded, {used}); see: everstep history" in line
