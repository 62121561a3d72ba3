"""Files and secrets for Julep's clients and for others: bare arrays, ids beside names, values that nobody sees."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from julep import AsyncJulep, ConflictError, DefaultAsyncHttpxClient, NotFoundError

from engine.control import files as limits
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_secrets_api import value_of
from tests.support.servers import free_port

HELLO = base64.b64encode(b"hello").decode()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API without Temporal, which files and secrets do not need."""
    async with api_server(settings_for(tmp_path), temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


@pytest.fixture
async def julep(api: ApiServer) -> AsyncIterator[AsyncJulep]:
    options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncJulep(base_url=f"{api.url}/api", api_key="any", http_client=http, **options) as client:
        yield client


# --- files -----------------------------------------------------------------------------------------------------------


async def test_files_are_an_array_for_every_client_and_have_their_bytes(api: ApiServer, julep: AsyncJulep) -> None:
    project = (await api.http.post("/projects", json={"name": "P", "canonical_name": "p"})).json()
    made = await julep.files.create(name="a.txt", content=HELLO, mime_type="text/plain", project=project["id"])
    assert (made.content, made.size, made.project) == (HELLO, 5, "p")
    listed = (await api.http.get("/files")).json()
    assert [(file["id"], file["content"]) for file in listed] == [(made.id, HELLO)]
    assert [file.hash for file in await julep.files.list()] == [made.hash]
    gone = await api.http.delete(f"/files/{made.id}")
    assert (gone.status_code, gone.json()["id"], gone.json()["jobs"]) == (202, made.id, [])
    assert (await api.http.get("/files")).json() == []
    with pytest.raises(NotFoundError):
        await julep.files.get(made.id)


async def test_a_long_list_of_files_says_where_it_goes_on(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_LISTED_BYTES", 10)
    for number in range(3):
        await api.http.post("/files", json={"name": str(number), "content": HELLO})
    names: list[str] = []
    offset: str | None = "0"
    while offset is not None:
        answer = await api.http.get("/files", params={"offset": offset})
        names += [file["name"] for file in answer.json()]
        offset = answer.headers.get("everstep-next-offset")
    assert names == ["2", "1", "0"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a"},
        {"name": "", "content": HELLO},
        {"name": "a", "content": "*"},
        {"name": "a", "content": HELLO, "mime_type": "text"},
        {"name": "a", "content": HELLO, "project": "nobody-has-it"},
    ],
)
async def test_a_file_that_makes_no_sense_is_refused(api: ApiServer, body: dict[str, Any]) -> None:
    assert (await api.http.post("/files", json=body)).status_code in (400, 404, 422)
    assert (await api.http.get("/files")).json() == []


# --- secrets ---------------------------------------------------------------------------------------------------------


async def test_a_secret_has_an_id_by_which_it_is_set_renamed_and_removed(
    api: ApiServer, julep: AsyncJulep, tmp_path: Path
) -> None:
    made = await julep.secrets.create(name="crm", value="first", description="token", metadata={"of": "crm"})
    assert (made.value, made.metadata) == ("ENCRYPTED", {"of": "crm"})
    changed = await julep.secrets.update(made.id, name="crm_token", value="second")
    assert (changed.id, changed.name, changed.description, changed.metadata) == (
        made.id,
        "crm_token",
        "token",
        {"of": "crm"},
    )
    assert await value_of(tmp_path, "default", "crm_token") == "second"
    by_id, by_name = [(await api.http.get(f"/secrets/{each}")).json() for each in (made.id, "crm_token")]
    assert by_id == by_name
    assert (await api.http.get("/secrets/crm")).status_code == 404
    again = await api.http.put("/secrets/crm_token", json={"value": "third"})
    assert again.json()["id"] == made.id
    assert (await julep.secrets.delete(made.id)).id == made.id
    assert await julep.secrets.list() == []


async def test_a_name_that_is_taken_is_neither_created_nor_given_to_another(
    api: ApiServer, julep: AsyncJulep, tmp_path: Path
) -> None:
    one = await julep.secrets.create(name="one", value="first")
    two = await julep.secrets.create(name="two", value="second")
    with pytest.raises(ConflictError):
        await julep.secrets.create(name="one", value="other")
    for reference in (two.id, "two"):
        answer = await api.http.put(f"/secrets/{reference}", json={"name": "one", "value": "other"})
        assert (answer.status_code, answer.json()["code"]) == (409, "secret.exists")
        assert answer.headers["x-should-retry"] == "false"
    for reference in ("three", "00000000-0000-4000-8000-000000000000"):
        answer = await api.http.put(f"/secrets/{reference}", json={"name": "four", "value": "other"})
        assert (answer.status_code, answer.json()["code"]) == (404, "secret.not_found")
    assert [secret.id for secret in await julep.secrets.list()] == [one.id, two.id]
    assert await value_of(tmp_path, "default", "one") == "first"


async def test_lists_are_arrays_for_the_sdk_and_pages_for_others(api: ApiServer, julep: AsyncJulep) -> None:
    for name in ("c", "a", "b"):
        await api.http.put(f"/secrets/{name}", json={"value": name * 4})
    sdk = [await julep.secrets.list(limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [[secret.name for secret in page] for page in sdk] == [["a", "b"], ["c"], []]
    assert {secret.value for page in sdk for secret in page} == {"ENCRYPTED"}
    ours = (await api.http.get("/secrets", params={"limit": 2, "offset": 1})).json()
    assert ([secret["name"] for secret in ours["items"]], ours["next_cursor"]) == (["b", "c"], None)
