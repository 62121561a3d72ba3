"""Events from outside on the real server: who gets them, what they start, that they count once; hooks and callers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr

from engine.control.definitions import now_us
from engine.store.hooks import HookStore, InboundEvent
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.doors import doors_worker, eventually, settled
from tests.support.lab import Lab

WAITS = """\
name: waits
main:
  - wait_for_event: paid
    key: $ _.order
    label: paid
  - evaluate: {got: $ _}
"""
TRIGGERED = """\
name: ships
input_schema: {type: object, properties: {order: {type: string}}, required: [order]}
dispatch:
  triggers:
    - {event: order.created, if: _.total > 100, input: {order: $ _.id}}
main:
  - evaluate: {shipped: $ _.order}
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@contextlib.asynccontextmanager
async def all_workers(lab: Lab) -> AsyncIterator[Any]:
    async with lab.worker(), settled(lab), doors_worker(lab) as doors:
        yield doors


async def waiting(api: ApiServer, task_id: str, order: Any) -> str:
    execution_id: str = (await start(api.http, task_id, input={"order": order}))["id"]
    await until(api.http, execution_id, "awaiting_input")
    return execution_id


async def emit(api: ApiServer, **body: Any) -> dict[str, Any]:
    answer = await api.http.post("/events", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.usefixtures("both_stores")
async def test_an_event_goes_to_all_who_wait_for_its_name_and_key_and_to_nobody_else(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, WAITS)
    async with all_workers(lab):
        first, second = await waiting(api, task_id, "a-1"), await waiting(api, task_id, "a-1")
        other = await waiting(api, task_id, "b-2")
        told = await emit(api, name="paid", key="a-1", value={"amount": 42}, id="paid-a-1")
        assert [item["execution_id"] for item in told["delivered"]] == [first, second]
        assert {item["outcome"] for item in told["delivered"]} == {"sent"}
        for execution_id in (first, second):
            await until(api.http, execution_id, "succeeded")
            assert (await api.http.get(f"/executions/{execution_id}")).json()["output"] == {"got": {"amount": 42}}
        assert (await api.http.get(f"/executions/{other}")).json()["status"] == "awaiting_input"
        nobody = await emit(api, name="paid", key="c-3")
        assert (nobody["delivered"], nobody["started"]) == ([], [])
    assert [item["id"] for item in (await api.http.get("/events")).json()["items"]] == [nobody["id"], "paid-a-1"]


async def test_an_id_counts_once_whoever_waits_by_then(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, WAITS)
    async with all_workers(lab):
        first = await waiting(api, task_id, 7)
        told = await emit(api, name="paid", key=7, value=1, id="x")
        await until(api.http, first, "succeeded")
        second = await waiting(api, task_id, 7)
        again = await emit(api, name="paid", key=7, value=1, id="x")
        assert (again["repeated"], again["delivered"]) == (True, told["delivered"])
        assert (await api.http.get(f"/executions/{second}")).json()["status"] == "awaiting_input"
        another = await api.http.post("/events", json={"name": "paid", "key": 7, "value": 2, "id": "x"})
        assert (another.status_code, another.json()["code"]) == (409, "event.id_reused")


async def test_an_event_starts_the_tasks_that_it_triggers_once(lab: Lab, api: ApiServer) -> None:
    await create(api.http, TRIGGERED)
    async with all_workers(lab):
        (small,) = [await emit(api, name="order.created", value={"id": "o-1", "total": 5})]
        assert small["started"] == []
        large = await emit(api, name="order.created", value={"id": "o-2", "total": 500}, id="o-2")
        again = await emit(api, name="order.created", value={"id": "o-2", "total": 500}, id="o-2")
        (started,) = large["started"]
        assert again["started"] == [started]
        await until(api.http, started["execution_id"], "succeeded")
        execution = (await api.http.get(f"/executions/{started['execution_id']}")).json()
        assert execution["output"] == {"shipped": "o-2"}
        assert execution["metadata"] == {"event": {"id": "o-2", "name": "order.created"}}
        wrong = await emit(api, name="order.created", value={"id": 3, "total": 500})
        assert [(item["outcome"], item["code"]) for item in wrong["started"]] == [("refused", "input.invalid")]
    assert (await api.http.get("/executions/counts")).json()["total"] == 1


async def test_an_event_for_one_execution_is_kept_until_it_waits(lab: Lab, api: ApiServer) -> None:
    late = "name: late\nmain:\n  - wait_for_input: {info: first}\n  - wait_for_event: paid\n  - evaluate: {got: $ _}\n"
    task_id = await create(api.http, late)
    async with all_workers(lab):
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "awaiting_input")
        told = await emit(api, name="paid", value=1, execution_id=execution_id)
        assert told["delivered"] == [{"execution_id": execution_id, "outcome": "sent"}]
        await api.http.put(f"/executions/{execution_id}", json={"status": "running", "input": True})
        await until(api.http, execution_id, "succeeded")
        ended = await api.http.post("/events", json={"name": "paid", "execution_id": execution_id})
        assert (ended.status_code, ended.json()["code"]) == (409, "execution.closed")
    unknown = await api.http.post("/events", json={"name": "paid", "execution_id": "nobody"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "execution.not_found")


async def test_workers_finish_what_an_api_that_died_had_begun(lab: Lab, api: ApiServer) -> None:
    """The event was kept, and nothing else was done; also one whose wait the store learned of too late."""
    waits, _ = await create(api.http, WAITS), await create(api.http, TRIGGERED)
    store = HookStore(lab.store.database)
    async with lab.worker(), settled(lab):
        execution_id = await waiting(api, waits, "a")
        old = now_us()
        value = {"id": "o-9", "total": 101}
        await store.put_event(InboundEvent(tenant="default", id="1", name="paid", key="a", received_us=old))
        await store.put_event(
            InboundEvent(tenant="default", id="2", name="order.created", value=value, received_us=old)
        )
        # a first look that came too early for the wait
        early = InboundEvent(tenant="default", id="3", name="paid", key="b", received_us=old + 60_000_000)
        await store.put_event(early)
        async with doors_worker(lab):
            await until(api.http, execution_id, "succeeded")
            started = await eventually(lambda: _started(api, "2"), "the start")
            await until(api.http, started["execution_id"], "succeeded")
    assert (await store.find_event("1", tenant="default")).done_us is not None  # type: ignore[union-attr]


async def _started(api: ApiServer, event_id: str) -> dict[str, Any] | None:
    found = (await api.http.get(f"/events/{event_id}")).json()["started"]
    return found[0] if found else None


# --- hooks -----------------------------------------------------------------------------------------------------------


async def hook(api: ApiServer, **body: Any) -> dict[str, Any]:
    made = await api.http.post("/hooks", json={"name": "shop", "event": "paid", **body})
    assert made.status_code == 201, made.text
    told: dict[str, Any] = made.json()
    return told


@pytest.mark.usefixtures("both_stores")
async def test_a_hook_turns_bodies_into_events_for_who_has_its_key(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as api:
        stranger = api.http
        stranger.headers["x-auth-key"] = "sesame"
        task_id = await create(api.http, WAITS)
        made = await hook(api, key="_.order.id", only_if="_.order.state == 'paid'")
        async with all_workers(lab):
            execution_id = await waiting(api, task_id, "a-1")
            del stranger.headers["x-auth-key"]
            body = {"order": {"id": "a-1", "state": "paid"}}
            path = f"/hooks/{made['id']}"
            for headers in ({}, {"x-hook-key": "hk_wrong"}, {"authorization": "Bearer sesame"}):
                refused = await stranger.post(path, json=body, headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (403, "hook.refused")
            right = {"x-hook-key": made["secret"], "idempotency-key": "d-1"}
            other = await stranger.post(path, json={"order": {"id": "a-1", "state": "open"}}, headers=right)
            assert other.json() == {"event_id": None, "repeated": False, "delivered": 0, "started": 0}
            taken = await stranger.post(path, json=body, headers=right)
            assert (taken.status_code, taken.json()["delivered"]) == (200, 1), taken.text
            again = await stranger.post(f"{path}?key={made['secret']}", json=body, headers={"idempotency-key": "d-1"})
            assert (again.json()["repeated"], again.json()["delivered"]) == (True, 1)
            stranger.headers["x-auth-key"] = "sesame"
            await until(api.http, execution_id, "succeeded")
        bad = await stranger.post(path, json={"nothing": 1}, headers=right)
        assert (bad.status_code, bad.json()["code"]) == (400, "hook.bad_body")
        seen = (await api.http.get(path)).json()
        assert (seen["taken"], seen["refused"], "secret" in seen) == (3, 4, False)
        await api.http.patch(path, json={"active": False})
        off = await stranger.post(path, json=body, headers=right)
        assert (off.status_code, off.json()["code"]) == (409, "hook.off")
        assert (await api.http.delete(path)).status_code == 204
        gone = await stranger.post(path, json=body, headers=right)
        assert (gone.status_code, gone.json()["code"]) == (404, "hook.not_found")


async def test_signatures_of_github_and_of_standard_webhooks_are_checked(api: ApiServer) -> None:
    github = await hook(api, kind="github", secret="a-secret-that-github-has")
    raw = json.dumps({"ref": "refs/heads/main"}).encode()
    signature = hmac.new(b"a-secret-that-github-has", raw, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-github-delivery": "72d3162e"}
    path = f"/hooks/{github['id']}"
    for given, status in ((f"sha256={signature}", 200), ("sha256=00", 403), ("", 403)):
        answer = await api.http.post(path, content=raw, headers={**headers, "x-hub-signature-256": given})
        assert answer.status_code == status, answer.text
    form = urlencode({"payload": raw.decode()}).encode()
    signed = hmac.new(b"a-secret-that-github-has", form, hashlib.sha256).hexdigest()
    answer = await api.http.post(
        path,
        content=form,
        headers={"content-type": "application/x-www-form-urlencoded", "x-hub-signature-256": f"sha256={signed}"},
    )
    assert answer.status_code == 200
    event = (await api.http.get("/events")).json()["items"][0]
    assert event["value"] == {"ref": "refs/heads/main"}

    standard = await hook(api, kind="standard")
    key = base64.b64decode(standard["secret"].removeprefix("whsec_"))
    path = f"/hooks/{standard['id']}"
    for age, body, status in ((0, raw, 200), (0, b"{}", 403), (600, raw, 403)):
        moment = str(int(time.time()) - age)
        digest = hmac.new(key, f"m-1.{moment}.".encode() + raw, hashlib.sha256).digest()
        told = {
            "webhook-id": "m-1",
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,AAAA v1,{base64.b64encode(digest).decode()}",
            "content-type": "application/json",
        }
        answer = await api.http.post(path, content=body, headers=told)
        assert answer.status_code == status, (age, answer.text)
