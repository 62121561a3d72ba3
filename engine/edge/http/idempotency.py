"""Idempotency-Key on every POST and DELETE: the same request with one key is done once, then answered from memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.control.definitions import now_us
from engine.core.errors import Conflict, InvalidInput, RequestError, Unavailable
from engine.edge.http.bodies import MAX_BODY_BYTES
from engine.edge.http.callers import Caller, check_scope
from engine.edge.http.problems import MEDIA_TYPE, problem_of
from engine.edge.http.scopes import RouteNeed, route_needs, scope_for
from engine.store.idempotency import IdempotencyStore, Reservation, Standing, of_execution

KEY_HEADER: Final = "idempotency-key"
METHODS: Final = frozenset({"POST", "DELETE"})
"""Methods that do something else the second time."""
REPLAYED: Final = "Idempotency-Replayed"
MAX_KEY_CHARS: Final = 255
RENEW_S: Final = 2.0
"""How often a request that takes long says that it is still under way."""
MAX_STORED_BYTES: Final = 1024 * 1024
NOT_STORED: Final = frozenset({401, 403, 408, 409, 425, 429})
"""Refusals that the same request may overcome: with other credentials, or once the state of things has changed."""
OWN: Final = frozenset(
    {
        "/api/tasks/{task_id}/executions",
        "/api/sessions/{session_id}/chat",
        "/api/executions/{execution_id}/waits/{wait_id}/link",
        "/api/codec/decode",
        "/api/codec/encode",
    }
)
"""Routes that keep keys themselves: the id of an execution, or of a turn of a chat, is made of its key, for ever and
without a write, and a request that comes again waits with the one that is under way; a link is kept nowhere, since it
is a secret, and one more does no harm; nor is what was decrypted."""

_EXECUTION: Final = re.compile(r"/api/executions/([^/]+)")
_REMEMBER: Final = "idempotency_body"

log = structlog.get_logger("everstep.api")


def remember_instead(request: Request, body: Any) -> None:
    """Let repetitions of a request get another body than the first answer, because that holds a secret."""
    setattr(request.state, _REMEMBER, body)


class Idempotency:
    """Answers a POST or DELETE that comes again with the same Idempotency-Key by what it answered the first time.

    A key belongs to a tenant. Answers of 500 and above are not kept, nor those in `NOT_STORED` nor large ones: the
    request is made again then, and whatever it creates has an id that is made of the key.

    Args:
        app: The app behind it; the guard stands in front.
        store: Where keys and answers are kept.
    """

    def __init__(self, app: ASGIApp, *, store: IdempotencyStore) -> None:
        self._app = app
        self._store = store
        self._needs: list[RouteNeed] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it from memory."""
        asks = scope["type"] == "http" and scope["method"] in METHODS
        key = Headers(scope=scope).get(KEY_HEADER) if asks else None
        caller = scope.get("state", {}).get("caller")
        if key is None or not isinstance(caller, Caller) or self._keeps_its_own(scope):
            await self._app(scope, receive, send)
            return
        try:
            # what is told again must not be told to those who may not ask for it
            check_scope(caller, scope_for(self._all_needs(scope), scope["method"], scope["path"]) or "read")
            body = await _whole_body(receive)
            held = await self._reserve(caller.tenant, key, _fingerprint(scope, body))
        except RequestError as refused:
            await problem_of(refused)(scope, receive, send)
            return
        if held.standing is Standing.ANSWERED:
            media_type = MEDIA_TYPE if held.status >= 400 else "application/json"
            content = held.body.encode() if held.body else None
            answer = Response(content, held.status, {REPLAYED: "true"}, media_type=media_type)
            await answer(scope, receive, send)
            return
        answered = _Answer(self._store, caller.tenant, key, held.reserved_us, scope, send)
        holding = asyncio.create_task(answered.hold(), name="idempotency-hold")
        try:
            await self._app(scope, _replay(body, receive), answered.send)
        finally:
            await answered.give_back()
            holding.cancel()

    def _all_needs(self, scope: Scope) -> list[RouteNeed]:
        if self._needs is None:
            app = scope["app"]
            assert isinstance(app, FastAPI)
            self._needs = route_needs(app)
        return self._needs

    def _keeps_its_own(self, scope: Scope) -> bool:
        return any(need.path in OWN and need.pattern.match(scope["path"]) for need in self._all_needs(scope))

    async def _reserve(self, tenant: str, key: str, fingerprint: str) -> Reservation:
        if not key.strip() or len(key) > MAX_KEY_CHARS:
            raise InvalidInput(
                f"an Idempotency-Key has 1 to {MAX_KEY_CHARS} characters", code="idempotency.bad_key", hint="use a UUID"
            )
        held = await self._store.reserve(tenant, key, fingerprint, now_us=now_us())
        if held.standing is Standing.ANOTHER:
            raise Conflict(
                f"the idempotency key {key!r} was used with another request before",
                code="idempotency.key_reused",
                hint="use a new key for a new request",
            )
        if held.standing is Standing.UNDER_WAY:
            raise Conflict(
                f"the request with the idempotency key {key!r} is still under way",
                code="idempotency.in_progress",
                hint="repeat it in a moment",
                retryable=True,
            )
        return held


class _Answer:
    """The answer of the first request with a key: kept, then sent, so that whoever has it can rely on it."""

    def __init__(
        self, store: IdempotencyStore, tenant: str, key: str, reserved_us: int, scope: Scope, send: Send
    ) -> None:
        self._store = store
        self._key = (tenant, key)
        self._reserved_us = reserved_us
        self._turn = asyncio.Lock()
        self._scope = scope
        self._send = send
        self._waiting: list[Message] = []
        self._status = 0
        self._body = b""
        self._passing = False
        self._kept = False
        self._given_back = False

    async def send(self, message: Message) -> None:
        """Take a message of the answer."""
        if self._passing:
            await self._send(message)
            return
        self._waiting.append(message)
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kind = MutableHeaders(scope=message).get("content-type", "")
            self._passing = not self._is_kept(kind)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if len(self._body) > MAX_STORED_BYTES:
                self._passing = True
            elif not message.get("more_body", False):
                await self._keep()
                self._passing = True
        if self._passing:
            # before it is sent: whoever has read the answer may repeat the request at once
            await self.give_back()
            waiting, self._waiting = self._waiting, []
            for item in waiting:
                await self._send(item)

    def _is_kept(self, content_type: str) -> bool:
        if self._status >= 500 or self._status in NOT_STORED:
            return False
        return not content_type or content_type.partition(";")[0] in ("application/json", MEDIA_TYPE)

    async def _keep(self) -> None:
        instead = self._scope.get("state", {}).get(_REMEMBER)
        body = self._body.decode() if instead is None else json.dumps(instead)
        try:
            async with self._turn:
                await self._store.answer(*self._key, self._reserved_us, status=self._status, body=body)
                self._kept = True
        except (SQLAlchemyError, Unavailable) as error:
            # what was asked for is done: not to say so would be worse than to do it again under the same ids
            log.warning("the answer to an idempotency key could not be kept", error=type(error).__name__)

    async def give_back(self) -> None:
        """Let the request be made again, unless its answer was kept."""
        async with self._turn:
            if self._kept or self._given_back:
                return
            self._given_back = True
            try:
                await self._store.release(*self._key, self._reserved_us)
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("an idempotency key stays reserved for some seconds", error=type(error).__name__)

    async def hold(self) -> None:
        """Renew the reservation again and again until the answer is kept, or the key given back."""
        while True:
            await asyncio.sleep(RENEW_S)
            async with self._turn:
                if self._kept or self._given_back:
                    return
                try:
                    self._reserved_us = await self._store.renew(*self._key, self._reserved_us, now_us=now_us())
                except (SQLAlchemyError, Unavailable) as error:
                    log.warning("an idempotency key could not be held for longer", error=type(error).__name__)


async def _whole_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise InvalidInput("the request broke off", code="request.unreadable")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise InvalidInput(
                f"the body is larger than {MAX_BODY_BYTES // 2**20} MB",
                code="request.too_large",
                hint="keep large data outside and pass a reference",
            )
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _fingerprint(scope: Scope, body: bytes) -> str:
    digest = hashlib.sha256()
    content_type = Headers(scope=scope).get("content-type", "")
    # keys of POSTs that were stored before there were others must be known again
    method = () if scope["method"] == "POST" else (scope["method"].encode(),)
    for part in (*method, scope["path"].encode(), scope["query_string"], content_type.encode(), body):
        digest.update(len(part).to_bytes(8) + part)
    about = _EXECUTION.match(scope["path"])
    return digest.hexdigest() if about is None else of_execution(digest.hexdigest(), about[1])
