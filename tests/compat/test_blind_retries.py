"""What Julep's SDK repeats without a key after a broken connection is done once: starts, answers, everything else."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from julep import AsyncJulep, DefaultAsyncHttpxClient
from pydantic import SecretStr
from sqlalchemy import func, select

from engine.control.definitions import now_us
from engine.edge.http import retries
from engine.edge.http.idempotency import REPLAYED
from engine.edge.mockllm.script import MockRule, MockScript
from engine.store.retries import ANSWERED_US
from engine.store.schema_retries import blind_retries
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.faults import Fault, FaultLine
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer
from tests.support.servers import free_port
from tests.support.swallowing import SwallowingLine

ROOT = "sesame"
TWO_WAITS = """\
name: two
main:
  - wait_for_input: {info: first?}
  - wait_for_input: {info: second?}
"""
ADDS = "name: adds\nmain:\n  - evaluate: {sum: $ _.a + 1}"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr(ROOT))
    async with api_server(settings, temporal=temporal_address) as server:
        server.http.headers["authorization"] = f"Bearer {ROOT}"
        yield server


@pytest.fixture
async def line(api: ApiServer) -> AsyncIterator[SwallowingLine]:
    async with SwallowingLine(api.port).running() as opened:
        yield opened


@pytest.fixture
async def julep(line: SwallowingLine) -> AsyncIterator[AsyncJulep]:
    """Julep's client as it is used: it repeats what failed five times, without saying that it does."""
    http = DefaultAsyncHttpxClient(trust_env=False)
    url = f"http://127.0.0.1:{line.port}/api"
    async with AsyncJulep(base_url=url, api_key=ROOT, timeout=PATIENCE_S, http_client=http) as client:
        yield client


def tried(count: int, **more: str) -> dict[str, str]:
    """Return headers of the SDK's request at its so-manieth repetition."""
    return {"x-stainless-lang": "python", "x-stainless-retry-count": str(count), **more}


async def known(lab: Lab) -> int:
    """Return how many requests are remembered."""
    query = select(func.count()).select_from(blind_retries)
    return await lab.store.database.run(lambda connection: connection.execute(query).scalar_one())


async def names(api: ApiServer) -> list[str]:
    return [item["name"] for item in (await api.http.get("/agents")).json()["items"]]


# --- the SDK over a line that swallows answers -----------------------------------------------------------------------


async def test_a_start_whose_answer_was_lost_runs_once(
    lab: Lab, api: ApiServer, line: SwallowingLine, julep: AsyncJulep
) -> None:
    task_id = await create(api.http, ADDS)
    line.swallows = 1
    made = await julep.executions.create(task_id, input={"a": 1})
    assert line.swallows == 0
    assert [item["id"] for item in (await api.http.get(f"/tasks/{task_id}/executions")).json()["items"]] == [made.id]
    async with lab.worker():
        assert (await until(api.http, made.id, "succeeded"))["output"] == {"sum": 2}
    # whoever asks for the same once more wants another one
    other = await julep.executions.create(task_id, input={"a": 1})
    assert other.id != made.id


async def test_an_answer_whose_outcome_was_lost_is_taken_by_one_wait(
    lab: Lab, api: ApiServer, line: SwallowingLine, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = (await start(api.http, await create(api.http, TWO_WAITS)))["id"]
        await until(api.http, execution_id, "awaiting_input")
        line.swallows = 1
        await julep.executions.change_status(execution_id, status="running", input="tea")
        assert line.swallows == 0
        (wait,) = (await api.http.get(f"/executions/{execution_id}")).json()["waits"]
        assert wait["info"] == "second?"
        # the same answer again is for the second one
        await julep.executions.change_status(execution_id, status="running", input="tea")
        await until(api.http, execution_id, "succeeded")


async def test_an_answer_that_was_repeated_before_a_worker_took_it_is_taken_once(
    lab: Lab, api: ApiServer, line: SwallowingLine, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = (await start(api.http, await create(api.http, TWO_WAITS)))["id"]
        await until(api.http, execution_id, "awaiting_input")
    hasty = julep.with_options(timeout=0.5)
    answering = asyncio.create_task(hasty.executions.change_status(execution_id, status="running", input="tea"))
    while line.connections < 2:  # noqa: ASYNC110 - the line tells nobody
        await asyncio.sleep(0.02)
    async with lab.worker():
        await answering
        await until(api.http, execution_id, "awaiting_input")
    events = (await api.http.get(f"/executions/{execution_id}/events")).json()["items"]
    assert [item["type"] for item in events].count("resume") == 1
    assert (await api.http.get(f"/executions/{execution_id}")).json()["waits"][0]["info"] == "second?"


async def test_a_chat_whose_answer_was_lost_or_came_too_late_asks_the_model_once(
    lab: Lab, line: SwallowingLine, julep: Any
) -> None:
    agent = await julep.agents.create(name="Ada", model="mock")
    session = await julep.sessions.create(agent=agent.id)
    async with lab.worker():
        line.swallows = 1
        lost = await julep.sessions.chat(session.id, messages=[{"role": "user", "content": "one"}])
        assert (line.swallows, lost.choices[0].message.content) == (0, "one")
        lab.mock.use(MockScript(rules=[MockRule(match="two", reply="too late", delay_s=2.0)]))
        # the client gives up before the model has answered, more than once
        hasty = julep.with_options(timeout=0.5)
        late = await hasty.sessions.chat(session.id, messages=[{"role": "user", "content": "two"}])
    assert late.choices[0].message.content == "too late"
    assert [made["messages"][-1]["content"] for made in lab.mock.calls] == ["one", "two"]
    said = [entry.content for entry in (await julep.sessions.history(session.id)).entries]
    assert said == ["one", "one", "two", "too late"]


async def test_what_was_made_is_made_once_and_what_was_deleted_is_not_missed(
    lab: Lab, api: ApiServer, line: SwallowingLine, julep: AsyncJulep
) -> None:
    line.swallows = 1
    made = await julep.agents.create(name="Ada")
    assert (line.swallows, await names(api)) == (0, ["Ada"])
    line.swallows = 1
    changed = await julep.agents.update(made.id, about="a poet")
    line.swallows = 1
    # without a memory the repetition would not find what it shall delete
    assert (await julep.agents.delete(made.id)).id == changed.id == made.id
    assert (line.swallows, await names(api)) == (0, [])


# --- which requests get a key, and which one -------------------------------------------------------------------------


async def test_two_equal_first_tries_are_two_and_a_repetition_is_that_of_the_later(api: ApiServer) -> None:
    made = [(await api.http.post("/agents", json={"name": "Ada"}, headers=tried(0))).json() for _ in range(2)]
    again = await api.http.post("/agents", json={"name": "Ada"}, headers=tried(1))
    assert (again.status_code, again.json()["id"], again.headers[REPLAYED]) == (201, made[1]["id"], "true")
    assert await names(api) == ["Ada", "Ada"]


async def test_a_repetition_whose_first_try_never_came_is_done_once(api: ApiServer) -> None:
    for count in (1, 2):
        assert (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(count))).status_code == 201
    assert await names(api) == ["Ada"]


async def test_what_is_asked_for_again_after_its_answer_is_another_one_though_its_first_try_met_nobody(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(0))).json()
    then_us = now_us()
    monkeypatch.setattr(retries, "now_us", lambda: then_us + ANSWERED_US + 10_000_000)
    # such as what somebody starts every hour, once while the API was away
    other = await api.http.post("/agents", json={"name": "Ada"}, headers=tried(1))
    assert (other.status_code, REPLAYED in other.headers) == (201, False)
    assert other.json()["id"] != made["id"]


async def test_a_repetition_is_that_of_the_same_request_by_the_same_caller(api: ApiServer) -> None:
    assert (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(0))).status_code == 201
    key = (await api.http.post("/keys", json={"name": "other", "scopes": ["define"]})).json()["key"]
    for path, body, headers in (
        ("/agents", {"name": "Bob"}, tried(1)),
        ("/agents?x=1", {"name": "Ada"}, tried(1)),
        ("/agents", {"name": "Ada"}, tried(1, authorization=f"Bearer {key}")),
    ):
        answer = await api.http.post(path, json=body, headers=headers)
        assert (answer.status_code, REPLAYED in answer.headers) == (201, False)
    assert sorted(await names(api)) == ["Ada", "Ada", "Ada", "Bob"]


async def test_what_may_be_repeated_as_it_is_costs_no_write(lab: Lab, api: ApiServer) -> None:
    async def ask(method: str, path: str, status: int, **more: Any) -> None:
        headers = tried(0, **more.pop("headers", {}))
        assert (await api.http.request(method, path, headers=headers, **more)).status_code == status

    task = {"name": "t", "main": [{"evaluate": {"x": 1}}]}
    agent_id = (await api.http.post("/agents", json={"name": "Ada"})).json()["id"]
    await ask("GET", "/agents", 200)
    await ask("POST", "/tasks/validate", 200, json=task)
    await ask("PUT", f"/agents/{agent_id}", 200, json={"name": "Bob"})
    await ask("POST", "/nowhere", 404, json={})
    # who has a key of its own needs none of ours
    await ask("POST", "/agents", 201, json={"name": "Cid"}, headers={"idempotency-key": "mine"})
    # others than the SDK do not repeat by themselves
    assert (await api.http.post("/agents", json={"name": "Dan"})).status_code == 201
    assert await known(lab) == 0
    await ask("POST", "/agents", 201, json={"name": "Eve"})
    assert await known(lab) == 1


async def test_a_body_is_passed_on_however_it_comes(lab: Lab, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b'{"name": ', b'"Ada", "about": "', b"x" * 5_000, b'"}'):
            yield part

    async def post() -> dict[str, Any]:
        headers = tried(0, **{"content-type": "application/json"})
        answer = await api.http.post("/agents", content=parts(), headers=headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    assert len((await post())["about"]) == 5_000
    assert await known(lab) == 1
    # longer than what any route takes: not held back, and the route says what is wrong with it
    monkeypatch.setattr(retries, "MAX_BODY_BYTES", 1_000)
    assert len((await post())["about"]) == 5_000
    assert await known(lab) == 1


async def test_a_request_that_breaks_off_does_nothing_and_harms_nobody(lab: Lab, api: ApiServer) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'{"name": '
        raise httpx.ReadError("the client is gone")

    headers = tried(0, **{"content-type": "application/json"})
    with contextlib.suppress(httpx.ReadError):
        await api.http.post("/agents", content=broken(), headers=headers)
    assert (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(0))).status_code == 201
    assert (await names(api), await known(lab)) == (["Ada"], 1)


async def test_while_the_store_is_away_a_request_fails_as_one_with_a_key_does(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    name = f"away_{uuid.uuid4().hex[:8]}"
    async with FaultLine(postgres.port).running() as store:
        url = postgres.database(name).replace(f":{postgres.port}/", f":{store.port}/")
        settings = settings_for(tmp_path, api_key=SecretStr(ROOT)).model_copy(update={"database_url": url})
        async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as api:
            api.http.headers["authorization"] = f"Bearer {ROOT}"
            assert (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(0))).status_code == 201
            store.begin(Fault.CUT)
            blind, again, keyed = [
                await api.http.post("/agents", json={"name": "Ada"}, headers=headers)
                for headers in (tried(0), tried(1), {"idempotency-key": "mine"})
            ]
            store.end()
            assert (await api.http.post("/agents", json={"name": "Ada"}, headers=tried(1))).status_code == 201
    postgres.drop(name)
    for answer in (blind, again, keyed):
        assert (answer.status_code, answer.json()["code"]) == (503, "store.unreachable")
        assert answer.headers["x-should-retry"] == "true"
