"""Who may call the native API, how it says no, and what it still does while Temporal is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.control.connect import RPC_TIMEOUT
from engine.core import errors
from engine.core.errors import Conflict, EngineError, InvalidInput
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.edge.http.problems import STATUS_OF
from engine.edge.server import bind, serve_api
from engine.store.database import open_database
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore
from tests.compat.apiserver import ApiServer, api_server, read_stream, settings_for
from tests.support.patience import PATIENCE_S
from tests.support.servers import TemporalProcess, free_port

TASK = "name: t\nmain:\n  - evaluate: {x: 1}\n"
YAML = {"content-type": "application/yaml"}


@pytest.fixture
async def down(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API whose Temporal server does not exist."""
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API with a key."""
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


async def remember(folder: Path, *kinds: str, now_us: int, name: str = "e1") -> None:
    """Store events of an execution that no workflow stands behind."""
    database = await open_database(settings_for(folder).store_url)
    body = '{"workflow":"main","scope":"","input":1,"task":"t","task_id":"t1","tenant":"default"}'
    records = [EventRecord(name, "r1", seq, now_us, kind, body) for seq, kind in enumerate(kinds, 1)]
    await ProjectionStore(database).append_events(records)
    await database.close()


# --- the key, Host and Origin --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer sesame"}, {"Authorization": "sesame"}, {"X-Auth-Key": "sesame"}],
)
async def test_the_key_opens_in_every_form_that_clients_send(locked: ApiServer, headers: dict[str, str]) -> None:
    assert (await locked.http.get("/tasks", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}, {"X-Auth-Key": "é"}, {"Authorization": ""}])
async def test_without_the_key_nothing_but_health_answers(locked: ApiServer, headers: dict[str, str]) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    refused = await locked.http.get("/tasks", headers=sent)
    assert (refused.status_code, refused.json()["code"]) == (401, "auth.required")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await locked.http.get("/healthz", headers=sent)).status_code == 200
    assert (await locked.http.get("/openapi.json", headers=sent)).status_code == 401


async def test_pages_of_other_sites_cannot_call_a_local_server(down: ApiServer) -> None:
    for headers, code in (
        ({"Host": "evil.example"}, "host.refused"),
        ({"Host": "127.0.0.1.evil.example:80"}, "host.refused"),
        ({"Origin": "http://evil.example"}, "origin.refused"),
        ({"Origin": "null"}, "origin.refused"),
    ):
        answer = await down.http.get("/tasks", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, code)
    for headers in ({"Host": "localhost:1"}, {"Host": "[::1]"}, {"Origin": down.url}):
        assert (await down.http.get("/tasks", headers=headers)).status_code == 200


async def test_an_open_bind_needs_a_key(tmp_path: Path) -> None:
    # the store of other tests is laid ready for them
    url = f"sqlite:///{tmp_path / 'own.db'}"
    for host in ("0.0.0.0", "192.168.1.5", "::", "everstep.example"):
        settings = settings_for(tmp_path, host=host).model_copy(update={"database_url": url})
        with pytest.raises(InvalidInput) as caught:
            await serve_api(settings, contracts={})
        assert caught.value.code == "config.api_key_required"
    assert not (tmp_path / "own.db").exists()


async def test_a_port_in_use_is_a_conflict(tmp_path: Path) -> None:
    taken = bind(settings_for(tmp_path))
    taken.listen()
    with pytest.raises(Conflict) as caught:
        bind(settings_for(tmp_path, port=taken.getsockname()[1]))
    assert caught.value.code == "port.in_use"
    taken.close()


# --- errors --------------------------------------------------------------------------------------------------------


def test_every_error_class_has_a_status() -> None:
    def below(kind: type[EngineError]) -> set[type[EngineError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))

    assert below(EngineError) - {EngineError} == set(STATUS_OF)


async def test_every_refusal_is_a_problem_with_an_error_object(down: ApiServer) -> None:
    http = down.http
    answers = [
        await http.get("/nowhere"),
        await http.delete("/tasks"),
        await http.get("/tasks/none"),
        await http.get("/tasks?limit=0"),
        await http.get("/executions?status=odd"),
        await http.post("/agents", json={"name": ""}),
        await http.post("/agents", content="{", headers={"content-type": "application/json"}),
        await http.post("/agents", content="a: [", headers=YAML),
        await http.post("/agents", content="x=1", headers={"content-type": "application/x-www-form-urlencoded"}),
        await http.post("/tasks", content=b"\xff", headers=YAML),
        await http.get("/agents?metadata_filter=[1]"),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 404, 422, 422, 422, 400, 400, 415, 400, 400]
    for answer in answers:
        body = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert body["status"] == answer.status_code
        assert body["error"]["message"] == body["detail"]
        assert body["error"]["code"] == body["code"]
        assert body["type"] == f"urn:everstep:error:{body['code']}"
    assert answers[5].json()["errors"][0]["loc"] == ["body", "name"]
    assert answers[7].json()["diagnostics"][0]["file"] == "body"


async def test_a_request_id_is_answered_and_a_strange_one_replaced(down: ApiServer) -> None:
    assert (await down.http.get("/healthz", headers={"X-Request-Id": "mine-1"})).headers["x-request-id"] == "mine-1"
    assert len((await down.http.get("/healthz", headers={"X-Request-Id": "a b"})).headers["x-request-id"]) == 32


async def test_yaml_bodies_start_executions_too(down: ApiServer) -> None:
    made = await down.http.post("/agents", content="name: Ada\ninstructions: [be kind, be brief]\n", headers=YAML)
    assert (made.status_code, made.json()["instructions"]) == (201, ["be kind", "be brief"])


# --- Temporal is down ----------------------------------------------------------------------------------------------


async def test_definitions_and_reads_work_while_temporal_is_down(down: ApiServer, tmp_path: Path) -> None:
    made = await down.http.post("/tasks", content=TASK, headers=YAML)
    assert made.status_code == 201
    answer = await down.http.post(f"/tasks/{made.json()['id']}/executions", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "unreachable")
    assert "everstep dev" in answer.json()["hint"]
    assert (await down.http.get("/executions")).json() == {"items": [], "next_cursor": None}

    await remember(tmp_path, "init", "finish", now_us=time.time_ns() // 1_000 - 2_000_000)
    read = await down.http.get("/executions/e1")
    assert (read.status_code, read.json()["status"]) == (200, "running")
    assert float(read.headers["everstep-data-age"]) >= 2
    ready = await down.http.get("/readyz")
    assert (ready.status_code, ready.json()["store"]["ok"], ready.json()["temporal"]["ok"]) == (503, True, False)
    assert (await down.http.get(f"{down.url}/healthz")).json()["status"] == "ok"


async def test_the_api_finds_temporal_when_it_comes_up_and_again_after_a_restart(tmp_path: Path) -> None:
    server = TemporalProcess(tmp_path)
    async with api_server(settings_for(tmp_path), temporal=server.address) as api:
        task_id = (await api.http.post("/tasks", content=TASK, headers=YAML)).json()["id"]
        assert (await api.http.post(f"/tasks/{task_id}/executions", json={})).status_code == 503
        try:
            for _ in range(2):
                server.start()
                answer = await _until_started(api.http, task_id)
                assert answer["status"] == "queued"
                assert (await api.http.get("/readyz")).json()["status"] == "ready"
                await remember(tmp_path, "init", "finish", now_us=time.time_ns() // 1_000, name=answer["id"])
                server.stop()
                refused = await api.http.post(f"/tasks/{task_id}/executions", json={})
                assert (refused.status_code, refused.json()["code"]) == (503, "unreachable")
                # a read does not wait for a server that died: it would for the whole limit of a question
                await asyncio.sleep(1.1)
                async with asyncio.timeout(RPC_TIMEOUT.total_seconds()):
                    read = await api.http.get(f"/executions/{answer['id']}")
                assert (read.status_code, "everstep-data-age" in read.headers) == (200, True)
        finally:
            server.stop()


async def _until_started(http: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = await http.post(f"/tasks/{task_id}/executions", json={})
        if answer.status_code == 201:
            return dict(answer.json())
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.2)


# --- streams over gaps and replaced events -------------------------------------------------------------------------


async def test_a_stream_waits_for_missing_events_and_tells_replaced_ones_again(down: ApiServer, tmp_path: Path) -> None:
    now = time.time_ns() // 1_000
    database = await open_database(settings_for(tmp_path).store_url)
    store = ProjectionStore(database)
    body = '{"workflow":"main","scope":"","input":1,"task":"t","task_id":"t1","tenant":"default"}'

    async def emit(seq: int, at: int, kind: str = "step") -> None:
        await store.append_events([EventRecord("e1", "r1", seq, now + at, kind, body)])

    await emit(1, 0, "init")
    following = asyncio.create_task(read_stream(down.http, "/executions/e1/events.stream"))
    await asyncio.sleep(0.3)
    await emit(3, 10)
    await emit(4, 10, "finish")
    await asyncio.sleep(0.2)
    await emit(2, 5)
    await asyncio.sleep(0.2)
    await emit(4, 99)  # the finish never happened: its workflow task was repeated
    await emit(5, 100, "finish")
    await asyncio.sleep(0.2)
    await store.settle([ExecutionEnd("e1", ExecutionStatus.SUCCEEDED, now + 200, output=1)])
    told = [(int(item.id), item.data["type"]) for item in await following]
    assert told == [(1, "init"), (2, "step"), (3, "step"), (4, "finish"), (4, "step"), (5, "finish")]
    await database.close()
