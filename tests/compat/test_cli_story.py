"""`history`, `steps`, `watch`, `top` and shortened ids against a real API, a real Temporal server and a real worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from engine.edge.cli.exits import Exit
from engine.edge.mockllm.script import MockScript
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.compat.test_story_api import SCRIPT, STORY
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


@pytest.fixture
async def finished(lab: Lab, api: ApiServer) -> str:
    """Run the story to its end and return the execution's id."""
    lab.mock.use(MockScript.model_validate(SCRIPT))
    task_id = await create(api.http, STORY)
    async with lab.worker():
        execution_id = str((await start(api.http, task_id, input={"topic": "a fox"}))["id"])
        await until(api.http, execution_id, "awaiting_input")
        body = {"status": "running", "input": {"approved": True}, "actor": "ada"}
        assert (await api.http.put(f"/executions/{execution_id}", json=body)).status_code == 200
        await until(api.http, execution_id, "succeeded")
    return execution_id


async def test_the_history_is_a_text_with_prompts_replies_retries_and_answers(cli: Cli, finished: str) -> None:
    code, out, err = await cli("history", finished)
    assert code == Exit.OK, err
    lines = [line.partition("  ")[2] if line[:2].isdigit() else line for line in out.splitlines()]
    asked = lines.index("main.0  'ask': the default model is asked, attempt 2")
    assert lines[asked + 1] == "    user: Tell of a fox"
    assert any("attempt 1 failed, the next one follows in 50 ms: backend.overloaded" in line for line in lines)
    replied = lines.index("    assistant: A tale")
    assert "12 tokens" in lines[replied - 1]
    assert "main.2  'sure' waits for an answer" in lines
    assert "ada answered main.2" in lines
    assert lines[-1] == "status: succeeded  used: 2 model calls, 12 tokens, price of 1 call unknown"
    assert "…" in out
    assert "--full" in err
    _, out, err = await cli("history", finished, "--full")
    assert "x" * 3000 in out
    assert err == ""


async def test_programs_get_the_history_as_json(cli: Cli, finished: str) -> None:
    items = await cli.json("history", finished)
    assert [item["seq"] for item in items] == list(range(1, len(items) + 1))
    _, out, _ = await cli("history", finished, "-o", "jsonl", "--path", "main.1.map[1]")
    assert {json.loads(line)["path"][:13] for line in out.splitlines()} == {"main.1.map[1]"}


async def test_the_steps_are_a_table_and_one_of_them_is_told_whole(cli: Cli, finished: str) -> None:
    code, out, err = await cli("steps", finished)
    assert code == Exit.OK, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["PATH", "STEP", "STATE", "TOOK", "TRIES", "TOKENS", "COST"]
    assert (rows[1][:3], rows[1][-3:]) == (["main.0", "ask", "done"], ["2", "12", "-"])
    assert rows[2][:4] == ["main.1", "over", "3/3", "done"]
    _, out, _ = await cli("steps", finished, "ask")
    assert "    attempt 1  " in out
    assert "        error: backend.overloaded" in out
    assert "        assistant: A tale" in out
    _, out, _ = await cli("steps", finished, "sure")
    assert "        answered by ada at " in out
    assert [row["path"] for row in await cli.json("steps", finished, "--in", "main.1.map[2]")] == [
        "main.1.map[2].0",
        "main.1.map[2].1",
    ]
    assert (await cli.json("steps", finished, "main.1.map[2].1"))["output"]["value"] == "x" * 3000
    code, _, err = await cli("steps", finished, "main.9")
    assert (code, "error[step.not_found]" in err) == (Exit.NOT_FOUND, True)
    _, out, err = await cli("steps", finished, "--limit", "2")
    assert (len(out.splitlines()), "there are more" in err) == (3, True)


async def test_watch_shows_the_steps_until_the_end_and_leaves_with_its_exit_code(
    lab: Lab, api: ApiServer, cli: Cli
) -> None:
    task_id = await create(api.http, "name: fails\nmain: [{label: ask, approve: 'Well?'}, {error: broken}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        watching = asyncio.create_task(cli("watch", execution_id))
        await until(api.http, execution_id, "awaiting_input")
        body = {"status": "running", "input": {"approved": True}}
        assert (await api.http.put(f"/executions/{execution_id}", json=body)).status_code == 200
        code, out, err = await watching
    assert (code, out) == (Exit.FAILED, "")
    assert "main.0  ask  waiting" in err
    assert "error[task.error]: main.1: broken" in err
    code, _, err = await cli("watch", execution_id)
    assert (code, "main.0  ask  done" in err) == (Exit.FAILED, True)


async def test_watch_goes_on_when_the_api_is_started_again(
    lab: Lab, temporal_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with lab.worker():
        async with api_server(settings, temporal=temporal_address) as first:
            port = int(first.url.rpartition(":")[2])
            task_id = await create(
                first.http, "name: w\nmain: [{label: ask, approve: 'Well?'}, {label: last, evaluate: 7}]"
            )
            execution_id = (await start(first.http, task_id))["id"]
            await until(first.http, execution_id, "awaiting_input")
            watching = asyncio.create_task(Cli(first.url, capsys)("watch", execution_id))
            await asyncio.to_thread(_until_told, capsys, "ask  waiting")
        again = settings_for(lab.folder, task_queue=lab.queue, port=port)
        async with api_server(again, temporal=temporal_address) as second:
            body = {"status": "running", "input": {"approved": True}}
            assert (await second.http.put(f"/executions/{execution_id}", json=body)).status_code == 200
            code, out, err = await watching
    assert (code, out) == (Exit.OK, "7\n"), err
    assert "main.1  last  done" in err


def _until_told(capsys: pytest.CaptureFixture[str], text: str) -> None:
    import time

    deadline = time.monotonic() + PATIENCE_S
    while text not in capsys.readouterr().err:
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_top_shows_what_is_open_and_what_was_used(lab: Lab, api: ApiServer, cli: Cli, finished: str) -> None:
    found = await cli.json("top", "--once")
    assert (found["counts"]["total"], found["open"]) == (1, [])
    _, out, _ = await cli("top", "--once")
    lines = out.splitlines()
    assert lines[0].split("  ")[1:] == ["executions 1", "succeeded 1"]
    assert lines[1] == "last minute  started 1  ended 1  2 model calls, 12 tokens, price of 1 call unknown"
    assert "NO WORKER" in lines[3]
    assert lines[-1] == "nothing is open"
    task_id = await create(api.http, "name: waits\nmain: [{label: sure, approve: 'Well?'}]")
    async with lab.worker():
        waiting = (await start(api.http, task_id))["id"]
        await until(api.http, waiting, "awaiting_input")
        _, out, _ = await cli("top", "--once")
    assert out.splitlines()[-1].startswith(f"{waiting}  waits  awaiting_input")
    assert out.splitlines()[-1].endswith("main.0 'sure' waits for an answer")


async def test_every_command_takes_the_beginning_of_an_id(lab: Lab, api: ApiServer, cli: Cli, finished: str) -> None:
    short = finished[:8]
    for command in ("describe", "logs", "history", "steps", "watch", "result"):
        code, out, err = await cli(command, short)
        assert code == Exit.OK, err
        assert out
    code, _, err = await cli("describe", "0000000")
    assert (code, "error[execution.not_found]" in err) == (Exit.NOT_FOUND, True)


async def test_a_beginning_of_several_ids_is_refused_with_the_candidates(lab: Lab, cli: Cli) -> None:
    ids = [f"abcdef12-0000-4000-8000-00000000000{number}" for number in (1, 2)]
    for execution_id in ids:
        await lab.store.ensure_execution(execution_id, tenant="default", task_id="t", task_name="t", created_us=1)
    code, _, err = await cli("describe", "abcdef12")
    assert code == Exit.FAILED
    assert "error[execution.ambiguous]" in err
    assert all(f"{execution_id} (t, queued)" in err for execution_id in ids)
