"""Keeps large payloads beside the histories: compressed, named by their content, each with who refers to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import zstandard
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverActivityInfo,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from engine.control.blobplaces import BlobPlace, FilePlace
from engine.core.errors import PayloadUnreadable
from engine.store.blobs import Blob, BlobStore

FILES = "everstep-files"
S3 = "everstep-s3"

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""No payload begins so: its first byte tells of a field that payloads do not have."""
ZSTD_LEVEL = 3
MOST_BYTES = 512 * 1024 * 1024
"""Most that a compressed file may become."""

_DIGEST, _MADE = "sha256", "made"
_HEX = frozenset("0123456789abcdef")


class BlobDriver(StorageDriver):
    """Temporal's way to a place of large payloads.

    Args:
        name: Name by which histories refer to it.
        place: Where the payloads are.
        holders: Where references are counted; None = they are not, and payloads stay for ever.
    """

    def __init__(self, name: str, place: BlobPlace, holders: BlobStore | None = None) -> None:
        self._name = name
        self.place = place
        self._holders = holders

    def name(self) -> str:
        """Return the name by which histories refer to this driver."""
        return self._name

    def type(self) -> str:
        """Return the name of the scheme."""
        return self._name.replace("-", ".")

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Keep payloads and return their claims {sha256, made?}.

        Raises:
            Unavailable: `blob.unreachable`, or what the store says.
        """
        holder = _holder_of(context)
        return [await self._store(payload, holder) for payload in payloads]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read payloads back.

        Raises:
            PayloadUnreadable: `blob.not_found` if one is gone, `blob.damaged` if it is not what its name says.
            Unavailable: `blob.unreachable`.
        """
        del context
        return [await self._retrieve(blob_of(claim.claim_data)) for claim in claims]

    async def remove(self, blob: Blob) -> None:
        """Remove a payload, if it is there."""
        await self.place.remove(name_of(blob))

    async def _store(self, payload: Payload, holder: str) -> StorageDriverClaim:
        # protobuf maps have no order of their own; the digest only has to be stable for equal bytes
        data = await asyncio.to_thread(payload.SerializeToString, deterministic=True)
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        blob = Blob(digest, 0) if self._holders is None else await self._holders.hold(digest, holder)
        name = name_of(blob)
        if not await self.place.has(name):
            await self.place.write(name, await asyncio.to_thread(_pack, data))
        claim = {_DIGEST: digest} | ({_MADE: f"{blob.made_us:x}"} if blob.made_us else {})
        return StorageDriverClaim(claim_data=claim)

    async def _retrieve(self, blob: Blob) -> Payload:
        name = name_of(blob)
        packed = await self.place.read(name)
        if packed is None:
            raise PayloadUnreadable(
                f"the payload {name} is gone from {self.place.where}",
                code="blob.not_found",
                hint="all processes of one engine need the same data folder (EVERSTEP_DATA_DIR) or EVERSTEP_BLOBS",
            )
        data = await asyncio.to_thread(_unpack, packed, blob.digest)
        if data is None:
            raise PayloadUnreadable(
                f"the payload {name} in {self.place.where} is damaged",
                code="blob.damaged",
                hint="bring it back from a backup; what needs it waits until then",
            )
        return await asyncio.to_thread(Payload.FromString, data)


class FileDriver(BlobDriver):
    """Payloads in files.

    Args:
        folder: Where the files are; made when the first one is written.
        holders: See `BlobDriver`.
    """

    def __init__(self, folder: Path, holders: BlobStore | None = None) -> None:
        super().__init__(FILES, FilePlace(folder), holders)


def name_of(blob: Blob) -> str:
    """Return the name under which a blob is kept."""
    return f"{blob.digest}-{blob.made_us:x}" if blob.made_us else blob.digest


def blob_of(claim: object) -> Blob:
    """Read what a history says of a payload.

    Raises:
        PayloadUnreadable: `blob.not_found` if it is no claim of ours.
    """
    told = {str(key): str(value) for key, value in claim.items()} if hasattr(claim, "items") else {}
    digest, made = told.get(_DIGEST, ""), told.get(_MADE, "0")
    # a claim comes from a history that others may write to: it must never name a path
    if len(digest) != 64 or not _HEX.issuperset(digest) or not 0 < len(made) <= 15 or not _HEX.issuperset(made):
        raise PayloadUnreadable(
            f"a payload refers to {digest[:80]!r}, which is none of the engine's", code="blob.not_found"
        )
    return Blob(digest, int(made, 16))


def _holder_of(context: StorageDriverStoreContext) -> str:
    match context.target:
        case StorageDriverWorkflowInfo() as workflow:
            return workflow.id or ""
        case StorageDriverActivityInfo():
            return ""  # an activity of nobody's; the engine has none
        case None:
            return ""


def _pack(data: bytes) -> bytes:
    packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
    # what was encrypted does not get smaller
    return packed if len(packed) < len(data) else data


def _unpack(packed: bytes, digest: str) -> bytes | None:
    """Return the bytes of a digest; None if they are others."""
    try:
        data = inflate(packed) if packed.startswith(ZSTD_MAGIC) else packed
    except zstandard.ZstdError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def inflate(packed: bytes) -> bytes:
    """Unpack one zstandard frame that says how long it becomes.

    Raises:
        zstandard.ZstdError: It is damaged, or becomes too long.
    """
    size = zstandard.frame_content_size(packed)
    if not 0 <= size <= MOST_BYTES:
        raise zstandard.ZstdError(f"a frame of {size} bytes")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=max(size, 1))
