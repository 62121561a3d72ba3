"""Requests that Julep's SDK repeats without a key: each gets one here, and a repetition that of its first try."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.control.definitions import now_us
from engine.core.errors import RequestError, Unavailable
from engine.edge.http.bodies import MAX_BODY_BYTES
from engine.edge.http.callers import Caller
from engine.edge.http.clients import is_stainless
from engine.edge.http.idempotency import KEY_HEADER, METHODS
from engine.edge.http.problems import problem_of
from engine.edge.http.scopes import RouteNeed, route_needs
from engine.store.idempotency import OURS
from engine.store.retries import RetryStore

COUNT_HEADER = "x-stainless-retry-count"
"""How often the SDK has tried a request before; it sends no key of its own."""
ANSWERS = frozenset(
    {
        "/api/executions/{execution_id}",
        "/api/tasks/{task_id}/executions/{execution_id}",
    }
)
"""Where a PUT answers a wait, and the second one the wait that comes next; all others may be repeated as they are."""
ASKS_ONLY = frozenset(
    {
        "/api/embed",
        "/api/docs/search",
        "/api/agents/{agent_id}/search",
        "/api/users/{user_id}/search",
        "/api/sessions/{session_id}/render",
    }
)
"""Where a POST changes nothing, although a model may be asked: to keep each answer costs more than to ask twice."""

log = structlog.get_logger("everstep.api")


class BlindRetries:
    """Gives requests of the SDK a key, so that what it repeats after a broken connection is not done twice.

    A first try gets a new key, which is remembered under a hash of the request until some minutes after its answer; a
    repetition gets the latest of its hash. Two equal requests that are both first tries have two keys, since somebody
    wants both.

    Args:
        app: The app behind it: `Idempotency`, and the routes that keep keys themselves; the guard stands in front.
        store: Where keys are remembered.
    """

    def __init__(self, app: ASGIApp, *, store: RetryStore) -> None:
        self._app = app
        self._store = store
        self._needs: list[RouteNeed] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a key if it needs one."""
        caller = scope.get("state", {}).get("caller") if scope["type"] == "http" else None
        if not isinstance(caller, Caller) or not self._is_blind(scope, caller):
            await self._app(scope, receive, send)
            return
        messages, body = await _read(receive)
        again = _replay(messages, receive)
        if body is None:
            # too large, or broken off: what is behind refuses it
            await self._app(scope, again, send)
            return
        mark = _fingerprint(caller, scope, body)
        try:
            key = await self._key(caller.tenant, mark, Headers(scope=scope).get(COUNT_HEADER, ""))
        except RequestError as refused:
            await problem_of(refused)(scope, again, send)
            return
        # in the scope itself, where the access log looks for the route that answered
        scope["headers"] = [*scope["headers"], (KEY_HEADER.encode(), key.encode())]
        await self._app(scope, again, send)
        await self._answered(caller.tenant, mark, key)

    def _is_blind(self, scope: Scope, caller: Caller) -> bool:
        headers = Headers(scope=scope)
        return is_stainless(headers) and KEY_HEADER not in headers and self._does_something(scope, caller)

    def _does_something(self, scope: Scope, caller: Caller) -> bool:
        """Whether a second time would not be as good as one; of what is refused nothing is remembered."""
        if self._needs is None:
            app = scope["app"]
            assert isinstance(app, FastAPI)
            self._needs = route_needs(app)
        method = scope["method"]
        for need in self._needs:
            if method in need.methods and need.pattern.match(scope["path"]):
                may_change = need.scope != "read" and need.scope in caller.scopes
                return may_change and need.path not in ASKS_ONLY and (method in METHODS or need.path in ANSWERS)
        return False

    async def _key(self, tenant: str, mark: str, count: str) -> str:
        key = f"{OURS}{uuid.uuid4()}"
        if count.strip("0").isdigit():
            return await self._store.again(tenant, mark, key, now_us=now_us())
        await self._store.begin(tenant, mark, key, now_us=now_us())
        return key

    async def _answered(self, tenant: str, mark: str, key: str) -> None:
        try:
            await self._store.answered(tenant, mark, key, now_us=now_us())
        except (SQLAlchemyError, Unavailable) as error:
            # the answer was sent
            log.warning("the key of a request without one is kept for an hour", error=type(error).__name__)


def _fingerprint(caller: Caller, scope: Scope, body: bytes) -> str:
    digest = hashlib.sha256()
    parts = caller.key_id, caller.actor, scope["method"], scope["path"]
    for part in (*(text.encode() for text in parts), scope["query_string"], body):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


async def _read(receive: Receive) -> tuple[list[Message], bytes | None]:
    """Read a request; its body is None if it is longer than any that a route takes, or did not come whole."""
    parts: list[bytes] = []
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return messages, None
        if not message.get("more_body", False):
            body = b"".join(parts)
            return [{"type": "http.request", "body": body, "more_body": False}], body


def _replay(messages: Sequence[Message], receive: Receive) -> Receive:
    """Return a `receive` that tells first what was read already."""
    left = list(reversed(messages))

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
