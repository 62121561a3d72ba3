"""The codec server as Temporal's own tools use it: its command line against a real history, and a page of its UI."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from temporalio.client import Client

from engine.control.payloads import data_converter
from engine.control.sealing import new_key, read_ring
from engine.tooling import tool
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.temporal_cli import temporal_cli

KEY = new_key("k1")
SECRET = "bittern-2207"
UI = "https://temporal.example.com"
ROOT = "root-key-of-the-test"


@tool(effect="read")
async def much(word: str) -> str:
    """Say a word so often that it stands beside the history, encrypted: by chance, so that it stays large."""
    return word + random.Random(3).randbytes(500_000).hex()


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    lab.tools = (much,)
    converter = data_converter(lab.folder / "blobs", ring=read_ring(KEY))
    lab.client = await Client.connect(temporal_address, data_converter=converter)
    settings = settings_for(
        lab.folder,
        task_queue=lab.queue,
        encryption_keys=SecretStr(KEY),
        codec_origins=(UI,),
        api_key=SecretStr(ROOT),
    )
    async with api_server(settings, temporal=temporal_address) as server:
        server.http.headers["Authorization"] = f"Bearer {ROOT}"
        yield server


def as_json(payload: Any) -> dict[str, Any]:
    metadata = {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()}
    return {"metadata": metadata, "data": base64.b64encode(payload.data).decode()}


async def test_temporals_command_line_shows_what_is_encrypted_with_it_and_nothing_without(
    lab: Lab, api: ApiServer
) -> None:
    async with lab.worker():
        handle = await lab.start(f"name: t\nmain: [{{evaluate: '$ _ + \"{SECRET}\"'}}]", SECRET)
        assert (await lab.end_of(handle)).output == SECRET + SECRET
    show = ("workflow", "show", "--workflow-id", handle.id, "--output", "json")
    without = await asyncio.to_thread(temporal_cli, lab, *show)
    assert SECRET not in without
    assert base64.b64encode(SECRET.encode()).decode()[:-2] not in without
    codec = ("--codec-endpoint", f"{api.url}/api/codec", "--codec-auth", f"Bearer {ROOT}")
    told = json.loads(await asyncio.to_thread(temporal_cli, lab, *show, *codec))
    assert (
        SECRET in json.dumps(told)
        or SECRET
        in base64.b64decode(
            told["events"][0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"][0]["data"]
        ).decode()
    )


async def test_what_is_decoded_is_what_was_encoded(api: ApiServer) -> None:
    plain = {"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": "IkFkYSI="}
    sealed = (await api.http.post("/codec/encode", json={"payloads": [plain, plain]})).json()
    assert all(item["metadata"]["encoding"] == "YmluYXJ5L2VuY3J5cHRlZA==" for item in sealed["payloads"])
    assert (await api.http.post("/codec/decode", json=sealed)).json() == {"payloads": [plain, plain]}
    assert (await api.http.post("/codec/decode", json={"payloads": [plain]})).json() == {"payloads": [plain]}


async def test_a_payload_beside_the_history_is_fetched(lab: Lab, api: ApiServer) -> None:
    [reference] = await lab.client.data_converter.encode([SECRET + (await much(""))])
    assert reference.metadata["encoding"] == b"json/protobuf"
    body = as_json(reference) | {"externalPayloads": [{"sizeBytes": "1000000"}]}
    [found] = (await api.http.post("/codec/decode", json={"payloads": [body]})).json()["payloads"]
    assert base64.b64decode(found["data"]).decode().startswith(f'"{SECRET}')
    large = body | {"externalPayloads": [{"sizeBytes": "50000000"}]}
    [kept] = (await api.http.post("/codec/decode", json={"payloads": [large]})).json()["payloads"]
    assert kept["metadata"]["encoding"] == base64.b64encode(b"json/protobuf").decode()


async def test_a_key_that_the_server_does_not_have_is_named(lab: Lab, api: ApiServer) -> None:
    converter = data_converter(lab.folder / "blobs", ring=read_ring(new_key("k9")))
    [sealed] = await converter.encode([SECRET])
    answer = await api.http.post("/codec/decode", json={"payloads": [as_json(sealed)]})
    assert answer.json()["code"] == "payload.unknown_key"
    assert "'k9'" in answer.json()["detail"]


async def test_nobody_decodes_without_the_scope_admin(api: ApiServer) -> None:
    made = (await api.http.post("/keys", json={"name": "reader", "scopes": ["define"]})).json()["key"]
    other = (await api.http.post("/keys", json={"name": "acme", "scopes": ["admin"], "tenant": "acme"})).json()["key"]
    for header, status in ((f"Bearer {made}", 403), (f"Bearer {other}", 403), ("", 401)):
        async with httpx.AsyncClient(base_url=f"{api.url}/api", trust_env=False) as stranger:
            for path in ("/codec/decode", "/codec/encode"):
                answer = await stranger.post(path, json={"payloads": []}, headers={"Authorization": header})
                assert answer.status_code == status, answer.text


async def test_a_page_of_the_configured_origin_may_ask_and_no_other_and_nothing_else(api: ApiServer) -> None:
    asked = {"Origin": UI, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with httpx.AsyncClient(base_url=f"{api.url}/api", trust_env=False) as page:
        before = await page.options("/codec/decode", headers=asked)
        assert before.status_code == 204
        assert before.headers["access-control-allow-origin"] == UI
        assert "POST" in before.headers["access-control-allow-methods"]
        assert "X-Namespace" in before.headers["access-control-allow-headers"]
        keyless = await page.post("/codec/decode", json={"payloads": []}, headers={"Origin": UI})
        assert keyless.status_code == 401
        assert keyless.headers["access-control-allow-origin"] == UI
    answer = await api.http.post("/codec/decode", json={"payloads": []}, headers={"Origin": UI})
    assert (answer.status_code, answer.json()) == (200, {"payloads": []})
    assert answer.headers["access-control-allow-origin"] == UI
    for origin, path in (("https://evil.example.com", "/codec/decode"), (UI, "/keys")):
        refused = await api.http.post(path, json={"payloads": []}, headers={"Origin": origin})
        assert (refused.status_code, refused.json()["code"]) == (403, "origin.refused")
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "body",
    [{"payloads": [{"data": "not base64!"}]}, {"payloads": [{"metadata": {"a": "%"}}]}, {"payloads": 3}, {"p": []}],
)
async def test_what_is_no_payload_is_refused(api: ApiServer, body: Any) -> None:
    assert (await api.http.post("/codec/decode", json=body)).status_code in (400, 422)


async def test_an_answer_with_an_idempotency_key_is_not_kept(lab: Lab, api: ApiServer) -> None:
    [sealed] = await lab.client.data_converter.encode([SECRET])
    body = {"payloads": [as_json(sealed)]}
    answers = [await api.http.post("/codec/decode", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert base64.b64decode(answers[0].json()["payloads"][0]["data"]).decode() == f'"{SECRET}"'
    async with lab.store.database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT body FROM idempotency")).all()
    told = json.dumps([row[0] for row in rows])
    assert SECRET not in told
    assert base64.b64encode(f'"{SECRET}"'.encode()).decode() not in told
