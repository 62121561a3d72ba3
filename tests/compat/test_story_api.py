"""The whole story of executions over HTTP: steps, attempts, history, that of Temporal, the overview, short ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.edge.mockllm.script import MockScript
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

STORY = """\
name: story
main:
  - {label: ask, prompt: "Tell of {{ _.topic }}", unwrap: true, retry: {attempts: 3, initial: 0.05s}}
  - over: "$ [1, 2, 3]"
    map: [{evaluate: "$ _ * 2"}, {evaluate: "$ 'x' * 3000"}]
  - {label: sure, approve: "Really?"}
  - return: {said: "$ _"}
"""
SCRIPT = {
    "rules": [
        {"match": "Tell", "times": 1, "status": 503},
        {"match": "Tell", "reply": "A tale", "usage": {"prompt_tokens": 5, "completion_tokens": 7}},
    ]
}
ROUTES = ("steps", "steps/main.0", "attempts", "history", "temporal")


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def http(api: ApiServer) -> httpx.AsyncClient:
    return api.http


async def told(http: httpx.AsyncClient, route: str, **params: Any) -> Any:
    answer = await http.get(route, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def all_pages(http: httpx.AsyncClient, route: str, **params: Any) -> tuple[list[dict[str, Any]], int]:
    """Return all items of a list and the number of its pages."""
    items: list[dict[str, Any]] = []
    pages = 0
    cursor = None
    while pages == 0 or cursor is not None:
        page = await told(http, route, **params, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next_cursor"]
        pages += 1
    return items, pages


@pytest.fixture
async def finished(lab: Lab, http: httpx.AsyncClient) -> str:
    """Run the story to its end and return the execution's id."""
    lab.mock.use(MockScript.model_validate(SCRIPT))
    task_id = await create(http, STORY)
    async with lab.worker():
        execution_id = str((await start(http, task_id, input={"topic": "a fox"}))["id"])
        await until(http, execution_id, "awaiting_input")
        body = {"status": "running", "input": {"approved": True}, "actor": "ada"}
        answer = await http.put(f"/executions/{execution_id}", json=body)
        assert answer.status_code == 200, answer.text
        await until(http, execution_id, "succeeded")
    return execution_id


async def test_the_steps_stand_in_the_order_of_the_task_with_state_and_usage(
    http: httpx.AsyncClient, finished: str
) -> None:
    page = await told(http, f"/executions/{finished}/steps")
    rows = page["items"]
    inside = [f"main.1.map[{number}].{step}" for number in range(3) for step in range(2)]
    assert [row["path"] for row in rows] == ["main.0", "main.1", *inside, "main.2", "main.3"]
    assert {row["state"] for row in rows} == {"done"}
    assert (rows[0]["tries"], rows[0]["usage"]["total_tokens"], rows[0]["label"]) == (2, 12, "ask")
    assert (rows[0]["input"]["value"], rows[0]["output"]["value"]) == ({"topic": "a fox"}, "A tale")
    assert rows[1]["rounds"] == {"begun": 3, "ended": 3, "failed": 0, "of": 3}
    assert page["execution"]["usage"]["total_tokens"] == 12
    assert page["next_cursor"] is None


@pytest.mark.usefixtures("both_stores")
async def test_the_steps_page_by_cursor_and_are_chosen_by_place_and_state(
    http: httpx.AsyncClient, finished: str
) -> None:
    path = f"/executions/{finished}/steps"
    whole, _ = await all_pages(http, path)
    paged, pages = await all_pages(http, path, limit=3)
    assert (paged, pages) == (whole, 4)
    inner = await told(http, path, path="main.1.map[1]")
    assert [row["path"] for row in inner["items"]] == ["main.1.map[1].0", "main.1.map[1].1"]
    assert [row["path"] for row in (await told(http, path, path="main.1"))["items"]] == [
        row["path"] for row in whole[1:8]
    ]
    assert (await told(http, path, state="failed"))["items"] == []
    assert (await http.get(path, params={"cursor": "x"})).json()["code"] == "request.bad_cursor"
    assert (await http.get(path, params={"stat": "failed"})).json()["code"] == "request.unknown_query"


async def test_long_values_are_cut_unless_all_of_them_is_asked_for(http: httpx.AsyncClient, finished: str) -> None:
    path = f"/executions/{finished}/steps"
    row = (await told(http, path, path="main.1.map[0].1"))["items"][0]
    assert row["output"]["truncated"] is True
    assert len(row["output"]["value"]) < 1_000
    row = (await told(http, path, path="main.1.map[0].1", full=True))["items"][0]
    assert (row["output"]["value"], row["output"].get("truncated")) == ("x" * 3000, None)


async def test_one_step_is_told_whole(http: httpx.AsyncClient, finished: str) -> None:
    for name in ("main.0", "ask"):
        answer = await told(http, f"/executions/{finished}/steps/{name}")
        (step,) = answer["items"]
        first, second = step["attempts"]
        assert (first["outcome"], first["error"]["code"], first["pause_s"]) == ("failed", "backend.overloaded", 0.05)
        assert second["request"]["value"]["messages"] == [{"role": "user", "content": "Tell of a fox"}]
        assert second["reply"]["value"]["content"] == "A tale"
        assert second["usage"]["total_tokens"] == 12
    (step,) = (await told(http, f"/executions/{finished}/steps/main.2"))["items"]
    (wait,) = step["waits"]
    assert (wait["outcome"], wait["actor"], wait["answer"]["value"]) == ("answered", "ada", {"approved": True})
    missing = await http.get(f"/executions/{finished}/steps/main.9")
    assert (missing.status_code, missing.json()["code"]) == (404, "step.not_found")


async def test_all_visits_of_a_step_are_told_by_its_path_without_counters(
    http: httpx.AsyncClient, finished: str
) -> None:
    path = f"/executions/{finished}/steps/main.1.map.1"
    first = await told(http, path, limit=2)
    assert (first["visits"], len(first["items"])) == (3, 2)
    items, _ = await all_pages(http, path, limit=2)
    assert [item["path"] for item in items] == [f"main.1.map[{number}].1" for number in range(3)]
    assert {item["output"]["value"] for item in items} == {"x" * 3000}
    (one,) = (await told(http, f"/executions/{finished}/steps/main.1.map[2].1"))["items"]
    assert one == items[2]


async def test_the_history_tells_everything_that_happened_in_order(http: httpx.AsyncClient, finished: str) -> None:
    path = f"/executions/{finished}/history"
    whole, _ = await all_pages(http, path, limit=1_000)
    assert [item["seq"] for item in whole] == list(range(1, len(whole) + 1))
    paged, pages = await all_pages(http, path, limit=4)
    assert paged == whole
    assert pages == -(-len(whole) // 4)
    said = [item["what"] for item in whole]
    assert said[0].startswith("the execution of task 'story' version 1 was started")
    assert any("attempt 1 failed, the next one follows in 50 ms: backend.overloaded" in what for what in said)
    assert any(what.endswith("is asked, attempt 2") for what in said)
    assert any("answered" in what and "12 tokens" in what for what in said)
    assert any(what.startswith("it goes on with the answer of ada after") for what in said)
    assert said[-1].endswith("the execution has succeeded")
    reply = next(item for item in whole if "reply" in item["data"])
    assert reply["data"]["reply"]["content"] == "A tale"
    assert [item["seq"] for item in (await told(http, path, after_seq=5, limit=2))["items"]] == [6, 7]


async def test_the_history_cuts_long_values_unless_all_of_them_is_asked_for(
    http: httpx.AsyncClient, finished: str
) -> None:
    path = f"/executions/{finished}/history"
    cut = [item for item in (await told(http, path, limit=1_000))["items"] if item.get("truncated")]
    assert len(cut) >= 3
    full = {item["seq"]: item for item in (await told(http, path, limit=1_000, full=True))["items"]}
    assert full[cut[0]["seq"]]["data"]["output"] == "x" * 3000


async def test_the_attempts_page_by_cursor(http: httpx.AsyncClient, finished: str) -> None:
    items, pages = await all_pages(http, f"/executions/{finished}/attempts", limit=1)
    assert [(item["path"], item["attempt"], item["outcome"]) for item in items] == [
        ("main.0", 1, "failed"),
        ("main.0", 2, "ok"),
    ]
    assert pages == 2
    assert (await told(http, f"/executions/{finished}/attempts", path="main.1"))["items"] == []


async def test_a_running_execution_says_what_it_waits_for(lab: Lab, http: httpx.AsyncClient) -> None:
    task_id = await create(http, "name: waits\nmain: [{label: nap, sleep: 1h}]")
    async with lab.worker():
        execution_id = (await start(http, task_id))["id"]
        deadline = time.monotonic() + PATIENCE_S
        while not (rows := (await told(http, f"/executions/{execution_id}/steps"))["items"]):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    # no event has told of it yet what it is: the task does
    assert (rows[0]["state"], rows[0]["kind"], rows[0]["label"]) == ("running", "sleep", "nap")


# --- Temporal ------------------------------------------------------------------------------------------------------


async def test_temporals_own_history_comes_page_by_page_the_newest_event_first(
    http: httpx.AsyncClient, finished: str
) -> None:
    path = f"/executions/{finished}/temporal"
    whole = await told(http, path, limit=1_000)
    ids = [item["event_id"] for item in whole["items"]]
    assert ids == list(range(len(ids), 0, -1))
    assert (whole["items"][0]["type"], whole["items"][-1]["type"]) == (
        "workflow_execution_completed",
        "workflow_execution_started",
    )
    assert whole["next_page_token"] is None
    # Temporal keeps some events together, so a page may have more of them than were asked for
    page = first = await told(http, path, limit=1)
    found = [page["items"]]
    while page["next_page_token"]:
        page = await told(http, path, limit=1, run_id=page["run_id"], next_page_token=page["next_page_token"])
        found.append(page["items"])
    assert [item["event_id"] for part in found for item in part] == ids
    assert len(found) > 3
    bad = await http.get(path, params={"next_page_token": "%%", "run_id": first["run_id"]})
    assert (bad.status_code, bad.json()["code"]) == (400, "request.bad_cursor")
    assert (await http.get(path, params={"run_id": "nobody"})).status_code in (400, 404)


async def test_without_temporal_everything_else_is_told(lab: Lab, http: httpx.AsyncClient, finished: str) -> None:
    async with api_server(settings_for(lab.folder), temporal="127.0.0.1:1") as other:
        for route in ROUTES:
            answer = await other.http.get(f"/executions/{finished}/{route}")
            if route == "temporal":
                assert (answer.status_code, answer.json()["code"]) == (503, "unreachable")
            else:
                assert answer.json() == (await http.get(f"/executions/{finished}/{route}")).json()


# --- who may see it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_the_story_of_another_tenants_execution_is_not_there(
    lab: Lab, http: httpx.AsyncClient, route: str
) -> None:
    theirs = "11111111-2222-4333-8444-555555555555"
    await lab.store.ensure_execution(theirs, tenant="other", task_id="t", task_name="t", created_us=1)
    for execution_id in (theirs, "99999999-2222-4333-8444-555555555555", "nothing"):
        answer = await http.get(f"/executions/{execution_id}/{route}")
        assert (answer.status_code, answer.json()["code"]) == (404, "execution.not_found")


@pytest.mark.usefixtures("both_stores")
async def test_an_execution_is_found_by_how_its_id_begins_within_the_tenant(lab: Lab, http: httpx.AsyncClient) -> None:
    ids = ["abcdef12-0000-4000-8000-000000000001", "abcdef12-0000-4000-8000-000000000002", "abcdef99" + "0" * 28]
    for number, execution_id in enumerate(ids):
        tenant = "other" if number == 2 else "default"
        await lab.store.ensure_execution(execution_id, tenant=tenant, task_id="t", task_name="t", created_us=1)
    found = (await told(http, "/executions/find", id_prefix="abcdef"))["items"]
    assert [item["id"] for item in found] == ids[:2]
    assert [item["id"] for item in (await told(http, "/executions/find", id_prefix=ids[1][:36]))["items"]] == [ids[1]]
    assert (await told(http, "/executions/find", id_prefix="fedcba"))["items"] == []
    for short in ("abcde", "abcdefg!", ""):
        answer = await http.get("/executions/find", params={"id_prefix": short})
        assert (answer.status_code, answer.json()["code"]) == (400, "execution.short_id")


@pytest.mark.usefixtures("both_stores")
async def test_the_overview_tells_what_goes_on(lab: Lab, http: httpx.AsyncClient, finished: str) -> None:
    task_id = await create(http, "name: waits\nmain: [{label: sure, approve: 'Well?'}]")
    await lab.store.ensure_execution("x" * 36, tenant="other", task_id="t", task_name="t", created_us=1)
    async with lab.worker():
        waiting = (await start(http, task_id))["id"]
        await until(http, waiting, "awaiting_input")
    found = await told(http, "/overview")
    assert found["counts"] == {"total": 2, "by_status": {"succeeded": 1, "awaiting_input": 1}}
    (item,) = found["open"]
    assert (item["id"], item["status"], item["last"]["path"]) == (waiting, "awaiting_input", "main.0")
    assert item["last"]["what"] == "'sure' waits for an answer"
    for part in ("last_minute", "last_hour"):
        assert (found[part]["started"], found[part]["ended"]) == (2, {"succeeded": 1})
        assert (found[part]["usage"]["llm_calls"], found[part]["usage"]["total_tokens"]) == (2, 12)
    assert (await told(http, "/overview", limit=0))["open"] == []
