"""Sessions that outgrow their budget: refused, cut, or summed up by a job that a killed worker does not lose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from julep import AsyncJulep, DefaultAsyncHttpxClient

from engine.edge.mockllm.script import MockScript
from engine.store.entries import EntryStore
from engine.store.sessions import SessionStore
from engine.store.summaries import SummaryFacts, SummaryStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.doors import eventually
from tests.support.lab import TENANT, Lab
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.timeout(180)

WORDS = 60
"""Of a message; with its answer it takes some 160 tokens."""
BUDGET = 400
"""Room for one such message with its answer, and another message."""
OF_SUMMARY = r"^(user|Summary of what was said before)"
"""How a model is asked to sum up."""
SUMMING = {"match": OF_SUMMARY, "reply": "They counted up to {n}."}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def worker(lab: Lab) -> AsyncIterator[WorkerProcess]:
    lab.mock.use(MockScript.model_validate({"rules": [SUMMING]}))
    process = WorkerProcess(lab, [])
    process.start()
    await process.ready()
    yield process
    await process.stop()


async def session_with(api: ApiServer, **more: Any) -> str:
    agent = (await api.http.post("/agents", json={"name": "Ada", "model": "mock"})).json()
    made = await api.http.post("/sessions", json={"agent": agent["id"], "token_budget": BUDGET, **more})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def say(api: ApiServer, session: str, number: int, *, status: int = 201, words: int = WORDS) -> dict[str, Any]:
    """Say something long that names its number, and return the answer."""
    said = f"number {number}" + " more" * words
    answer = await api.http.post(f"/sessions/{session}/chat", json={"messages": [{"role": "user", "content": said}]})
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


def asked(lab: Lab, number: int) -> list[str]:
    """Return the beginnings of what the model was sent in the turn that said a number."""
    calls = [call["messages"] for call in lab.mock.calls]
    found = next(messages for messages in calls if messages[-1]["content"].startswith(f"number {number} "))
    return [message["content"].split(" more")[0] for message in found]


async def history(api: ApiServer, session: str) -> dict[str, Any]:
    told: dict[str, Any] = (await api.http.get(f"/sessions/{session}/history")).json()
    return told


async def summary(api: ApiServer, session: str, *, other_than: str | None = None) -> str:
    """Wait until a session has a summary, and return it."""

    async def look() -> str | None:
        told: str | None = (await api.http.get(f"/sessions/{session}")).json()["summary"]
        return told if told != other_than else None

    return str(await eventually(look, "the summary"))


async def at_rest(lab: Lab, session: str) -> None:
    """Wait until no summary of a session is under way."""
    store = SummaryStore(lab.store.database)

    async def look() -> bool:
        # whoever takes a summary begins the next one a moment later
        for _ in range(5):
            if await store.find(session, tenant=TENANT) is not None:
                return False
            await asyncio.sleep(0.2)
        return True

    await eventually(look, "the end of the summaries")


async def as_julep_reads_it(api: ApiServer, session: str, job: str) -> tuple[Any, Any]:
    """Return the job and the history by Julep's own client, which checks them by its types."""
    options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncJulep(base_url=f"{api.url}/api", api_key="any", http_client=http, **options) as julep:
        return await julep.jobs.get(job), await julep.sessions.history(session)


async def test_what_does_not_fit_is_refused_until_the_session_says_that_the_oldest_is_left_out(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    session = await session_with(api)
    for number in (1, 2):
        await say(api, session, number)
    assert asked(lab, 2) == ["You are Ada.", "number 1", "number 1", "number 2"]
    refused = await say(api, session, 3, status=400)
    assert (refused["code"], refused["error"]["type"]) == ("session.prompt_too_big", "PromptTooBigError")
    # what was refused is not part of what was said
    assert len((await history(api, session))["entries"]) == 4
    changed = await api.http.patch(f"/sessions/{session}", json={"context_overflow": "truncate"})
    assert changed.status_code == 200
    for number in (3, 4):
        assert (await say(api, session, number))["jobs"] == []
    assert asked(lab, 3) == ["You are Ada.", "number 2", "number 2", "number 3"]
    assert asked(lab, 4) == ["You are Ada.", "number 3", "number 3", "number 4"]
    told = await history(api, session)
    assert (len(told["entries"]), told["relations"]) == (8, [])


async def test_adapting_sums_older_entries_up_and_later_turns_begin_with_the_summary(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    session = await session_with(api, context_overflow="adaptive")
    for number in (1, 2):
        assert (await say(api, session, number))["jobs"] == []
    [job] = (await say(api, session, 3))["jobs"]
    first = await summary(api, session)
    assert first.startswith("They counted up to ")
    state, julep_history = await as_julep_reads_it(api, session, job)
    assert (state.id, state.state) == (job, "succeeded")
    assert {(item.head, item.relation) for item in julep_history.relations} == {(job, "summary_of")}
    assert (julep_history.entries[0].source, julep_history.entries[0].content) == ("summarizer", first)
    told = await history(api, session)
    [head, *rest] = told["entries"]
    assert (head["id"], head["role"], head["source"], head["content"]) == (job, "system", "summarizer", first)
    assert [entry["content"].split(" more")[0] for entry in rest][-2:] == ["number 3"] * 2
    assert len(told["relations"]) + len(rest) == 6
    await say(api, session, 4)
    system, remembered, *_ = asked(lab, 4)
    assert (system, remembered) == ("You are Ada.", f"Summary of what was said before:\n{first}")
    # what is summed up next holds the first summary
    number = 5
    while (await history(api, session))["entries"][0]["content"] == first and number < 10:
        await say(api, session, number)
        number += 1
    second = await summary(api, session, other_than=first)
    whole = [call["messages"][-1]["content"] for call in lab.mock.calls]
    assert any(text.startswith(f"Summary of what was said before:\n{first}") for text in whole)
    told = await history(api, session)
    assert [entry["content"] for entry in told["entries"] if entry["source"] == "summarizer"] == [second]
    assert head["id"] in {item["tail"] for item in told["relations"]}


async def test_nothing_is_lost_where_the_model_sums_up_at_full_length_and_the_summary_says_that_it_was_cut(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    # the model says what it is told, word for word
    lab.mock.use(MockScript())
    session = await session_with(api, context_overflow="adaptive", token_budget=150)
    for number in range(1, 10):
        await say(api, session, number, words=20)
        await at_rest(lab, session)
        told = await history(api, session)
        behind = {entry["content"].split(" more")[0] for entry in told["entries"] if entry["source"] != "summarizer"}
        # what was not sent is summed up, and what comes last is always sent
        sent = asked(lab, number)
        assert behind <= {*sent, f"number {number}"}, number
        assert number == 1 or f"number {number - 1}" in sent, number
    text = (await history(api, session))["entries"][0]["content"]
    assert text.endswith("… (cut, since it was too long)")
    assert len(text) / 4 < 150 / 4


async def test_a_history_that_grew_without_a_bound_is_summed_up_by_one_job_after_the_other(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    session = await session_with(api, token_budget=10_000)
    for number in range(1, 8):
        await say(api, session, number)
    changed = {"context_overflow": "adaptive", "token_budget": BUDGET}
    assert (await api.http.patch(f"/sessions/{session}", json=changed)).status_code == 200
    await say(api, session, 8)
    await at_rest(lab, session)
    told = await history(api, session)
    summed = [call for call in lab.mock.calls if call["messages"][0]["content"].startswith("You sum up")]
    assert len(summed) > 2
    assert sum(entry["token_count"] for entry in told["entries"]) < BUDGET
    await say(api, session, 9)
    assert asked(lab, 9)[:2] == ["You are Ada.", f"Summary of what was said before:\n{told['entries'][0]['content']}"]


async def test_a_summary_outlives_the_worker_that_makes_it(lab: Lab, api: ApiServer, worker: WorkerProcess) -> None:
    slow = {**SUMMING, "delay_s": 60.0, "times": 1}
    lab.mock.use(MockScript.model_validate({"rules": [slow, SUMMING]}))
    session = await session_with(api, context_overflow="adaptive")
    for number in (1, 2, 3):
        await say(api, session, number)

    async def summing() -> bool:
        return any(call["messages"][0]["content"].startswith("You sum up") for call in lab.mock.calls)

    await eventually(summing, "the call for the summary")
    worker.kill()
    worker.start()
    await worker.ready()
    assert (await summary(api, session)).startswith("They counted")
    assert len((await history(api, session))["relations"]) >= 2


async def test_a_summary_that_nobody_lived_to_start_is_started_by_a_worker_and_a_deleted_history_stays_deleted(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    session = await session_with(api)
    await say(api, session, 1)
    entries = await EntryStore(lab.store.database).history(session, tenant=TENANT)
    store = SummaryStore(lab.store.database)

    def wanted(job: str) -> SummaryFacts:
        messages = [{"role": "user", "content": "user: one"}]
        return SummaryFacts(
            tenant=TENANT,
            session_id=session,
            id=job,
            request={"agent_id": "", "model": "", "max_tokens": 9, "messages": messages},
            entries=[entry.id for entry in entries],
            created_us=1,
        )

    begun = await store.begin(wanted("5f7a0c52-8e0f-4f3e-9f5e-0a5a5a5a5a51"))
    # only one of a session is under way
    assert (await store.begin(wanted("5f7a0c52-8e0f-4f3e-9f5e-0a5a5a5a5a52"))).id == begun.id
    await summary(api, session)
    assert [entry["source"] for entry in (await history(api, session))["entries"]] == ["summarizer"]
    assert (await api.http.delete(f"/sessions/{session}/history")).status_code == 202
    await store.begin(wanted("5f7a0c52-8e0f-4f3e-9f5e-0a5a5a5a5a53"))

    async def over() -> bool:
        return await store.find(session, tenant=TENANT) is None

    await eventually(over, "the end of the summary")
    found = await SessionStore(lab.store.database).get(session, tenant=TENANT)
    assert found is not None
    assert found.summary is None
    assert (await history(api, session))["entries"] == []


async def test_a_summary_that_fails_leaves_all_as_it_is_and_the_next_turn_has_it_made(
    lab: Lab, api: ApiServer, worker: WorkerProcess
) -> None:
    refused = {"match": OF_SUMMARY, "status": 400, "times": 1}
    lab.mock.use(MockScript.model_validate({"rules": [refused, SUMMING]}))
    session = await session_with(api, context_overflow="adaptive")
    for number in (1, 2):
        await say(api, session, number)
    [job] = (await say(api, session, 3))["jobs"]
    await at_rest(lab, session)
    assert (await api.http.get(f"/jobs/{job}")).json()["state"] == "failed"
    assert len((await history(api, session))["entries"]) == 6
    [again] = (await say(api, session, 4))["jobs"]
    assert again != job
    await summary(api, session)
    await at_rest(lab, session)
