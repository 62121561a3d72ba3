"""Jobs over many executions on the real server: fixed sets, outcomes, rates, pauses, and workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete, select

from engine.control import bulkwork
from engine.store.schema import idempotency, truth
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.doors import doors_worker, eventually, settled
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

ASKS = "name: asks\nmain:\n  - wait_for_input: {info: {question: sure?}, schema: {type: boolean}}\n"
OLD = "2020-01-01T00:00:00Z"
FAILS = "name: fails\nmain:\n  - evaluate: 1\n  - error: no luck\n"
MENDED = "name: fails\nmain:\n  - evaluate: 1\n  - evaluate: mended\n"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@contextlib.asynccontextmanager
async def all_workers(lab: Lab) -> AsyncIterator[Any]:
    async with lab.worker(), settled(lab), doors_worker(lab) as doors:
        yield doors


async def several(api: ApiServer, task_id: str, count: int, status: str, **more: Any) -> list[str]:
    ids = [(await start(api.http, task_id, **more))["id"] for _ in range(count)]
    for execution_id in ids:
        await until(api.http, execution_id, status)
    return ids


async def begin(api: ApiServer, action: str, filter: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await api.http.post("/bulk", json={"action": action, "filter": filter, **more})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def finished(api: ApiServer, job_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await api.http.get(f"/bulk/{job_id}")).json()
        return job if job["closed_at"] is not None else None

    job: dict[str, Any] = await eventually(look, "the end of the job", within_s=PATIENCE_S)
    return job


async def items(api: ApiServer, job_id: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.http.get(f"/bulk/{job_id}/items", params=query)).json()["items"]
    return found


@pytest.mark.usefixtures("both_stores")
async def test_a_trial_counts_and_a_job_answers_all_that_fit_and_tells_who_refused(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        mine = await several(api, task_id, 5, "awaiting_input", labels=["mine"])
        (other,) = await several(api, task_id, 1, "awaiting_input")
        wanted = {"label": ["mine"], "status": ["awaiting_input"]}
        body = {"action": "answer", "filter": wanted, "options": {"value": True}, "dry_run": True}
        trial = await api.http.post("/bulk", json=body)
        assert (trial.status_code, trial.json()["total"]) == (200, 5)
        assert {item["id"] for item in trial.json()["sample"]} == set(mine)
        assert (await api.http.get("/bulk")).json()["items"] == []
        job = await finished(api, (await begin(api, "answer", wanted, options={"value": True}))["id"])
        assert (job["state"], job["total"], job["done"], job["refused"]) == ("done", 5, 5, 0)
        for execution_id in mine:
            await until(api.http, execution_id, "succeeded")
        assert (await api.http.get(f"/executions/{other}")).json()["status"] == "awaiting_input"
        # a value that does not fit, and executions that wait no more
        again = await finished(api, (await begin(api, "answer", {"all": True}, options={"value": 7}))["id"])
        assert (again["done"], again["refused"], again["left"]) == (0, 6, 0)
        refused = {item["execution_id"]: item["code"] for item in await items(api, again["id"], outcome="refused")}
        assert refused == dict.fromkeys(mine, "answer.not_waiting") | {other: "input.rejected"}


@pytest.mark.usefixtures("both_stores")
async def test_of_named_executions_a_job_takes_only_those_that_fit_the_rest(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        mine = await several(api, task_id, 2, "awaiting_input", labels=["mine"])
        (other,) = await several(api, task_id, 1, "awaiting_input", labels=["other"])
        (unnamed,) = await several(api, task_id, 1, "awaiting_input", labels=["mine"])
        wanted = {"ids": [*mine, other], "label": ["mine"], "status": ["awaiting_input"], "task": "asks"}
        body = {"action": "cancel", "filter": wanted, "dry_run": True}
        trial = (await api.http.post("/bulk", json=body)).json()
        assert (trial["total"], {item["id"] for item in trial["sample"]}) == (2, set(mine))
        for none in ({"status": ["failed"]}, {"stuck": True}, {"metadata": {"a": [1]}}, {"created_before": OLD}):
            body = {"action": "cancel", "filter": {"ids": mine} | none, "dry_run": True}
            assert (await api.http.post("/bulk", json=body)).json()["total"] == 0, none
        job = await finished(api, (await begin(api, "cancel", wanted))["id"])
        assert (job["total"], job["done"]) == (2, 2)
        assert {item["execution_id"] for item in await items(api, job["id"])} == set(mine)
        for execution_id in (other, unnamed):
            assert (await api.http.get(f"/executions/{execution_id}")).json()["status"] == "awaiting_input"
        purge = await finished(api, (await begin(api, "purge", {"ids": [*mine, other], "status": ["failed"]}))["id"])
        assert purge["total"] == 0


@pytest.mark.usefixtures("both_stores")
async def test_the_answer_of_a_job_is_gone_when_it_has_ended(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS.replace("boolean", "string"))
    secret = "k7secret"
    wanted = {"action": "answer", "filter": {"task": "asks"}, "options": {"value": secret, "oldest": True}}
    # the workflow of a job is named by the key, and both stores share the Temporal server
    keyed = {"Idempotency-Key": str(uuid.uuid4())}
    async with all_workers(lab):
        ids = await several(api, task_id, 2, "awaiting_input")
        begun = await api.http.post("/bulk", json=wanted, headers=keyed)
        assert (begun.status_code, begun.json()["options"]) == (202, {"oldest": True})
        job = await finished(api, begun.json()["id"])
        assert job["done"] == 2
        for execution_id in ids:
            await until(api.http, execution_id, "succeeded")
        await finished(api, (await begin(api, "purge", {"ids": ids}))["id"])
    assert (await api.http.post("/bulk", json=wanted, headers=keyed)).json()["id"] == job["id"]
    database = lab.store.database
    # also once the first answer is forgotten, the same key is the same job
    await database.run(lambda connection: connection.execute(delete(idempotency)), write=True)
    assert (await api.http.post("/bulk", json=wanted, headers=keyed)).json()["id"] == job["id"]
    rows = await database.run(
        lambda connection: [repr(row) for table in truth.sorted_tables for row in connection.execute(select(table))]
    )
    assert not [row for row in rows if secret in row]


async def test_failed_executions_are_retried_with_the_newest_definition(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, FAILS)
    async with all_workers(lab):
        failed = await several(api, task_id, 3, "failed")
        yaml = {"content-type": "application/yaml"}
        await api.http.post("/tasks", content=MENDED, headers=yaml, params={"by_name": "true"})
        own = await finished(api, (await begin(api, "retry", {"ids": failed[:1]}))["id"])
        newest = await finished(
            api, (await begin(api, "retry", {"ids": failed[1:]}, options={"definition": "newest"}))["id"]
        )
        assert (own["done"], newest["done"]) == (1, 2)
        for job, status in ((own, "failed"), (newest, "succeeded")):
            for item in await items(api, job["id"]):
                assert item["execution_id"] in failed
                await until(api.http, item["new_execution_id"], status)


async def test_an_execution_that_is_not_verified_yet_is_put_off_and_holds_up_no_other(
    lab: Lab, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await create(api.http, FAILS)
    async with all_workers(lab):
        first, *others = failed = await several(api, task_id, 3, "failed")
        await lab.store.mark_verified(first, tenant="default", verified=False)
        job = await begin(api, "retry", {"ids": failed}, rate=1)

        async def told() -> list[dict[str, Any]] | None:
            return found if len(found := await items(api, job["id"], outcome="done")) == 2 else None

        assert {item["execution_id"] for item in await eventually(told, "the other two", within_s=PATIENCE_S)} == set(
            others
        )
        assert (await api.http.get(f"/bulk/{job['id']}")).json()["state"] == "running"
        await lab.store.mark_verified(first, tenant="default", verified=True)
        ended = await finished(api, job["id"])
        assert (ended["done"], ended["refused"]) == (3, 0)
        # one that nobody makes right is refused in the end
        await lab.store.mark_verified(first, tenant="default", verified=False)
        monkeypatch.setattr(bulkwork, "UNVERIFIED_S", 2.0)
        job = await begin(api, "retry", {"ids": [first]})
        assert (await finished(api, job["id"]))["refused"] == 1
        assert [item["code"] for item in await items(api, job["id"])] == ["fork.history_unverified"]


async def test_pause_continue_cancel_and_terminate_reach_each(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        ids = await several(api, task_id, 3, "awaiting_input")
        for action, status in (("pause", "paused"), ("continue", "awaiting_input"), ("cancel", "cancelled")):
            job = await finished(api, (await begin(api, action, {"ids": ids}))["id"])
            assert (job["done"], job["refused"]) == (3, 0), action
            for execution_id in ids:
                await until(api.http, execution_id, status)
        more = await several(api, task_id, 2, "awaiting_input")
        job = await finished(api, (await begin(api, "terminate", {"task": "asks"}, options={"reason": "moving"}))["id"])
        # those that were cancelled before cannot be terminated
        assert (job["done"], job["refused"]) == (2, 3)
        for execution_id in more:
            error = (await api.http.get(f"/executions/{execution_id}")).json()["error"]
            assert (error["code"], error["message"]) == ("execution.terminated", "moving")


async def test_a_purge_in_bulk_leaves_nothing_to_read(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, FAILS)
    async with all_workers(lab):
        failed = await several(api, task_id, 2, "failed")
        job = await finished(api, (await begin(api, "purge", {"status": ["failed"]}))["id"])
        assert job["done"] == 2, await items(api, job["id"])
        for execution_id in failed:
            assert (await api.http.get(f"/executions/{execution_id}")).status_code == 404


@pytest.mark.usefixtures("both_stores")
async def test_the_set_is_fixed_and_a_job_rests_goes_on_and_is_aborted(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        ids = await several(api, task_id, 6, "awaiting_input")
        job = await begin(api, "cancel", {"task": "asks"}, rate=1)
        await eventually(lambda: _done(api, job["id"], 1), "the first")
        paused = (await api.http.post(f"/bulk/{job['id']}/pause")).json()
        assert paused["state"] == "paused"
        (late,) = await several(api, task_id, 1, "awaiting_input")
        assert (await api.http.post(f"/bulk/{job['id']}/continue")).json()["state"] == "running"
        await eventually(lambda: _done(api, job["id"], paused["done"] + 1), "another one")
        aborted = (await api.http.post(f"/bulk/{job['id']}/abort")).json()
        assert aborted["state"] == "aborted"
        ended = await finished(api, job["id"])
        assert (ended["total"], ended["left"] > 0) == (6, True)
        worked_on = {item["execution_id"] for item in await items(api, job["id"], outcome="done")}
        assert worked_on < set(ids)
        assert (await api.http.get(f"/executions/{late}")).json()["status"] == "awaiting_input"
        again = await api.http.post(f"/bulk/{job['id']}/continue")
        assert (again.status_code, again.json()["code"]) == (409, "bulk.closed")


async def _done(api: ApiServer, job_id: str, least: int) -> bool:
    return bool((await api.http.get(f"/bulk/{job_id}")).json()["done"] >= least)


async def test_the_rate_is_kept(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        await several(api, task_id, 7, "awaiting_input")
        began = time.monotonic()
        job = await finished(api, (await begin(api, "cancel", {"task": "asks"}, rate=3))["id"])
        # 3 at once, 3 after a second, 1 after another: however slow the machine, never sooner
        assert time.monotonic() - began >= 2
    assert job["done"] == 7


async def test_a_worker_that_dies_in_the_middle_repeats_nothing_with_effect(lab: Lab, api: ApiServer) -> None:
    """The work was done and not yet written down: the next attempt does it under the same keys."""
    from engine.control.bulkwork import BulkWork

    task_id = await create(api.http, FAILS)
    async with lab.worker(), settled(lab):
        failed = await several(api, task_id, 4, "failed")
        job = await begin(api, "retry", {"ids": failed})
        async with doors_worker(lab, works=False) as doors:
            assert await doors.work.collect("default", job["id"]) == "running"
            record, lost = doors.work._store.record, asyncio.Event()

            async def dies(*args: Any, **options: Any) -> None:
                lost.set()
                raise ConnectionError("killed before it was written")

            doors.work._store.record = dies  # type: ignore[method-assign]
            with pytest.raises(ConnectionError):
                await doors.work.work("default", job["id"])
            assert lost.is_set()
            doors.work._store.record = record  # type: ignore[method-assign]
        assert isinstance(doors.work, BulkWork)
        before = (await api.http.get("/executions/counts")).json()["total"]
        assert before == 8
        async with doors_worker(lab):
            ended = await finished(api, job["id"])
    assert (ended["done"], ended["refused"], ended["failed"]) == (4, 0, 0)
    assert (await api.http.get("/executions/counts")).json()["total"] == before


async def test_a_job_that_says_nothing_or_nonsense_is_refused_whole(api: ApiServer) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"action": "cancel", "filter": {}}, "bulk.bad_filter"),
        ({"action": "cancel", "filter": {"colour": "red"}}, "bulk.bad_filter"),
        ({"action": "cancel", "filter": {"all": True, "status": ["failed"]}}, "bulk.bad_filter"),
        ({"action": "cancel", "filter": {"all": True}, "options": {"value": 1}}, "bulk.bad_options"),
        ({"action": "answer", "filter": {"all": True}}, "bulk.bad_options"),
        ({"action": "fork", "filter": {"all": True}}, "bulk.bad_options"),
        ({"action": "cancel", "filter": {"task": "nobody"}}, "task.not_found"),
        ({"action": "explode", "filter": {"all": True}}, "request.invalid"),
    ]
    for body, code in wrong:
        answer = await api.http.post("/bulk", json=body)
        assert answer.json()["code"] == code, body
    assert (await api.http.get("/bulk")).json()["items"] == []
