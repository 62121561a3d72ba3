"""Who may talk to the API: credentials, Host and Origin headers, and which addresses it may bind to without a key."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.core.errors import InvalidInput, NotAllowed, RequestError
from engine.edge.http.addresses import is_loopback
from engine.edge.http.callers import Caller
from engine.edge.http.credentials import Doorman
from engine.edge.http.problems import problem_of
from engine.settings import Settings

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/api/healthz", "/api/readyz"})
"""Paths that load balancers ask without a key."""
LINK_PATH = "/api/link"
"""Behind it, a token in the query is the permission: no credentials are asked for, and pages of mail programs that open
it from elsewhere do no harm, since what they cannot know is the token."""
RESUME_PATH = "/api/executions"
"""A POST there answers a wait; its task token in the query is the permission, as with links."""
HOOK_PATH = re.compile(r"/api/hooks/[^/]+")
"""A POST there is an event from outside; the hook's own key or signature is the permission."""
TELLS_MORE = frozenset({"/readyz", "/api/readyz"})
"""Those of them that tell callers with a key more."""


def asks_nobody(settings: Settings) -> bool:
    """Whether the API takes requests without credentials."""
    return settings.auth == "auto" and settings.api_key is None and not settings.oidc_issuer


def refuse_open_bind(settings: Settings) -> None:
    """Refuse to serve other machines without asking for credentials.

    Raises:
        InvalidInput: `config.api_key_required`.
    """
    if asks_nobody(settings) and not is_loopback(settings.host):
        raise InvalidInput(
            f"the API will not bind to {settings.host} without an API key",
            code="config.api_key_required",
            hint="set EVERSTEP_API_KEY, or make a key with `everstep keys create --local` and set "
            "EVERSTEP_AUTH=required, or bind to 127.0.0.1",
        )


class Guard:
    """Refuses requests without credentials, and requests that a web page sends behind its reader's back.

    A page of another site can make a browser call a server on loopback: with a name of its own that points to 127.0.0.1
    (the Host header tells), or across origins (the Origin header tells). Who a request comes from stands in its state
    afterwards, as `caller`.

    Args:
        app: The app behind it.
        doorman: Finds out who sends a request.
        local_only: Whether the server is bound to loopback, so that other Host headers are refused.
    """

    def __init__(self, app: ASGIApp, *, doorman: Doorman, local_only: bool) -> None:
        self._app = app
        self._doorman = doorman
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _carries_its_permission(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(headers)
            caller = await self._caller(scope["path"], headers)
        except RequestError as refused:
            await problem_of(refused)(scope, receive, send)
            return
        if caller is None:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        with structlog.contextvars.bound_contextvars(tenant=caller.tenant, actor=caller.actor):
            await self._app(scope, receive, send)

    async def _caller(self, path: str, headers: Headers) -> Caller | None:
        if path not in OPEN_PATHS:
            return await self._doorman.caller(headers)
        if path not in TELLS_MORE:
            return None
        try:
            return await self._doorman.caller(headers)
        except (RequestError, SQLAlchemyError):
            # whoever cannot be known is nobody here, and gets an answer while the store is away
            return None

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._local_only and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise NotAllowed(
                f"the Host header {host!r} is none of this machine",
                code="host.refused",
                hint="call the API at 127.0.0.1 or localhost",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise NotAllowed(f"pages of {origin} may not call this API", code="origin.refused")


def _carries_its_permission(method: str, path: str) -> bool:
    """Whether a request shows by itself that it is permitted, so that nobody is asked who sends it."""
    return path == LINK_PATH or (method == "POST" and (path == RESUME_PATH or HOOK_PATH.fullmatch(path) is not None))
