"""What sessions look up in documents, with the bundled embedding model: by words, by meaning, by both, with variety."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_docs_api import embedded, working
from tests.support.lab import Lab
from tests.support.processes import WorkerProcess

CATS = "Felines sleep for most of the day and hunt at dusk."
TRAINS = "The locomotive pulls twelve carriages over the mountain pass."
BREAD = "Sourdough rises slowly and is baked in a hot oven."
USUAL: dict[str, Any] = {
    "mode": "vector",
    "limit": 1,
    "confidence": -1,
    "mmr_strength": 0,
    "num_search_messages": 1,
    "metadata_filter": {},
}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


async def post(api: ApiServer, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = await api.http.post(path, json=body)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def with_docs(api: ApiServer, texts: Mapping[str, str], **session: Any) -> str:
    """Make an agent that has documents, and a session with it; wait until the documents have their vectors."""
    agent = await post(api, "/agents", {"name": "Ada", "model": "mock"})
    for title, text in texts.items():
        made = await post(api, f"/agents/{agent['id']}/docs", {"title": title, "content": text})
        await embedded(api, made["id"])
    return str((await post(api, "/sessions", {"agent": agent["id"], **session}))["id"])


async def found(api: ApiServer, session: str, *said: str, **options: Any) -> list[str]:
    """Return the titles of what a turn would look up."""
    changed = await api.http.patch(f"/sessions/{session}", json={"recall_options": options})
    assert changed.status_code == 200, changed.text
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
    return [doc["title"] for doc in (await post(api, f"/sessions/{session}/render", {"messages": messages}))["docs"]]


async def test_meaning_and_words_find_what_the_mode_says(lab: Lab, api: ApiServer) -> None:
    async with working(lab):
        session = await with_docs(api, {"cats": CATS, "trains": TRAINS, "bread": BREAD}, recall_options=USUAL)
        assert await found(api, session, "a kitten takes a nap", **USUAL) == ["cats"]
        # no word of it stands there
        assert await found(api, session, "railway journey", mode="text", limit=3) == []
        assert await found(api, session, "carriages and ovens", mode="text", limit=3) == ["trains", "bread"]
        assert await found(api, session, "railway journey", **{**USUAL, "confidence": 0.9}) == []
        assert await found(api, session, "railway journey", **{**USUAL, "metadata_filter": {"no": 1}}) == []
        # the last message asks for nothing: what was said before it counts, as far as it is looked at
        said = ("Tell me of railway engines.", "What of them?", "Go on, please, and tell me more.")
        assert await found(api, session, *said, **{**USUAL, "num_search_messages": 3}) == ["trains"]
        # bread by the words, cats by the meaning of all that is said
        both = {**USUAL, "mode": "hybrid", "num_search_messages": 3, "k_multiplier": 7}
        said = ("My kitten purrs and naps all day long.", "A pet cat, a lovely animal.", "And the oven?")
        assert await found(api, session, *said, **{**both, "alpha": 0.01}) == ["bread"]
        assert await found(api, session, *said, **{**both, "alpha": 0.99}) == ["cats"]


async def test_what_says_the_same_again_gives_way_to_variety(lab: Lab, api: ApiServer) -> None:
    texts = {"cats": CATS, "again": "Felines sleep most of the day and hunt at dusk.", "dogs": "Dogs guard the house."}
    async with working(lab):
        session = await with_docs(api, texts, recall_options=USUAL)
        said = "When do felines sleep and hunt?"
        assert set(await found(api, session, said, **{**USUAL, "limit": 2})) == {"cats", "again"}
        assert "dogs" in await found(api, session, said, **{**USUAL, "limit": 2, "mmr_strength": 0.9})


async def test_without_a_worker_documents_are_found_by_their_words(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as api:
        async with working(lab):
            session = await with_docs(api, {"cats": CATS, "trains": TRAINS}, recall_options=USUAL)
        assert await found(api, session, "a locomotive, please", **USUAL) == ["trains"]
        assert await found(api, session, "railway journey", **USUAL) == []


@pytest.mark.timeout(120)
async def test_a_chat_answers_from_what_was_found_and_tells_of_it(lab: Lab, api: ApiServer) -> None:
    worker = WorkerProcess(lab, [])
    worker.start()
    try:
        await worker.ready()
        options = {**USUAL, "include_embeddings": False}
        session = await with_docs(api, {"cats": CATS, "trains": TRAINS}, recall_options=options)
        answer = await post(
            api, f"/sessions/{session}/chat", {"messages": [{"role": "user", "content": "railway journey"}]}
        )
        [doc] = answer["docs"]
        assert (doc["title"], doc["snippet"]) == ("trains", {"index": 0, "content": TRAINS})
        assert doc["owner"]["role"] == "agent"
        assert 0 < doc["distance"] < 1
        [call] = (await api.http.get(lab.llm_url.removesuffix("/v1") + "/mock/calls")).json()["calls"]
        assert [message["role"] for message in call["messages"]] == ["system", "user"]
        assert TRAINS in call["messages"][0]["content"]
        assert CATS not in call["messages"][0]["content"]
    finally:
        await worker.stop()
