"""Encrypts what Temporal is given: AES-256-GCM by a ring of keys, bound to the workflow that it belongs to."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from engine.control.blobs import ZSTD_LEVEL, inflate
from engine.core.errors import InvalidInput, PayloadUnreadable

ENCODING = b"binary/encrypted"
KEY_BYTES = 32
NONCE_BYTES = 12
LARGE_BYTES = 256 * 1024
"""Payloads of that size are compressed, and encrypted so that equal ones of one workflow stay equal."""
THREAD_BYTES = 64 * 1024
"""Payloads of that size are handled in a thread, since the event loop would stand still."""

_KEY, _NONCE, _BOUND, _PACKED = "everstep-key", "everstep-nonce", "everstep-bound", "everstep-packed"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HINT = "make keys with `everstep keys encryption ID`; {}=ID:BASE64,ID:BASE64"


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """Keys by id; the first encrypts, all of them decrypt.

    Attributes:
        keys: 32 bytes each.
    """

    keys: Mapping[str, bytes]

    def __repr__(self) -> str:
        """Show the ids alone."""
        return f"KeyRing({', '.join(self.keys)})"

    @property
    def first(self) -> tuple[str, bytes]:
        """The key that encrypts."""
        return next(iter(self.keys.items()))


def read_ring(text: str, source: str = "EVERSTEP_ENCRYPTION_KEYS") -> KeyRing | None:
    """Read a key ring as EVERSTEP_ENCRYPTION_KEYS holds one; None = there is none, and nothing is encrypted.

    Args:
        text: The keys.
        source: Where they stand.

    Raises:
        InvalidInput: `config.invalid`; it never shows a key.
    """
    if not text.strip():
        return None
    keys: dict[str, bytes] = {}
    for number, part in enumerate(text.split(","), start=1):
        name, _, encoded = part.strip().partition(":")
        problem = _problem_of(name, encoded, keys)
        if problem:
            hint = HINT.format(source)
            raise InvalidInput(f"key {number} of {source} {problem}", code="config.invalid", hint=hint)
        keys[name] = _bytes_of(encoded)
    return KeyRing(keys)


def _problem_of(name: str, encoded: str, known: Mapping[str, bytes]) -> str:
    if not _ID.fullmatch(name):
        return "has no id of letters, digits, '.', '_' and '-'"
    if name in known:
        return f"has the id '{name}' of another one"
    try:
        found = len(_bytes_of(encoded))
    except (binascii.Error, ValueError):
        return "is not in base64"
    return "" if found == KEY_BYTES else f"has {found} bytes, not {KEY_BYTES}"


def _bytes_of(encoded: str) -> bytes:
    return base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)


def new_key(name: str) -> str:
    """Return a new key as it stands in EVERSTEP_ENCRYPTION_KEYS."""
    return f"{name}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


@dataclass(frozen=True)
class Sealer(PayloadCodec, WithSerializationContext):
    """Encrypts payloads, and decrypts them; what was written before there were keys is read as it is.

    Attributes:
        ring: The keys; None = nothing is encrypted, and what is cannot be read.
        bound: Id of the workflow whose payloads these are; empty = it is not known.
    """

    ring: KeyRing | None
    bound: str = ""

    def with_context(self, context: SerializationContext) -> Sealer:
        """Return the same for the payloads of a workflow."""
        if self.ring is None:
            return self  # a copy of the whole data converter for each activation would be made for nothing
        match context:
            case WorkflowSerializationContext() | ActivitySerializationContext():
                return replace(self, bound=context.workflow_id or "")
            case _:
                return self

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads with the first key."""
        ring = self.ring
        if ring is None:
            return list(payloads)
        return [await _aside(payload, lambda payload=payload: self._seal(ring, payload)) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt payloads.

        Raises:
            PayloadUnreadable: `payload.unknown_key`, `payload.damaged`, `payload.foreign`.
        """
        if not any(_KEY in payload.metadata for payload in payloads):
            return list(payloads)
        return [await _aside(payload, lambda payload=payload: self._open(payload)) for payload in payloads]

    def _seal(self, ring: KeyRing, payload: Payload) -> Payload:
        name, key = ring.first
        plain = payload.SerializeToString(deterministic=True)
        large = len(plain) >= LARGE_BYTES
        if large:
            plain = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(plain)
        metadata = {_KEY: name.encode(), _BOUND: self.bound.encode(), _PACKED: b"1" if large else b"0"}
        data = _associated(metadata)
        nonce = _own_nonce(key, data, plain) if large else os.urandom(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain, data)
        return Payload(metadata={"encoding": ENCODING, _NONCE: nonce, **metadata}, data=sealed)

    def _open(self, payload: Payload) -> Payload:
        metadata = payload.metadata
        if metadata.get("encoding") != ENCODING or _KEY not in metadata:
            return payload
        name = metadata[_KEY].decode(errors="replace")
        key = None if self.ring is None else self.ring.keys.get(name)
        if key is None:
            raise PayloadUnreadable(
                f"a payload was encrypted with the key '{name}', which is not in the key ring of this process",
                code="payload.unknown_key",
                hint="add it to EVERSTEP_ENCRYPTION_KEYS; what needs it waits until then",
            )
        self._check_bound(metadata[_BOUND].decode(errors="replace"))
        try:
            plain = AESGCM(key).decrypt(metadata[_NONCE], payload.data, _associated(metadata))
            return Payload.FromString(inflate(plain) if metadata[_PACKED] == b"1" else plain)
        except (InvalidTag, ValueError, zstandard.ZstdError) as error:
            raise PayloadUnreadable(
                f"a payload that was encrypted with the key '{name}' is damaged, or the key is another one of that id",
                code="payload.damaged",
            ) from error

    def _check_bound(self, written_for: str) -> None:
        # a schedule names the workflows that it starts by its own id and the time
        same = self.bound == written_for or self.bound.startswith(f"{written_for}-")
        if written_for and self.bound and not same:
            raise PayloadUnreadable(
                f"a payload of {self.bound} was written for {written_for}",
                code="payload.foreign",
                hint="somebody copied it from one history into another",
            )


async def _aside(payload: Payload, work: object) -> Payload:
    assert callable(work)
    found = await asyncio.to_thread(work) if payload.ByteSize() >= THREAD_BYTES else work()
    assert isinstance(found, Payload)
    return found


def _associated(metadata: Mapping[str, bytes]) -> bytes:
    """Return what is not encrypted but cannot be changed either."""
    return b"everstep-1\0" + b"\0".join(metadata[name] for name in (_KEY, _BOUND, _PACKED))


def _own_nonce(key: bytes, data: bytes, plain: bytes) -> bytes:
    """Return a nonce that follows from the content.

    A replay, and a result that is handed on, write the same value again: with a nonce by chance each time would leave
    another large file. What shows is that two large values of one workflow are equal.
    """
    own = hmac.digest(key, b"everstep nonce", hashlib.sha256)
    return hmac.digest(own, data + b"\0" + plain, hashlib.sha256)[:NONCE_BYTES]
