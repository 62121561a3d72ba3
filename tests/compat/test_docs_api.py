"""Documents by the API and the command line: added, embedded by a worker, found, listed, deleted; for one tenant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.embedding import Embedder
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from engine.control.outgoing import keep_going
from engine.edge.cli.exits import Exit
from engine.settings import BackendConfig, Project, RoutingConfig
from engine.store.changes import Changes
from engine.store.docs import DocStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.support.doors import doors_worker, eventually
from tests.support.lab import Lab

HOURS = {"title": "Opening hours", "content": ["We open at nine.", "We close at six."], "metadata": {"kind": "info"}}
CATS = {"title": "", "content": "Felines sleep for most of the day.", "metadata": {"kind": "animal"}}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@contextlib.asynccontextmanager
async def working(lab: Lab, project: Project | None = None) -> AsyncIterator[None]:
    """Do what a worker does for documents: make vectors, and search for the API."""
    chat = ChatActivities.of(project or Project())
    lookups = LookupActivities(Embedder(chat), DocStore(lab.store.database))
    changes, stopping = Changes(lab.store.database), asyncio.Event()
    embedding = asyncio.create_task(keep_going([lookups.embed_due], changes, stopping))
    try:
        async with doors_worker(lab, lookups=lookups):
            yield
    finally:
        stopping.set()
        await changes.close()
        await embedding
        lookups.close()
        await chat.aclose()


async def add(api: ApiServer, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await api.http.post("/docs", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def embedded(api: ApiServer, doc_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        view: dict[str, Any] = (await api.http.get(f"/docs/{doc_id}")).json()
        return view if view["embedded_at"] else None

    view: dict[str, Any] = await eventually(look, "the vectors")
    return view


async def found(api: ApiServer, **body: Any) -> list[str]:
    answer = await api.http.post("/docs/search", json=body)
    assert answer.status_code == 200, answer.text
    return [item["snippet"]["content"] for item in answer.json()["docs"]]


async def test_a_document_is_found_by_its_words_at_once_and_by_its_meaning_when_a_worker_embedded_it(
    lab: Lab, api: ApiServer
) -> None:
    hours, cats = await add(api, HOURS), await add(api, CATS)
    assert (hours["pieces"], hours["embedded_at"], hours["model"]) == (2, None, None)
    assert await found(api, text="closing") == ["We close at six."]
    assert await found(api, text="kitten") == []
    async with working(lab):
        whole = await embedded(api, cats["id"])
        assert (whole["model"], whole["dims"], whole["trouble"]) == ("minilm", 384, None)
        await embedded(api, hours["id"])
        assert await found(api, text="kittens taking a nap", limit=1) == [CATS["content"]]
        assert await found(api, text="nap", alpha=1, limit=1, metadata_filter={"kind": "info"}, confidence=-1) != []
        shown = (await api.http.get(f"/docs/{cats['id']}", params={"include_embeddings": True})).json()
        vector = shown["snippets"][0]["embedding"]
        assert await found(api, vector=vector, limit=1) == [CATS["content"]]
        answer = await api.http.post("/docs/search", json={"vector": [1.0, 0.0]})
        assert (answer.status_code, answer.json()["code"]) == (400, "search.dimensions")
    # words and vectors need no worker
    assert await found(api, vector=vector, limit=1) == [CATS["content"]]
    assert await found(api, text="felines", alpha=0) == [CATS["content"]]


async def test_a_model_that_does_not_answer_is_told_at_the_document_and_asked_again(lab: Lab, api: ApiServer) -> None:
    away = Project(backends={"b": BackendConfig(base_url="http://127.0.0.1:1/v1")}, routing=RoutingConfig(embed="e1"))
    made = await add(api, CATS)
    async with working(lab, away):

        async def troubled() -> str | None:
            told: str | None = (await api.http.get(f"/docs/{made['id']}")).json()["trouble"]
            return told

        assert "backend.unreachable" in await eventually(troubled, "the trouble")
    async with working(lab):
        assert (await embedded(api, made["id"]))["trouble"] is None


async def test_without_a_worker_a_search_by_meaning_says_so(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as api:
        made = await add(api, CATS)
        async with working(lab):
            await embedded(api, made["id"])
        answer = await api.http.post("/docs/search", json={"text": "cats"})
    assert (answer.status_code, answer.json()["code"]) == (503, "search.no_worker")
    assert "alpha" in answer.json()["detail"] + answer.json().get("hint", "")


async def test_documents_are_listed_by_owner_and_deleted_one_by_one_or_by_what_is_known_of_them(api: ApiServer) -> None:
    mine = await add(api, {**HOURS, "user": "ana"})
    await add(api, {**CATS, "user": "ana"})
    await add(api, {**CATS, "agent": "helper"})
    everything = (await api.http.get("/docs")).json()["items"]
    assert len(everything) == 3
    page = (await api.http.get("/docs", params={"user": "ana", "limit": 1})).json()
    rest = (await api.http.get("/docs", params={"user": "ana", "limit": 1, "cursor": page["next_cursor"]})).json()
    assert (page["items"][0]["metadata"], rest["items"][0]["id"]) == ({"kind": "animal"}, mine["id"])
    assert rest["next_cursor"] is None
    assert await found(api, text="felines", user="ana") == [CATS["content"]]
    assert await found(api, text="felines") == []
    gone = await api.http.post("/docs/delete", json={"user": "ana", "metadata_filter": {"kind": "animal"}})
    assert gone.json() == {"deleted": 1}
    gone = await api.http.delete(f"/docs/{mine['id']}")
    assert (gone.status_code, gone.json()["id"], gone.json()["jobs"]) == (202, mine["id"], [])
    assert (await api.http.get(f"/docs/{mine['id']}")).status_code == 404
    assert (await api.http.delete(f"/docs/{mine['id']}")).status_code == 404
    assert (await api.http.post("/docs/delete", json={"agent": "helper", "all": True})).json() == {"deleted": 1}
    assert (await api.http.get("/docs")).json()["items"] == []


async def test_a_repeated_request_adds_one_document(api: ApiServer) -> None:
    first = await add(api, CATS, **{"Idempotency-Key": "k"})
    assert (await add(api, CATS, **{"Idempotency-Key": "k"}))["id"] == first["id"]
    assert len((await api.http.get("/docs")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/docs", {"content": " "}),
        ("/docs", {"content": []}),
        ("/docs", {"content": ["a", ""]}),
        ("/docs", {"content": "a", "agent": "a", "user": "u"}),
        ("/docs", {"content": "a", "owner": "u"}),
        ("/docs/search", {"text": " "}),
        ("/docs/search", {"vector": [0, 0]}),
        ("/docs/search", {"text": "a", "limit": 51}),
        ("/docs/search", {"text": "a", "alpha": 2}),
        ("/docs/delete", {"user": "u"}),
        ("/docs/delete", {"user": "u", "all": True, "metadata_filter": {"a": 1}}),
    ],
)
async def test_what_makes_no_sense_is_refused_whole(api: ApiServer, path: str, body: dict[str, Any]) -> None:
    answer = await api.http.post(path, json=body)
    assert answer.status_code in (400, 422), answer.text
    assert (await api.http.get("/docs")).json()["items"] == []


async def test_documents_by_the_command_line(
    lab: Lab, api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    cli = Cli(api.url, capsys)
    file = tmp_path / "hours.txt"
    file.write_text("We open at nine.\n\nWe close at six.\n", encoding="utf-8")
    code, out, err = await cli("docs", "add", str(file), "--pieces", "--metadata", '{"v": 1}', "--user", "ana")
    assert code == Exit.OK, err
    doc_id = out.strip()
    assert (await cli("docs", "add", str(tmp_path / "absent.txt")))[0] == Exit.USAGE
    _, listed, _ = await cli("docs", "ls")
    assert all(word in listed for word in (doc_id, "hours.txt", "user ana", "none"))
    async with working(lab):
        await embedded(api, doc_id)
        code, told, err = await cli("docs", "search", "when do you shut", "--user", "ana")
        assert code == Exit.OK, err
        assert "We close at six." in told
    _, shown, _ = await cli("docs", "show", doc_id)
    assert "[1] We close at six." in shown
    assert "minilm, 384" in shown
    assert (await cli.json("docs", "search", "nine", "--alpha", "0", "--user", "ana"))[0]["id"] == doc_id
    assert (await cli("docs", "rm", doc_id))[0] == Exit.OK
    assert await cli.json("docs", "ls") == []
    assert (await cli("docs", "show", doc_id))[0] == Exit.NOT_FOUND
