"""Large payloads as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriverClaim, StorageDriverRetrieveContext, StorageDriverStoreContext

from engine.control.payloads import EXTERNAL_THRESHOLD_BYTES, FileDriver, data_converter
from engine.core.errors import NotFound

BIG = "x" * (EXTERNAL_THRESHOLD_BYTES + 1)
STORE, RETRIEVE = StorageDriverStoreContext(), StorageDriverRetrieveContext()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_only_large_values_leave_the_history(tmp_path: Path) -> None:
    converter = data_converter(tmp_path / "blobs")
    small, big = await converter.encode(["small", BIG])
    assert small.data == b'"small"'
    assert big.ByteSize() < 2_000
    assert await converter.decode([small, big]) == ["small", BIG]
    assert len(files(tmp_path)) == 1


async def test_equal_values_share_one_file(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path)
    payload = Payload(metadata={"b": b"1", "a": b"2"}, data=b"data")
    same = Payload(metadata={"a": b"2", "b": b"1"}, data=b"data")
    one, two = await driver.store(STORE, [payload, same])
    assert one == two
    assert [path.name for path in files(tmp_path)] == [one.claim_data["sha256"]]
    assert await driver.retrieve(RETRIEVE, [one, two]) == [payload, payload]


async def test_a_claim_cannot_name_a_path(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"")
    for digest in ("../secret", str(secret), "", "0" * 63 + "G"):
        with pytest.raises(NotFound):
            await FileDriver(tmp_path / "blobs").retrieve(RETRIEVE, [StorageDriverClaim({"sha256": digest})])


async def test_a_missing_or_damaged_file_is_said_by_name(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path)
    [claim] = await driver.store(STORE, [Payload(data=b"data")])
    [path] = files(tmp_path)
    path.write_bytes(b"other")
    with pytest.raises(NotFound, match="damaged"):
        await driver.retrieve(RETRIEVE, [claim])
    path.unlink()
    with pytest.raises(NotFound, match=path.name) as caught:
        await driver.retrieve(RETRIEVE, [claim])
    assert caught.value.code == "blob.not_found"
