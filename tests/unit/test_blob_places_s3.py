"""Large payloads in an S3-compatible service: a real one on loopback, and one that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.converter import StorageDriverRetrieveContext, StorageDriverStoreContext

from engine.control.blobplaces import open_s3
from engine.control.blobs import S3, BlobDriver
from engine.control.payloads import EXTERNAL_THRESHOLD_BYTES, converter_of, data_converter
from engine.core.errors import InvalidInput, PayloadUnreadable, Unavailable
from engine.settings import Settings
from tests.support.s3 import s3_settings

BIG = "x" * (EXTERNAL_THRESHOLD_BYTES + 1)
STORE, RETRIEVE = StorageDriverStoreContext(), StorageDriverRetrieveContext()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


async def test_a_large_value_goes_to_the_bucket_and_comes_back(moto: str, tmp_path: Path) -> None:
    settings = s3_settings(moto, tmp_path, "values")
    converter = converter_of(settings)
    small, big = await converter.encode(["small", BIG])
    assert small.data == b'"small"'
    assert big.ByteSize() < 2_000
    assert await converter.decode([small, big]) == ["small", BIG]
    [name] = [name async for name in open_s3(settings).names()]
    assert len(name) == 64
    assert not (tmp_path / "blobs").exists()


async def test_what_was_in_files_is_read_after_the_switch_to_the_bucket(moto: str, tmp_path: Path) -> None:
    settings = s3_settings(moto, tmp_path, "switch")
    [before] = await data_converter(settings.blob_dir).encode([BIG])
    [after] = await converter_of(settings).encode([BIG + "after"])
    assert await converter_of(settings).decode([before, after]) == [BIG, BIG + "after"]


async def test_equal_payloads_are_one_object_and_a_removed_one_is_said_to_be_gone(moto: str, tmp_path: Path) -> None:
    place = open_s3(s3_settings(moto, tmp_path, "shared"))
    driver = BlobDriver(S3, place)
    payload = Payload(data=b"data " * 1_000)
    one, two = await driver.store(STORE, [payload, payload])
    assert one == two
    [name] = [name async for name in place.names()]
    await place.remove(name)
    await place.remove(name)
    with pytest.raises(PayloadUnreadable, match=name) as caught:
        await driver.retrieve(RETRIEVE, [one])
    assert caught.value.code == "blob.not_found"


async def test_a_damaged_object_is_refused(moto: str, tmp_path: Path) -> None:
    place = open_s3(s3_settings(moto, tmp_path, "damaged"))
    driver = BlobDriver(S3, place)
    [claim] = await driver.store(STORE, [Payload(data=b"data")])
    await place.write(claim.claim_data["sha256"], b"other")
    with pytest.raises(PayloadUnreadable) as caught:
        await driver.retrieve(RETRIEVE, [claim])
    assert caught.value.code == "blob.damaged"


async def test_50_mb_go_there_and_back(moto: str, tmp_path: Path) -> None:
    place = open_s3(s3_settings(moto, tmp_path, "large"))
    data = random.Random(1).randbytes(50 * 1024 * 1024)
    await place.write("large", data)
    assert await place.read("large") == data


@pytest.mark.parametrize("fault", ["refused", "cut", "garbage", "500"])
async def test_a_service_that_fails_is_unavailable_and_not_a_lost_payload(fault: str, tmp_path: Path) -> None:
    answers = {
        "cut": b"",
        "garbage": b"\x00\xff\x13 no HTTP \r\n\r\n",
        "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[fault])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if fault == "refused":
        server.close()
        await server.wait_closed()
    settings = s3_settings(f"http://127.0.0.1:{port}", tmp_path, "faults", make=False)
    place = open_s3(settings)
    try:
        for work in (place.read("name"), place.has("name"), place.remove("name"), place.write("name", b"data")):
            with pytest.raises(Unavailable, match="s3://faults") as caught:
                await work
            assert caught.value.code == "blob.unreachable"
            assert caught.value.retryable
            assert "secret" not in caught.value.message
    finally:
        server.close()


@pytest.mark.parametrize("url", ["bucket/prefix", "http://bucket", "s3://", "s3:///prefix"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="EVERSTEP_BLOBS"):
        converter_of(Settings(blobs=url))


def test_one_key_of_two_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one of its two keys"):
        converter_of(Settings(blobs="s3://bucket", blobs_access_key=SecretStr("key")))
