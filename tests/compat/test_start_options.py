"""Starts with wishes, at the edge: API, command line and client; and what a start without any costs the store."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from engine.client import AsyncClient, InvalidInput, StartOptions
from engine.edge.cli.exits import Exit
from engine.edge.http.services import open_services
from engine.store.database import Database
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, until
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S

PLAIN = "name: plain\nmain: [{evaluate: 1}]"
CALM = "name: calm\ndispatch: {admission: {debounce: {wait: 1h, key: _.x}}}\nmain: [{evaluate: 1}]"
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API whose Temporal does not answer: starts that wait need none."""
    async with api_server(settings_for(tmp_path), temporal=NOWHERE) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(api.url, capsys)


async def start(api: ApiServer, name: str, **body: Any) -> Any:
    return await api.http.post(f"/tasks/{name}/executions", json=body)


# --- the API -------------------------------------------------------------------------------------------------------


async def test_a_start_that_waits_is_taken_while_temporal_is_away(api: ApiServer) -> None:
    await create(api.http, PLAIN)
    wished = str(uuid.uuid4())
    answer = await start(api, "plain", id=wished, delay="1h", labels=["x"], metadata={"a": 1})
    assert (answer.status_code, answer.headers["Everstep-Admission"]) == (201, "queued")
    body = answer.json()
    assert (body["id"], body["status"], body["labels"], body["metadata"]) == (wished, "queued", ["x"], {"a": 1})
    assert body["queued"]["reason"] == "delayed"
    found = (await api.http.get(f"/executions/{wished}")).json()
    assert found["queued"] == body["queued"]
    assert (await start(api, "plain", id=wished)).json()["code"] == "execution.exists"


async def test_the_same_key_gives_the_same_execution_while_it_is_queued(api: ApiServer) -> None:
    await create(api.http, PLAIN)
    headers = {"Idempotency-Key": "k"}
    first = await api.http.post("/tasks/plain/executions", json={"input": 1, "delay": 3600}, headers=headers)
    again = await api.http.post("/tasks/plain/executions", json={"input": 1, "delay": 3600}, headers=headers)
    other = await api.http.post("/tasks/plain/executions", json={"input": 2, "delay": 3600}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key_reused")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"delay": "soon"}, "start.bad_option"),
        ({"delay": -1}, "start.bad_option"),
        ({"delay": "1h", "start_at": "2099-01-01T00:00:00Z"}, "start.bad_option"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "start.bad_option"),
        ({"deadline": "2001-01-01T00:00:00"}, "start.bad_option"),
        ({"start_at": "2099-01-01T00:00:00"}, "request.invalid"),
        ({"priority": 0}, "request.invalid"),
        ({"priority": 6}, "request.invalid"),
        ({"break_at": ["main.7"]}, "break.unknown_step"),
        ({"dealy": 1}, "request.invalid"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_and_nothing_is_made(
    api: ApiServer, body: dict[str, Any], code: str
) -> None:
    await create(api.http, PLAIN)
    answer = await start(api, "plain", **body)
    assert (answer.status_code, answer.json()["code"]) in ((400, code), (422, code)), answer.text
    assert (await api.http.get("/executions")).json()["items"] == []


async def test_an_input_of_which_no_key_can_be_made_is_refused(api: ApiServer) -> None:
    await create(api.http, CALM)
    answer = await start(api, "calm", input="text")
    assert (answer.status_code, answer.json()["code"]) == (400, "start.key_failed")
    assert "`debounce`" in answer.json()["detail"]
    assert (await api.http.get("/executions")).json()["items"] == []


async def test_starts_that_join_answer_with_the_execution_that_waits(api: ApiServer) -> None:
    await create(api.http, CALM)
    first = await start(api, "calm", input={"x": 1, "n": 1})
    second = await start(api, "calm", input={"x": 1, "n": 2}, labels=["last"])
    assert (second.status_code, second.headers["Everstep-Admission"]) == (200, "joined")
    body = second.json()
    assert body["id"] == first.json()["id"]
    assert (body["input"], body["labels"], body["queued"]["gathered"]) == ({"x": 1, "n": 2}, ["last"], 2)
    [listed] = (await api.http.get("/executions", params={"label": "last"})).json()["items"]
    assert listed["id"] == body["id"]


async def test_what_waits_stands_in_lists_counts_and_the_overview(api: ApiServer) -> None:
    await create(api.http, PLAIN)
    started = (await start(api, "plain", delay="1h")).json()
    listed = (await api.http.get("/executions", params={"status": "queued"})).json()["items"]
    assert [item["id"] for item in listed] == [started["id"]]
    assert (await api.http.get("/executions/counts")).json()["by_status"] == {"queued": 1}
    assert [item["id"] for item in (await api.http.get("/overview")).json()["open"]] == [started["id"]]


async def test_what_waits_is_cancelled_while_temporal_is_away(api: ApiServer) -> None:
    await create(api.http, PLAIN)
    started = (await start(api, "plain", delay="1h")).json()
    answer = await api.http.put(
        f"/executions/{started['id']}", json={"status": "cancelled", "reason": "enough", "actor": "ada"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["error"] == {
        "code": "execution.cancelled",
        "message": "enough",
        "details": {"actor": "ada"},
    }


async def test_what_was_let_in_while_temporal_was_away_begins_or_ends_when_it_is_back(
    lab: Lab, temporal_address: str
) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=NOWHERE) as api:
        await create(api.http, "name: two\ndispatch: {admission: {concurrency: 2}}\nmain: [{evaluate: 1}]")
        ids = [(await start(api, "two")).json()["id"] for _ in range(3)]
        await _until_starting(api, ids[0])
        answer = await api.http.put(f"/executions/{ids[0]}", json={"status": "cancelled", "reason": "enough"})
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    async with api_server(settings, temporal=temporal_address) as api, lab.worker():
        body = await until(api.http, ids[0], "cancelled")
        assert body["error"] == {"code": "execution.cancelled", "message": "enough"}
        for name in ids[1:]:
            await until(api.http, name, "succeeded")


async def _until_starting(api: ApiServer, execution_id: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        reason = ""
        while reason != "starting":
            await asyncio.sleep(0.02)
            reason = (await api.http.get(f"/executions/{execution_id}")).json()["queued"]["reason"]


# --- commands and client -------------------------------------------------------------------------------------------


async def test_the_commands_start_later_and_say_why_it_waits(api: ApiServer, cli: Cli) -> None:
    await create(api.http, PLAIN)
    code, out, err = await cli("run", "plain", "--detach", "--delay", "1h", "--priority", "1", "--deadline", "2h")
    assert code == Exit.OK, err
    execution_id = out.strip()
    code, out, err = await cli("describe", execution_id)
    assert code == Exit.OK, err
    assert any(line.split()[:3] == ["queued", "begins", "at"] for line in out.splitlines())
    code, out, err = await cli("cancel", execution_id, "--reason", "enough")
    assert code == Exit.OK, err


async def test_a_command_with_a_time_that_is_none_says_how_to_write_it(api: ApiServer, cli: Cli) -> None:
    await create(api.http, PLAIN)
    code, _, err = await cli("run", "plain", "--start-at", "tomorrow")
    assert code == Exit.USAGE
    assert "2026-12-24T18:00" in err


async def test_the_client_starts_later(api: ApiServer) -> None:
    await create(api.http, PLAIN)
    async with AsyncClient(api.url) as client:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        started = await client.start("plain", options=StartOptions(start_at=at, deadline=dt.timedelta(hours=1)))
        assert started.status.value == "queued"
        assert started.raw["queued"]["reason"] == "delayed"
        with pytest.raises(InvalidInput, match=r"no step main\.9"):
            await client.start("plain", options=StartOptions(break_at=["main.9"]))


# --- what it costs -------------------------------------------------------------------------------------------------


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the statements of a store."""
    seen: list[str] = []
    engines = [database.engine.sync_engine] + ([database._direct] if database._direct is not None else [])

    def note(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.usefixtures("both_stores")
async def test_a_start_without_rules_asks_the_store_nothing_more(lab: Lab) -> None:
    async with open_services(
        settings_for(lab.folder, task_queue=lab.queue), contracts={}, client=lab.client
    ) as services:
        await services.definitions.create_task(PLAIN, tenant=TENANT)
        task = await services.definitions.versions.resolve("plain", tenant=TENANT)
        with statements(services.database) as seen:
            await services.starter.start(task, {})
        assert [text for text in seen if " starts" in text or "start_" in text] == []
        with statements(services.database) as with_key:
            await services.starter.start(task, {}, idempotency_key="k")
        # the look for the key is the one that there was: a single statement
        about = [text for text in with_key if "start_requests" in text]
        assert len(about) == 1
        assert about[0].startswith("SELECT executions.")
        # whether an id was purged is asked for ids that callers choose
        rest, before = ([text[:60] for text in some if "FROM purged" not in text] for some in (with_key[1:], seen))
        assert rest == before


async def test_an_idle_dispatcher_asks_one_question_a_look(tmp_path: Path) -> None:
    async with open_services(settings_for(tmp_path), contracts={}) as services:
        with statements(services.database) as seen:
            await services.dispatcher.turn()
        assert len(seen) == 1


async def test_a_start_with_wishes_that_need_no_waiting_is_made_at_once(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address) as api, lab.worker():
        await create(api.http, PLAIN)
        answer = await start(api, "plain", priority=2, deadline="1h", delay=0)
        assert answer.status_code == 201
        assert "Everstep-Admission" not in answer.headers
        await until(api.http, answer.json()["id"], "succeeded")
