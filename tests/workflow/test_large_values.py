"""Values of up to 50 MB through the whole product, and what happens while the place of large payloads fails."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from engine.control.blobs import BlobDriver
from engine.control.claims import claims_of, runs_of
from engine.control.describing import describe
from engine.control.payloads import converter_of, data_converter
from engine.control.reindex import Reindex, Wanted
from engine.control.settling import settle_from_temporal
from engine.control.stuck import WORKFLOW_TASK_FAILS, Diagnosis
from engine.core.errors import Unavailable
from engine.core.kinds import ExecutionStatus
from engine.store.blobs import BlobStore
from engine.tooling import tool
from tests.support.lab import TENANT, Lab
from tests.support.s3 import Outage, s3_settings
from tests.workflow.test_reindex import start_as_api
from worker import STANDSTILL_S, replay_run

CALLS: list[str] = []
MB = 1024 * 1024


@tool(effect="write")
async def make(size: int) -> str:
    """Make a text by chance, which compression hardly shortens; it must not be made twice."""
    CALLS.append("make")
    return random.Random(size).randbytes(size // 2).hex()


@tool(effect="write")
async def measure(text: str) -> int:
    """Say how long a text is; it must not be said twice."""
    CALLS.append("measure")
    return len(text)


BOTH = """
name: both
main:
  - tool: make
    arguments: {size: $ _.size}
    label: made
  - tool: measure
    arguments: {text: $ _}
"""
WAITING = """
name: waiting
main:
  - tool: make
    arguments: {size: $ _.size}
    label: made
  - wait_for_input: {info: go}
  - tool: measure
    arguments: {text: "$ steps['made'].output"}
"""
GIVES = "name: gives\nmain: [{tool: make, arguments: {size: $ _.size}}]"


@pytest.fixture
def large(lab: Lab) -> Lab:
    CALLS.clear()
    lab.tools = (make, measure)
    return lab


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield port
    server.stop()


async def blobs_of(lab: Lab, handle: WorkflowHandle[Any, Any]) -> list[Path]:
    """Return the files that the histories of an execution refer to."""
    found = [
        blob for run in await runs_of(lab.client, handle.id) for blob in await claims_of(lab.client, handle.id, run)
    ]
    return [path for path in (lab.folder / "blobs").rglob("*") if any(path.name.startswith(b.digest) for b in found)]


async def test_what_histories_refer_to_is_found_and_counted(large: Lab) -> None:
    blobs = BlobStore(large.store.database)
    address = large.client.service_client.config.target_host
    large.client = await Client.connect(address, data_converter=data_converter(large.folder / "blobs", holders=blobs))
    async with large.worker():
        handle = await start_as_api(large, BOTH, {"size": MB})
        assert (await large.end_of(handle)).output == MB
    assert CALLS == ["make", "measure"]
    [run_id] = await runs_of(large.client, handle.id)
    found = await claims_of(large.client, handle.id, run_id)
    # as a result and as an argument, which are other bytes
    assert len(found) == 2
    for blob in found:
        assert await blobs.holders(blob.digest) == [handle.id]


async def test_an_execution_waits_for_a_payload_that_is_gone_and_goes_on_once_it_is_back(large: Lab) -> None:
    async with large.worker():
        handle = await start_as_api(large, WAITING, {"size": MB})
        await large.until(handle, "wait")
    [file] = await blobs_of(large, handle)
    kept = file.read_bytes()
    file.unlink()
    async with large.worker():
        await large.answer(handle, 1)
        deadline = time.monotonic() + 40
        while True:
            stuck = await Diagnosis(large.client).of(handle.id, await describe(large.client, handle.id))
            if stuck is not None:
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert stuck.code == WORKFLOW_TASK_FAILS
        assert f"the payload {file.name} is gone" in stuck.message
        file.write_bytes(kept)
        assert (await asyncio.wait_for(large.end_of(handle), 40)).output == MB
    assert CALLS == ["make", "measure"]


@pytest.mark.parametrize("damage", ["gone", "damaged"])
async def test_a_lost_payload_takes_no_settled_execution_for_gone(large: Lab, damage: str) -> None:
    async with large.worker():
        handle = await start_as_api(large, GIVES, {"size": MB})
        await large.end_of(handle)
    await settle_from_temporal(large.client, large.store, handle.id)
    for file in await blobs_of(large, handle):
        file.unlink() if damage == "gone" else file.write_bytes(b"something else")
    summary = await Reindex(large.client, large.store, replay_run).run(Wanted(ids=(handle.id,)))
    assert summary.gone == 0
    assert len(summary.failed) == 1
    facts = await large.store.get_execution(handle.id, tenant=TENANT)
    assert facts.status is ExecutionStatus.SUCCEEDED
    assert len(facts.output) == MB
    assert facts.gone_us is None


# --- an S3 service that comes and goes -----------------------------------------------------------------------------


@pytest.fixture
async def outage(large: Lab, moto: int, tmp_path: Path) -> AsyncIterator[Outage]:
    """A proxy in front of the service; the laboratory's large payloads go through it."""
    name = f"b{uuid.uuid4().hex}"
    s3_settings(f"http://127.0.0.1:{moto}", tmp_path, name)
    async with Outage(moto).running() as proxy:
        settings = s3_settings(f"http://127.0.0.1:{proxy.port}", tmp_path, name, make=False)
        converter = converter_of(settings, BlobStore(large.store.database))
        large.client = await Client.connect(large.client.service_client.config.target_host, data_converter=converter)
        yield proxy


async def refused(outage: Outage) -> None:
    """Wait until somebody has asked in vain."""
    before = outage.refused
    deadline = time.monotonic() + 30
    while outage.refused == before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_results_and_arguments_in_a_bucket_survive_its_outages(large: Lab, outage: Outage) -> None:
    async with large.worker():
        outage.begin()
        # the input is small; the first result cannot be stored, and the call that made it must not be made again
        handle = await start_as_api(large, WAITING, {"size": MB})
        await refused(outage)
        assert CALLS == ["make"]
        outage.end()
        await large.until(handle, "wait")
    outage.begin()
    async with large.worker():
        # the replay cannot read the first result, nor store the second call's argument
        await large.answer(handle, 1)
        await refused(outage)
        outage.end()
        assert (await asyncio.wait_for(large.end_of(handle), 60)).output == MB
    assert CALLS == ["make", "measure"]
    assert not (large.folder / "blobs").exists()


async def test_a_call_whose_arguments_cannot_be_read_waits_and_is_made_once(
    large: Lab, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = large.client.data_converter.external_storage
    assert real is not None
    driver = real.drivers[0]
    assert isinstance(driver, BlobDriver)
    failed: list[int] = []

    async def fail_once(*given: Any) -> Any:
        # the workflow has the value in memory: the first that reads it is the call
        if not failed:
            failed.append(1)
            raise Unavailable("away for a moment", code="blob.unreachable", retryable=True)
        return await BlobDriver.retrieve(driver, *given)

    async with large.worker():
        handle = await start_as_api(large, WAITING, {"size": MB})
        await large.until(handle, "wait")
        monkeypatch.setattr(driver, "retrieve", fail_once)
        await large.answer(handle, 1)
        ended = await asyncio.wait_for(large.end_of(handle), 60)
    assert failed == [1]
    assert ended.output == MB
    assert CALLS == ["make", "measure"]


async def test_50_mb_go_from_a_call_to_the_next_and_to_the_result(large: Lab) -> None:
    size = 49 * MB
    async with large.worker():
        handle = await start_as_api(large, BOTH, {"size": size})
        assert (await asyncio.wait_for(large.end_of(handle), 55)).output == size
    assert CALLS == ["make", "measure"]
    told = [event for event in await large.events(handle) if event.type == "step" and len(event.body) > size]
    assert told


async def test_a_busy_machine_has_more_than_two_seconds_for_a_large_value(large: Lab, monkeypatch: Any) -> None:
    built: list[Worker] = []
    original = Worker.__aenter__

    async def keep(worker: Worker) -> Worker:
        built.append(worker)
        return await original(worker)

    monkeypatch.setattr(Worker, "__aenter__", keep)
    async with large.worker():
        [worker] = built
        assert worker._workflow_worker is not None
        # what the SDK compares with, or else the engine sets something that nobody reads
        assert "self._deadlock_timeout_seconds" in inspect.getsource(type(worker._workflow_worker)._handle_activation)
        assert worker._workflow_worker._deadlock_timeout_seconds == STANDSTILL_S
