"""The native API against a real Temporal server and a real worker."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.compat.apiserver import ApiServer, api_server, read_stream, settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S, rest_since

pytestmark = pytest.mark.usefixtures("both_stores")

HELLO = """\
name: hello
description: Greets somebody.
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - evaluate: {text: "$ 'hello ' + _.name"}
    label: words
  - return: {said: "$ _.text"}
"""

ASK = """\
name: ask
main:
  - wait_for_input: {info: {question: "sure?"}, schema: {type: boolean}}
    label: sure
  - return: {answer: "$ _"}
"""

TWO = """\
name: two
main:
  - parallel:
      - wait_for_input: {info: {n: 1}}
      - wait_for_input: {info: {n: 2}}
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def http(api: ApiServer) -> httpx.AsyncClient:
    return api.http


async def create(http: httpx.AsyncClient, text: str) -> str:
    answer = await http.post("/tasks", content=text, headers={"content-type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def start(http: httpx.AsyncClient, task_id: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(f"/tasks/{task_id}/executions", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def until(http: httpx.AsyncClient, execution_id: str, *statuses: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        body = dict((await http.get(f"/executions/{execution_id}")).json())
        if body["status"] in statuses:
            return body
        assert began < deadline, body
        await rest_since(began)


# --- definitions ---------------------------------------------------------------------------------------------------


async def test_a_task_is_created_from_yaml_and_read_back(http: httpx.AsyncClient) -> None:
    task_id = await create(http, HELLO)
    body = (await http.get(f"/tasks/{task_id}")).json()
    assert (body["name"], body["version"], body["description"]) == ("hello", 1, "Greets somebody.")
    assert body["main"][1] == {"return": {"said": "$ _.text"}}
    assert body["input_schema"]["required"] == ["name"]
    assert body["created_at"].endswith("Z")
    assert [item["id"] for item in (await http.get("/tasks")).json()["items"]] == [task_id]
    assert (await http.get("/tasks", params={"name": "other"})).json() == {"items": []}


async def test_a_task_is_created_from_json_too(http: httpx.AsyncClient) -> None:
    answer = await http.post("/tasks", json={"name": "j", "main": [{"evaluate": {"x": 1}}]})
    assert answer.status_code == 201
    assert answer.json()["main"] == [{"evaluate": {"x": 1}}]


async def test_a_wrong_task_is_refused_with_every_finding_and_its_place(http: httpx.AsyncClient) -> None:
    text = "name: bad\nmain:\n  - evaluat: {x: 1}\n  - evaluate: {y: '$ 1 +'}\n"
    for path, status, ok in (("/tasks", 400, None), ("/tasks/validate", 200, False)):
        answer = await http.post(path, content=text, headers={"content-type": "text/yaml"}, params={"file": "bad.yaml"})
        assert (answer.status_code, answer.json().get("ok")) == (status, ok)
        found = answer.json()["diagnostics"]
        assert {item["line"] for item in found} == {3, 4}
        assert {item["file"] for item in found} == {"bad.yaml"}
    assert (await http.get("/tasks")).json() == {"items": []}


async def test_validate_accepts_a_good_task_and_stores_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.post("/tasks/validate", content=HELLO, headers={"content-type": "text/x-yaml"})
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "diagnostics": [], "name": "hello"})
    assert (await http.get("/tasks")).json() == {"items": []}


async def test_a_changed_task_gets_a_new_version_and_an_equal_one_does_not(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/yaml"}
    first = await http.post("/tasks?by_name=true", content=HELLO, headers=headers)
    again = await http.post("/tasks?by_name=true", content=HELLO, headers=headers)
    changed = await http.post("/tasks?by_name=true", content=HELLO.replace("hello '", "hi '"), headers=headers)
    assert [answer.status_code for answer in (first, again, changed)] == [201, 200, 201]
    assert [answer.json()["version"] for answer in (first, again, changed)] == [1, 1, 2]
    assert first.json()["id"] == changed.json()["id"]
    task_id = first.json()["id"]
    put = await http.put(f"/tasks/{task_id}", content=HELLO, headers=headers)
    assert (put.status_code, put.json()["version"]) == (200, 3)
    old = (await http.get(f"/tasks/{task_id}", params={"version": 2})).json()
    assert old["plan_hash"] == changed.json()["plan_hash"]
    assert len((await http.get("/tasks")).json()["items"]) == 1


async def test_agents_own_tasks_and_are_listed_by_metadata(http: httpx.AsyncClient) -> None:
    made = await http.post("/agents", json={"name": "Ada", "model": "m", "metadata": {"a": {"b": 1}}})
    await http.post("/agents", json={"name": "Bob"})
    agent = made.json()
    assert (made.status_code, agent["name"], agent["instructions"], agent.pop("jobs")) == (201, "Ada", "", [])
    assert (await http.get(f"/agents/{agent['id']}")).json() == agent
    for query in ('metadata_filter={"a":{"b":1}}', "metadata_filter.a.b=1"):
        assert [item["name"] for item in (await http.get(f"/agents?{query}")).json()["items"]] == ["Ada"]
    names = [item["name"] for item in (await http.get("/agents?direction=desc&limit=1")).json()["items"]]
    assert names == ["Bob"]
    created = await http.post(
        f"/agents/{agent['id']}/tasks", content=HELLO, headers={"content-type": "application/yaml"}
    )
    assert (created.status_code, created.json()["agent_id"]) == (201, agent["id"])
    listed = (await http.get(f"/agents/{agent['id']}/tasks")).json()["items"]
    assert [item["id"] for item in listed] == [created.json()["id"]]
    assert (await http.get("/agents/nobody/tasks")).status_code == 404


# --- executions ----------------------------------------------------------------------------------------------------


async def test_an_execution_runs_to_its_result(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, HELLO)
    async with lab.worker():
        begun = await start(http, task_id, input={"name": "Ada"}, metadata={"team": "x"})
        assert begun["status"] in ("queued", "starting", "running")
        done = await until(http, begun["id"], "succeeded")
    assert (done["output"], done["error"], done["verified"]) == ({"said": "hello Ada"}, None, True)
    assert (done["task_id"], done["input"], done["metadata"]) == (task_id, {"name": "Ada"}, {"team": "x"})
    listed = (await http.get("/executions", params={"status": ["succeeded", "failed"]})).json()["items"]
    assert [item["id"] for item in listed] == [begun["id"]]
    assert (await http.get("/executions", params={"status": "failed"})).json() == {"items": [], "next_cursor": None}
    assert len((await http.get(f"/tasks/{task_id}/executions")).json()["items"]) == 1

    transitions = (await http.get(f"/executions/{begun['id']}/transitions?direction=asc")).json()["items"]
    assert [item["type"] for item in transitions] == ["init", "step", "finish"]
    assert transitions[1]["current"] == {**transitions[0]["current"], "step": 0}
    assert transitions[1]["next"]["step"] == 1
    assert (transitions[1]["step_label"], transitions[1]["metadata"]["step_type"]) == ("words", "evaluate")
    assert transitions[2]["output"] == {"said": "hello Ada"}
    for item in transitions:
        assert str(uuid.UUID(item["id"])) == item["id"]
        assert (await http.get(f"/executions/{begun['id']}/transitions/{item['id']}")).json() == item
    latest = (await http.get(f"/executions/{begun['id']}/transitions?limit=1")).json()["items"]
    assert latest == transitions[-1:]
    events = (await http.get(f"/executions/{begun['id']}/events?after_seq=1")).json()["items"]
    assert [item["seq"] for item in events] == list(range(2, done["last_seq"] + 1))


async def test_a_failed_execution_tells_its_typed_error(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, "name: bad\nmain:\n  - error: no luck\n")
    async with lab.worker():
        done = await until(http, (await start(http, task_id))["id"], "failed")
    assert (done["error"]["code"], done["error"]["message"], done["output"]) == ("task.error", "no luck", None)
    assert done["verified"] is True
    assert "digest" not in done["error"]


async def test_a_wrong_input_starts_nothing(http: httpx.AsyncClient) -> None:
    task_id = await create(http, HELLO)
    answer = await http.post(f"/tasks/{task_id}/executions", json={"input": {"name": 7}})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, "input.invalid")
    assert "name: 7 is not of type 'string'" in body["detail"]
    assert (await http.get("/executions")).json() == {"items": [], "next_cursor": None}


async def test_an_id_is_taken_once(http: httpx.AsyncClient) -> None:
    task_id = await create(http, ASK)
    execution_id = str(uuid.uuid4())
    assert (await start(http, task_id, id=execution_id))["id"] == execution_id
    answer = await http.post(f"/tasks/{task_id}/executions", json={"id": execution_id})
    assert (answer.status_code, answer.json()["code"]) == (409, "execution.exists")
    assert answer.headers["x-should-retry"] == "false"
    answer = await http.post(f"/tasks/{task_id}/executions", json={"id": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (400, "execution.bad_id")


async def test_an_id_that_got_as_far_as_temporal_alone_is_known_once_it_is_asked_for_again(
    http: httpx.AsyncClient, lab: Lab
) -> None:
    task_id = await create(http, ASK)
    execution_id = str(uuid.uuid4())
    await start(http, task_id, id=execution_id)
    # a crash between Temporal and the store, after which no worker tells of it for long
    async with lab.store.database.write() as connection:
        await connection.exec_driver_sql("DELETE FROM executions")
    answer = await http.post(f"/tasks/{task_id}/executions", json={"id": execution_id})
    assert (answer.status_code, answer.json()["code"]) == (409, "execution.exists")
    assert (await http.get(f"/executions/{execution_id}")).json()["task_id"] == task_id


async def test_an_idempotency_key_starts_one_execution(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, HELLO)
    path, headers = f"/tasks/{task_id}/executions", {"Idempotency-Key": "k1"}
    ada = {"input": {"name": "Ada"}}
    first = await http.post(path, json=ada, headers=headers)
    second = await http.post(path, json=ada, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = await http.post(path, json={"input": {"name": "Bob"}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key_reused")
    # a crash between Temporal and the store must not turn the same key into an error
    async with lab.store.database.write() as connection:
        await connection.exec_driver_sql("DELETE FROM executions")
    third = await http.post(path, json=ada, headers=headers)
    assert (third.status_code, third.json()["id"]) == (200, first.json()["id"])
    assert (third.json()["task_name"], third.json()["input"]) == ("hello", {"name": "Ada"})


async def test_unknown_ids_are_not_found(http: httpx.AsyncClient) -> None:
    nobody = str(uuid.uuid4())
    for path, code in (
        (f"/tasks/{nobody}", "task.not_found"),
        (f"/agents/{nobody}", "agent.not_found"),
        (f"/executions/{nobody}", "execution.not_found"),
        (f"/executions/{nobody}/transitions", "execution.not_found"),
        (f"/executions/{nobody}/events.stream", "execution.not_found"),
        (f"/tasks/{nobody}/executions", "task.not_found"),
    ):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code), path
    for body in ({"status": "running", "input": 1}, {"status": "cancelled"}):
        answer = await http.put(f"/executions/{nobody}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "execution.not_found")


# --- answers and cancel --------------------------------------------------------------------------------------------


async def test_an_answer_is_checked_then_taken(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, ASK)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        waiting = await until(http, execution, "awaiting_input")
        [wait] = waiting["waits"]
        assert (wait["info"], wait["schema"], wait["label"]) == ({"question": "sure?"}, {"type": "boolean"}, "sure")

        refused = await http.put(f"/executions/{execution}", json={"status": "running", "input": "yes"})
        assert (refused.status_code, refused.json()["code"]) == (422, "input.rejected")
        events = (await http.get(f"/executions/{execution}/events")).json()["items"]
        assert not [item for item in events if item["type"].startswith("answer.")]

        answer = {"status": "running", "input": True, "key": "a1", "wait_id": wait["id"], "actor": "Ada"}
        taken = await http.put(f"/executions/{execution}", json=answer)
        assert taken.status_code == 200, taken.text
        done = await until(http, execution, "succeeded")
        assert done["output"] == {"answer": True}
        assert done["waits"] == []
        repeated = await http.put(f"/executions/{execution}", json=answer)
        assert repeated.status_code == 200
        late = await http.put(f"/executions/{execution}", json={"status": "running", "input": True})
        assert (late.status_code, late.json()["code"]) == (409, "answer.not_waiting")
        assert late.headers["x-should-retry"] == "false"


async def test_several_open_waits_need_an_id(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, TWO)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        await until(http, execution, "awaiting_input")
        waiting = await until(http, execution, "awaiting_input")
        while len(waiting["waits"]) < 2:
            waiting = await until(http, execution, "awaiting_input")
        vague = await http.put(f"/executions/{execution}", json={"status": "running", "input": 1})
        assert (vague.status_code, vague.json()["code"]) == (409, "answer.ambiguous")
        for number, wait in enumerate(waiting["waits"]):
            body = {"status": "running", "input": number, "wait_id": wait["id"]}
            assert (await http.put(f"/executions/{execution}", json=body)).status_code == 200
        done = await until(http, execution, "succeeded")
    assert done["output"] == [0, 1]


async def test_an_answer_without_a_worker_is_pending_and_may_be_repeated(
    http: httpx.AsyncClient, lab: Lab, temporal_address: str
) -> None:
    task_id = await create(http, ASK)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        await until(http, execution, "awaiting_input")
    body = {"status": "running", "input": False, "key": "k"}
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as hasty:
        pending = await hasty.http.put(f"/executions/{execution}", json=body)
    assert (pending.status_code, pending.json()["code"]) == (504, "answer.pending")
    async with lab.worker():
        assert (await http.put(f"/executions/{execution}", json=body)).status_code == 200
        assert (await until(http, execution, "succeeded"))["output"] == {"answer": False}


async def test_a_cancel_tells_its_reason_and_ends_the_execution(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, ASK)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        await until(http, execution, "awaiting_input")
        body = {"status": "cancelled", "reason": "changed my mind", "actor": "Ada"}
        assert (await http.put(f"/executions/{execution}", json=body)).status_code == 200
        done = await until(http, execution, "cancelled")
        assert done["error"] == {
            "code": "execution.cancelled",
            "message": "changed my mind",
            "details": {"actor": "Ada"},
        }
        again = await http.put(f"/executions/{execution}", json={**body, "reason": "another"})
        assert (again.status_code, again.json()["error"]) == (200, done["error"])


async def test_an_operators_terminate_is_told_apart(http: httpx.AsyncClient, lab: Lab) -> None:
    execution = (await start(http, await create(http, ASK)))["id"]
    await lab.client.get_workflow_handle(execution).terminate(reason="maintenance")
    answer = await http.put(f"/executions/{execution}", json={"status": "cancelled"})
    assert (answer.status_code, answer.json()["code"]) == (409, "execution.closed")
    done = (await http.get(f"/executions/{execution}")).json()
    assert (done["status"], done["verified"]) == ("failed", None)
    actor = done["error"]["details"]["actor"]
    assert done["error"] == {"code": "execution.terminated", "message": "maintenance", "details": {"actor": actor}}
    # Temporal's own word for the client that did it
    assert actor == lab.client.identity


# --- streams -------------------------------------------------------------------------------------------------------


async def test_streams_tell_everything_and_end(http: httpx.AsyncClient, lab: Lab) -> None:
    task_id = await create(http, ASK)
    async with lab.worker():
        execution = (await start(http, task_id))["id"]
        path = f"/executions/{execution}"
        following = [
            asyncio.create_task(read_stream(http, f"{path}/{name}.stream"))
            for name in ("status", "transitions", "events")
        ]
        await until(http, execution, "awaiting_input")
        await http.put(path, json={"status": "running", "input": True})
        statuses, transitions, events = await asyncio.gather(*following)
    shown = [told.data["status"] for told in statuses]
    assert shown[-1] == "succeeded"
    assert "awaiting_input" in shown
    assert statuses[0].data["execution_id"] == execution
    assert statuses[-1].data["output"] == {"answer": True}
    assert [told.data["type"] for told in transitions] == ["init", "wait", "resume", "step", "finish"]
    assert [int(told.id) for told in events] == list(range(1, len(events) + 1))
    assert [told.data["seq"] for told in events] == [int(told.id) for told in events]
    # a reader that comes back misses nothing and gets nothing twice, after the end too
    rest = await read_stream(http, f"{path}/transitions.stream", last_id=transitions[1].id)
    assert rest == transitions[2:]
    assert await read_stream(http, f"{path}/events.stream", last_id=events[-1].id) == []
    assert [told.data["status"] for told in await read_stream(http, f"{path}/status.stream")] == ["succeeded"]


async def test_streams_end_when_the_server_stops_although_their_execution_goes_on(api: ApiServer) -> None:
    execution = (await start(api.http, await create(api.http, ASK)))["id"]
    following = asyncio.create_task(read_stream(api.http, f"/executions/{execution}/events.stream"))
    await read_stream(api.http, f"/executions/{execution}/status.stream", most=1)
    await asyncio.sleep(0.1)
    assert not following.done()
    api.stop.set()
    assert await following == []
    await api.serving
