"""Schedules on the real server: what they start, overlaps, refusals, what tasks say in `dispatch.cron`."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create
from tests.support.doors import doors_worker, eventually, settled
from tests.support.lab import Lab

GREET = """\
name: greet
input_schema: {type: object, properties: {name: {type: string}}, required: [name]}
main:
  - evaluate: {said: $ 'Hello ' + _.name}
"""
ASKS = "name: asks\nmain:\n  - wait_for_input: {info: {question: sure?}}\n"
NEVER = ["0 0 29 2 *"]
"""A cron that does not come while a test runs."""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@contextlib.asynccontextmanager
async def all_workers(lab: Lab) -> AsyncIterator[Any]:
    async with lab.worker(), settled(lab), doors_worker(lab) as doors:
        yield doors


async def schedule(api: ApiServer, name: str, task: str, **parts: Any) -> dict[str, Any]:
    made = await api.http.post("/schedules", json={"name": name, "task": task, **parts})
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    return body


async def runs_of(api: ApiServer, name: str, count: int) -> list[dict[str, Any]]:
    """Wait until so many runs of a schedule have an outcome, and return them, the latest first."""

    async def look() -> list[dict[str, Any]]:
        seen = (await api.http.get(f"/schedules/{name}")).json()
        found = [run for run in seen["runs"] if run["outcome"] != "under_way"]
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await eventually(look, f"{count} runs of {name}")
    return found


async def statuses(api: ApiServer, wanted: dict[str, str]) -> None:
    """Wait until executions have these statuses."""
    found: dict[str, str] = {}

    async def look() -> bool:
        for execution_id in wanted:
            found[execution_id] = (await api.http.get(f"/executions/{execution_id}")).json()["status"]
        return found == wanted

    try:
        await eventually(look, f"{wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {found}") from error


@pytest.mark.usefixtures("both_stores")
async def test_an_interval_starts_its_task_with_an_input_of_the_time(lab: Lab, api: ApiServer) -> None:
    await create(api.http, GREET)
    made = await schedule(
        api,
        "often",
        "greet",
        intervals=[{"every": "1s"}],
        limit=2,
        overlap="buffer_all",
        input={"name": "$ 'at ' + str(now())"},
        labels=["timed"],
        metadata={"of": "often"},
    )
    assert made["next_at"]
    async with all_workers(lab):
        runs = await runs_of(api, "often", 2)
        await statuses(api, {run["execution_id"]: "succeeded" for run in runs})
    assert len({run["execution_id"] for run in runs}) == 2
    for run in runs:
        execution = (await api.http.get(f"/executions/{run['execution_id']}")).json()
        planned = dt.datetime.fromisoformat(run["for"].replace("Z", "+00:00"))
        assert str(planned.replace(microsecond=0))[:19] in execution["output"]["said"].replace("T", " ")
        assert (execution["labels"], execution["metadata"]) == (["timed"], {"of": "often"})
        assert execution["actor"] == "schedule often"
    seen = (await api.http.get("/schedules/often")).json()
    assert (seen["left"], seen["starts"]) == (0, 2)


async def test_a_schedule_runs_now_with_the_newest_version_or_the_pinned_one(lab: Lab, api: ApiServer) -> None:
    await create(api.http, "name: t\nmain:\n  - evaluate: 1\n")
    await schedule(api, "newest", "t", cron=NEVER)
    await schedule(api, "pinned", "t@1", cron=NEVER)
    await api.http.post(
        "/tasks", content="name: t\nmain:\n  - evaluate: 2\n", headers={"content-type": "application/yaml"},
        params={"by_name": "true"},
    )  # fmt: skip
    async with all_workers(lab):
        for name, output in (("newest", 2), ("pinned", 1)):
            assert (await api.http.post(f"/schedules/{name}/run", json={})).status_code == 202
            (run,) = await runs_of(api, name, 1)
            await statuses(api, {run["execution_id"]: "succeeded"})
            assert (await api.http.get(f"/executions/{run['execution_id']}")).json()["output"] == output


async def test_a_run_that_is_refused_is_seen_at_the_schedule(lab: Lab, api: ApiServer) -> None:
    await create(api.http, GREET)
    await schedule(api, "morning", "greet", cron=NEVER, input={"name": "Ada"})
    await api.http.post(
        "/tasks",
        content=GREET.replace("[name]", "[name, town]"),
        headers={"content-type": "application/yaml"},
        params={"by_name": "true"},
    )
    async with all_workers(lab):
        await api.http.post("/schedules/morning/run", json={})
        (run,) = await runs_of(api, "morning", 1)
    assert (run["outcome"], run["error"]["code"], run["execution_id"]) == ("refused", "input.invalid", None)
    assert "town" in run["error"]["message"]


async def test_a_schedule_starts_no_task_of_another_agent_that_has_got_its_name(lab: Lab, api: ApiServer) -> None:
    await create(api.http, "name: t\nmain: [{evaluate: 1}]")
    await schedule(api, "morning", "t", cron=NEVER)
    agent = (await api.http.post("/agents", json={"name": "Ada"})).json()["id"]
    await api.http.post(f"/agents/{agent}/tasks", json={"name": "t", "main": [{"evaluate": 2}]})
    async with all_workers(lab):
        await api.http.post("/schedules/morning/run", json={})
        (run,) = await runs_of(api, "morning", 1)
    assert (run["outcome"], run["error"]["code"], run["execution_id"]) == ("refused", "task.ambiguous", None)


async def test_an_input_that_does_not_fit_is_refused_when_the_schedule_is_made(api: ApiServer) -> None:
    await create(api.http, GREET)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cron": NEVER, "input": {"name": 7}}, "input.invalid"),
        ({"cron": NEVER, "input": {"name": "$ nobody.knows"}}, "expression.invalid"),
        ({"cron": ["61 * * * *"], "input": {"name": "x"}}, "schedule.invalid"),
        ({"cron": NEVER, "timezone": "Europe/Berlni", "input": {"name": "x"}}, "schedule.invalid"),
        ({"input": {"name": "x"}}, "schedule.invalid"),
        ({"intervals": [{"every": "0s"}], "input": {"name": "x"}}, "request.invalid"),
        ({"cron": NEVER, "catch_up": "1s", "input": {"name": "x"}}, "schedule.invalid"),
    ]
    for parts, code in wrong:
        answer = await api.http.post("/schedules", json={"name": "s", "task": "greet", **parts})
        assert answer.json()["code"] == code, parts
    assert (await api.http.get("/schedules")).json()["items"] == []
    unknown = await api.http.post("/schedules", json={"name": "s", "task": "nobody", "cron": NEVER})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task.not_found")


@pytest.mark.parametrize(
    ("overlap", "first", "second"),
    [
        ("skip", "awaiting_input", None),
        ("allow_all", "awaiting_input", "awaiting_input"),
        ("cancel_other", "cancelled", "awaiting_input"),
        ("terminate_other", "failed", "awaiting_input"),
    ],
)
async def test_overlap_policies_mean_the_executions(
    lab: Lab, api: ApiServer, overlap: str, first: str, second: str | None
) -> None:
    await create(api.http, ASKS)
    await schedule(api, "asks", "asks", cron=NEVER, overlap=overlap)
    async with all_workers(lab):
        await api.http.post("/schedules/asks/run", json={})
        (one,) = await runs_of(api, "asks", 1)
        await statuses(api, {one["execution_id"]: "awaiting_input"})
        await eventually(lambda: _in_another_second(one["for"]), "another second")
        await api.http.post("/schedules/asks/run", json={})
        if second is None:

            async def look() -> bool:
                return bool((await api.http.get("/schedules/asks")).json()["skipped"])

            await eventually(look, "the skipped run")
            await statuses(api, {one["execution_id"]: first})
            return
        two = (await runs_of(api, "asks", 2))[0]
        await statuses(api, {one["execution_id"]: first, two["execution_id"]: second})
    ended = (await api.http.get(f"/executions/{one['execution_id']}")).json()
    if first == "failed":
        assert ended["error"]["code"] == "execution.terminated"
        assert "takes its place" in ended["error"]["message"]
    if first == "cancelled":
        assert "'asks' was cancelled" in ended["error"]["message"]


async def _in_another_second(moment: str) -> bool:
    return dt.datetime.now(dt.UTC) > dt.datetime.fromisoformat(moment.replace("Z", "+00:00")) + dt.timedelta(seconds=1)


async def test_buffered_runs_begin_when_the_one_before_has_ended(lab: Lab, api: ApiServer) -> None:
    await create(api.http, ASKS)
    await schedule(api, "asks", "asks", cron=NEVER, overlap="buffer_one")
    async with all_workers(lab):
        await api.http.post("/schedules/asks/run", json={})
        (one,) = await runs_of(api, "asks", 1)
        await statuses(api, {one["execution_id"]: "awaiting_input"})
        await eventually(lambda: _in_another_second(one["for"]), "another second")
        await api.http.post("/schedules/asks/run", json={})
        answer = {"status": "running", "input": "yes"}
        assert (await api.http.put(f"/executions/{one['execution_id']}", json=answer)).is_success
        two = (await runs_of(api, "asks", 2))[0]
        await statuses(api, {one["execution_id"]: "succeeded", two["execution_id"]: "awaiting_input"})


async def test_a_backfill_makes_up_for_what_was_missed_and_repeats_nothing(lab: Lab, api: ApiServer) -> None:
    await create(api.http, GREET)
    await schedule(api, "daily", "greet", cron=["0 0 * * *"], input={"name": "$ str(now())[:10]"})
    span = {"start_at": "2026-03-01T00:00:00Z", "end_at": "2026-03-03T12:00:00Z", "overlap": "allow_all"}
    async with all_workers(lab):
        assert (await api.http.post("/schedules/daily/backfill", json=span)).status_code == 202
        runs = await runs_of(api, "daily", 2)
        await statuses(api, {run["execution_id"]: "succeeded" for run in runs})
        before = {run["for"]: run["execution_id"] for run in await runs_of(api, "daily", len(runs))}
        longer = {**span, "end_at": "2026-03-04T12:00:00Z"}
        await api.http.post("/schedules/daily/backfill", json=longer)

        async def look() -> list[dict[str, Any]]:
            seen = (await api.http.get("/schedules/daily")).json()["runs"]
            return [run for run in seen if run["for"].startswith("2026-03-04") and run["execution_id"]]

        (new,) = await eventually(look, "the run of the fourth")
        await statuses(api, {new["execution_id"]: "succeeded"})
    after = {run["for"]: run["execution_id"] for run in await runs_of(api, "daily", len(runs) + 1)}
    assert {moment: after[moment] for moment in before} == before
    total = (await api.http.get("/executions/counts")).json()["total"]
    assert total == len(after)
    outputs = {(await api.http.get(f"/executions/{one}")).json()["output"]["said"] for one in after.values()}
    assert outputs == {f"Hello {moment[:10]}" for moment in after}


async def test_a_paused_schedule_starts_nothing_and_says_why(lab: Lab, api: ApiServer) -> None:
    await create(api.http, GREET)
    await schedule(api, "often", "greet", intervals=[{"every": "1s"}], input={"name": "Ada"}, paused=True)
    paused = (await api.http.post("/schedules/often/pause", json={"note": "the shop is closed"})).json()
    assert (paused["paused"], paused["note"]) == (True, "the shop is closed")
    async with all_workers(lab):
        resumed = (await api.http.post("/schedules/often/resume", json={})).json()
        assert resumed["paused"] is False
        await runs_of(api, "often", 1)
        await api.http.post("/schedules/often/pause", json={})
    assert (await api.http.delete("/schedules/often")).status_code == 204
    assert (await api.http.get("/schedules/often")).json()["code"] == "schedule.not_found"


async def test_a_schedule_pauses_by_itself_after_a_failure_if_it_shall(lab: Lab, api: ApiServer) -> None:
    await create(api.http, "name: fails\nmain:\n  - error: no luck\n")
    await schedule(api, "risky", "fails", cron=NEVER, pause_on_failure=True)
    async with all_workers(lab):
        await api.http.post("/schedules/risky/run", json={})

        async def look() -> bool:
            return bool((await api.http.get("/schedules/risky")).json()["paused"])

        await eventually(look, "the pause")


async def test_a_schedule_that_temporal_did_not_get_is_made_by_a_worker(lab: Lab) -> None:
    """The API could not reach Temporal, or died between the two."""
    from engine.store.schedules import ScheduleStore
    from tests.support.servers import free_port

    nowhere = f"127.0.0.1:{free_port()}"
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=nowhere) as api:
        await create(api.http, GREET)
        body = {"name": "s", "task": "greet", "intervals": [{"every": "1s"}], "input": {"name": "Ada"}}
        answer = await api.http.post("/schedules", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "unreachable")
        seen = (await api.http.get("/schedules/s")).json()
        assert (seen["applied"], seen["starts"]) == (False, None)
    store = ScheduleStore(lab.store.database)
    async with all_workers(lab):

        async def look() -> bool:
            found = await store.find("s", tenant="default")
            return found is not None and bool(await store.runs(found.id, tenant="default", limit=1))

        await eventually(look, "a run")
        gone = await store.mark_deleted((await store.find("s", tenant="default")).id, tenant="default", now_us=1)  # type: ignore[union-attr]
        assert gone is not None

        async def dropped() -> bool:
            return not await store.unapplied(limit=10)

        await eventually(dropped, "its removal")


CRONS = """\
name: reports
dispatch:
  cron:
    - {at: "0 8 * * mon", timezone: Europe/Berlin, input: {n: "$ 1 + 1"}}
    - "@daily"
main:
  - evaluate: {n: "$ _.get('n', 0)"}
"""


@pytest.mark.usefixtures("both_stores")
async def test_a_task_makes_changes_and_removes_its_schedules(lab: Lab, api: ApiServer) -> None:
    async def applied(source: str, **more: Any) -> None:
        body = {"tasks": [{"file": "t.yaml", "source": source}], "set": "mine", **more}
        assert (await api.http.post("/tasks/apply", json=body)).is_success

    async def listed() -> list[tuple[str, list[str], str]]:
        items = (await api.http.get("/schedules")).json()["items"]
        return [(item["name"], item["cron"], item["timezone"]) for item in items]

    await applied(CRONS)
    assert await listed() == [
        ("reports:cron-1", ["0 8 * * mon"], "Europe/Berlin"),
        ("reports:cron-2", ["@daily"], "UTC"),
    ]
    async with all_workers(lab):

        async def known() -> bool:
            items = (await api.http.get("/schedules")).json()["items"]
            return all(item["applied"] and item["next_at"] for item in items)

        await eventually(known, "both in Temporal")
        await api.http.post("/schedules/reports:cron-1/pause", json={"note": "holidays"})
        await api.http.post("/schedules/reports:cron-1/run", json={})
        (run,) = await runs_of(api, "reports:cron-1", 1)
        await statuses(api, {run["execution_id"]: "succeeded"})
        assert (await api.http.get(f"/executions/{run['execution_id']}")).json()["output"] == {"n": 2}
        # what is changed in the task changes the schedule, which stays paused
        await applied(CRONS.replace("0 8", "30 9").replace('    - "@daily"\n', ""))
        assert await listed() == [("reports:cron", ["30 9 * * mon"], "Europe/Berlin")]
        assert (await api.http.get("/schedules/reports:cron")).json()["paused"] is True
        for verb, path in (("DELETE", "reports:cron"), ("PATCH", "reports:cron")):
            answer = await api.http.request(verb, f"/schedules/{path}", json={"cron": NEVER})
            assert answer.json()["code"] == "schedule.of_task"
        await applied("name: other\nmain:\n  - evaluate: 1\n", prune=True)
        assert await listed() == []


async def test_tenants_have_schedules_of_their_own(lab: Lab, api: ApiServer) -> None:
    await create(api.http, GREET)
    first = await schedule(api, "same", "greet", cron=NEVER, input={"name": "x"})
    again = await api.http.post(
        "/schedules", json={"name": "same", "task": "greet", "cron": NEVER, "input": {"name": "x"}}
    )
    assert (again.status_code, again.json()["code"]) == (409, "schedule.exists")
    changed = await api.http.patch(f"/schedules/{first['id']}", json={"cron": ["5 5 * * *"], "overlap": "allow_all"})
    assert (changed.json()["cron"], changed.json()["overlap"], changed.json()["input"]) == (
        ["5 5 * * *"],
        "allow_all",
        {"name": "x"},
    )
