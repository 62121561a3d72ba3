"""Counted references to large payloads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from engine.control.blobs import FileDriver
from engine.core.errors import PayloadUnreadable
from engine.store.blobs import Blob, BlobStore
from engine.store.database import open_database
from tests.support.postgres import store_url

DIGEST = "a" * 64
DATA = Payload(data=b"data " * 100)


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[BlobStore]:
    database = await open_database(store_url(tmp_path / "blobs.db"))
    yield BlobStore(database)
    await database.close()


def of(holder: str) -> StorageDriverStoreContext:
    """Return the context of a workflow."""
    return StorageDriverStoreContext(target=StorageDriverWorkflowInfo(namespace="default", id=holder))


async def test_a_payload_stays_until_the_last_workflow_that_refers_to_it_is_gone(blobs: BlobStore) -> None:
    blob = await blobs.hold(DIGEST, "one")
    assert await blobs.hold(DIGEST, "two") == blob
    assert await blobs.hold(DIGEST, "two") == blob
    assert await blobs.holders(DIGEST) == ["one", "two"]
    await blobs.release(["one"])
    assert await blobs.outgoing() == []
    await blobs.release(["two", "nobody"])
    assert await blobs.outgoing() == [blob]
    await blobs.removed(blob)
    assert await blobs.outgoing() == []


async def test_bytes_that_are_stored_again_while_their_blob_goes_are_another_blob(blobs: BlobStore) -> None:
    first = await blobs.hold(DIGEST, "one")
    await blobs.release(["one"])
    second = await blobs.hold(DIGEST, "two")
    assert second != first
    await blobs.removed(second)
    await blobs.removed(first)
    assert await blobs.hold(DIGEST, "three") == second
    assert await blobs.outgoing() == []


async def test_a_file_that_is_written_again_while_it_is_removed_survives(blobs: BlobStore, tmp_path: Path) -> None:
    driver = FileDriver(tmp_path / "files", blobs)
    await driver.store(of("one"), [DATA])
    await blobs.release(["one"])
    [going] = await blobs.outgoing()
    [claim] = await driver.store(of("two"), [DATA])
    await driver.remove(going)
    await blobs.removed(going)
    assert await driver.retrieve(StorageDriverRetrieveContext(), [claim]) == [DATA]
    await blobs.release(["two"])
    for blob in await blobs.outgoing():
        await driver.remove(blob)
    with pytest.raises(PayloadUnreadable):
        await driver.retrieve(StorageDriverRetrieveContext(), [claim])
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


async def test_a_reference_stands_before_the_file_is_written(blobs: BlobStore, tmp_path: Path) -> None:
    driver = FileDriver(tmp_path / "files", blobs)
    (tmp_path / "files").write_text("no folder")
    with pytest.raises(OSError, match="files"):
        await driver.store(of("one"), [DATA])
    await blobs.release(["one"])
    assert len(await blobs.outgoing()) == 1


async def test_what_older_histories_refer_to_is_learned_and_counted(blobs: BlobStore) -> None:
    old = Blob(DIGEST, 0)
    await blobs.learn({"one": [old], "two": [old, Blob("b" * 64, 0)]})
    await blobs.learn({"one": [old]})
    assert await blobs.holders(DIGEST) == ["one", "two"]
    await blobs.release(["two"])
    assert await blobs.outgoing() == [Blob("b" * 64, 0)]


async def test_two_processes_that_store_the_same_at_once_share_one_blob(blobs: BlobStore, tmp_path: Path) -> None:
    other = await open_database(store_url(tmp_path / "blobs.db"))
    try:
        drivers = [FileDriver(tmp_path / "files", store) for store in (blobs, BlobStore(other))]
        claims = await asyncio.gather(*(driver.store(of(f"w{n}"), [DATA]) for n in range(5) for driver in drivers))
    finally:
        await other.close()
    assert len({str(claim) for [claim] in claims}) == 1
    assert len([path for path in (tmp_path / "files").rglob("*") if path.is_file()]) == 1


async def test_strangers_are_holders_without_a_row(blobs: BlobStore) -> None:
    await blobs.hold(DIGEST, "bulk-1")
    assert await blobs.strangers(before_us=0) == []
    assert await blobs.strangers(before_us=2**60) == ["bulk-1"]
    assert await blobs.strangers(after="bulk-1", before_us=2**60) == []
