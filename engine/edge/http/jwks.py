"""The public keys of an OpenID provider: fetched, kept while it is down, fetched anew when a token names another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from engine.core.errors import InvalidInput, Unavailable
from engine.edge.http.addresses import is_loopback

FRESH_S: Final = 600.0
"""How long keys are taken without asking again; a key that the provider withdrew opens for so long."""
REFRESH_S: Final = 10.0
"""Shortest time between two fetches that tokens with unknown keys cause: anybody can make such tokens."""
RETRY_S: Final = 2.0
"""Shortest time between two fetches while there are no keys at all."""
FETCH_TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 1024 * 1024
MIN_RSA_BITS: Final = 2048

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

log = structlog.get_logger("everstep.oidc")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of a provider.

    Attributes:
        kid: Its id; may be empty.
        jwk: As the provider shows it.
    """

    kid: str
    jwk: dict[str, Any]

    def fits(self, algorithm: str) -> bool:
        """Whether signatures of an algorithm can be checked with it."""
        if (self.jwk.get("alg") or algorithm) != algorithm:
            return False
        kind, curve = self.jwk.get("kty"), self.jwk.get("crv")
        if algorithm in _CURVES:
            return kind == "EC" and curve == _CURVES[algorithm]
        return kind == "OKP" and curve == "Ed25519" if algorithm == "EdDSA" else kind == "RSA"


def safe_address(url: str, what: str) -> str:
    """Return an address if nobody on the way can change what it answers.

    Raises:
        InvalidInput: `config.oidc` unless it is https, or on this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise InvalidInput(f"{what} {url!r} is no https address", code="config.oidc", hint="keys must come over https")


class ProviderKeys:
    """Keys of one provider.

    Args:
        issuer: The provider.
        jwks_url: Where its keys are; empty = where its discovery document says.
        refresh_s: Shortest time between two fetches that unknown keys cause.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str = "",
        *,
        refresh_s: float = REFRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = safe_address(issuer, "the issuer")
        self._jwks_url = safe_address(jwks_url, "the address of keys") if jwks_url else ""
        self._refresh_s = refresh_s
        self._clock = clock
        self._keys: list[PublicKey] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failure = ""
        self._lock = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> PublicKey | None:
        """Return the key that a token names; without a name, the only one that fits.

        Args:
            kid: Id of the key; empty = the token names none.
            algorithm: Algorithm of the signature.

        Returns:
            The key, or None if the provider has no such key.

        Raises:
            Unavailable: `auth.issuer_unreachable` if the keys cannot be fetched.
        """
        if self._fetched_at is None:
            await self._fetch_once(RETRY_S)
        elif self._clock() - self._fetched_at > FRESH_S and (self._renewing is None or self._renewing.done()):
            # beside the request, which goes on with the keys that are here
            self._renewing = asyncio.create_task(self._fetch_once(self._refresh_s), name="oidc-keys")
        found = self._pick(kid, algorithm)
        if found is None:
            await self._fetch_once(self._refresh_s)
            found = self._pick(kid, algorithm)
        if found is None and self._failure:
            raise Unavailable(
                f"the keys of {self.issuer} cannot be fetched: {self._failure}",
                code="auth.issuer_unreachable",
                hint="look whether the identity provider answers; EVERSTEP_OIDC_ISSUER names it",
                retryable=True,
            )
        return found

    def _pick(self, kid: str, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._keys if key.fits(algorithm) and (not kid or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 or (fitting and kid) else None

    async def _fetch_once(self, pause_s: float) -> None:
        async with self._lock:
            if self._tried_at is not None and self._clock() - self._tried_at < pause_s:
                return
            try:
                self._keys = await self._fetch()
                self._fetched_at, self._failure = self._clock(), ""
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, InvalidInput) as error:
                self._failure = str(error) or type(error).__name__
                log.warning("the keys of the identity provider cannot be fetched", error=self._failure)
            self._tried_at = self._clock()

    async def _fetch(self) -> list[PublicKey]:
        url = self._jwks_url
        if not url:
            found = await _get_json(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise ValueError(f"its discovery document is that of {found.get('issuer')!r}")
            url = safe_address(str(found.get("jwks_uri")), "the address of keys")
        listed = (await _get_json(url)).get("keys")
        if not isinstance(listed, list):
            raise ValueError("what it answers holds no keys")
        return [PublicKey(str(jwk.get("kid") or ""), jwk) for jwk in listed if _is_usable(jwk)]


async def _get_json(url: str) -> dict[str, Any]:
    local = is_loopback(urlsplit(url).hostname or "")
    async with (
        httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, trust_env=not local) as http,
        asyncio.timeout(FETCH_TIMEOUT_S),
        http.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"{url} answers {response.status_code}")
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                raise ValueError(f"{url} answers more than {MAX_BYTES} bytes")
    body = httpx.Response(200, content=bytes(content)).json()
    if not isinstance(body, dict):
        raise ValueError(f"{url} answers no object")
    return body


def _is_usable(jwk: Any) -> bool:
    """Whether a key is a public one for signatures that is not too weak."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP") or jwk.get("use", "sig") != "sig":
        return False
    try:
        key = PyJWK(jwk).key
    except (PyJWTError, ValueError):
        return False
    return not isinstance(key, RSAPublicKey) or key.key_size >= MIN_RSA_BITS
