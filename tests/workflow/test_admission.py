"""Starts that wait, on the real server: bounds measured at the tool, turns, gathering, singletons, dead processes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.control import scan as scan_module
from engine.control.admission import StartOptions
from engine.control.dispatcher import Dispatcher
from engine.control.reindex import Reindex, Wanted
from engine.control.repair import Repair
from engine.edge.http.services import Services, open_services
from engine.store.turns import Limits
from engine.tooling import Tool, tool
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, until
from tests.compat.test_tenants import key_for
from tests.support.forked import ROOT
from tests.support.lab import TENANT, Lab
from tests.support.orphans import dying_with_parent
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url
from tests.support.processes import worker_process
from worker import replay_run

pytestmark = pytest.mark.usefixtures("both_stores")


@dataclass
class Gauge:
    """A tool that sees how many calls of it run at a time, in all and by key."""

    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_running(self, count: int) -> None:
        """Wait until so many calls run."""
        async with asyncio.timeout(PATIENCE_S):
            while self.running[""] < count:  # noqa: ASYNC110 - the tool counts, nobody tells
                await asyncio.sleep(0.01)

    def as_tool(self) -> Tool[..., Any]:
        @tool(effect="write", idempotent=True, name="work")
        async def work(key: str, hold: bool) -> str:
            """Work for a moment, or until the gate is open."""
            self.order.append(key)
            for name in ("", key):
                self.running[name] += 1
                self.most[name] = max(self.most[name], self.running[name])
            try:
                if hold:
                    await self.gate.wait()
                await asyncio.sleep(0.03)
            finally:
                for name in ("", key):
                    self.running[name] -= 1
            return key

        return work


@pytest.fixture
def gauge(lab: Lab) -> Gauge:
    found = Gauge()
    lab.tools = [found.as_tool()]
    return found


def task(name: str, admission: str = "", hold: bool = False, more: str = "") -> str:
    """Return a task that calls the tool with its input's key."""
    block = f"dispatch:\n  admission: {admission}\n" if admission else ""
    arguments = f"{{key: $ _.key, hold: {str(hold).lower()}}}"
    return f"name: {name}\n{block}{more}main:\n  - tool: work\n    arguments: {arguments}\n"


@contextlib.asynccontextmanager
async def running_api(lab: Lab, temporal: str, **settings: Any) -> AsyncIterator[ApiServer]:
    contracts = {item.contract().name: item.contract() for item in lab.tools}
    made = settings_for(lab.folder, task_queue=lab.queue, **settings)
    async with api_server(made, temporal=temporal, contracts=contracts) as server:
        yield server


async def start(http: httpx.AsyncClient, name: str, *, key: str = "", **body: Any) -> httpx.Response:
    answer = await http.post(f"/tasks/{name}/executions", json=body, headers={"Idempotency-Key": key} if key else {})
    assert answer.status_code in (200, 201), answer.text
    return answer


async def ended(
    http: httpx.AsyncClient, ids: Iterable[str], headers: Mapping[str, dict[str, str]] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Wait until executions have ended; reading them is what stores their ends here, where no settler runs."""
    found: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(PATIENCE_S):
        while open_ones := [name for name in ids if found.get(name, {}).get("closed_at") is None]:
            for name in open_ones:
                found[name] = (await http.get(f"/executions/{name}", headers=headers.get(name))).json()
            await asyncio.sleep(0.05)
    return [found[name] for name in ids]


# --- bounds --------------------------------------------------------------------------------------------------------


async def test_of_twenty_starts_never_more_than_three_run(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("three", "{concurrency: 3}", hold=True))
        ids = [(await start(api.http, "three", input={"key": "k"})).json()["id"] for _ in range(20)]
        await gauge.until_running(3)
        assert (await api.http.get("/executions/counts", params={"status": "queued"})).json()["total"] >= 17
        gauge.gate.set()
        found = await ended(api.http, ids)
    assert {body["status"] for body in found} == {"succeeded"}
    assert len(gauge.order) == 20
    assert gauge.most[""] == 3


async def test_a_key_with_a_long_queue_does_not_hold_up_another_one(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    rule = "{concurrency: {limit: 2, per_key: 1, key: _.key}}"
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("keyed", rule))
        ids = [(await start(api.http, "keyed", input={"key": "many"})).json()["id"] for _ in range(12)]
        ids += [(await start(api.http, "keyed", input={"key": "few"})).json()["id"] for _ in range(2)]
        await ended(api.http, ids)
    assert (gauge.most["many"], gauge.most["few"]) == (1, 1)
    assert gauge.most[""] <= 2
    assert gauge.order[-1] == "many"


async def test_the_bound_of_the_installation_is_shared_by_its_tenants(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    settings: dict[str, Any] = {"max_running": 2, "api_key": SecretStr("sesame")}
    async with running_api(lab, temporal_address, **settings) as api, lab.worker():
        owners: dict[str, dict[str, str]] = {}
        headers = {tenant: await key_for(api, tenant) for tenant in ("many", "few")}
        for mine in headers.values():
            made = await api.http.post(
                "/tasks", content=task("work", hold=True), headers={**mine, "content-type": "application/yaml"}
            )
            assert made.status_code == 201, made.text
        for tenant, count in (("many", 14), ("few", 3)):
            for _ in range(count):
                body = {"input": {"key": tenant}}
                answer = await api.http.post("/tasks/work/executions", json=body, headers=headers[tenant])
                assert answer.status_code == 201, answer.text
                owners[answer.json()["id"]] = headers[tenant]
        await gauge.until_running(2)
        gauge.gate.set()
        await ended(api.http, owners, owners)
    assert gauge.most[""] == 2
    # the last of the few comes long before the last of the many
    assert "few" not in gauge.order[-5:]


async def test_a_start_without_rules_is_made_at_once_and_leaves_no_row(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("plain"))
        answer = await start(api.http, "plain", input={"key": "k"}, priority=1, deadline="1h")
        assert "Everstep-Admission" not in answer.headers
        [body] = await ended(api.http, [answer.json()["id"]])
    handle = lab.client.get_workflow_handle(body["id"])
    priority = (await handle.describe()).raw_description.workflow_execution_info.priority
    assert (priority.priority_key, priority.fairness_key) == (1, TENANT)


async def test_the_priority_of_the_task_is_that_of_its_workflows(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api:
        await create(api.http, "name: low\ndispatch: {priority: 5}\nmain: [{evaluate: 1}]")
        started = (await start(api.http, "low")).json()
        described = await lab.client.get_workflow_handle(started["id"]).describe()
    assert described.raw_description.workflow_execution_info.priority.priority_key == 5


# --- what one sees of it -------------------------------------------------------------------------------------------


async def test_one_that_waits_says_why_and_is_let_in_when_there_is_room(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("one", "{concurrency: 1}", hold=True))
        ids = [(await start(api.http, "one", input={"key": str(n)})).json()["id"] for n in range(3)]
        await until(api.http, ids[0], "running")
        waits = (await api.http.get(f"/executions/{ids[2]}")).json()
        assert waits["status"] == "queued"
        assert waits["queued"] == {
            "reason": "task",
            "message": "place 2 of 2: 1 of 1 executions of the task run",
            "until": None,
            "place": 2,
            "waiting": 2,
            "gathered": None,
        }
        listed = (await api.http.get("/executions", params={"status": "queued"})).json()["items"]
        assert {item["id"] for item in listed} == set(ids[1:])
        gauge.gate.set()
        assert [body["output"] for body in await ended(api.http, ids)] == ["0", "1", "2"]
    assert gauge.order == ["0", "1", "2"]


async def test_a_delayed_start_says_until_when_and_begins_then(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("later"))
        answer = await start(api.http, "later", input={"key": "k"}, delay="4s")
        body = answer.json()
        assert (answer.headers["Everstep-Admission"], body["queued"]["reason"]) == ("queued", "delayed")
        assert gauge.order == []
        [done] = await ended(api.http, [body["id"]])
        events = (await api.http.get(f"/executions/{body['id']}/events")).json()["items"]
    assert done["status"] == "succeeded"
    # it was asked for when it was asked for
    assert done["created_at"] == body["created_at"]
    assert events[0]["at"] >= body["queued"]["until"]


async def test_a_delayed_start_is_cancelled_before_it_begins(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("later"))
        started = (await start(api.http, "later", input={"key": "k"}, delay="1h")).json()
        change = {"status": "cancelled", "reason": "not needed", "actor": "ada"}
        answer = await api.http.put(f"/executions/{started['id']}", json=change)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["status"], body["error"]["message"]) == ("cancelled", "not needed")
        again = await api.http.put(f"/executions/{started['id']}", json={"status": "cancelled"})
        assert again.json()["error"]["message"] == "not needed"
    assert gauge.order == []


async def test_what_an_execution_cannot_take_before_it_begins_is_refused_with_the_reason(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api:
        await create(api.http, task("later"))
        started = (await start(api.http, "later", input={"key": "k"}, delay="1h")).json()
        answer = await api.http.post(f"/executions/{started['id']}/events", json={"name": "paid"})
        assert (answer.status_code, answer.json()["code"]) == (409, "execution.queued")
        assert "begins at" in answer.json()["detail"]


async def test_a_deadline_that_passes_in_the_queue_ends_it(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("one", "{concurrency: 1}", hold=True))
        first = (await start(api.http, "one", input={"key": "a"})).json()["id"]
        await until(api.http, first, "running")
        soon = _in(seconds=4)
        second = (await start(api.http, "one", input={"key": "b"}, deadline=soon)).json()["id"]
        body = await until(api.http, second, "failed")
        assert body["error"]["code"] == "limit.time"
        gauge.gate.set()
        await ended(api.http, [first])
    assert gauge.order == ["a"]


async def test_a_deadline_that_is_a_duration_counts_from_when_it_is_let_in(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("slow", hold=True))
        started = (await start(api.http, "slow", input={"key": "a"}, delay="1s", deadline="5s")).json()
        body = await until(api.http, started["id"], "failed")
    assert body["error"]["code"] == "limit.time"
    assert gauge.order == ["a"]


# --- gathering -----------------------------------------------------------------------------------------------------


async def test_debounced_starts_become_one_execution_with_the_last_input(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("calm", "{debounce: {wait: 6s, key: _.group}}"))
        answers = [
            await start(api.http, "calm", input={"key": f"{group}{n}", "group": group}, key=f"{group}-{n}")
            for n in range(4)
            for group in "ab"
        ]
        ids = [answer.json()["id"] for answer in answers]
        assert [answer.status_code for answer in answers] == [201, 201, *[200] * 6]
        assert [answer.headers["Everstep-Admission"] for answer in answers] == ["queued"] * 2 + ["joined"] * 6
        assert len(set(ids)) == 2
        found = await ended(api.http, ids[:2])
        # the same request again, long after
        again = await start(api.http, "calm", input={"key": "a1", "group": "a"}, key="a-1")
        other = await api.http.post(
            "/tasks/calm/executions",
            json={"input": {"key": "zz", "group": "a"}},
            headers={"Idempotency-Key": "a-1"},
        )
    assert [body["output"] for body in found] == ["a3", "b3"]
    assert sorted(gauge.order) == ["a3", "b3"]
    assert again.json()["id"] == ids[0]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key_reused")


async def test_gathered_starts_become_one_execution_with_the_list_of_their_inputs(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    schema = "input_schema: {type: object, required: [n], properties: {n: {type: integer}}}\n"
    text = f"name: batch\n{schema}dispatch: {{admission: {{collect: {{wait: 30s, size: 5}}}}}}\n"
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, text + "main: [{evaluate: $ sum(item.n for item in _)}]")
        refused = await api.http.post("/tasks/batch/executions", json={"input": {"n": "no"}})
        assert (refused.status_code, refused.json()["code"]) == (400, "input.invalid")
        answers = [await start(api.http, "batch", input={"n": n}) for n in range(5)]
        assert answers[3].json()["queued"]["message"].endswith("4 of 5 came so far")
        [body] = await ended(api.http, [answers[0].json()["id"]])
    assert (body["input"], body["output"]) == ([{"n": n} for n in range(5)], 10)


# --- singletons ----------------------------------------------------------------------------------------------------


async def test_a_singleton_that_skips_answers_with_the_one_that_runs(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("only", "{singleton: skip}", hold=True))
        first = (await start(api.http, "only", input={"key": "a"})).json()
        await until(api.http, first["id"], "running")
        second = await start(api.http, "only", input={"key": "b"})
        assert (second.status_code, second.headers["Everstep-Admission"]) == (200, "skipped")
        assert second.json()["id"] == first["id"]
        gauge.gate.set()
        await ended(api.http, [first["id"]])
        third = (await start(api.http, "only", input={"key": "c"})).json()
        await ended(api.http, [third["id"]])
    assert gauge.order == ["a", "c"]


async def test_a_singleton_that_replaces_begins_when_the_other_one_has_ended(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("only", "{singleton: replace}", hold=True))
        first = (await start(api.http, "only", input={"key": "a"})).json()
        await until(api.http, first["id"], "running")
        second = (await start(api.http, "only", input={"key": "b"})).json()
        body = await until(api.http, first["id"], "cancelled")
        assert body["error"]["message"] == f"the execution {second['id']} took its place"
        await until(api.http, second["id"], "running")
        gauge.gate.set()
        await ended(api.http, [second["id"]])
    assert gauge.order == ["a", "b"]
    assert gauge.most[""] == 1


async def test_a_singleton_that_queues_runs_one_after_the_other(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, task("only", "{singleton: {busy: queue, key: _.key}}"))
        ids = [(await start(api.http, "only", input={"key": key})).json()["id"] for key in "aabba"]
        await ended(api.http, ids)
    assert (gauge.most["a"], gauge.most["b"]) == (1, 1)
    assert Counter(gauge.order) == {"a": 3, "b": 2}


# --- processes that die --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def entered(lab: Lab, temporal: str, count: int) -> AsyncIterator[tuple[Services, list[str]]]:
    """Enter starts of a task while nobody lets any in."""
    contracts = {item.contract().name: item.contract() for item in lab.tools}
    made = settings_for(lab.folder, task_queue=lab.queue)
    async with open_services(made, contracts=contracts, client=lab.client) as services:
        await services.definitions.create_task(task("many", "{concurrency: 4}"), tenant=TENANT)
        found = await services.definitions.versions.resolve("many", tenant=TENANT)
        ids = [
            (await services.starter.start(found, {"key": f"k{n}"}, execution_id=str(uuid.uuid4()))).facts.id
            for n in range(count)
        ]
        yield services, ids


@pytest.mark.parametrize("stop_at", ["claimed", "started"])
async def test_a_process_that_is_killed_while_it_lets_in_loses_nothing_and_starts_nothing_twice(
    lab: Lab, gauge: Gauge, temporal_address: str, stop_at: str
) -> None:
    async with entered(lab, temporal_address, 6) as (services, ids), lab.worker():
        arguments = [store_url(lab.folder / "lab.db"), temporal_address, str(lab.folder / "blobs"), lab.queue, stop_at]
        doomed = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.letting_in",
            *arguments,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            preexec_fn=dying_with_parent(),
        )
        assert doomed.stdout is not None
        told = await asyncio.wait_for(doomed.stdout.readline(), PATIENCE_S)
        assert told.decode().split() == [stop_at, "4"]
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
        services.dispatcher.start()
        try:
            await _all_succeed(services, ids)
        finally:
            await services.dispatcher.stop()
    assert sorted(gauge.order) == [f"k{n}" for n in range(6)]
    assert gauge.most[""] <= 4


async def test_two_dispatchers_keep_one_bound(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    async with entered(lab, temporal_address, 16) as (services, ids), lab.worker():

        async def client() -> Any:
            return lab.client

        others = [
            Dispatcher(services.store, client, task_queue=lab.queue, limits=Limits(), lease_us=200_000)
            for _ in range(3)
        ]
        for dispatcher in others:
            dispatcher.start()
        try:
            await _all_succeed(services, ids)
        finally:
            for dispatcher in others:
                await dispatcher.stop()
    assert len(gauge.order) == 16
    assert gauge.most[""] <= 4


async def test_a_workflow_that_other_hands_deleted_is_not_started_again(
    lab: Lab, gauge: Gauge, temporal_address: str
) -> None:
    async with running_api(lab, temporal_address) as api:
        await create(api.http, task("one", "{concurrency: 1}"))
        first = (await start(api.http, "one", input={"key": "a"})).json()["id"]
        await _exists(lab, first)
        await lab.client.get_workflow_handle(first).terminate()
        await until(api.http, first, "failed")
        second = (await start(api.http, "one", input={"key": "b"})).json()["id"]
        await _exists(lab, second)
        async with lab.worker():
            await ended(api.http, [second])
    assert gauge.order == ["b"]


async def test_the_repair_leaves_alone_what_waits_and_finds_what_was_deleted(
    lab: Lab, gauge: Gauge, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "QUIET_US", 0)
    async with entered(lab, temporal_address, 3) as (services, ids):
        task_facts = await services.definitions.versions.resolve("many", tenant=TENANT)
        delayed = await services.starter.start(task_facts, {"key": "d"}, options=StartOptions(delay_s=3600))
        cancelled = await services.starter.start(task_facts, {"key": "c"}, options=StartOptions(delay_s=3600))
        await services.executions.cancel(cancelled.facts.id, tenant=TENANT, reason="enough")
        repair = Repair(lab.client, services.store, replay_run)
        for _ in range(2):
            await repair.settle_ended()
            await repair.scan()
        reindexed = await Reindex(lab.client, services.store, replay_run).run(
            Wanted(ids=(delayed.facts.id,), accept_gone=True)
        )
        assert (reindexed.unchanged, reindexed.gone, reindexed.given_up) == (1, 0, 0)
        waits = [(await services.store.get_execution(name, tenant=TENANT)) for name in (*ids, delayed.facts.id)]
        assert {(facts.status.value, facts.gone_us, facts.settled) for facts in waits} == {("queued", None, False)}
        ended_one = await services.store.get_execution(cancelled.facts.id, tenant=TENANT)
        assert (ended_one.status.value, ended_one.gone_us, ended_one.verified) == ("cancelled", None, True)
        # afterwards they begin like any others
        async with lab.worker():
            services.dispatcher.start()
            try:
                await _all_succeed(services, ids)
            finally:
                await services.dispatcher.stop()
    assert sorted(gauge.order) == ["k0", "k1", "k2"]


async def test_a_worker_lets_in_alone_and_gives_places_back_that_nobody_reads_about(
    lab: Lab, temporal_address: str
) -> None:
    text = "name: two\ndispatch: {admission: {concurrency: 2}}\nmain: [{evaluate: 1}]"
    # nobody serves an API here, so that its dispatcher does not run either
    made = settings_for(lab.folder, task_queue=lab.queue)
    async with open_services(made, contracts={}, client=lab.client) as services, worker_process(lab):
        await services.definitions.create_task(text, tenant=TENANT)
        found = await services.definitions.versions.resolve("two", tenant=TENANT)
        ids = [(await services.starter.start(found, {})).facts.id for _ in range(8)]
        async with asyncio.timeout(PATIENCE_S):
            while not all([(await services.store.get_execution(name, tenant=TENANT)).settled for name in ids]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        spans = [await lab.client.get_workflow_handle(name).describe() for name in ids]
    begins = [(span.start_time, 1) for span in spans]
    ends = [(span.close_time, -1) for span in spans if span.close_time is not None]
    at_once = most = 0
    for _, step in sorted([*begins, *ends]):
        at_once += step
        most = max(most, at_once)
    assert len(ends) == 8
    assert most <= 2


async def test_a_fork_takes_its_place_and_joins_nothing(lab: Lab, gauge: Gauge, temporal_address: str) -> None:
    rule = "{collect: {wait: 1m, size: 2, key: _.x}, singleton: {busy: skip, key: _.x}, concurrency: 1}"
    text = f"name: forked\ndispatch: {{admission: {rule}}}\nmain: [{{evaluate: $ _}}, {{error: no}}]"
    async with running_api(lab, temporal_address) as api, lab.worker():
        await create(api.http, text)
        ids = {(await start(api.http, "forked", input={"n": n, "x": 1})).json()["id"] for n in range(2)}
        [first] = await ended(api.http, ids)
        again = await api.http.post(f"/executions/{first['id']}/retry", json={})
        assert again.status_code == 201, again.text
        [second] = await ended(api.http, [again.json()["id"]])
    assert first["input"] == second["input"] == [{"n": 0, "x": 1}, {"n": 1, "x": 1}]
    assert second["id"] != first["id"]


async def _all_succeed(services: Services, ids: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        statuses: list[str] = []
        while set(statuses) != {"succeeded"}:
            await asyncio.sleep(0.05)
            found = [await services.executions.read(name, tenant=TENANT) for name in ids]
            statuses = [item.facts.status.value for item in found]


async def _exists(lab: Lab, execution_id: str) -> None:
    from temporalio.service import RPCError

    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(RPCError):
                await lab.client.get_workflow_handle(execution_id).describe()
                return
            await asyncio.sleep(0.02)


def _in(*, seconds: float) -> str:
    import datetime as dt

    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()
