"""Finds out who sends a request: by the root key, an API key of the store, an OIDC token, or by asking nobody."""

from __future__ import annotations

import hmac
from typing import Protocol

from starlette.datastructures import Headers

from engine.control.keys import PREFIX, KeyService, wrong_key
from engine.core.errors import NotAllowed, Unavailable
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
        """Return who sends a request with these headers: the first credential that opens counts.

        Raises:
            NotAllowed: `auth.required`, or why the first key or token does not open, if none does.
            Unavailable: If the keys of the identity provider cannot be fetched, and nothing else opens.
        """
        offered = [_bare(headers.get("authorization", "")), headers.get("x-auth-key", "").strip()]
        if self._root_key is not None:
            # both are compared: the time must not tell which header was nearly right
            matches = [hmac.compare_digest(text.encode(), self._root_key) for text in offered]
            if any(matches):
                return ROOT
        refusals: list[NotAllowed] = []
        silent: Unavailable | None = None
        # clients of other systems send both headers, one of them with a key of their own
        for text in dict.fromkeys(offered):
            try:
                caller = await self._caller_by(text)
            except NotAllowed as refused:
                refusals.append(refused)
            except Unavailable as error:
                silent = silent or error
            else:
                if caller is not None:
                    return caller
        if silent is not None:
            # whoever cannot be asked might have said yes
            raise silent
        if refusals:
            raise refusals[0]
        if self._open:
            # clients of other systems send any text as a key; nobody asked them for one
            return ANYBODY
        raise wrong_key()

    async def _caller_by(self, text: str) -> Caller | None:
        """Return whose credential a text is; None if it has the form of none."""
        if text.startswith(PREFIX):
            return caller_of_key(await self._keys.authenticate(text))
        if self._tokens is not None and text.count(".") == 2:
            return await self._tokens.caller(text)
        return None


def caller_of_key(key: KeyFacts) -> Caller:
    """Return who sends an API key."""
    return Caller(key.tenant, actor=key.name, scopes=widened(key.scopes), key_id=key.id)


def _bare(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value.strip()
