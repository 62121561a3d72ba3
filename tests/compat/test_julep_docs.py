"""Documents of agents and users for Julep's clients: how they are searched, which are one, what is told of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.control import documents
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_docs_api import embedded, working
from tests.support.doors import eventually
from tests.support.lab import Lab

STAINLESS = {"x-stainless-lang": "python"}
FERN = {"x-fern-language": "Python"}
PETS = {"Felines sleep for most of the day.": "cats", "Dogs want to be walked twice a day.": "dogs"}
MONEY = {"Invoices are due within thirty days.": "due", "A bill must be paid in thirty days.": "bill"}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=8.0) as server:
        yield server


async def posted(api: ApiServer, path: str, body: Any, **headers: str) -> dict[str, Any]:
    answer = await api.http.post(path, json=body, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


async def agent(api: ApiServer, **more: Any) -> str:
    return str((await posted(api, "/agents", {"name": "a", **more}))["id"])


async def titles(api: ApiServer, owner: str, **body: Any) -> list[str]:
    """Return the titles of what a search finds."""
    return [doc["title"] for doc in (await posted(api, f"/agents/{owner}/search", body))["docs"]]


async def library(api: ApiServer) -> str:
    """Return an agent with documents that have vectors."""
    owner = await agent(api)
    for content, title in (PETS | MONEY).items():
        about = {"kind": "pet" if content in PETS else "money", "at": {"shelf": title, "floor": 1}}
        made = await posted(api, f"/agents/{owner}/docs", {"title": title, "content": content, "metadata": about})
        await embedded(api, made["id"])
    return owner


@pytest.mark.usefixtures("both_stores")
async def test_text_vector_or_both_say_how_it_is_searched(lab: Lab, api: ApiServer) -> None:
    async with working(lab):
        owner = await library(api)
        cats, debts = (await posted(api, "/embed", {"text": ["a kitten that naps", "what do I owe?"]}))["vectors"]
        anything: dict[str, Any] = {"confidence": -1, "limit": 4}
        # a text alone is words alone, unless its meaning is asked for
        assert await titles(api, owner, text="kitten naps") == []
        assert (await titles(api, owner, text="kitten naps", alpha=1, **anything))[0] == "cats"
    assert await titles(api, owner, text="felines") == ["cats"]
    assert (await titles(api, owner, vector=cats, **anything))[0] == "cats"
    both = {"text": "dogs", "vector": cats, **anything}
    assert await titles(api, owner, **both, alpha=0) == ["dogs"]
    assert (await titles(api, owner, **both, alpha=1))[0] == "cats"
    assert set((await titles(api, owner, **both))[:2]) == {"cats", "dogs"}
    # what is too far away in meaning is left out, and without a word of it half of the likeness is asked for
    ranked = (await posted(api, f"/agents/{owner}/search", {"vector": cats, **anything}))["docs"]
    assert [doc["distance"] for doc in ranked] == [pytest.approx(1 - doc["similarity"]) for doc in ranked]
    second = ranked[1]["similarity"]
    assert await titles(api, owner, vector=cats, confidence=round(second + 0.001, 4)) == ["cats"]
    usual = [doc["title"] for doc in ranked if doc["similarity"] >= 0.5]
    assert await titles(api, owner, vector=cats) == usual
    # what says the same again gives way
    alike = {"vector": debts, "confidence": -1, "limit": 2}
    assert set(await titles(api, owner, **alike, mmr_strength=0)) == {"due", "bill"}
    assert set(await titles(api, owner, **alike, mmr_strength=0.9)) & {"cats", "dogs"}
    assert set(await titles(api, owner, **alike, mmr=False)) == {"due", "bill"}


@pytest.mark.usefixtures("both_stores")
async def test_words_are_found_by_their_spelling_and_documents_by_nested_metadata(api: ApiServer) -> None:
    owner = await agent(api, canonical_name="librarian")
    for number, content in enumerate(("Photosynthesis in plants", "Trains and timetables")):
        body = {"title": str(number), "content": content, "metadata": {"at": {"floor": number, "open": True}}}
        await posted(api, "/agents/librarian/docs", body)
    assert await titles(api, owner, text="fotosynthesis") == []
    assert await titles(api, owner, text="fotosynthesis", trigram_similarity_threshold=0.5) == ["0"]
    for wanted, found in (({"at": {"floor": 1}}, ["1"]), ({"at": {"open": True, "floor": 0}}, ["0"]), ({"at": 1}, [])):
        assert await titles(api, "librarian", text="plants trains", metadata_filter=wanted) == found
        listed = await api.http.get("/agents/librarian/docs", params={"metadata_filter": json.dumps(wanted)})
        assert [doc["title"] for doc in listed.json()["items"]] == found
    dotted = await api.http.get(f"/agents/{owner}/docs", params={"metadata_filter.at.floor": "1"})
    assert [doc["title"] for doc in dotted.json()["items"]] == ["1"]


async def test_a_document_that_its_owner_has_already_stays_one(lab: Lab, api: ApiServer) -> None:
    owner, other = await agent(api), await agent(api)
    body = {"title": "Hours", "content": ["We open at nine.", "We close at six."], "metadata": {"v": 1}}
    first = await posted(api, f"/agents/{owner}/docs", body)
    assert (await posted(api, f"/agents/{owner}/docs", {**body, "metadata": None}))["id"] == first["id"]
    again = await posted(api, f"/agents/{owner}/docs", {**body, "metadata": {"v": 2}})
    assert (again["id"], again["metadata"]) == (first["id"], {"v": 2})
    listed = (await api.http.get(f"/agents/{owner}/docs")).json()["items"]
    assert [(doc["id"], doc["metadata"]) for doc in listed] == [(first["id"], {"v": 2})]
    for path, changed in ((other, body), (owner, {**body, "title": "Times"}), (owner, {**body, "content": "We open."})):
        assert (await posted(api, f"/agents/{path}/docs", changed))["id"] != first["id"]
    async with working(lab):
        before = (await whole(api, first["id"], told=True))["embeddings"]
        told = {**body, "embed_instruction": "Represent this for a search:"}
        assert (await posted(api, f"/agents/{owner}/docs", told))["id"] == first["id"]

        async def others() -> bool:
            return bool((await whole(api, first["id"], told=True))["embeddings"] != before)

        assert await eventually(others, "vectors for the instruction")


async def whole(api: ApiServer, doc_id: str, *, told: bool) -> dict[str, Any]:
    await embedded(api, doc_id)
    shown: dict[str, Any] = (await api.http.get(f"/docs/{doc_id}", params={"include_embeddings": told})).json()
    return shown


async def test_each_client_is_told_of_a_document_as_it_is_used_to(lab: Lab, api: ApiServer) -> None:
    user = (await posted(api, "/users", {"name": "bo"}))["id"]
    body = {"title": "Hours", "content": "We open at nine.", "embed_instruction": None, "metadata": None}
    made = await posted(api, f"/users/{user}/docs?connection_pool=x", body)
    assert (made["content"], made["embeddings"], made["language"], made["modality"]) == (
        "We open at nine.",
        None,
        "english",
        "text",
    )
    async with working(lab):
        await embedded(api, made["id"])
    ours = (await api.http.get(f"/docs/{made['id']}")).json()
    sdks = (await api.http.get(f"/docs/{made['id']}", headers=STAINLESS)).json()
    assert ours["embeddings"] is None
    assert (len(sdks["embeddings"]), sdks["embedding_dimensions"], sdks["embedding_model"]) == (384, 384, "minilm")
    listed = (await api.http.get(f"/users/{user}/docs", headers=FERN)).json()
    assert listed["results"] == listed["items"] == [ours]
    # the client of 2024 wraps what it looks for, sends the queries of lists, and reads snippets as texts
    queries: dict[str, str | int] = {
        "limit": 5,
        "offset": 0,
        "sort_by": "created_at",
        "direction": "asc",
        "metadata_filter": "{}",
    }
    answer = await api.http.post(
        f"/users/{user}/search", json={"body": {"text": "nine", "lang": "en-US"}}, params=queries, headers=FERN
    )
    assert answer.json()["results"] == [
        {
            "owner": {"id": user, "role": "user"},
            "id": made["id"],
            "title": "Hours",
            "snippet": "We open at nine.",
            "snippet_index": [0],
        }
    ]
    assert answer.json()["time"] > 0
    other = {"metadata_filter": '{"a": 1}'}
    assert (await api.http.post(f"/users/{user}/search", json={"text": "nine"}, params=other)).json()["docs"] == []


async def test_a_list_ends_before_it_is_too_long_and_goes_on_behind_it(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MOST_LISTED_CHARS", 10)
    owner = await agent(api)
    for number, size in enumerate((5, 5, 5, 20)):
        await posted(api, f"/agents/{owner}/docs", {"title": str(number), "content": "x" * size})
    seen: list[list[str]] = []
    while not seen or seen[-1]:
        query: dict[str, str | int] = {"offset": sum(map(len, seen)), "direction": "asc"}
        page = (await api.http.get(f"/agents/{owner}/docs", params=query)).json()["items"]
        seen.append([doc["title"] for doc in page])
    assert seen == [["0", "1"], ["2", "3"], []]


async def test_documents_are_deleted_of_their_owner_alone_and_with_it(api: ApiServer) -> None:
    mine, other = await agent(api), await agent(api)
    made = [
        await posted(api, f"/agents/{mine}/docs", {"title": str(n), "content": "x", "metadata": {"n": n}})
        for n in range(3)
    ]
    first, second, third = (doc["id"] for doc in made)
    theirs = await posted(api, f"/agents/{other}/docs", {"title": "0", "content": "x"})
    assert (await api.http.delete(f"/agents/{other}/docs/{first}")).json()["code"] == "doc.not_found"
    gone = await api.http.delete(f"/agents/{mine}/docs/{first}")
    assert (gone.status_code, gone.json()["id"], gone.json()["jobs"]) == (202, first, [])

    async def forget(body: dict[str, Any]) -> httpx.Response:
        return await api.http.request("DELETE", f"/agents/{mine}/docs", json=body)

    for nothing in ({}, {"delete_all": True, "metadata_filter": {"n": 1}}, {"delete_all": False}):
        assert (await forget(nothing)).status_code == 422
    some = await forget({"metadata_filter": {"n": 1}})
    assert (some.status_code, [item["id"] for item in some.json()["items"]]) == (202, [second])
    assert (await api.http.delete(f"/agents/{mine}")).status_code == 202
    assert (await api.http.get(f"/docs/{third}")).status_code == 404
    assert (await api.http.get(f"/docs/{theirs['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/docs", {"content": "x"}),
        ("/docs", {"title": "x" * 801, "content": "x"}),
        ("/docs", {"title": "x", "content": "x" * 30_001}),
        ("/docs", {"title": "x", "content": []}),
        ("/search", {}),
        ("/search", {"text": "x", "limit": 0}),
        ("/search", {"text": "x", "limit": 51}),
        ("/search", {"vector": [0, 0]}),
        ("/search", {"text": "x", "confidence": -1.1}),
        ("/search", {"text": "x", "serch": 1}),
    ],
)
async def test_what_makes_no_sense_is_refused(api: ApiServer, path: str, body: dict[str, Any]) -> None:
    owner = await agent(api)
    assert (await api.http.post(f"/agents/{owner}{path}", json=body)).status_code in (400, 422)
    assert (await api.http.get(f"/agents/{owner}/docs")).json()["items"] == []


async def test_vectors_need_a_worker_and_texts(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as api:
        for text in (["x"] * 101, [], " ", ["a", ""]):
            assert (await api.http.post("/embed", json={"text": text})).status_code in (400, 422)
        answer = await api.http.post("/embed", json={"text": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "embed.no_worker")


async def test_an_instruction_changes_the_vectors_of_texts(lab: Lab, api: ApiServer) -> None:
    async with working(lab):
        plain = (await posted(api, "/embed", {"text": ["cats", "dogs"]}))["vectors"]
        wrapped = (await posted(api, "/embed", {"body": {"text": "cats"}}))["vectors"]
        told = (await posted(api, "/embed", {"text": "cats", "embed_instruction": "A bill:"}))["vectors"]
        unknown = await api.http.post("/embed", json={"text": "cats", "model": "nobody-has-it"})
    assert wrapped[0] == pytest.approx(plain[0], abs=1e-5)
    assert told[0] != pytest.approx(plain[0], abs=1e-2)
    assert unknown.status_code in (400, 503)
    assert unknown.json()["code"].startswith("backend.")
