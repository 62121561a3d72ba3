"""`embed` and `search` on a real Temporal server with the bundled embedding model: by words, by meaning, by tenant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from activities.backends.minilm import DIMENSIONS
from activities.embedding import Embedder
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from engine.control.documents import DocumentService
from engine.core.contracts.lookups import Owner
from engine.core.run.events import body_of
from engine.settings import BackendConfig, BackendLimits, Capabilities, Price, Project, RoutingConfig
from engine.store.docs import DocStore
from tests.support.apiprocess import api_processes
from tests.support.doors import eventually
from tests.support.lab import TENANT, Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess

TEXTS = {
    "cats": "Felines sleep for most of the day and hunt at dusk.",
    "trains": "The locomotive pulls twelve carriages over the mountain pass.",
    "bread": "Sourdough rises slowly and is baked in a hot oven.",
}


NOBODY = Owner()


async def fill(lab: Lab, texts: Mapping[str, str] = TEXTS, *, tenant: str = TENANT, owner: Owner = NOBODY) -> DocStore:
    """Add documents as the API does, and let a worker make their vectors."""
    store = DocStore(lab.store.database)
    service = DocumentService(store)
    for name, text in texts.items():
        await service.add(text, tenant=tenant, owner=owner, title="", metadata={"name": name})
    chat = ChatActivities.of(lab.project or Project())
    lookups = LookupActivities(Embedder(chat), store)
    try:
        await lookups.embed_due()
    finally:
        lookups.close()
        await chat.aclose()
    return store


async def names(lab: Lab, search: str, given: Any = None) -> list[str]:
    async with lab.worker():
        ended = await lab.run(f"main: [{{search: {search}}}]", given)
    assert ended.error is None, ended.error
    return [doc["metadata"]["name"] for doc in ended.output["docs"]]


async def test_documents_are_found_by_meaning_and_by_words(lab: Lab) -> None:
    store = await fill(lab)
    known = await store.page(tenant=TENANT)
    assert {(item.model, item.dims, item.embedded_us is not None) for item in known} == {("minilm", DIMENSIONS, True)}
    assert (await names(lab, "{text: a pet cat taking a nap, alpha: 1, limit: 1}")) == ["cats"]
    assert (await names(lab, "{text: railway journey, alpha: 1, limit: 1}")) == ["trains"]
    # no word of it stands there
    assert (await names(lab, "{text: railway journey, alpha: 0}")) == []
    assert (await names(lab, "{text: carriage, alpha: 0}")) == ["trains"]
    assert (await names(lab, "baking in the oven"))[0] == "bread"
    assert (await names(lab, "{text: railway, metadata_filter: {name: cats}, confidence: -1}")) == ["cats"]


async def test_vectors_of_an_embed_step_are_normal_and_a_search_takes_them(lab: Lab) -> None:
    await fill(lab)
    async with lab.worker():
        ended = await lab.run(
            """
            main:
              - embed: [a cat, an engine on rails]
                label: both
              - search: {vector: "$ _.vectors[1]", limit: 1, include_embeddings: true}
              - evaluate: {both: "$ steps['both'].output.vectors", docs: $ _.docs}
            """
        )
    vectors, [doc] = ended.output["both"], ended.output["docs"]
    assert [len(vector) for vector in vectors] == [DIMENSIONS] * 2
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert doc["metadata"] == {"name": "trains"}
    assert (doc["snippet"]["index"], doc["snippet"]["content"]) == (0, TEXTS["trains"])
    cosine = sum(one * other for one, other in zip(vectors[1], doc["snippet"]["embedding"], strict=True))
    assert doc["similarity"] == pytest.approx(cosine, abs=1e-4)


async def test_other_tenants_and_owners_find_nothing(lab: Lab) -> None:
    await fill(lab, tenant="other")
    await fill(lab, {"bread": TEXTS["bread"]}, owner=Owner(kind="user", id="ana"))
    assert await names(lab, "{text: carriages, confidence: -1}") == []
    assert await names(lab, "{text: carriages, user: bob, confidence: -1}") == []
    assert await names(lab, "{text: carriages, user: ana, confidence: -1}") == ["bread"]


async def test_what_was_deleted_is_not_found_any_more(lab: Lab) -> None:
    store = await fill(lab)
    service = DocumentService(store)
    [trains] = await store.page(tenant=TENANT, metadata={"name": "trains"})
    await service.remove(trains.id, tenant=TENANT)
    assert "trains" not in await names(lab, "{text: locomotive carriages, confidence: -1}")


async def test_a_vector_of_another_model_is_refused_with_the_remedy(lab: Lab) -> None:
    await fill(lab)
    async with lab.worker():
        ended = await lab.run("main: [{search: {vector: [1, 0, 0]}}]")
    assert ended.error is not None
    assert ended.error["code"] == "search.dimensions"
    assert "384 (minilm)" in ended.error["message"]


async def test_a_backend_embeds_by_configuration_within_its_limits_and_says_what_it_cost(lab: Lab) -> None:
    config = BackendConfig(
        base_url=lab.llm_url,
        default_model="mock",
        models=["mock", "e1"],
        capabilities={"e1": Capabilities(embed=True)},
        prices={"e1": Price(input=2, output=0)},
        limits=BackendLimits(calls=1, requests_per_minute=600),
    )
    lab.project = Project(backends={"mock": config})
    await fill(lab)
    async with lab.worker():
        handle = await lab.start("main:\n  - embed: [one two, three]\n  - search: locomotive\n")
        ended = await lab.end_of(handle)
    assert ended.output["docs"][0]["metadata"] == {"name": "trains"}
    told = [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]
    assert [(body["model"], body["backend"], body["usage"]["total_tokens"], body["cost"]) for body in told] == [
        ("e1", "mock", 3, "0.000006"),
        ("e1", "mock", 1, "0.000002"),
    ]


async def test_a_step_may_name_the_bundled_model_beside_others_and_the_operator_another_default(lab: Lab) -> None:
    config = BackendConfig(base_url=lab.llm_url, default_model="mock", models=["mock", "e1"])
    lab.project = Project(backends={"mock": config}, routing=RoutingConfig(embed="e1"))
    async with lab.worker():
        handle = await lab.start("main:\n  - embed: {text: x, model: minilm}\n  - embed: x\n")
        ended = await lab.end_of(handle)
        beyond = await lab.run("allow: {models: [other]}\nmain:\n  - evaluate: 1\n  - embed: $ str(_)\n")
    assert len(ended.output["vectors"][0]) == 8
    told = [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]
    assert [(body["backend"], body["model"]) for body in told] == [("bundled", "minilm"), ("mock", "e1")]
    assert (beyond.error or {})["code"] == "authority.denied"


async def test_vectors_fail_over_to_the_next_backend_that_makes_some(lab: Lab) -> None:
    dead = BackendConfig(base_url="http://127.0.0.1:1/v1", models=["e1"])
    claude = BackendConfig(kind="anthropic", base_url="http://127.0.0.1:1", models=["e1"])
    alive = BackendConfig(base_url=lab.llm_url, models=["e1"])
    lab.project = Project(backends={"claude": claude, "dead": dead, "alive": alive})
    async with lab.worker():
        handle = await lab.start("main: [{embed: {text: x, model: e1}}]")
        ended = await lab.end_of(handle)
    assert len(ended.output["vectors"]) == 1
    [told] = [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]
    assert told["backend"] == "alive"
    assert told["route"]["passed_over"] == [{"backend": "claude", "why": "makes no vectors"}]
    assert told["route"]["tried"] == [{"backend": "dead", "code": "backend.unreachable"}]


@pytest.mark.parametrize("model", ["minilm", "e1"])
async def test_a_limit_is_compared_before_vectors_are_made(lab: Lab, model: str) -> None:
    config = BackendConfig(base_url=lab.llm_url, models=["e1"], prices={"e1": Price(input=2, output=0)})
    lab.project = Project(backends={"mock": config})
    async with lab.worker():
        text = f"limits: {{tokens: 9}}\nmain: [{{embed: {{text: $ 'word ' * 50, model: {model}}}}}]"
        handle = await lab.start(text)
        ended = await lab.end_of(handle)
    assert ended.error is not None
    assert ended.error["code"] == "limit.tokens"
    [told] = [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]
    assert told["outcome"] == "failed"


@pytest.mark.timeout(120)
async def test_a_document_of_the_api_is_embedded_by_a_worker_process_and_found_by_a_task(lab: Lab) -> None:
    worker = WorkerProcess(lab, [])
    worker.start()
    settings = {
        "TEMPORAL_ADDRESS": lab.client.service_client.config.target_host,
        "EVERSTEP_TASK_QUEUE": lab.queue,
    }
    try:
        await worker.ready()
        async with (
            api_processes(lab.folder, 1, **settings) as (process,),
            httpx.AsyncClient(base_url=f"{process.url}/api", timeout=PATIENCE_S) as api,
        ):
            made = [
                (await api.post("/docs", json={"content": text, "metadata": {"name": name}})).json()
                for name, text in TEXTS.items()
            ]

            async def all_embedded() -> bool:
                seen = [(await api.get(f"/docs/{item['id']}")).json() for item in made]
                return all(item["embedded_at"] for item in seen)

            await eventually(all_embedded, "the vectors")
            found = (await api.post("/docs/search", json={"text": "a pet cat taking a nap", "limit": 1})).json()
            ended = await lab.run("main: [{search: {text: railway journey, limit: 1}}]")
    finally:
        await worker.stop()
    assert [doc["metadata"] for doc in found["docs"]] == [{"name": "cats"}]
    assert [doc["metadata"] for doc in ended.output["docs"]] == [{"name": "trains"}]
