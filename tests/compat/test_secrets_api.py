"""Secrets by API and command line: set by admins, listed for their tenant, and never shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from engine.control.secrets import SecretKeys, SecretReader
from engine.edge.cli.main import run_command
from engine.store.database import open_database
from engine.store.schema import truth
from engine.store.secrets import SecretStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.servers import free_port

VALUE = "c4nary-of-Ada"
ROOT = {"authorization": "Bearer sesame"}


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API with a root key, without Temporal."""
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


async def key_of(http: httpx.AsyncClient, tenant: str, scope: str) -> dict[str, str]:
    """Return the header of a new key."""
    body = {"name": "bot", "scopes": [scope], "tenant": tenant}
    made = (await http.post("/keys", json=body, headers=ROOT)).json()
    return {"authorization": f"Bearer {made['key']}"}


async def value_of(folder: Path, tenant: str, name: str) -> str:
    """Return what a worker of the same folder reads."""
    settings = settings_for(folder)
    database = await open_database(settings.store_url)
    try:
        reader = SecretReader(SecretStore(database), SecretKeys.of(settings))
        return (await reader.read(tenant, name)).get_secret_value()
    finally:
        await database.close()


async def all_rows(folder: Path) -> str:
    """Return every row of the store's truth as text."""
    database = await open_database(settings_for(folder).store_url)
    try:
        async with database.read() as connection:
            found: list[Any] = []
            for table in truth.sorted_tables:
                found += (await connection.execute(text(f"SELECT * FROM {table.name}"))).all()
            return repr(found)
    finally:
        await database.close()


async def test_no_answer_and_no_row_holds_the_value_that_a_worker_reads(locked: ApiServer, tmp_path: Path) -> None:
    body = {"value": VALUE, "description": "token of the CRM"}
    answers = [
        await locked.http.put("/secrets/crm", json=body, headers={**ROOT, "idempotency-key": "once"}),
        await locked.http.get("/secrets", headers=ROOT),
        await locked.http.get("/secrets/crm", headers=ROOT),
        await locked.http.post("/secrets/reseal", headers={**ROOT, "idempotency-key": "again"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert VALUE not in "".join(answer.text for answer in answers)
    assert answers[0].json()["updated_by"] == "root"
    assert answers[1].json()["items"] == [answers[0].json()] == [answers[2].json()]
    assert await value_of(tmp_path, "default", "crm") == VALUE
    assert VALUE not in await all_rows(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        {"value": VALUE, "descripton": "x"},
        {"value": [VALUE]},
        {"value": VALUE, "description": 5},
        {"value": VALUE + "\0"},
        {"value": VALUE * 6_000},
    ],
)
async def test_a_refusal_does_not_show_what_was_sent(
    locked: ApiServer, body: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await locked.http.put("/secrets/crm", json=body, headers=ROOT)
    assert answer.status_code in (400, 422)
    assert VALUE not in answer.text
    assert (await locked.http.get("/secrets", headers=ROOT)).json()["items"] == []
    told = capfd.readouterr()
    assert VALUE not in told.err + told.out


async def test_admins_set_and_remove_and_readers_see_the_names(locked: ApiServer) -> None:
    define, admin = [await key_of(locked.http, "acme", scope) for scope in ("define", "admin")]
    assert (await locked.http.put("/secrets/crm", json={"value": "xyzw"}, headers=define)).status_code == 403
    assert (await locked.http.put("/secrets/crm", json={"value": "xyzw"}, headers=admin)).status_code == 200
    assert (await locked.http.post("/secrets/reseal", headers=define)).status_code == 403
    assert (await locked.http.delete("/secrets/crm", headers=define)).status_code == 403
    read = await key_of(locked.http, "acme", "read")
    listed = (await locked.http.get("/secrets", headers=read)).json()["items"]
    assert [each["name"] for each in listed] == ["crm"]
    assert (await locked.http.delete("/secrets/crm", headers=admin)).status_code == 202
    assert (await locked.http.delete("/secrets/crm", headers=admin)).json()["code"] == "secret.not_found"


async def test_a_tenant_sees_and_changes_its_own_secrets_alone(locked: ApiServer, tmp_path: Path) -> None:
    acme, globex = [await key_of(locked.http, tenant, "admin") for tenant in ("acme", "globex")]
    await locked.http.put("/secrets/crm", json={"value": "of acme"}, headers=acme)
    assert (await locked.http.get("/secrets", headers=globex)).json()["items"] == []
    assert (await locked.http.get("/secrets/crm", headers=globex)).status_code == 404
    assert (await locked.http.delete("/secrets/crm", headers=globex)).status_code == 404
    await locked.http.put("/secrets/crm", json={"value": "of globex"}, headers=globex)
    assert await value_of(tmp_path, "acme", "crm") == "of acme"
    assert await value_of(tmp_path, "globex", "crm") == "of globex"


async def test_a_long_list_comes_in_pages(locked: ApiServer) -> None:
    for name in ("c", "a", "b"):
        await locked.http.put(f"/secrets/{name}", json={"value": name * 4}, headers=ROOT)
    first = (await locked.http.get("/secrets?limit=2", headers=ROOT)).json()
    rest = (await locked.http.get("/secrets", params={"limit": 2, "cursor": first["next_cursor"]}, headers=ROOT)).json()
    assert [[each["name"] for each in page["items"]] for page in (first, rest)] == [["a", "b"], ["c"]]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("way", ["stdin", "env", "file"])
async def test_the_command_line_takes_a_value_from_everywhere_but_its_arguments(
    locked: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], way: str
) -> None:
    import asyncio
    import io

    options = {
        "stdin": [],
        "env": ["--from-env", "CRM_TOKEN"],
        "file": ["--file", str(tmp_path / "token")],
    }[way]
    (tmp_path / "token").write_text(f"{VALUE}\n")
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{VALUE}\n"))
    where = ["--address", locked.url, "--api-key", "sesame"]

    async def run(*words: str) -> int:
        return int(await asyncio.to_thread(run_command, [*words, *where]))

    assert await run("secrets", "set", "crm", *options, "--description", "token of the CRM") == 0
    assert await value_of(tmp_path, "default", "crm") == VALUE
    assert await run("secrets", "ls", "--output", "json") == 0
    told = capfd.readouterr()
    assert VALUE not in told.out + told.err
    assert json.loads(told.out.partition("\n")[2])[0]["description"] == "token of the CRM"
    assert await run("secrets", "ls") == 0
    assert "crm" in capfd.readouterr().out
    assert await run("secrets", "reseal") == 0
    assert await run("secrets", "rm", "crm") == 0
    assert await run("secrets", "rm", "crm") == 4
    assert (await locked.http.get("/secrets", headers=ROOT)).json()["items"] == []


async def test_a_value_is_no_argument(locked: ApiServer) -> None:
    assert run_command(["secrets", "set", "crm", VALUE, "--address", locked.url]) == 2
