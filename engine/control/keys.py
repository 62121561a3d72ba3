"""Use cases on API keys: make one and show it once, find out whose a sent one is, list and revoke them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import string
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.control.definitions import now_us
from engine.core.errors import InvalidInput, NotAllowed, NotFound, Unavailable
from engine.core.ids import is_tenant_name
from engine.store.keys import KeyFacts, KeyStore

PREFIX = "es_"
"""How every key begins, so that people and scanners for secrets know one."""
ID_CHARS = 16
SECRET_CHARS = 43
"""43 of 62 letters are 256 bits."""
CACHE_S = 5.0
"""How long a key that was found good is not asked for again: a revoked one may go on for so long in other processes."""
CACHED_KEYS = 10_000
UNSEEN_US = 120_000_000
"""How long a repeated request may replace the key that the first one made: until its reservation has lapsed and the
repetition has come."""
TOUCH_US = 60_000_000
"""How exact `last_used` is; each use would otherwise be a write."""

_LETTERS = string.ascii_letters + string.digits
_FORM = re.compile(rf"es_([0-9A-Za-z]{{{ID_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}}")
_ID_SPACE = uuid.UUID("1c1f4f0e-94a6-4b0c-8a1e-0f5b4b3f5f0a")

log = structlog.get_logger("everstep.keys")


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key just made.

    Attributes:
        facts: What the store holds.
        text: The key itself, which nobody can be told again.
    """

    facts: KeyFacts
    text: str


def hash_of(text: str) -> str:
    """Return the hash under which a key is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def check_tenant(tenant: str) -> str:
    """Return a tenant's name if it may be one.

    Raises:
        InvalidInput: `tenant.bad_name`.
    """
    if not is_tenant_name(tenant):
        raise InvalidInput(
            f"{tenant[:80]!r} is not a name for a tenant",
            code="tenant.bad_name",
            hint="use small letters, digits, `_` and `-`, at most 63 characters, such as `acme`",
        )
    return tenant


class KeyService:
    """Makes, checks and revokes API keys.

    Args:
        store: The store of keys.
        clock: Unix microseconds.
    """

    def __init__(self, store: KeyStore, clock: Callable[[], int] = now_us) -> None:
        self._store = store
        self._clock = clock
        self._good: OrderedDict[str, tuple[KeyFacts, int]] = OrderedDict()
        self._touching: set[asyncio.Task[None]] = set()

    async def create(
        self,
        *,
        tenant: str,
        name: str,
        scopes: Sequence[str],
        expires_us: int | None = None,
        actor: str = "",
        request_key: str = "",
    ) -> MadeKey:
        """Make a key.

        Args:
            tenant: The tenant it opens.
            name: Who or what will use it.
            scopes: What it permits.
            expires_us: When it ceases to open, Unix microseconds; None = never.
            actor: Who makes it.
            request_key: Key of the request: a repetition soon after replaces the key whose text nobody has seen; a
                later one makes another key.

        Raises:
            InvalidInput: `tenant.bad_name`, or `key.expired` for a time that is over.
        """
        check_tenant(tenant)
        now = self._clock()
        if expires_us is not None and expires_us <= now:
            raise InvalidInput("the key would have expired already", code="key.expired")
        key_id, replace_after_us = _random_text(ID_CHARS), None
        if request_key:
            key_id, replace_after_us = _id_of(tenant, request_key), now - UNSEEN_US
        while True:
            text = f"{PREFIX}{key_id}_{_random_text(SECRET_CHARS)}"
            facts = KeyFacts(
                tenant=tenant,
                id=key_id,
                name=name,
                hash=hash_of(text),
                scopes=tuple(scopes),
                created_us=now,
                created_by=actor,
                expires_us=expires_us,
            )
            if await self._store.put(facts, replace_after_us=replace_after_us):
                self._good.clear()
                return MadeKey(facts, text)
            # somebody may have the key of that id: it stays what it is
            key_id, replace_after_us = _random_text(ID_CHARS), None

    async def authenticate(self, text: str) -> KeyFacts:
        """Return the key that a text is.

        The answer may be `CACHE_S` old.

        Raises:
            NotAllowed: `auth.required`, `auth.key_expired`, `auth.key_revoked`.
        """
        hashed, now = hash_of(text), self._clock()
        known = self._good.get(hashed)
        if known is None or not 0 <= now - known[1] < CACHE_S * 1e6:
            self._good.pop(hashed, None)
            known = (await self._look_up(text, hashed), now)
            self._good[hashed] = known
            if len(self._good) > CACHED_KEYS:
                self._good.popitem(last=False)
        facts = known[0]
        if facts.expires_us is not None and facts.expires_us <= now:
            raise NotAllowed(
                f"the API key '{facts.name}' has expired", code="auth.key_expired", hint="ask for a new one"
            )
        return facts

    async def _look_up(self, text: str, hashed: str) -> KeyFacts:
        form = _FORM.fullmatch(text)
        facts = None if form is None else await self._store.find(form[1])
        if facts is None or not hmac.compare_digest(facts.hash, hashed):
            raise wrong_key()
        if facts.revoked_us is not None:
            raise NotAllowed(
                f"the API key '{facts.name}' was revoked", code="auth.key_revoked", hint="ask for a new one"
            )
        now = self._clock()
        if facts.last_used_us is None or now - facts.last_used_us > TOUCH_US:
            # beside the request: reads must answer while the store takes no writes
            touching = asyncio.create_task(self._touch(facts, now), name="touch-key")
            self._touching.add(touching)
            touching.add_done_callback(self._touching.discard)
        return facts

    async def _touch(self, facts: KeyFacts, now: int) -> None:
        try:
            await self._store.touch(facts.id, tenant=facts.tenant, now_us=now)
        except (SQLAlchemyError, Unavailable) as error:
            log.warning("the use of a key could not be written", key=facts.id, error=type(error).__name__)

    async def list_keys(
        self, *, tenant: str, limit: int = 100, after: tuple[int, str] | None = None
    ) -> Sequence[KeyFacts]:
        """Return one page of a tenant's keys, the oldest first; `after` = time and id of the last one before."""
        return await self._store.list_keys(tenant=tenant, limit=limit, after=after)

    async def revoke(self, key_id: str, *, tenant: str) -> KeyFacts:
        """Revoke a key: at once in this process, within `CACHE_S` in others.

        Raises:
            NotFound: `key.not_found`.
        """
        facts = await self._store.revoke(key_id, tenant=tenant, now_us=self._clock())
        if facts is None:
            raise NotFound(f"there is no key {key_id[:80]}", code="key.not_found", hint="list them: `everstep keys ls`")
        self._good.clear()
        return facts

    async def close(self) -> None:
        """Wait for what is still written."""
        await asyncio.gather(*self._touching)


def wrong_key() -> NotAllowed:
    """Return the refusal of a request without a credential that opens."""
    return NotAllowed(
        "the API key is missing or wrong",
        code="auth.required",
        hint="send it as `Authorization: Bearer KEY` or `X-Auth-Key: KEY`",
    )


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _id_of(tenant: str, request_key: str) -> str:
    number = uuid.uuid5(_ID_SPACE, f"{tenant}\n{request_key}").int
    letters = ""
    for _ in range(ID_CHARS):
        number, rest = divmod(number, len(_LETTERS))
        letters += _LETTERS[rest]
    return letters
