"""Values that nothing can hold, times out of range, keys with other words, errors nobody foresaw: what the API says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.store.overview import OverviewReader
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.servers import free_port

TASK = "name: kid\nmain:\n  - evaluate: {x: 1}\n"
LABELLED = "name: kid\ndispatch: {labels: [nightly]}\nmain:\n  - evaluate: {x: 1}\n"
YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}
REPLAYED = "idempotency-replayed"


@pytest.fixture
async def http(lab: Lab, temporal_address: str, both_stores: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API with Temporal behind it and the task `kid`."""
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        assert (await server.http.post("/tasks", content=TASK, headers=YAML)).status_code == 201
        yield server.http


@pytest.fixture
async def down(both_stores: str, tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API whose Temporal server does not exist."""
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


# --- values --------------------------------------------------------------------------------------------------------


WRONG = (
    ('{"input": {"v": 1}, "metadata": {"x": 1e400}}', 422),
    ('{"input": {"v": -1e400}}', 422),
    ('{"metadata": {"x": NaN}}', 400),
    (f'{{"metadata": {nested(300)}}}', 422),
    (f'{{"metadata": {nested(101)}}}', 422),
    (f'{{"input": {nested(101)}}}', 422),
    (f'{{"input": {nested(100_000)}}}', 400),
    ('{"metadata": {"x": "\\ud800"}}', 422),
    ('{"input": {"\\ud800": 1}}', 422),
    ('{"labels": ["a\\u0000b"]}', 422),
    ('{"labels": ["a\\nb"]}', 422),
    ('{"labels": ["\\ud800"]}', 422),
    ('{"actor": "a\\u0000b"}', 422),
    ('{"actor": "a\\u001b[31mb"}', 422),
)


async def test_what_no_history_can_hold_starts_nothing(http: httpx.AsyncClient, lab: Lab) -> None:
    for body, status in WRONG:
        answer = await http.post("/tasks/kid/executions", content=body, headers=JSON)
        told = (answer.status_code, answer.headers["content-type"])
        assert told == (status, "application/problem+json"), (body[:80], answer.text)
    assert (await http.get("/executions")).json()["items"] == []
    listed = [found.id async for found in lab.client.list_workflows(f"TaskQueue = '{lab.queue}'")]
    assert listed == []


async def test_yaml_bodies_hold_no_infinity_either(http: httpx.AsyncClient) -> None:
    for text in ("metadata: {x: 1e400}", "metadata: {x: .inf}", "input: {x: -.inf}"):
        answer = await http.post("/tasks/kid/executions", content=text, headers=YAML)
        assert answer.status_code == 400, answer.text
        assert "is a number that JSON cannot hold" in answer.text


async def test_numbers_that_json_can_hold_are_kept_as_they_are(http: httpx.AsyncClient) -> None:
    for given in (10**4000, -(10**400), 1e308, 2**63):
        body = {"input": {"n": given}, "metadata": {"n": given}}
        answer = await http.post("/tasks/kid/executions", json=body)
        assert answer.status_code == 201, answer.text
        read = (await http.get(f"/executions/{answer.json()['id']}")).json()
        assert (read["input"], read["metadata"]) == ({"n": given}, {"n": given})


async def test_the_deepest_value_that_is_taken_is_shown_and_found(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/tasks/kid/executions", content=f'{{"input": {nested(100)}, "metadata": {nested(100)}}}', headers=JSON
    )
    assert answer.status_code == 201, answer.text
    path = ".".join(["a"] * 100)
    for query in (f"metadata_filter.{path}=1", f"metadata_filter={nested(100)}"):
        found = await http.get(f"/executions?{query}")
        assert [item["id"] for item in found.json()["items"]] == [answer.json()["id"]], found.text


async def test_a_label_of_another_body_holds_no_control_characters(down: ApiServer) -> None:
    for body in ('{"name": "a\\u0000"}', '{"name": "a\\u001b[2J"}', '{"metadata": {"x": 1e400}, "name": "a"}'):
        answer = await down.http.post("/keys", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
    deep = await down.http.post("/agents", content=f'{{"name": "a", "metadata": {nested(300)}}}', headers=JSON)
    assert (deep.status_code, deep.json()["code"]) == (422, "request.invalid")


# --- queries -------------------------------------------------------------------------------------------------------


async def test_times_at_the_ends_of_the_calendar_are_refused(down: ApiServer) -> None:
    for query in (
        "usage?from=0001-01-01T00:00:00%2B14:00",
        "usage?to=9999-12-31T23:59:59-14:00",
        "usage?from=0001-01-01T00:00:00Z",
        "executions?created_after=0001-01-01T00:00:00%2B14:00",
        "executions?closed_before=9999-12-31T23:59:59-14:00",
        "executions/counts?updated_after=0001-01-01T00:00:00%2B14:00",
    ):
        answer = await down.http.get(f"/{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), query


async def test_times_just_within_are_taken(down: ApiServer) -> None:
    answer = await down.http.get("/usage?from=0001-01-02T00:00:00Z&to=9999-12-31T00:00:00Z")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["from"], answer.json()["to"]) == ("0001-01-02T00:00:00Z", "9999-12-31T00:00:00Z")
    assert (await down.http.get("/executions?created_before=9999-12-31T00:00:00Z")).status_code == 200


@pytest.mark.parametrize("path", ["executions", "tasks", "agents", "executions/counts"])
async def test_a_filter_that_no_metadata_fits_is_refused(down: ApiServer, path: str) -> None:
    for query in (
        "metadata_filter." + ".".join(["a"] * 3_000) + "=1",
        "metadata_filter." + ".".join(["a"] * 101) + "=1",
        f"metadata_filter={nested(600)}",
        f"metadata_filter={nested(2_000)}",
        'metadata_filter={"a":1e400}',
        'metadata_filter={"a":"\\ud800"}',
    ):
        answer = await down.http.get(f"/{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid"), (query[:80], answer.text)


async def test_words_that_only_python_takes_for_numbers_are_texts(http: httpx.AsyncClient) -> None:
    for word in ("NaN", "Infinity"):
        started = await http.post("/tasks/kid/executions", json={"metadata": {"x": word}})
        found = await http.get(f"/executions?metadata_filter.x={word}")
        assert [item["id"] for item in found.json()["items"]] == [started.json()["id"]]


# --- errors that nobody foresaw ------------------------------------------------------------------------------------


async def test_an_unforeseen_error_is_logged_once_and_the_connection_goes_on(
    down: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(OverviewReader, "open_ones", fail)
    reader, writer = await asyncio.open_connection("127.0.0.1", down.port)
    answers = []
    for path in ("/api/overview", "/api/healthz", "/api/overview", "/api/tasks"):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
        body = await reader.readexactly(int(fields["content-length"]))
        answers.append((int(head.split()[1]), fields.get("x-everstep"), b'"code":"bug"' in body))
    writer.close()
    assert answers == [(500, "1", True), (200, "1", False), (500, "1", True), (200, "1", False)]
    told = "".join(capfd.readouterr())
    assert told.count("[error") == 2
    assert told.count("RuntimeError: the sky fell") == 2
    assert "Exception in ASGI application" not in told


# --- one key, one request ------------------------------------------------------------------------------------------


async def test_a_key_of_a_start_stands_for_all_that_was_asked(http: httpx.AsyncClient) -> None:
    async def start(reference: str = "kid", **body: Any) -> httpx.Response:
        sent = {"input": {"n": 1}, "labels": ["b", "a"], "metadata": {"m": [1]}, **body}
        return await http.post(f"/tasks/{reference}/executions", json=sent, headers={"idempotency-key": "k"})

    first = await start()
    assert first.status_code == 201
    same = [await start(), await start(labels=["a", "b", "a"]), await start("kid@1"), await start("kid@latest")]
    assert [answer.status_code for answer in same] == [200] * 4
    assert {answer.json()["id"] for answer in same} == {first.json()["id"]}
    for other, said in (
        ({"labels": ["a"]}, "other labels"),
        ({"labels": ["a", "b", "c"]}, "other labels"),
        ({"metadata": {"m": [2]}}, "other metadata"),
        ({"metadata": None}, "other metadata"),
        ({"input": {"n": 2}}, "another input"),
    ):
        answer = await start(**other)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency.key_reused"), other
        assert said in answer.json()["detail"]
    task_id = (await http.get("/tasks/kid")).json()["id"]
    assert (await http.put(f"/tasks/{task_id}", content=LABELLED, headers=YAML)).status_code == 200
    # the same words still mean the same request, though there is a newer version with labels of its own
    again = await start()
    assert (again.status_code, again.json()["task_version"], again.headers[REPLAYED]) == (200, 1, "true")
    assert (await start("kid@1")).status_code == 200
    newer = await start("kid@2")
    assert (newer.status_code, newer.json()["code"]) == (409, "idempotency.key_reused")
    assert "another version of the task" in newer.json()["detail"]


async def test_labels_that_the_task_itself_gives_do_not_make_another_request(http: httpx.AsyncClient) -> None:
    task_id = (await http.get("/tasks/kid")).json()["id"]
    assert (await http.put(f"/tasks/{task_id}", content=LABELLED, headers=YAML)).status_code == 200
    keyed = {"idempotency-key": "k"}
    for labels, status in ((["a"], 201), (["a"], 200), (["nightly", "a"], 200), (["b"], 409), ([], 409)):
        answer = await http.post("/tasks/kid/executions", json={"labels": labels}, headers=keyed)
        assert answer.status_code == status, (labels, answer.text)


# --- readiness -----------------------------------------------------------------------------------------------------


async def test_only_operators_are_told_where_temporal_is(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    address = f"127.0.0.1:{free_port()}"
    async with api_server(settings, temporal=address) as server:
        root = {"x-auth-key": "sesame"}
        body = {"name": "bot", "tenant": "acme", "scopes": ["admin"]}
        acme = (await server.http.post("/keys", json=body, headers=root)).json()["key"]
        for path in (f"{server.url}/readyz", "/readyz"):
            for headers in ({}, {"x-auth-key": "wrong"}, {"authorization": "es_wrong"}, {"x-auth-key": acme}):
                answer = await server.http.get(path, headers=headers)
                assert (answer.status_code, answer.json()["temporal"]) == (503, {"ok": False})
                assert (answer.json()["store"], address in answer.text) == ({"ok": True}, False)
            told = await server.http.get(path, headers=root)
            assert (told.status_code, told.json()["temporal"]["address"]) == (503, address)
