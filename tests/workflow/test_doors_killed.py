"""Real workers that are killed in the middle of deliveries, scheduled runs and jobs: nothing lost or repeated."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.doors import HookReceiver, eventually
from tests.support.lab import Lab
from tests.support.processes import worker_process
from tests.support.servers import serve_app
from tests.workflow.test_postgres_processes import repair_process

FAILS = "name: fails\nmain:\n  - error: no luck\n"
GREET = "name: greet\nmain:\n  - evaluate: $ 'Hello ' + _.get('name', 'you')\n"
LATEST_S = 120.0


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("both_stores")
async def test_a_killed_worker_loses_no_message_repeats_no_retry_and_no_scheduled_start(
    lab: Lab, api: ApiServer
) -> None:
    # the repair also takes up what other tests have left at the server
    fails, greet = f"fails_{lab.queue[-8:]}", f"greet_{lab.queue[-8:]}"
    took = HookReceiver(answers=[503] * 6 + [204])
    async with (
        contextlib.AsyncExitStack() as stack,
        serve_app(took) as url,
        worker_process(lab, environment={"EVERSTEP_WEBHOOK_RETRY_S": "0.2"}) as worker,
    ):
        allow = f'\n[webhooks]\nallow = ["127.0.0.1:{url.rsplit(":", 1)[1]}"]\n'
        project = lab.folder / "everstep.toml"
        project.write_text(project.read_text() + allow)
        worker.kill()
        stack.enter_context(repair_process(lab, worker))
        hook = (await api.http.post("/webhooks", json={"url": url, "statuses": ["failed"]})).json()
        task_id = await create(api.http, FAILS.replace("fails", fails))
        await create(api.http, GREET.replace("greet", greet))
        timed = {"name": "often", "task": greet, "intervals": [{"every": "1s"}], "limit": 4, "overlap": "allow_all"}
        assert (await api.http.post("/schedules", json=timed)).status_code == 201
        ids = [(await start(api.http, task_id))["id"] for _ in range(6)]
        worker.start()
        for execution_id in ids:
            await until(api.http, execution_id, "failed")
        # those that the store does not hold rightly yet are put off until the repair had its chance
        body = {"action": "retry", "filter": {"ids": ids}, "rate": 2}
        job = (await api.http.post("/bulk", json=body)).json()
        await eventually(lambda: _done(api, job["id"], 2), "the first retries", within_s=LATEST_S)
        worker.kill()
        worker.start()
        ended = await eventually(lambda: _closed(api, job["id"]), "the end of the job", within_s=LATEST_S)
        items = (await api.http.get(f"/bulk/{job['id']}/items")).json()["items"]
        assert (ended["done"], ended["refused"], ended["failed"]) == (6, 0, 0), items
        for item in items:
            await until(api.http, item["new_execution_id"], "failed")
        told = await eventually(lambda: _all_ended(api, hook["id"], 12), "12 deliveries", within_s=LATEST_S)

        async def ran() -> list[dict[str, Any]]:
            runs = (await api.http.get("/schedules/often")).json()["runs"]
            return runs if len([run for run in runs if run["execution_id"]]) == 4 else []

        runs = await eventually(ran, "4 runs", within_s=LATEST_S)
    retries = (await api.http.get("/executions", params={"task_name": fails, "limit": 100})).json()["items"]
    assert len(retries) == 12, "each was retried once"
    assert Counter(item["execution_id"] for item in told) == Counter(item["id"] for item in retries)
    assert {item["state"] for item in told} == {"delivered"}
    assert {message.headers["webhook-id"] for message in took.messages} == {item["id"] for item in told}
    greeted = (await api.http.get("/executions", params={"task_name": greet})).json()["items"]
    assert {item["id"] for item in greeted} == {run["execution_id"] for run in runs}


async def _done(api: ApiServer, job_id: str, least: int) -> bool:
    return bool((await api.http.get(f"/bulk/{job_id}")).json()["done"] >= least)


async def _closed(api: ApiServer, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = (await api.http.get(f"/bulk/{job_id}")).json()
    return job if job["closed_at"] is not None else None


async def _all_ended(api: ApiServer, webhook_id: str, count: int) -> list[dict[str, Any]]:
    items = (await api.http.get(f"/webhooks/{webhook_id}/deliveries")).json()["items"]
    return items if len([item for item in items if item["ended_at"] is not None]) >= count else []
