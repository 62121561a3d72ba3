"""Schedules, webhooks, hooks, events and jobs by the command line and by both Python clients."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.client import AsyncClient, Client
from engine.client.startoptions import StartOptions
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.doors import HookReceiver, doors_worker, eventually, settled
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

ASKS = "name: asks\nmain:\n  - wait_for_input: {info: well}\n"
PAID = "name: pays\nmain:\n  - wait_for_event: paid\n    key: $ _.order\n"
TRIGGERED = "name: ships\ndispatch:\n  triggers: [{event: paid}]\nmain:\n  - evaluate: $ _\n"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def test_schedules_by_the_command_line(lab: Lab, api: ApiServer, cli: Cli) -> None:
    await create(api.http, "name: greet\nmain:\n  - evaluate: $ 'Hello ' + _.name\n")
    words = ["--cron", "30 8 * * mon", "--timezone", "Europe/Berlin", "--every", "6h+5m", "--label", "timed"]
    code, out, err = await cli("schedule", "create", "morning", "--task", "greet", *words, "--input", '{"name": "Ada"}')
    assert code == Exit.OK, err
    assert out.startswith("the schedule 'morning' starts greet next at ")
    _, listed, _ = await cli("schedule", "ls")
    assert "30 8 * * mon, every 6h + 5m (Europe/Berlin)" in listed
    async with lab.worker(), settled(lab), doors_worker(lab):
        assert (await cli("schedule", "run", "morning"))[1] == "the schedule 'morning' starts its task\n"

        async def ran() -> list[dict[str, Any]]:
            runs = (await cli.json("schedule", "show", "morning"))["runs"]
            return [run for run in runs if run["outcome"] == "started"]

        (run,) = await eventually(ran, "the run")
        await until(api.http, run["execution_id"], "succeeded")
    _, shown, _ = await cli("schedule", "show", "morning")
    assert run["execution_id"] in shown
    assert (await cli("schedule", "pause", "morning", "--note", "closed"))[0] == Exit.OK
    assert (await cli.json("schedule", "show", "morning"))["note"] == "closed"
    assert (await cli("schedule", "resume", "morning"))[0] == Exit.OK
    code, out, err = await cli("schedule", "update", "morning", "--overlap", "buffer_one", "--limit", "3")
    assert code == Exit.OK, err
    seen = await cli.json("schedule", "show", "morning")
    assert (seen["overlap"], seen["left"], seen["cron"]) == ("buffer_one", 3, ["30 8 * * mon"])
    assert (await cli("schedule", "backfill", "morning", "--from", "1m"))[0] == Exit.OK
    assert (await cli("schedule", "update", "morning"))[0] == Exit.USAGE
    code, _, err = await cli("schedule", "create", "bad", "--task", "greet", "--cron", "61 * * * *")
    assert (code, "schedule.invalid" in err) == (Exit.USAGE, True)
    assert (await cli("schedule", "rm", "morning"))[0] == Exit.OK
    assert (await cli("schedule", "show", "morning"))[0] == Exit.NOT_FOUND


async def test_webhooks_by_the_command_line(lab: Lab, api: ApiServer, cli: Cli) -> None:
    took = HookReceiver(answers=[410, 200])
    async with serve_app(took) as url, lab.worker(), settled(lab), doors_worker(lab):
        task_id = await create(api.http, "name: t\nmain:\n  - evaluate: 1\n")
        code, secret, err = await cli("webhook", "add", url, "--status", "succeeded", "--task", "t")
        assert (code, secret.startswith("whsec_"), "not shown again" in err) == (Exit.OK, True, True)
        (hook,) = await cli.json("webhook", "ls")
        await until(api.http, (await start(api.http, task_id))["id"], "succeeded")

        async def gone() -> list[dict[str, Any]]:
            return [item for item in await cli.json("webhook", "deliveries", hook["id"]) if item["state"] == "failed"]

        (told,) = await eventually(gone, "the delivery")
        _, shown, _ = await cli("webhook", "show", hook["id"])
        assert "off: the receiver answered 410 Gone" in shown
        assert (await cli("webhook", "resend", hook["id"], told["id"]))[0] == Exit.FAILED
        assert (await cli("webhook", "on", hook["id"]))[0] == Exit.OK
        assert (await cli("webhook", "resend", hook["id"], told["id"]))[0] == Exit.OK

        async def taken() -> list[dict[str, Any]]:
            return list(await cli.json("webhook", "deliveries", hook["id"], "--state", "delivered"))

        await eventually(taken, "the second try")
        assert all(message.is_signed(secret.strip()) for message in took.messages)
        _, listed, _ = await cli("webhook", "deliveries", hook["id"])
        assert told["id"] in listed
        _, again, _ = await cli("webhook", "secret", hook["id"])
        assert again.startswith("whsec_")
        assert again != secret
        assert (await cli("webhook", "off", hook["id"]))[0] == Exit.OK
        assert (await cli("webhook", "rm", hook["id"]))[0] == Exit.OK
        assert await cli.json("webhook", "ls") == []


async def test_events_and_hooks_by_the_command_line(lab: Lab, api: ApiServer, cli: Cli) -> None:
    pays = await create(api.http, PAID)
    await create(api.http, TRIGGERED)
    async with lab.worker(), settled(lab), doors_worker(lab):
        waiting = (await start(api.http, pays, input={"order": "a-1"}))["id"]
        await until(api.http, waiting, "awaiting_input")
        code, out, err = await cli("emit", "paid", "--key", "a-1", "--input", '{"n": 1}', "--id", "x")
        assert code == Exit.OK, err
        assert f"execution {waiting} was sent the event\n" in out
        assert "task ships started as " in out
        await until(api.http, waiting, "succeeded")
        _, _, err = await cli("emit", "paid", "--key", "a-1", "--input", '{"n": 1}', "--id", "x")
        assert "came before" in err
        _, out, _ = await cli("emit", "nobody.knows")
        assert out == "nobody waits for it, and no task is triggered by it\n"
    code, key, err = await cli("hook", "create", "shop", "--event", "paid", "--key", "_.order", "--if", "_.order != ''")
    assert (code, key.startswith("hk_")) == (Exit.OK, True), err
    (hook,) = await cli.json("hook", "ls")
    assert f"/api/hooks/{hook['id']}" in err
    sent = await api.http.post(f"/hooks/{hook['id']}", json={"order": "b"}, headers={"x-hook-key": key.strip()})
    assert sent.json()["started"] == 1
    assert (await cli("hook", "off", hook["id"]))[0] == Exit.OK
    assert (await cli("hook", "on", hook["id"]))[0] == Exit.OK
    assert "shop" in (await cli("hook", "ls"))[1]
    assert (await cli("hook", "rm", hook["id"]))[0] == Exit.OK


async def test_jobs_by_the_command_line(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, ASKS)
    async with lab.worker(), settled(lab), doors_worker(lab):
        ids = [(await start(api.http, task_id, labels=["mine"]))["id"] for _ in range(3)]
        for execution_id in ids:
            await until(api.http, execution_id, "awaiting_input")
        code, out, _ = await cli("bulk", "run", "answer", "--label", "mine", "--answer", "true", "--dry-run")
        assert (code, out.splitlines()[0]) == (Exit.OK, "answer would be done to 3 executions: 3 awaiting_input")
        code, out, err = await cli("bulk", "run", "answer", "--label", "mine", "--answer", "true")
        assert code == Exit.OK, err
        assert out.endswith("answer done: 3 done, 0 refused, 0 failed, 0 left of 3\n")
        code, out, _ = await cli("bulk", "run", "cancel", "--id", ids[0])
        assert (code, "1 refused" in out) == (Exit.FAILED, True)
        job_id = out.split()[0]
        _, listed, _ = await cli("bulk", "items", job_id, "--outcome", "refused")
        assert (ids[0] in listed, "execution.closed" in listed) == (True, True)
        assert (await cli.json("bulk", "ls"))[0]["id"] == job_id
        assert (await cli("bulk", "abort", job_id))[0] == Exit.FAILED
        assert (await cli("bulk", "run", "cancel"))[0] == Exit.USAGE


async def test_the_async_client_has_all_of_it(lab: Lab, api: ApiServer) -> None:
    pays, _ = await create(api.http, PAID), await create(api.http, TRIGGERED)
    took = HookReceiver()
    async with (
        AsyncClient(api.url) as client,
        serve_app(took) as url,
        lab.worker(),
        settled(lab),
        doors_worker(lab),
    ):
        made = await client.create_schedule("often", "ships", cron=["@yearly"], input={"n": 1}, labels=("a",))
        assert (made["name"], made["labels"]) == ("often", ["a"])
        with pytest.raises(Conflict) as same:
            await client.create_schedule("often", "ships", cron=["@yearly"])
        assert same.value.code == "schedule.exists"
        with pytest.raises(InvalidInput):
            await client.create_schedule("odd", "ships", colour="red")  # type: ignore[call-arg]
        assert (await client.update_schedule("often", overlap="allow_all", limit=None))["overlap"] == "allow_all"
        assert (await client.pause_schedule("often", note="x"))["paused"] is True
        assert (await client.resume_schedule("often"))["paused"] is False
        await client.run_schedule("often")
        now = dt.datetime.now(dt.UTC)
        await client.backfill_schedule("often", now - dt.timedelta(days=1), now)
        assert [item["name"] for item in (await client.schedules()).items] == ["often"]
        await client.delete_schedule("often")
        with pytest.raises(NotFound):
            await client.schedule("often")

        hook = await client.create_webhook(url, statuses=["succeeded"], tasks=["ships"])
        told = await client.emit("paid", {"n": 2}, key="k", event_id="e-1")
        assert [item["outcome"] for item in told["started"]] == ["started"]
        await client.wait(told["started"][0]["execution_id"], timeout_s=PATIENCE_S)

        async def delivered() -> list[dict[str, Any]]:
            return list((await client.deliveries(hook["id"], state="delivered")).items)

        found = await eventually(delivered, "the delivery")
        assert (await client.resend_delivery(hook["id"], found[0]["id"]))["id"] == found[0]["id"]
        assert (await client.webhook(hook["id"]))["url"] == url
        assert (await client.update_webhook(hook["id"], active=False))["active"] is False
        assert [item["id"] for item in (await client.webhooks()).items] == [hook["id"]]
        await client.delete_webhook(hook["id"])

        inbound = await client.create_hook("shop", "paid", key="_.order")
        assert [item["id"] for item in (await client.hooks()).items] == [inbound["id"]]
        assert (await client.switch_hook(inbound["id"], False))["active"] is False
        await client.delete_hook(inbound["id"])

        watched = await client.start(
            pays, {"order": 1}, options=StartOptions(webhook={"url": url, "statuses": ["awaiting_input"]})
        )
        await client.wait(watched.id, until_waiting=True, timeout_s=PATIENCE_S)
        trial = await client.bulk("cancel", {"task": "pays"}, dry_run=True)
        assert trial["total"] == 1
        job = await client.bulk("cancel", {"task": "pays"}, options={"reason": "enough"}, rate=5)

        async def done() -> bool:
            return bool((await client.bulk_job(job["id"]))["state"] == "done")

        await eventually(done, "the job")
        assert [item["outcome"] for item in (await client.bulk_items(job["id"])).items] == ["done"]
        assert [item["id"] for item in (await client.bulk_jobs()).items] == [job["id"]]


async def test_the_sync_client_has_the_same_methods(api: ApiServer) -> None:
    from engine.client.aio_doors import AsyncDoors
    from engine.client.doors import Doors

    assert [name for name in vars(Doors) if name[0] != "_"] == [name for name in vars(AsyncDoors) if name[0] != "_"]
    await create(api.http, "name: t\nmain:\n  - evaluate: 1\n")

    def call() -> list[str]:
        with Client(api.url) as sync:
            sync.create_schedule("s", "t", intervals=[{"every": "1h"}], paused=True)
            sync.create_webhook("https://shop.example/")
            sync.create_hook("h", "e", kind="github")
            sync.emit("nobody")
            return [item["name"] for item in sync.schedules().items]

    assert await asyncio.to_thread(call) == ["s"]
