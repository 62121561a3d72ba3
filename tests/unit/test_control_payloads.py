"""Large payloads as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriverClaim, StorageDriverRetrieveContext, StorageDriverStoreContext

from engine.control.blobplaces import FilePlace
from engine.control.blobs import FileDriver
from engine.control.payloads import EXTERNAL_THRESHOLD_BYTES, data_converter
from engine.core.errors import PayloadUnreadable

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
        with pytest.raises(PayloadUnreadable):
            await FileDriver(tmp_path / "blobs").retrieve(RETRIEVE, [StorageDriverClaim({"sha256": digest})])


async def test_a_missing_or_damaged_file_is_said_by_name(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path)
    [claim] = await driver.store(STORE, [Payload(data=b"data")])
    [path] = files(tmp_path)
    path.write_bytes(b"other")
    with pytest.raises(PayloadUnreadable, match="damaged"):
        await driver.retrieve(RETRIEVE, [claim])
    path.unlink()
    with pytest.raises(PayloadUnreadable, match=path.name) as caught:
        await driver.retrieve(RETRIEVE, [claim])
    assert caught.value.code == "blob.not_found"


async def test_a_file_is_compressed_and_one_from_before_that_is_still_read(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path)
    payload = Payload(data=b"very much alike " * 10_000)
    [claim] = await driver.store(STORE, [payload])
    [path] = files(tmp_path)
    assert path.stat().st_size < payload.ByteSize() / 50
    assert await driver.retrieve(RETRIEVE, [claim]) == [payload]
    path.write_bytes(payload.SerializeToString(deterministic=True))
    assert await driver.retrieve(RETRIEVE, [claim]) == [payload]


async def test_bytes_by_chance_are_not_made_larger(tmp_path: Path) -> None:
    payload = Payload(data=os.urandom(100_000))
    await FileDriver(tmp_path).store(STORE, [payload])
    assert files(tmp_path)[0].stat().st_size == payload.ByteSize()


@pytest.mark.parametrize("made", ["", "xyz", "../../x", "0" * 16])
async def test_the_time_of_a_claim_cannot_name_a_path_either(tmp_path: Path, made: str) -> None:
    claim = StorageDriverClaim({"sha256": "a" * 64, "made": made})
    with pytest.raises(PayloadUnreadable):
        await FileDriver(tmp_path).retrieve(RETRIEVE, [claim])


async def test_half_written_files_of_dead_writers_are_removed_and_young_ones_stay(tmp_path: Path) -> None:
    place = FilePlace(tmp_path)
    await place.write("ab" + "0" * 62, b"whole")
    old, young = tmp_path / "ab" / ".new-old", tmp_path / "ab" / ".new-young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert await place.tidy() == 1
    assert not old.exists()
    assert young.exists()
    assert await place.read("ab" + "0" * 62) == b"whole"
