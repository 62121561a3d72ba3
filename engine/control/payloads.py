"""How payloads cross Temporal: pydantic JSON, and files beside the history for what is large."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    ExternalStorage,
    JSONPlainPayloadConverter,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from engine.core.errors import NotFound

DRIVER_NAME = "everstep-files"
EXTERNAL_THRESHOLD_BYTES = 256 * 1024

# Temporal builds a payload converter for every workflow run; one JSON converter for all of them keeps its compiled
# type adapters, which otherwise take more time than the run itself (1.5 ms each)
_JSON = PydanticJSONPlainPayloadConverter()

_CLAIM_KEY = "sha256"
_HEX = frozenset("0123456789abcdef")


class FileDriver(StorageDriver):
    """Keeps payloads as files named by their content, so that equal ones are kept once and none is ever rewritten.

    Args:
        folder: Where the files are; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def name(self) -> str:
        """Return the name by which histories refer to this driver."""
        return DRIVER_NAME

    def type(self) -> str:
        """Return the name of the scheme."""
        return "everstep.files"

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Write payloads and return their claims {sha256}."""
        del context
        return await asyncio.to_thread(lambda: [self._write(payload) for payload in payloads])

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read payloads back.

        Raises:
            NotFound: `blob.not_found` if a file is gone or does not hold what its name says.
        """
        del context
        return await asyncio.to_thread(lambda: [self._read(claim) for claim in claims])

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _write(self, payload: Payload) -> StorageDriverClaim:
        # protobuf maps have no order of their own; the digest only has to be stable for equal bytes
        data = payload.SerializeToString(deterministic=True)
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if not path.exists():
            for folder in (self._folder.parent, self._folder, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    # the history refers to the file as soon as this returns, so it has to survive a power cut
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        return StorageDriverClaim(claim_data={_CLAIM_KEY: digest})

    def _read(self, claim: StorageDriverClaim) -> Payload:
        digest = claim.claim_data.get(_CLAIM_KEY, "")
        # a claim comes from a history that others may write to: it must never name a path
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise NotFound(f"a payload refers to {digest!r}, which is no file of the engine", code="blob.not_found")
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"the payload file {path} is gone",
                code="blob.not_found",
                hint="all processes of one engine need the same data folder (EVERSTEP_DATA_DIR)",
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound(f"the payload file {path} is damaged", code="blob.not_found")
        return Payload.FromString(data)


class EnginePayloadConverter(CompositePayloadConverter):
    """Pydantic JSON for everything that is not bytes, null or a protobuf message."""

    def __init__(self) -> None:
        """Put our one JSON converter in the place of Temporal's plain one."""
        plain = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(_JSON if isinstance(one, JSONPlainPayloadConverter) else one for one in plain))


def data_converter(blob_dir: Path) -> DataConverter:
    """Return the one data converter that clients, workers and the replayer share.

    Args:
        blob_dir: Folder for payloads of 256 KiB and more.

    Returns:
        Pydantic JSON with external storage.
    """
    return dataclasses.replace(
        pydantic_data_converter,
        payload_converter_class=EnginePayloadConverter,
        external_storage=ExternalStorage(
            drivers=[FileDriver(blob_dir)], payload_size_threshold=EXTERNAL_THRESHOLD_BYTES
        ),
    )
