"""Lets pages of configured origins, such as Temporal's UI, call the codec server; all other routes stay closed."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = "/api/codec/"
HEADERS = "Authorization, Content-Type, X-Namespace"


class CodecOrigins:
    """Answers preflights and allows answers to be read, for some origins and for the codec server alone.

    Stands in front of the guard, which refuses every page of another origin: for these the Origin header is taken off,
    while the caller's key is asked for as always.

    Args:
        app: The app behind it.
        origins: Origins that may ask, `https://temporal.example.com`.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer a preflight."""
        origin = Headers(scope=scope).get("origin", "") if scope["type"] == "http" else ""
        if not origin or origin not in self._origins or not scope["path"].startswith(PATHS):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": _allowed(origin, preflight=True)})
            await send({"type": "http.response.body", "body": b""})
            return

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _allowed(origin, preflight=False):
                    headers[name.decode()] = value.decode()
            await send(message)

        own = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await self._app({**scope, "headers": own}, receive, tell)


def _allowed(origin: str, *, preflight: bool) -> list[tuple[bytes, bytes]]:
    told = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")]
    told.append((b"access-control-allow-credentials", b"true"))
    if preflight:
        told.append((b"access-control-allow-methods", b"POST"))
        told.append((b"access-control-allow-headers", HEADERS.encode()))
        told.append((b"access-control-max-age", b"600"))
    return told
