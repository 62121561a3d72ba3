"""The use case "secrets": sets, lists and removes them, and opens them for the calls of workers."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from engine.control.sealing import KEY_BYTES, NONCE_BYTES, KeyRing, new_key, read_ring
from engine.core.errors import Conflict, InvalidInput, NotFound, SecretError
from engine.obs.logs import redactor_in_use
from engine.obs.redaction import MIN_MASKED_CHARS
from engine.settings import Settings
from engine.store.database import Database
from engine.store.secrets import SealedSecret, SecretStore

KEY_FILE = "secrets.key"
LEAST_CHARS = MIN_MASKED_CHARS
"""What is shorter could not be told from other text when it is taken out of answers."""
MOST_BYTES = 64 * 1024
"""Longest value: certificates and key files fit, documents do not."""
MOST_SECRETS = 1_000
"""Most secrets of a tenant."""
MOST_DESCRIPTION = 1_000
NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
"""What stands after `secrets.` in a task."""

_NAME = re.compile(NAME_PATTERN)
_PURPOSE = b"everstep secrets 1"
"""Keys of the settings encrypt payloads as well: what is used here is derived from them."""


@dataclass(frozen=True, slots=True, repr=False)
class SecretKeys:
    """Where the keys are that close and open secrets.

    Attributes:
        configured: Rings as the settings hold them, with the variables they stand in.
        folder: Where the key is kept that is made if the settings hold none.
    """

    configured: tuple[tuple[str, SecretStr], ...]
    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> SecretKeys:
        """Return those of an installation."""
        first = ("EVERSTEP_SECRETS_KEYS", settings.secrets_keys)
        return cls((first, ("EVERSTEP_ENCRYPTION_KEYS", settings.encryption_keys)), settings.data_dir)

    def __repr__(self) -> str:
        """Show where a key is kept, but none."""
        return f"SecretKeys({self.folder / KEY_FILE})"

    def ring(self, *, make: bool = False) -> KeyRing:
        """Return all keys, the one that closes first; one that the settings got later does not hide the older ones.

        Args:
            make: Whether a key is made and kept, if there is none.

        Raises:
            InvalidInput: `config.invalid`; it never shows a key.
        """
        keys: dict[str, bytes] = {}
        for variable, text in self.configured:
            ring = read_ring(text.get_secret_value(), variable)
            keys |= _others(ring, keys)
        path = self.folder / KEY_FILE
        if make and not keys and not path.exists():
            _make_key_file(path)
        if path.exists():
            keys |= _others(read_ring(path.read_text(encoding="utf-8"), str(path)), keys)
        return KeyRing(keys)


def _others(ring: KeyRing | None, known: Collection[str]) -> dict[str, bytes]:
    return {} if ring is None else {name: key for name, key in ring.keys.items() if name not in known}


def _make_key_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    # machines that make one each have other ids, so that a key that is missing is not taken for damage
    text = new_key(f"file-{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        # whole or not at all, and of several processes that begin at once the first one's counts
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=None, info=_PURPOSE).derive(key))


def _bound_to(tenant: str, name: str, key_id: str) -> bytes:
    """Return what is not encrypted but cannot be changed either: no row opens in the place of another one."""
    return b"\0".join((_PURPOSE, tenant.encode(), name.encode(), key_id.encode()))


def _sealed(ring: KeyRing, tenant: str, name: str, value: str) -> tuple[str, str]:
    key_id, key = ring.first
    nonce = os.urandom(NONCE_BYTES)
    closed = _cipher(key).encrypt(nonce, value.encode(), _bound_to(tenant, name, key_id))
    return key_id, base64.b64encode(nonce + closed).decode("ascii")


def _opened(ring: KeyRing, secret: SealedSecret) -> SecretStr:
    key = ring.keys.get(secret.key_id)
    if key is None:
        raise SecretError(
            f"the secret '{secret.name}' needs the key '{secret.key_id}', which this process does not have",
            code="secret.unknown_key",
            hint="give all processes the same EVERSTEP_SECRETS_KEYS, or the same EVERSTEP_DATA_DIR; or set it again",
        )
    bound = _bound_to(secret.tenant, secret.name, secret.key_id)
    try:
        data = base64.b64decode(secret.sealed, validate=True)
        return SecretStr(_cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound).decode())
    except (InvalidTag, ValueError) as error:
        raise SecretError(
            f"the secret '{secret.name}' is damaged, or its key is another one of that id",
            code="secret.unreadable",
            hint="set it again",
        ) from error


def _now_us() -> int:
    return time.time_ns() // 1_000


class SecretReader:
    """Opens secrets for calls; nothing keeps what it returns, but for what takes them out of log lines.

    Args:
        store: The store of secrets.
        keys: Where their keys are.
        on_read: Told of each value that was read.
    """

    def __init__(
        self, store: SecretStore, keys: SecretKeys, on_read: Callable[[list[str]], None] = lambda values: None
    ) -> None:
        self._store = store
        self._keys = keys
        self._on_read = on_read

    @classmethod
    def of(cls, settings: Settings, database: Database) -> SecretReader:
        """Return the reader of a process, whose log lines do not show what it reads."""
        return cls(SecretStore(database), SecretKeys.of(settings), redactor_in_use().learn)

    async def read(self, tenant: str, name: str) -> SecretStr:
        """Return a secret.

        Raises:
            SecretError: `secret.missing`, `secret.unknown_key`, `secret.unreadable`.
        """
        return (await self.read_all(tenant, [name]))[name]

    async def read_all(self, tenant: str, names: Collection[str]) -> dict[str, SecretStr]:
        """Return these secrets by name.

        Raises:
            SecretError: As `read`, for the first of them.
        """
        if not names:
            return {}
        found = await self._store.find(set(names), tenant=tenant)
        missing = sorted(set(names) - found.keys())
        if missing:
            raise SecretError(
                f"there is no secret '{missing[0]}'",
                code="secret.missing",
                hint=f"set it: `everstep secrets set {missing[0]}`",
                details={"secrets": missing},
            )
        # read anew each time: the API may have made the first key after this process began
        ring = await asyncio.to_thread(self._keys.ring)
        opened = {name: _opened(ring, found[name]) for name in sorted(found)}
        self._on_read([value.get_secret_value() for value in opened.values()])
        return opened


class SecretService:
    """Sets, lists and removes secrets; it shows no value.

    Args:
        store: The store of secrets.
        keys: Where their keys are.
        clock: Unix microseconds.
    """

    def __init__(self, store: SecretStore, keys: SecretKeys, clock: Callable[[], int] = _now_us) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    async def set(
        self,
        name: str,
        value: str,
        *,
        tenant: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        before: str = "",
        is_new: bool = False,
        actor: str = "",
    ) -> SealedSecret:
        """Set a secret, in the place of the one of that name.

        Args:
            name: What tasks call it.
            value: Its value.
            tenant: Tenant id.
            description: What it is for; None = what was said before.
            metadata: What else is known of it; None = what was said before.
            before: What it was called until now, if that is another name.
            is_new: Whether it must take no other's place.
            actor: Who sets it.

        Raises:
            InvalidInput: `secret.bad_name`, `secret.bad_value`.
            Conflict: `secret.exists`, `secret.too_many`.
        """
        _check(name, value, description)
        ring = await asyncio.to_thread(self._keys.ring, make=True)
        key_id, sealed = _sealed(ring, tenant, name, value)
        now = self._clock()
        secret = SealedSecret(
            tenant=tenant,
            name=name,
            key_id=key_id,
            sealed=sealed,
            description=description or "",
            metadata=dict(metadata or {}),
            created_us=now,
            updated_us=now,
            updated_by=actor,
        )
        keep = [what for what, said in (("description", description), ("metadata", metadata)) if said is None]
        outcome = await self._store.put(secret, before=before, is_new=is_new, keep=keep, most=MOST_SECRETS)
        if outcome == "taken":
            raise Conflict(
                f"there is a secret '{name}' already",
                code="secret.exists",
                hint="set it with PUT, which takes its place",
            )
        if outcome == "full":
            raise Conflict(
                f"there are {MOST_SECRETS} secrets already",
                code="secret.too_many",
                hint="remove those that nothing uses",
            )
        return await self.get(name, tenant=tenant)

    async def get(self, reference: str, *, tenant: str) -> SealedSecret:
        """Return what is known of a secret, by its name or its id.

        Raises:
            NotFound: `secret.not_found`.
        """
        # no name has a dash, and every id
        found = (
            await self._store.find_by_id(reference, tenant=tenant)
            if "-" in reference
            else (await self._store.find([reference], tenant=tenant)).get(reference)
        )
        if found is None:
            raise _not_found(reference)
        return found

    async def list_secrets(
        self, *, tenant: str, limit: int = 100, after: str = "", offset: int = 0
    ) -> Sequence[SealedSecret]:
        """Return one page of a tenant's secrets by name; `after` = name of the last one before."""
        return await self._store.list_secrets(tenant=tenant, limit=limit, after=after, offset=offset)

    async def remove(self, reference: str, *, tenant: str) -> SealedSecret:
        """Remove a secret, by its name or its id; return what was known of it.

        Raises:
            NotFound: `secret.not_found`.
        """
        known = await self.get(reference, tenant=tenant)
        if not await self._store.remove(known.name, tenant=tenant):
            raise _not_found(reference)
        return known

    async def reseal(self, *, tenant: str) -> int:
        """Encrypt what an older key encrypted with the first one, so that the older key may go; return how many.

        Raises:
            SecretError: One cannot be opened; those before it are done.
        """
        ring, done, after = await asyncio.to_thread(self._keys.ring), 0, ""
        while page := await self._store.list_secrets(tenant=tenant, limit=100, after=after):
            after = page[-1].name
            for secret in page:
                if not ring.keys or secret.key_id != ring.first[0]:
                    value = _opened(ring, secret).get_secret_value()
                    key_id, sealed = _sealed(ring, tenant, secret.name, value)
                    other = replace(secret, key_id=key_id, sealed=sealed)
                    done += await self._store.replace_sealed(other, instead_of=secret.sealed)
        return done


def _check(name: str, value: str, description: str | None) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is not a name for a secret",
            code="secret.bad_name",
            hint="use letters, digits and `_`, at most 128 characters, such as `crm_token`",
        )
    problem = _problem_of(value)
    if problem:
        raise InvalidInput(f"the value of '{name}' {problem}", code="secret.bad_value")
    if description is not None and len(description) > MOST_DESCRIPTION:
        raise InvalidInput(
            f"the description of '{name}' has more than {MOST_DESCRIPTION} characters", code="secret.bad_value"
        )


def _problem_of(value: str) -> str:
    if len(value.strip()) < LEAST_CHARS:
        return f"has fewer than {LEAST_CHARS} characters, which could not be told from other text in answers and logs"
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        return "holds a character that no text has"
    return f"has more than {MOST_BYTES} bytes" if len(value.encode()) > MOST_BYTES else ""


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no secret {name[:80]}", code="secret.not_found", hint="list them: `everstep secrets ls`")
