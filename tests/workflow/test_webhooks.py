"""Webhooks on the real server: what they are told, how it is signed, and that no receiver can hurt an execution."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpcore
import pytest

from engine.settings import HttpConfig
from engine.store.webhooks import WebhookStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.doors import FAST, HookReceiver, doors_worker, eventually, reply, settled
from tests.support.lab import Lab
from tests.support.servers import serve_app

GREET = "name: greet\nmain:\n  - evaluate: {said: $ 'Hello ' + _.name}\n"
ASKS = """\
name: asks
main:
  - wait_for_input: {info: {question: sure?}}
    label: sure
  - evaluate: {sure: $ _}
"""
FAILS = "name: fails\nmain:\n  - error: no luck\n"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[HookReceiver, str]]:
    """A receiver and its address."""
    made = HookReceiver()
    async with serve_app(made) as url:
        yield made, f"{url}/hook"


@contextlib.asynccontextmanager
async def all_workers(lab: Lab, **options: Any) -> AsyncIterator[Any]:
    async with lab.worker(), settled(lab), doors_worker(lab, **options) as doors:
        yield doors


async def deliveries(api: ApiServer, webhook_id: str, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.http.get(f"/webhooks/{webhook_id}/deliveries", params=query)).json()[
        "items"
    ]
    return items


async def ended(api: ApiServer, webhook_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many deliveries have ended, and return all."""

    async def look() -> list[dict[str, Any]]:
        found = await deliveries(api, webhook_id)
        return found if sum(item["ended_at"] is not None for item in found) >= count else []

    try:
        found: list[dict[str, Any]] = await eventually(look, f"{count} deliveries that ended")
    except AssertionError as error:
        raise AssertionError(f"{error}; there are {await deliveries(api, webhook_id)}") from error
    return found


async def register(api: ApiServer, url: str, **more: Any) -> dict[str, Any]:
    made = await api.http.post("/webhooks", json={"url": url, **more})
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    return body


@pytest.mark.usefixtures("both_stores")
async def test_a_webhook_is_told_of_ends_and_waits_by_signed_messages(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    hook = await register(api, url)
    task_id = await create(api.http, ASKS)
    async with all_workers(lab):
        execution = await start(api.http, task_id, input={"name": "Ada"}, labels=["vip"], metadata={"order": 17})
        await until(api.http, execution["id"], "awaiting_input")
        await eventually(lambda: _count(took, 1), "the message about the wait")
        answer = {"status": "running", "input": True}
        assert (await api.http.put(f"/executions/{execution['id']}", json=answer)).is_success
        await until(api.http, execution["id"], "succeeded")
        await ended(api, hook["id"], 2)
    first, second = took.messages
    assert [first.body["type"], second.body["type"]] == ["execution.awaiting_input", "execution.succeeded"]
    assert all(message.is_signed(hook["secret"]) for message in took.messages)
    data = second.body["data"]
    assert (data["execution_id"], data["output"], data["labels"]) == (execution["id"], {"sure": True}, ["vip"])
    assert (data["metadata"], data["task_name"], data["error"]) == ({"order": 17}, "asks", None)
    assert [wait["info"] for wait in first.body["data"]["waits"]] == [{"question": "sure?"}]
    told = await deliveries(api, hook["id"])
    assert [item["id"] for item in told] == [second.headers["webhook-id"], first.headers["webhook-id"]]
    assert [(item["state"], item["attempts"], item["last_status"]) for item in told] == [("delivered", 1, 204)] * 2


async def _count(took: HookReceiver, least: int) -> bool:
    return len(took.messages) >= least


async def test_only_the_statuses_tasks_and_labels_that_it_wants(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    await register(api, f"{url}/failures", statuses=["failed"])
    await register(api, f"{url}/vips", statuses=["succeeded"], tasks=["greet"], labels=["vip"])
    await register(api, f"{url}/off", active=False)
    greet, fails = await create(api.http, GREET), await create(api.http, FAILS)
    async with all_workers(lab):
        plain = await start(api.http, greet, input={"name": "Ada"})
        vip = await start(api.http, greet, input={"name": "Bea"}, labels=["vip"])
        failed = await start(api.http, fails)
        for item, status in ((plain, "succeeded"), (vip, "succeeded"), (failed, "failed")):
            await until(api.http, item["id"], status)
        await eventually(lambda: _count(took, 2), "both messages")
        # nothing else is on its way
        hooks = (await api.http.get("/webhooks")).json()["items"]
        told = [item for hook in hooks for item in await deliveries(api, hook["id"])]
    assert {(item["execution_id"], item["status"]) for item in told} == {
        (failed["id"], "failed"),
        (vip["id"], "succeeded"),
    }
    assert len(took.messages) == 2


async def test_a_message_that_is_not_taken_is_sent_again_under_its_id(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver

    async def breaks_off(send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        raise ConnectionResetError

    took.answers = [500, 302, lambda send: reply(send, 429, b"later", {"retry-after": "0"}), 200]
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab):
        execution = await start(api.http, task_id, input={"name": "Ada"})
        (told,) = await ended(api, hook["id"])
    assert (told["state"], told["attempts"], told["last_status"], told["last_answer"]) == ("delivered", 4, 200, "ok")
    assert len({message.headers["webhook-id"] for message in took.messages}) == 1
    assert len({message.raw for message in took.messages}) == 1
    assert all(message.is_signed(hook["secret"]) for message in took.messages)
    assert told["execution_id"] == execution["id"]
    del breaks_off


async def test_a_receiver_that_is_gone_switches_its_webhook_off(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    took.answers = [410]
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
        assert (told["state"], told["attempts"], told["last_status"]) == ("failed", 1, 410)
        seen = (await api.http.get(f"/webhooks/{hook['id']}")).json()
        assert (seen["active"], "410" in seen["off_reason"]) == (False, True)
        await until(api.http, (await start(api.http, task_id, input={"name": "Bea"}))["id"], "succeeded")
        assert len(await deliveries(api, hook["id"])) == 1
        # sending again needs a webhook that is on
        path = f"/webhooks/{hook['id']}/deliveries/{told['id']}/resend"
        assert (await api.http.post(path)).json()["code"] == "webhook.off"
        took.answers = [204]
        await api.http.patch(f"/webhooks/{hook['id']}", json={"active": True})
        assert (await api.http.post(path)).status_code == 202
        again = await eventually(lambda: _delivered(api, hook["id"], told["id"]), "the delivery")
    assert [message.headers["webhook-id"] for message in took.messages] == [told["id"]] * 2
    assert again["attempts"] == 2


async def _delivered(api: ApiServer, webhook_id: str, delivery_id: str) -> dict[str, Any] | None:
    found: dict[str, Any] = (await api.http.get(f"/webhooks/{webhook_id}/deliveries/{delivery_id}")).json()
    return found if found["state"] == "delivered" else None


async def test_slow_silent_and_endless_receivers_hold_up_no_execution(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    released = asyncio.Event()

    async def silent(send: Any) -> None:
        await released.wait()
        await reply(send, 200)

    async def endless(send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(Exception):
            for _ in range(200):
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body", "body": b""})

    took.answers = [silent, endless]
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab):
        first = await start(api.http, task_id, input={"name": "Ada"})
        await until(api.http, first["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
        released.set()
    assert (told["state"], told["attempts"]) == ("delivered", 2)
    assert told["last_answer"] == "x" * 2_000


async def test_what_is_never_taken_is_given_up_and_can_be_sent_again(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    took.answers = [503]
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab, tries=replace(FAST, most_attempts=3)):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
        assert (told["state"], told["last_status"]) == ("failed", 503)
        assert told["last_error"].startswith("given up after 3 attempts: the receiver answered 503")
        took.answers = [204]
        await api.http.post(f"/webhooks/{hook['id']}/deliveries/{told['id']}/resend")
        again = await eventually(lambda: _delivered(api, hook["id"], told["id"]), "the delivery")
    assert (told["attempts"], again["attempts"]) == (3, 4)


async def test_what_is_not_taken_in_time_is_given_up(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    took.answers = [503]
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab, tries=replace(FAST, give_up_s=0.5)):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
    # how many fit into the time is a matter of the machine
    assert told["state"] == "failed"
    assert told["last_error"].startswith(f"given up after {told['attempts']} attempts: ")


@pytest.mark.usefixtures("both_stores")
async def test_nothing_is_lost_or_told_twice_when_every_process_dies(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    """What was noted outlives those who noted it; those who come later send each message once."""
    took, url = receiver
    hook = await register(api, url, statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    # nobody sends on what is noted
    async with lab.worker(), settled(lab):
        started = [await start(api.http, task_id, input={"name": str(number)}) for number in range(5)]
        for item in started:
            await until(api.http, item["id"], "succeeded")
    assert [item["state"] for item in await deliveries(api, hook["id"])] == ["pending"] * 5
    assert took.messages == []
    # the same ends and events are stored again, as by a repair
    for item in started:
        records = await lab.store.list_events(item["id"], tenant="default", limit=1_000)
        runs = {record.run_id: [one for one in records if one.run_id == record.run_id] for record in records}
        await lab.store.replace_runs(item["id"], runs, tenant="default")
    assert len(await deliveries(api, hook["id"])) == 5
    # two that send at one time
    async with doors_worker(lab), doors_worker(lab, works=False):
        told = await ended(api, hook["id"], 5)
    assert sorted(item["execution_id"] for item in told) == sorted(item["id"] for item in started)
    assert len(took.messages) == 5
    assert len({message.headers["webhook-id"] for message in took.messages}) == 5


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ],
)
async def test_private_addresses_are_called_by_no_spelling(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str], host: str
) -> None:
    took, url = receiver
    port = url.split(":")[2].split("/")[0]
    hook = await register(api, f"http://{host}:{port}/", statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab, config=HttpConfig(), tries=replace(FAST, most_attempts=1)):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
    assert (told["state"], took.messages) == ("failed", [])
    assert "is not a public address" in told["last_error"]


async def test_a_name_that_leads_to_a_private_address_is_not_called_however_often_it_changes(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was checked is the one that is connected to: there is no second look-up to lie to."""
    took, url = receiver
    port = int(url.split(":")[2].split("/")[0])
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def lying(host: Any, *args: Any, **options: Any) -> Any:
        if host != "rebind.example":
            return await real(host, *args, **options)
        asked.append(host)
        # public for whoever checks, private for whoever connects
        address = "93.184.216.34" if len(asked) % 2 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[str] = []
    real_connect = httpcore.AnyIOBackend.connect_tcp

    async def no_internet(self: Any, host: str, to: int, *args: Any, **options: Any) -> Any:
        if to != port:
            return await real_connect(self, host, to, *args, **options)
        connected.append(host)
        raise httpcore.ConnectError("the test has no internet")

    monkeypatch.setattr(loop, "getaddrinfo", lying)
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", no_internet)
    hook = await register(api, f"http://rebind.example:{port}/", statuses=["succeeded"])
    task_id = await create(api.http, GREET)
    async with all_workers(lab, config=HttpConfig(), tries=replace(FAST, most_attempts=2)):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
    assert told["state"] == "failed"
    assert took.messages == []
    assert len(asked) == told["attempts"] == 2
    assert set(connected) == {"93.184.216.34"}


async def test_a_redirect_to_another_place_is_not_followed(lab: Lab, api: ApiServer) -> None:
    inner, outer = HookReceiver(), HookReceiver()
    async with serve_app(inner) as secret_place, serve_app(outer) as url:
        outer.answers = [lambda send: reply(send, 307, b"", {"location": f"{secret_place}/inner"}), 200]
        hook = await register(api, f"{url}/outer", statuses=["succeeded"])
        task_id = await create(api.http, GREET)
        async with all_workers(lab):
            await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
            (told,) = await ended(api, hook["id"])
    assert (told["state"], told["attempts"]) == ("delivered", 2)
    assert inner.messages == []


NO_ADDRESSES = (
    "ftp://shop.example/",
    "file:///etc/passwd",
    "https://",
    "http://u:p@shop.example/",
    "http://a b/",
    "http://h:0/",
    "http://xn--/",
    "http://xn--a/",
    "http://⑫⑦.0.0.1/",
    "http://0177.0.0.1/",
    "http://[v1.x]/",
    "http://shop..example/",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 127}example/",
)
OF_ALL_KINDS = (
    "https://münchen.example/a",
    "https://xn--mnchen-3ya.example/a",
    "http://[2001:db8::1]:8080/",
    "http://a_b./",
)


async def test_an_address_that_is_none_is_refused(api: ApiServer) -> None:
    for url in NO_ADDRESSES:
        answer = await api.http.post("/webhooks", json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (400, "webhook.bad_url"), url


async def test_hosts_of_all_scripts_and_kinds_are_taken(api: ApiServer) -> None:
    for url in OF_ALL_KINDS:
        assert (await register(api, url))["url"] == url


async def test_a_message_that_cannot_even_be_sent_says_why(lab: Lab, api: ApiServer) -> None:
    hook = await register(api, "https://shop.example/", statuses=["succeeded"])
    store = WebhookStore(lab.store.database)
    # registered before such addresses were refused
    facts = await store.find(hook["id"], tenant="default")
    assert facts is not None
    assert await store.put(replace(facts, url="http://xn--/"))
    task_id = await create(api.http, GREET)
    async with all_workers(lab, tries=replace(FAST, most_attempts=2)):
        await until(api.http, (await start(api.http, task_id, input={"name": "Ada"}))["id"], "succeeded")
        (told,) = await ended(api, hook["id"])
    assert (told["state"], told["attempts"]) == ("failed", 2)
    expected = "given up after 2 attempts: the request to http://xn--/ cannot be sent: Malformed A-label"
    assert told["last_error"].startswith(expected)


async def test_the_secret_is_shown_once_and_can_be_renewed(api: ApiServer) -> None:
    key = {"idempotency-key": "k"}
    body = {"url": "https://shop.example/hook"}
    first = (await api.http.post("/webhooks", json=body, headers=key)).json()
    second = (await api.http.post("/webhooks", json=body, headers=key)).json()
    assert (second["id"], second["secret"]) == (first["id"], None)
    assert first["secret"].startswith("whsec_")
    assert "secret" not in (await api.http.get(f"/webhooks/{first['id']}")).json()
    assert "secret" not in (await api.http.get("/webhooks")).json()["items"][0]
    renewed = (await api.http.post(f"/webhooks/{first['id']}/secret")).json()["secret"]
    assert renewed.startswith("whsec_")
    assert renewed != first["secret"]


# --- for one execution -----------------------------------------------------------------------------------------------


async def test_a_start_may_bring_a_webhook_of_its_own(
    lab: Lab, api: ApiServer, receiver: tuple[HookReceiver, str]
) -> None:
    took, url = receiver
    task_id = await create(api.http, GREET)
    async with all_workers(lab):
        body = {"input": {"name": "Ada"}, "webhook": {"url": url, "statuses": ["running", "succeeded"]}}
        first = (
            await api.http.post(f"/tasks/{task_id}/executions", json=body, headers={"idempotency-key": "k"})
        ).json()
        again = (
            await api.http.post(f"/tasks/{task_id}/executions", json=body, headers={"idempotency-key": "k"})
        ).json()
        other = await start(api.http, task_id, input={"name": "Bea"})
        await until(api.http, other["id"], "succeeded")
        await ended(api, first["webhook"]["id"], 2)
    assert (again["id"], again["webhook"]) == (first["id"], None)
    assert sorted(message.body["type"] for message in took.messages) == ["execution.running", "execution.succeeded"]
    assert {message.body["data"]["execution_id"] for message in took.messages} == {first["id"]}
    assert all(message.is_signed(first["webhook"]["secret"]) for message in took.messages)
    assert (await api.http.get("/webhooks")).json()["items"] == []
    (own,) = (await api.http.get("/webhooks", params={"execution_id": first["id"]})).json()["items"]
    assert own["id"] == first["webhook"]["id"]
    bad = {"input": {"name": "Ada"}, "webhook": {"url": "ftp://x"}}
    refused = await api.http.post(f"/tasks/{task_id}/executions", json=bad)
    assert refused.json()["code"] == "webhook.bad_url"
    assert (await api.http.get("/executions/counts")).json()["total"] == 2
