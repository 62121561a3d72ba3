"""Payload encryption on the real server: nothing secret in Temporal's histories, rotation, keys that are not known."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.client import Client, WorkflowHandle

from engine.control.claims import claims_of, events_of, runs_of
from engine.control.describing import describe, list_executions
from engine.control.payloads import data_converter
from engine.control.reindex import Reindex, Wanted
from engine.control.repair import Repair
from engine.control.replaying import repair_execution
from engine.control.sealing import new_key, read_ring
from engine.control.settling import settle_from_temporal
from engine.control.stuck import WORKFLOW_TASK_FAILS, Diagnosis
from engine.core.kinds import ExecutionStatus
from engine.store.blobs import BlobStore
from engine.tooling import tool
from tests.support.lab import TENANT, Lab
from tests.support.processes import worker_process
from tests.workflow.test_reindex import start_as_api
from worker import replay_run

SECRET = "kingfisher-7731"
OLD, NEW = new_key("old"), new_key("new")


@tool(effect="read")
async def look_up(name: str) -> str:
    """Tell a secret; a large one of `large`, an error of `broken`."""
    if name == "broken":
        raise RuntimeError(f"no {SECRET} today")
    # by chance, so that it does not become small by compression
    return f"{SECRET} {random.Random(7).randbytes(400_000).hex() if name == 'large' else name}"


CHILD = f"name: child\nmain: [{{evaluate: '$ _.name + \"{SECRET}\"'}}]"
EVERYTHING = f"""
name: everything
description: What {SECRET} is about.
metadata: {{owner: {SECRET}}}
main:
  - prompt: "Say {SECRET} to {{{{ _.name }}}}"
  - tool: look_up
    arguments: {{name: large}}
  - tool: look_up
    arguments: {{name: small}}
  - task: child
    arguments: {{name: {SECRET}}}
  - wait_for_input: {{info: "is it {SECRET}?"}}
  - tool: look_up
    arguments: {{name: broken}}
"""
WAITING = f"name: waiting\nmain: [{{evaluate: $ 1}}, {{wait_for_input: {{info: {SECRET}}}}}, {{evaluate: $ _}}]"


def key_ring(*keys: str) -> Any:
    return read_ring(",".join(keys))


async def use(lab: Lab, *keys: str) -> None:
    """Give the laboratory a client with these keys."""
    address = lab.client.service_client.config.target_host
    converter = data_converter(lab.folder / "blobs", ring=key_ring(*keys), holders=BlobStore(lab.store.database))
    lab.client = await Client.connect(address, data_converter=converter)


@pytest.fixture
async def sealed(lab: Lab) -> Lab:
    """A laboratory that encrypts."""
    lab.tools = (look_up,)
    await use(lab, NEW)
    return lab


async def raw_text(lab: Lab, workflow_id: str) -> str:
    """Return all that Temporal tells of a workflow, payloads in plain letters."""
    told: list[str] = []
    for run_id in await runs_of(lab.client, workflow_id):
        async for event in events_of(lab.client, workflow_id, run_id):
            told.append(_plain(MessageToDict(event)))
    async for info in list_executions(lab.client, f"WorkflowId = '{workflow_id}'"):
        told.append(_plain(MessageToDict(info)))
    return "\n".join(told)


def _plain(value: Any) -> str:
    """Return a message as text, with whatever is in base64 decoded as well."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_plain(item) for item in value)
    text = str(value)
    try:
        return f"{text} {base64.b64decode(text, validate=True).decode('latin-1')}"
    except ValueError:
        return text


async def run_everything(lab: Lab) -> tuple[WorkflowHandle[Any, Any], str]:
    """Run a task with a secret in whatever can hold one; returns it and its child."""
    await lab.definitions.create_task(CHILD, tenant=TENANT)
    handle = await start_as_api(lab, EVERYTHING, {"name": SECRET})
    await lab.until(handle, "wait")
    await lab.answer(handle, SECRET)
    ended = await asyncio.wait_for(lab.end_of(handle), 30)
    assert ended.error is not None
    assert SECRET in json.dumps(ended.error)
    told = [json.loads(event.body) for event in await lab.events(handle) if event.type == "effect.started"]
    return handle, next(str(body["child_id"]) for body in told if body.get("child_id"))


async def test_nothing_secret_stands_in_temporal_or_in_the_files(sealed: Lab) -> None:
    async with sealed.worker():
        handle, child = await run_everything(sealed)
    for workflow_id in (handle.id, child):
        text = await raw_text(sealed, workflow_id)
        assert "everstep-key new" in text.replace("bmV3 ", "")
        assert SECRET not in text
        assert SECRET.encode().hex() not in text
    files = [path for path in (sealed.folder / "blobs").rglob("*") if path.is_file()]
    assert files
    assert all(SECRET.encode() not in path.read_bytes() for path in files)


async def test_what_stays_readable_is_what_lists_need(sealed: Lab) -> None:
    async with sealed.worker():
        handle = await start_as_api(sealed, WAITING)
        await sealed.until(handle, "wait")
        text = await raw_text(sealed, handle.id)
        assert all(word in text for word in (handle.id, "waiting", "EverstepTenant", TENANT))
        await sealed.answer(handle, 1)
        await sealed.end_of(handle)


async def test_the_repair_and_the_settling_read_what_is_encrypted(sealed: Lab) -> None:
    async with sealed.worker():
        handle, _ = await run_everything(sealed)
    settled = await settle_from_temporal(sealed.client, sealed.store, handle.id)
    assert settled is not None
    assert settled.matches
    files = sorted(path.name for path in (sealed.folder / "blobs").rglob("*") if path.is_file())
    assert not await repair_execution(sealed.client, sealed.store, handle.id, replay_run)
    # a replay writes every large value again: the same bytes under the same name
    assert files == sorted(path.name for path in (sealed.folder / "blobs").rglob("*") if path.is_file())


async def test_an_execution_goes_on_through_a_rotation(sealed: Lab) -> None:
    await use(sealed, OLD)
    async with sealed.worker():
        handle = await start_as_api(sealed, WAITING)
        await sealed.until(handle, "wait")
    await use(sealed, NEW, OLD)
    async with sealed.worker():
        await sealed.answer(sealed.client.get_workflow_handle(handle.id), SECRET)
        renewed = sealed.client.get_workflow_handle(handle.id)
        assert (await asyncio.wait_for(sealed.end_of(renewed), 20)).output == SECRET
    text = await raw_text(sealed, handle.id)
    assert " old" in text
    assert " new" in text


async def test_what_began_without_keys_ends_with_them(sealed: Lab) -> None:
    await use(sealed)
    async with sealed.worker():
        handle = await start_as_api(sealed, WAITING)
        await sealed.until(handle, "wait")
    await use(sealed, NEW)
    async with sealed.worker():
        renewed = sealed.client.get_workflow_handle(handle.id)
        await sealed.answer(renewed, "after")
        assert (await asyncio.wait_for(sealed.end_of(renewed), 20)).output == "after"


async def test_a_worker_without_the_key_holds_an_execution_up_and_says_so_and_one_with_it_goes_on(
    sealed: Lab, tmp_path: Path
) -> None:
    with_key = sealed.client
    await use(sealed, OLD)
    async with sealed.worker():
        # the worker does not know the key with which the execution is started
        sealed_client, sealed.client = sealed.client, with_key
        handle = await start_as_api(sealed, WAITING)
        deadline = time.monotonic() + 30
        while True:
            stuck = await Diagnosis(with_key).of(handle.id, await describe(with_key, handle.id))
            if stuck is not None:
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert stuck.code == WORKFLOW_TASK_FAILS
        sealed.client = sealed_client
        own = await Diagnosis(sealed_client).of(handle.id, await describe(sealed_client, handle.id))
        assert own is not None
        assert "'new'" in own.message
        assert "not in the key ring" in own.message
    sealed.client = with_key
    async with sealed.worker():
        await sealed.until(handle, "wait")
        await sealed.answer(handle, 3)
        assert (await asyncio.wait_for(sealed.end_of(handle), 20)).output == 3


async def test_a_repair_without_the_key_changes_nothing(sealed: Lab) -> None:
    async with sealed.worker():
        handle, _ = await run_everything(sealed)
    await settle_from_temporal(sealed.client, sealed.store, handle.id)
    before = await sealed.store.get_execution(handle.id, tenant=TENANT)
    await use(sealed, OLD)
    repair = Repair(sealed.client, sealed.store, replay_run)
    await repair.settle_ended()
    await repair.scan()
    summary = await Reindex(sealed.client, sealed.store, replay_run).run(Wanted(ids=(handle.id,)))
    assert [item["code"] for item in summary.failed] != []
    assert summary.gone == 0
    after = await sealed.store.get_execution(handle.id, tenant=TENANT)
    assert (after.status, after.output, after.error) == (before.status, before.output, before.error)
    assert after.status is ExecutionStatus.FAILED


async def test_processes_take_their_keys_from_the_environment_and_count_what_is_large(sealed: Lab) -> None:
    large = random.Random(1).randbytes(400_000).hex()
    environment = {"EVERSTEP_ENCRYPTION_KEYS": f"{NEW},{OLD}"}
    async with worker_process(sealed, environment=environment):
        handle = await start_as_api(sealed, "name: t\nmain: [{evaluate: '$ [_, _]'}, {prompt: 'say it'}]", large)
        assert (await asyncio.wait_for(sealed.end_of(handle), 30)).error is None
    assert large[:100] not in await raw_text(sealed, handle.id)
    [run_id] = await runs_of(sealed.client, handle.id)
    found = await claims_of(sealed.client, handle.id, run_id)
    assert found
    for blob in found:
        assert await BlobStore(sealed.store.database).holders(blob.digest) == [handle.id]


async def test_a_worker_with_a_wrong_ring_does_not_start_and_does_not_show_it(sealed: Lab) -> None:
    with pytest.raises(RuntimeError, match=r"config\.invalid.*key 1 of EVERSTEP_ENCRYPTION_KEYS") as caught:
        async with worker_process(sealed, environment={"EVERSTEP_ENCRYPTION_KEYS": "k:c2hvcnQgc2VjcmV0"}):
            raise AssertionError("it runs")
    assert "c2hvcnQgc2VjcmV0" not in str(caught.value)
