"""Bearer tokens of an OpenID provider: their signature, for whom and until when they are, and whom they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt import PyJWK
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from engine.core.errors import InvalidInput, NotAllowed
from engine.core.ids import is_tenant_name
from engine.edge.http.callers import MAX_ACTOR_CHARS, Caller, widened
from engine.edge.http.jwks import ProviderKeys
from engine.settings import Settings

SKEW_S: Final = 60
"""How far the clocks of provider and API may be apart."""
SCOPE_PREFIX: Final = "everstep:"
"""May stand before our scopes, where the provider's other programs have scopes of the same names."""

_WHY: Final[Sequence[tuple[type[PyJWTError], str]]] = (
    (ImmatureSignatureError, "it is not valid yet"),
    (InvalidAudienceError, "it was made for another audience"),
    (InvalidIssuerError, "it is of another issuer"),
    (InvalidSignatureError, "its signature is wrong"),
)


@dataclass(frozen=True, slots=True)
class Claims:
    """Which claims of a token say what.

    Attributes:
        tenant: The tenant.
        scope: The scopes.
        actor: Who it is; empty = `email`, else `sub`.
    """

    tenant: str = "tenant"
    scope: str = "scope"
    actor: str = ""


class OidcTokens:
    """Reads bearer tokens of one provider.

    Args:
        keys: The provider's keys.
        audience: What tokens must be made for.
        algorithms: Algorithms of signatures that are taken; all of them with a private key.
        claims: Which claims say what.
    """

    def __init__(
        self, keys: ProviderKeys, *, audience: str, algorithms: Sequence[str], claims: Claims | None = None
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._claims = claims or Claims()

    async def caller(self, token: str) -> Caller:
        """Return whose token it is.

        Raises:
            NotAllowed: `auth.token_expired`, `auth.token_invalid`, `auth.tenant`.
            Unavailable: `auth.issuer_unreachable`.
        """
        body = await self._verified(token)
        tenant = _claim(body, self._claims.tenant)
        if not isinstance(tenant, str) or not is_tenant_name(tenant):
            raise NotAllowed(
                f"the token names no tenant: its claim '{self._claims.tenant}' is missing or no name of one",
                code="auth.tenant",
                hint="let the provider put it there, or name another claim with EVERSTEP_OIDC_TENANT_CLAIM",
            )
        return Caller(tenant, actor=self._actor(body), scopes=_scopes(_claim(body, self._claims.scope)))

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid", "")
        except PyJWTError as error:
            raise _invalid("it cannot be read") from error
        if not isinstance(algorithm, str) or algorithm not in self._algorithms or not isinstance(kid, str):
            raise _invalid("its signature is of a kind that is not taken")
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise _invalid("the provider has no key by which it could be checked")
        try:
            return dict(
                jwt.decode(
                    token,
                    PyJWK(key.jwk, algorithm),
                    algorithms=[algorithm],
                    audience=self._audience,
                    issuer=[self._keys.issuer],
                    leeway=SKEW_S,
                    options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
                )
            )
        except ExpiredSignatureError as error:
            raise NotAllowed(
                "the bearer token has expired", code="auth.token_expired", hint="ask the provider for a new one"
            ) from error
        except MissingRequiredClaimError as error:
            raise _invalid(f"it has no claim '{error.claim}'") from error
        except PyJWTError as error:
            why = next((text for kind, text in _WHY if isinstance(error, kind)), "it is not as it should be")
            raise _invalid(why) from error

    def _actor(self, body: Mapping[str, Any]) -> str:
        names: list[Any] = [_claim(body, self._claims.actor)] if self._claims.actor else []
        if not self._claims.actor and body.get("email_verified") is not False:
            names.append(body.get("email"))
        for name in (*names, body.get("sub")):
            text = " ".join(name.split()) if isinstance(name, str) else ""
            if text:
                return text[:MAX_ACTOR_CHARS]
        raise _invalid("it names nobody")


def tokens_of(settings: Settings) -> OidcTokens | None:
    """Return the reader of tokens that the settings ask for; None = they name no provider.

    Raises:
        InvalidInput: `config.oidc` if keys would come over an address that others can change, or no audience is set.
    """
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        # tokens that the provider made for other programs would open this one
        raise InvalidInput(
            "the setting EVERSTEP_OIDC_AUDIENCE is missing",
            code="config.oidc",
            hint="set it to what the provider puts into `aud` of tokens for this API",
        )
    claims = Claims(settings.oidc_tenant_claim, settings.oidc_scope_claim, settings.oidc_actor_claim)
    keys = ProviderKeys(settings.oidc_issuer, settings.oidc_jwks_url)
    return OidcTokens(keys, audience=settings.oidc_audience, algorithms=settings.oidc_algorithms, claims=claims)


def _claim(body: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its whole name, or by a path such as `resource.roles`."""
    if name in body:
        return body[name]
    found: Any = body
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _scopes(told: Any) -> frozenset[str]:
    words = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
    return widened(word.removeprefix(SCOPE_PREFIX) for word in words if isinstance(word, str))


def _invalid(why: str) -> NotAllowed:
    return NotAllowed(f"the bearer token is not taken: {why}", code="auth.token_invalid")
