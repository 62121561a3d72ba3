"""Tasks that can only be planned, over HTTP: stored, compared, never started; and dialects by client. No Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.core.plan.ir import ToolContract
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from tests.compat.apiserver import api_server, settings_for

PLANNED = """\
dialect: contenox
id: asks
tasks: [{id: a, handler: noop, transition: {branches: [{operator: default}]}}]
"""
RUNS = "name: asks\nmain:\n  - evaluate: 1\n"
YAML = {"content-type": "application/yaml"}
FERN = {"X-Fern-Language": "Python"}
STAINLESS = {"X-Stainless-Lang": "python"}
TEXTS: dict[str, Any] = {"name": "texts", "main": [{"evaluate": {"n": "1 + 1"}}]}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server.http


# --- planned only --------------------------------------------------------------------------------------------------


async def test_a_task_that_can_only_be_planned_is_stored_with_a_warning(http: httpx.AsyncClient) -> None:
    made = await http.post("/tasks", content=PLANNED, headers=YAML)
    assert made.status_code == 201
    assert [(item["code"], item["path"]) for item in made.json()["warnings"]] == [("W614", "")]
    checked = (await http.post("/tasks/validate", content=PLANNED, headers=YAML)).json()
    assert (checked["ok"], [item["line"] for item in checked["diagnostics"]]) == (True, [1])


async def test_its_execution_is_refused_before_anything_is_created(http: httpx.AsyncClient) -> None:
    await http.post("/tasks", content=PLANNED, headers=YAML)
    answer = await http.post("/tasks/asks/executions", json={"input": {}})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "task.not_runnable")
    assert body["details"]["places"] == [{"path": "main", "what": "a contenox chain"}]
    assert (await http.get("/executions")).json()["items"] == []


async def test_a_text_that_is_sent_to_be_run_is_not_stored_either(http: httpx.AsyncClient) -> None:
    answer = await http.post("/tasks?by_name=true&to_run=true", content=PLANNED, headers=YAML)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "task.not_runnable")
    assert [(item["code"], item["line"], item["column"]) for item in body["diagnostics"]] == [("W614", 1, 1)]
    assert (await http.get("/tasks")).json()["items"] == []
    assert (await http.post("/tasks?to_run=true", content=RUNS, headers=YAML)).status_code == 201


async def test_versions_are_compared(http: httpx.AsyncClient) -> None:
    await http.post("/tasks?by_name=true", content=RUNS, headers=YAML)
    await http.post("/tasks?by_name=true", content=RUNS + "  - agent: who wrote it?\n", headers=YAML)
    found = (await http.get("/tasks/asks/diff")).json()
    assert found["changes"] == ["main.1: new step: agent “who wrote it?”"]
    assert found["gains"] == ["ask the default model"]


# --- dialects by client --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "dialect", "value"),
    [
        ({}, None, {"t": "lit", "value": {"n": "1 + 1"}}),
        (FERN, "julep-2024", {"t": "obj", "items": {"n": {"t": "expr", "source": "1 + 1"}}}),
        (STAINLESS, "julep-2025", {"t": "lit", "value": {"n": "1 + 1"}}),
    ],
)
async def test_the_client_decides_how_a_task_without_dialect_is_read(
    http: httpx.AsyncClient, headers: dict[str, str], dialect: str | None, value: dict[str, Any]
) -> None:
    made = await http.post("/tasks", json=TEXTS, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json().get("dialect") == dialect
    version = (await http.get("/tasks/texts/versions/1")).json()
    assert version["plan"].get("dialect") == dialect
    assert version["plan"]["blocks"][0]["ops"][0]["value"] == value


async def test_the_dialect_stays_with_its_version_whoever_reads_it(http: httpx.AsyncClient) -> None:
    await http.post("/tasks?by_name=true", json=TEXTS, headers=FERN)
    await http.post("/tasks?by_name=true", json=TEXTS, headers=STAINLESS)
    dialects = [(await http.get(f"/tasks/texts@{version}")).json()["dialect"] for version in (1, 2)]
    assert dialects == ["julep-2024", "julep-2025"]


async def test_the_key_of_the_task_counts_more_than_the_client(http: httpx.AsyncClient) -> None:
    made = await http.post("/tasks", json={**TEXTS, "dialect": "everstep"}, headers=FERN)
    assert made.json()["dialect"] == "everstep"
    plan = (await http.get("/tasks/texts/versions/1")).json()["plan"]
    assert "dialect" not in plan


@pytest.mark.parametrize("way", ["agent", "put", "validate", "diff", "apply"])
async def test_every_way_of_sending_a_task_looks_at_the_client(http: httpx.AsyncClient, way: str) -> None:
    # a name that only the oldest dialect takes for a key of the input
    text = {"name": "old", "input_schema": {"properties": {"who": {}}}, "main": [{"evaluate": {"x": "who + '!'"}}]}
    agent = (await http.post("/agents", json={"name": "ada"})).json()["id"]
    made = await http.post("/tasks", json=TEXTS, headers=FERN)
    if way == "agent":
        answer = await http.post(f"/agents/{agent}/tasks", json=text, headers=FERN)
        assert answer.json()["dialect"] == "julep-2024"
    elif way == "put":
        answer = await http.put(f"/tasks/{made.json()['id']}", json=text, headers=FERN)
        assert answer.json()["dialect"] == "julep-2024"
    elif way == "validate":
        wrong = {"name": "old", "main": [{"evaluate": {"x": "who +"}}]}
        assert (await http.post("/tasks/validate", json=wrong)).json()["ok"] is True
        assert (await http.post("/tasks/validate", json=wrong, headers=FERN)).json()["ok"] is False
    elif way == "diff":
        same = (await http.post("/tasks/texts/diff", json=TEXTS, headers=FERN)).json()
        other = (await http.post("/tasks/texts/diff", json=TEXTS)).json()
        assert same["changes"] == []
        assert "the task has no 'dialect' any more" in other["changes"]
    else:
        body = {"tasks": [{"file": "old.json", "source": '{"name": "old", "main": [{"evaluate": {"x": "1 + 1"}}]}'}]}
        await http.post("/tasks/apply", json=body, headers=FERN)
        assert (await http.get("/tasks/old")).json()["dialect"] == "julep-2024"


# --- the command line ----------------------------------------------------------------------------------------------


async def test_graph_draws_what_the_server_keeps_whatever_tools_are_known_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = """\
dialect: contenox
id: chain
tasks:
  - id: one
    handler: hook
    hook: {name: crm, tool_name: open}
    transition: {branches: [{operator: default, goto: two}]}
  - {id: two, handler: noop, transition: {branches: [{operator: default, goto: end}]}}
"""
    contracts = {"crm.open": ToolContract("crm.open", "python")}
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1", contracts=contracts) as server:
        made = await server.http.post("/tasks", content=chain, headers=YAML)
        assert made.status_code == 201, made.text
        assert await asyncio.to_thread(run_command, ["graph", "chain", "--address", server.url]) == Exit.OK
    drawn = capsys.readouterr().out
    assert '"one<br/>tool crm.open"' in drawn
    assert "n_main_one_2 --> n_main_two_0" in drawn


async def test_run_stores_nothing_of_what_cannot_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "asks.yaml"
    file.write_text(PLANNED)
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        code = await asyncio.to_thread(run_command, ["run", str(file), "--address", server.url])
        assert (await server.http.get("/tasks")).json()["items"] == []
        applied = await asyncio.to_thread(run_command, ["apply", "-f", str(file), "--address", server.url])
        named = await asyncio.to_thread(run_command, ["run", "asks", "--address", server.url])
        assert (await server.http.get("/executions")).json()["items"] == []
    told = capsys.readouterr().err
    assert (code, applied, named) == (Exit.USAGE, Exit.OK, Exit.USAGE)
    assert f"{file}:1:1: warning[W614]" in told
    assert told.count("error[task.not_runnable]: the task 'asks' cannot be run by this engine yet") == 2
