"""Who may talk to the API: the key, the Host and Origin headers, and which addresses it may bind to without a key."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.core.errors import InvalidInput, NotAllowed
from engine.edge.http.problems import problem_of
from engine.settings import Settings

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/api/healthz", "/api/readyz"})
"""Paths that load balancers ask without a key."""


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_open_bind(settings: Settings) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        InvalidInput: `config.api_key_required`.
    """
    if settings.api_key is None and not is_loopback(settings.host):
        raise InvalidInput(
            f"the API will not bind to {settings.host} without an API key",
            code="config.api_key_required",
            hint="set EVERSTEP_API_KEY, or bind to 127.0.0.1",
        )


class Guard:
    """Refuses requests without the key, and requests that a web page sends behind its reader's back.

    A page of another site can make a browser call a server on loopback: with a name of its own that points to 127.0.0.1
    (the Host header tells), or across origins (the Origin header tells).

    Args:
        app: The app behind it.
        api_key: The key; None = everybody on this machine may call.
        local_only: Whether the server is bound to loopback, so that other Host headers are refused.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, local_only: bool) -> None:
        self._app = app
        self._key = None if api_key is None else api_key.encode()
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or answer it with a problem."""
        if scope["type"] == "http":
            refused = self._check(scope["path"], Headers(scope=scope))
            if refused is not None:
                await problem_of(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> NotAllowed | None:
        host = headers.get("host", "")
        if self._local_only and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return NotAllowed(
                f"the Host header {host!r} is none of this machine",
                code="host.refused",
                hint="call the API at 127.0.0.1 or localhost",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return NotAllowed(f"pages of {origin} may not call this API", code="origin.refused")
        if self._key is None or path in OPEN_PATHS:
            return None
        offered = [headers.get("x-auth-key", ""), _bare(headers.get("authorization", ""))]
        # both are compared: the time must not tell which header was nearly right
        matches = [hmac.compare_digest(value.encode(), self._key) for value in offered]
        if any(matches):
            return None
        return NotAllowed(
            "the API key is missing or wrong",
            code="auth.required",
            hint="send it as `Authorization: Bearer KEY` or `X-Auth-Key: KEY`",
        )


def _bare(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value
