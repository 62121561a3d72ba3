"""An OpenID provider for tests, on loopback: discovery, keys that change, and tokens signed with them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

AUDIENCE = "everstep"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def new_key(algorithm: str, bits: int = 2048) -> PrivateKey:
    """Make a private key for an algorithm."""
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, bits)


def public_jwk(key: PrivateKey, kid: str) -> dict[str, Any]:
    """Return the public half as a provider shows it."""
    if isinstance(key, rsa.RSAPrivateKey):
        text = RSAAlgorithm.to_jwk(key.public_key())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        text = ECAlgorithm.to_jwk(key.public_key())
    else:
        text = OKPAlgorithm.to_jwk(key.public_key())
    shown: dict[str, Any] = json.loads(text)
    return {**shown, "kid": kid, "use": "sig"}


@dataclass
class Provider:
    """A provider.

    Attributes:
        url: Its address, which is its name.
        shown: Keys that it shows, by id.
        down: Whether it answers with an error.
        asked: How often its keys were fetched.
        named: What its discovery document says it is called, instead of its address.
    """

    url: str = ""
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: bool = False
    asked: int = 0
    named: str = ""

    def app(self) -> Starlette:
        """Return the app that serves it."""

        async def discovery(request: Request) -> Response:
            del request
            return JSONResponse({"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"})

        async def keys(request: Request) -> Response:
            del request
            self.asked += 1
            return Response(status_code=500) if self.down else JSONResponse({"keys": list(self.shown.values())})

        return Starlette(routes=[Route("/.well-known/openid-configuration", discovery), Route("/keys", keys)])

    def show(self, key: PrivateKey, kid: str) -> None:
        """Let it show the public half of a key."""
        self.shown[kid] = public_jwk(key, kid)

    def token(self, key: Any, kid: str | None, algorithm: str = "RS256", *, without: str = "", **claims: Any) -> str:
        """Return a token: for an hour, with scope `run`, of tenant `acme`, for Ada, unless claims say otherwise."""
        now = int(time.time())
        body: Mapping[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u-1",
            "email": "ada@acme.example",
            "tenant": "acme",
            "scope": "openid run",
            "iat": now,
            "exp": now + 3_600,
            **claims,
        }
        kept = {name: value for name, value in body.items() if name != without}
        return jwt.encode(kept, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})
