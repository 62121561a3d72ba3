"""Jobs by the API: executions, vectors of documents, fetches of models, bulk jobs; each for its tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from engine.store.docs import DocStore
from engine.store.pulls import PullStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_docs_api import embedded, working
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab

ASKS = "name: asks\nmain:\n  - wait_for_input: {info: {q: $ _.q}}\n  - if: $ _.fails\n    then: {error: it was to fail}"
ROOT = {"authorization": "Bearer sesame"}
NOW = 1_800_000_000_000_000


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as server:
        server.http.headers.update(ROOT)
        yield server


async def job(api: ApiServer, job_id: str) -> dict[str, Any]:
    answer = await api.http.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_an_execution_is_a_job_from_its_start_to_its_end(lab: Lab, api: ApiServer) -> None:
    task = await create(api.http, ASKS)
    queued, cancelled, failed, done = [(await start(api.http, task, input={"q": 1}))["id"] for _ in range(4)]
    assert (await job(api, queued))["state"] in ("pending", "in_progress")
    async with lab.worker():
        for execution in (queued, cancelled, failed, done):
            await until(api.http, execution, "awaiting_input")
        waiting = await job(api, queued)
        assert (waiting["state"], waiting["name"], waiting["has_progress"]) == ("in_progress", "asks", False)
        await api.http.put(f"/executions/{cancelled}", json={"status": "cancelled"})
        await api.http.put(f"/executions/{failed}", json={"status": "running", "input": {"fails": True}})
        await api.http.put(f"/executions/{done}", json={"status": "running", "input": {"fails": False}})
        for execution, status in ((cancelled, "cancelled"), (failed, "failed"), (done, "succeeded")):
            await until(api.http, execution, status)
    assert (await job(api, cancelled))["state"] == "aborted"
    broken = await job(api, failed)
    assert (broken["state"], broken["reason"], broken["progress"]) == ("failed", "it was to fail", 0)
    ended = await job(api, done)
    assert (ended["state"], ended["reason"], ended["progress"]) == ("succeeded", "", 100)


async def test_the_job_of_a_new_document_tells_when_it_has_vectors_and_why_it_has_none(
    lab: Lab, api: ApiServer
) -> None:
    made = (await api.http.post("/docs", json={"content": "Cats sleep."})).json()
    (job_id,) = made["jobs"]
    waiting = await job(api, job_id)
    assert (waiting["state"], waiting["progress"], waiting["created_at"]) == ("pending", 0, made["created_at"])
    docs = DocStore(lab.store.database)
    facts = await docs.get(made["id"], tenant="default")
    assert facts is not None
    await docs.note_trouble(facts, "the backend is away", now_us=facts.created_us)
    troubled = await job(api, job_id)
    assert (troubled["state"], troubled["reason"]) == ("retrying", "the backend is away")
    async with working(lab):
        shown = await embedded(api, made["id"])
    ended = await job(api, job_id)
    assert (ended["state"], ended["reason"], ended["updated_at"]) == ("succeeded", "", shown["embedded_at"])


async def test_a_fetch_of_a_model_and_a_bulk_job_are_jobs_with_progress(lab: Lab, api: ApiServer) -> None:
    pulls = PullStore(lab.store.database)
    pull = await pulls.ask("ollama", "tiny", reason="asked", now_us=NOW)
    assert pull is not None
    told = await job(api, pull.id)
    assert (told["state"], told["name"], told["has_progress"]) == ("pending", "fetch tiny at ollama", False)
    bulk = (await api.http.post("/bulk", json={"action": "cancel", "filter": {"label": ["nobody"]}})).json()
    assert (await job(api, bulk["id"]))["name"] == "cancel executions"


async def test_jobs_of_others_and_fetches_of_the_operator_are_not_there(lab: Lab, api: ApiServer) -> None:
    doc = (await api.http.post("/docs", json={"content": "Cats sleep."})).json()
    pull = await PullStore(lab.store.database).ask("ollama", "tiny", reason="asked", now_us=NOW)
    assert pull is not None
    key = (await api.http.post("/keys", json={"name": "k", "tenant": "acme", "scopes": ["admin"]})).json()["key"]
    for job_id in (doc["id"], pull.id, "nothing"):
        answer = await api.http.get(f"/jobs/{job_id}", headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no job {job_id}")
