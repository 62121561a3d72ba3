"""What Julep's own server could not do, done through the API as Julep's SDK asks for it, on a real Temporal server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_weeks import calendar
from tests.compat.apiserver import api_server, settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

SDK = {"X-Stainless-Lang": "python"}
Step = dict[str, Any]


class Julep:
    """The few requests of the SDK that these tests make.

    Args:
        http: A client whose base is `/api`.
        agent: Id of the agent whose tasks are created.
    """

    def __init__(self, http: httpx.AsyncClient, agent: str) -> None:
        self.http = http
        self.agent = agent

    async def start(self, main: list[Step], given: Any = None, **lists: Any) -> str:
        """Create a task and start it; return the execution's id."""
        body = {"name": "t", "main": main, **lists}
        made = await self.http.post(f"/agents/{self.agent}/tasks", json=body)
        assert made.status_code == 201, made.text
        started = await self.http.post(f"/tasks/{made.json()['id']}/executions", json={"input": given or {}})
        assert started.status_code == 201, started.text
        return str(started.json()["id"])

    async def until(self, execution: str, *statuses: str) -> dict[str, Any]:
        """Ask for an execution until it has one of some statuses."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            body = dict((await self.http.get(f"/executions/{execution}")).json())
            if body["status"] in statuses:
                return body
            assert time.monotonic() < deadline, body
            await asyncio.sleep(0.02)

    async def output(self, main: list[Step], given: Any = None, **lists: Any) -> Any:
        """Run a task and return its output."""
        ended = await self.until(await self.start(main, given, **lists), "succeeded", "failed", "cancelled")
        assert ended["status"] == "succeeded", ended
        return ended["output"]

    async def waits(self, execution: str, count: int) -> list[dict[str, Any]]:
        """Return the open waits of an execution, once there are so many."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            body = dict((await self.http.get(f"/executions/{execution}")).json())
            found = [dict(wait) for wait in body.get("waits", [])]
            if len(found) == count:
                return found
            assert time.monotonic() < deadline, body
            await asyncio.sleep(0.02)

    async def wait_beside(self, execution: str, seen: set[str]) -> dict[str, Any]:
        """Return the open wait of an execution that is none of those."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            [found] = await self.waits(execution, 1)
            if found["id"] not in seen:
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)

    async def resume(self, execution: str, value: Any, **more: Any) -> None:
        """Answer a wait."""
        body = {"status": "running", "input": value, **more}
        answer = await self.http.put(f"/executions/{execution}", json=body)
        assert answer.status_code == 200, answer.text

    async def transitions(self, execution: str) -> list[dict[str, Any]]:
        """Return all transitions of an execution, the oldest first, page by page as the SDK reads them."""
        found: list[dict[str, Any]] = []
        while True:
            page: dict[str, str | int] = {"limit": 100, "offset": len(found), "direction": "asc"}
            answer = await self.http.get(f"/executions/{execution}/transitions", params=page)
            items = answer.json()["items"]
            if not items:
                return found
            found += items


@asynccontextmanager
async def julep_of(lab: Lab, temporal: str) -> AsyncIterator[Julep]:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal) as server:
        server.http.headers.update(SDK)
        agent = await server.http.post("/agents", json={"name": "a", "model": "mock"})
        yield Julep(server.http, agent.json()["id"])


@pytest.fixture
async def julep(lab: Lab, temporal_address: str) -> AsyncIterator[Julep]:
    async with lab.worker(), julep_of(lab, temporal_address) as client:
        yield client


# --- texts and expressions ------------------------------------------------------------------------------------------


async def test_braces_in_a_prompt_stay_as_they_are(julep: Julep) -> None:
    text = 'Answer with {"list": [{"a": {"b": 1}}]}, {curly} or """. About {_.topic}.'
    output = await julep.output([{"prompt": text, "unwrap": True}], {"topic": "tea"})
    assert output == 'Answer with {"list": [{"a": {"b": 1}}]}, {curly} or """. About tea.'


async def test_a_reduce_may_name_keys_with_underscores_and_speak_of_results(julep: Julep) -> None:
    step: Step = {
        "over": "$ _.items",
        "map": {"evaluate": {"my_key": "$ _['in_put'] * 2", "results_text": "$ 'all results: ' + str(_['in_put'])"}},
        "reduce": "$ results + [_['my_key'], _['results_text'] + ' of the results']",
        "initial": [],
        "parallelism": 5,
    }
    output = await julep.output([step], {"items": [{"in_put": 1}, {"in_put": 2}]})
    assert output == [2, "all results: 1 of the results", 4, "all results: 2 of the results"]


async def test_get_gives_what_set_has_set(julep: Julep) -> None:
    main: list[Step] = [{"set": {"name": "$ _.who", "n": "$ 1"}}, {"evaluate": {"x": "$ 0"}}, {"get": "name"}]
    assert await julep.output(main, {"who": "Ada"}) == "Ada"


# --- flow -----------------------------------------------------------------------------------------------------------


async def test_a_switch_without_a_match_hands_its_input_on(julep: Julep) -> None:
    main: list[Step] = [{"switch": [{"case": "$ _.n == 1", "then": {"evaluate": {"x": "$ 1"}}}]}]
    assert await julep.output(main, {"n": 2}) == {"n": 2}


async def test_branches_run_in_parallel_and_come_back_in_order(julep: Julep) -> None:
    main: list[Step] = [{"parallel": [{"evaluate": {"a": "$ _.n"}}, {"prompt": "hi", "unwrap": True}, {"get": "k"}]}]
    assert await julep.output([{"set": {"k": "$ 3"}}, {"evaluate": {"n": "$ 1"}}, *main]) == [{"a": 1}, "hi", 3]


async def test_branches_may_have_several_steps(julep: Julep) -> None:
    add: Step = {"evaluate": {"n": "$ _.n + 1"}}
    main: list[Step] = [
        {"if": "$ _.n == 0", "then": [add, add], "else": [add]},
        {"switch": [{"case": "$ _.n == 2", "then": [add, add]}]},
        {"foreach": {"in": "$ [_.n, _.n]", "do": [{"evaluate": {"n": "$ _"}}, add]}},
        {"over": "$ _", "map": [add, add, {"evaluate": "$ _.n"}]},
    ]
    assert await julep.output(main, {"n": 0}) == [7, 7]


async def test_an_error_as_the_last_step_fails_the_execution(julep: Julep) -> None:
    execution = await julep.start([{"evaluate": {"x": "$ 1"}}, {"error": "nothing found for {_.x}"}])
    ended = await julep.until(execution, "succeeded", "failed")
    assert ended["status"] == "failed"
    assert "nothing found for 1" in json.dumps(ended["error"])
    assert (await julep.transitions(execution))[-1]["type"] == "error"


async def test_more_than_a_hundred_transitions_are_all_seen_by_expressions_and_clients(julep: Julep) -> None:
    steps: list[Step] = [{"evaluate": {"n": f"$ {number}"}} for number in range(120)]
    last: Step = {
        "evaluate": {"first": "$ steps[0].output.n", "count": "$ len(outputs)", "sum": "$ sum([o.n for o in outputs])"}
    }
    execution = await julep.start([*steps, last])
    ended = await julep.until(execution, "succeeded", "failed")
    assert ended["output"] == {"first": 0, "count": 120, "sum": sum(range(120))}
    found = await julep.transitions(execution)
    assert len(found) > 120
    assert len({item["id"] for item in found}) == len(found)
    assert (found[0]["type"], found[-1]["type"]) == ("init", "finish")


# --- waits ----------------------------------------------------------------------------------------------------------


async def test_each_round_of_a_foreach_may_wait(julep: Julep) -> None:
    wait: Step = {"wait_for_input": {"info": {"item": "$ _"}}}
    execution = await julep.start([{"foreach": {"in": "$ _.l", "do": wait}}], {"l": ["a", "b"]})
    seen: set[str] = set()
    for number, item in enumerate(("a", "b")):
        found = await julep.wait_beside(execution, seen)
        assert found["info"] == {"item": item}
        seen.add(found["id"])
        await julep.resume(execution, {"answer": number}, wait_id=found["id"])
    ended = await julep.until(execution, "succeeded", "failed")
    assert ended["output"] == [{"answer": 0}, {"answer": 1}]


async def test_branches_in_parallel_wait_each_for_itself(julep: Julep) -> None:
    branch: list[Step] = [{"wait_for_input": {"info": {"item": "$ _"}}}, {"evaluate": {"got": "$ _.answer"}}]
    execution = await julep.start([{"over": "$ _.l", "map": branch, "parallelism": 3}], {"l": ["a", "b", "c"]})
    found = await julep.waits(execution, 3)
    for wait in reversed(found):
        await julep.resume(execution, {"answer": f"for {wait['info']['item']}"}, wait_id=wait["id"])
    ended = await julep.until(execution, "succeeded", "failed")
    assert ended["output"] == [{"got": "for a"}, {"got": "for b"}, {"got": "for c"}]


async def test_an_execution_that_has_waited_for_more_than_thirty_days_goes_on(tmp_path: Path) -> None:
    main: list[Step] = [
        {"evaluate": {"topic": "$ _.topic"}},
        {"wait_for_input": {"info": {"q": "Still interested?"}}},
        {"evaluate": {"answer": "$ _", "topic": "$ steps[0].output.topic", "given": "$ inputs[0].topic"}},
    ]
    async with calendar(tmp_path) as weeks:
        temporal = weeks.lab.client.service_client.config.target_host
        async with julep_of(weeks.lab, temporal) as client:
            execution = await client.start(main, {"topic": "tea"})
            await client.until(execution, "awaiting_input")
            handle = weeks.lab.client.get_workflow_handle(execution)
            await weeks.forward(handle, timedelta(days=45))
            await client.resume(execution, "yes")
            ended = await client.until(execution, "succeeded", "failed")
            age = await weeks.age(handle)
    assert ended["output"] == {"answer": "yes", "topic": "tea", "given": "tea"}
    assert age >= timedelta(days=45)
