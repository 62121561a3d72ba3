"""Finds out who sends a request: by the root key, an API key of the store, an OIDC token, or by asking nobody."""

from __future__ import annotations

import hmac
from typing import Protocol

from starlette.datastructures import Headers

from engine.control.keys import PREFIX, KeyService, wrong_key
from engine.core.ids import DEFAULT_TENANT
from engine.edge.http.callers import ALL_SCOPES, ANYBODY, Caller, widened
from engine.store.keys import KeyFacts

ROOT = Caller(DEFAULT_TENANT, actor="root", scopes=ALL_SCOPES, key_id="root", root=True)
"""Who sends the key of EVERSTEP_API_KEY."""


class TokenReader(Protocol):
    """Reads bearer tokens of an identity provider."""

    async def caller(self, token: str) -> Caller:
        """Return whose token it is.

        Raises:
            NotAllowed: With the reason.
            Unavailable: If the provider's keys cannot be fetched.
        """
        ...


class Doorman:
    """Decides who sends a request.

    Args:
        keys: Keys of the store.
        root_key: The key of the settings; None = there is none.
        tokens: Reader of bearer tokens; None = tokens are not taken.
        is_open: Whether requests without credentials may do everything.
    """

    def __init__(
        self, keys: KeyService, *, root_key: str | None, tokens: TokenReader | None = None, is_open: bool
    ) -> None:
        self._keys = keys
        self._root_key = None if root_key is None else root_key.encode()
        self._tokens = tokens
        self._open = is_open

    async def caller(self, headers: Headers) -> Caller:
        """Return who sends a request with these headers.

        Raises:
            NotAllowed: `auth.required`, or why a key or token does not open.
            Unavailable: If the keys of the identity provider cannot be fetched.
        """
        offered = [_bare(headers.get("authorization", "")), headers.get("x-auth-key", "").strip()]
        if self._root_key is not None:
            # both are compared: the time must not tell which header was nearly right
            matches = [hmac.compare_digest(text.encode(), self._root_key) for text in offered]
            if any(matches):
                return ROOT
        for text in offered:
            if text.startswith(PREFIX):
                return caller_of_key(await self._keys.authenticate(text))
            if self._tokens is not None and text.count(".") == 2:
                return await self._tokens.caller(text)
        if self._open:
            # clients of other systems send any text as a key; nobody asked them for one
            return ANYBODY
        raise wrong_key()


def caller_of_key(key: KeyFacts) -> Caller:
    """Return who sends an API key."""
    return Caller(key.tenant, actor=key.name, scopes=widened(key.scopes), key_id=key.id)


def _bare(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value.strip()
