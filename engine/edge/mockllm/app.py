"""The mock LLM server as a bare ASGI app, in all dialects; bare, as benchmarks must not measure a framework."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.core.values import Json
from engine.edge.mockllm.anthropic import AnthropicDialect
from engine.edge.mockllm.dialects import Asked, Dialect, NotAskedRight, Routes
from engine.edge.mockllm.gemini import GeminiDialect
from engine.edge.mockllm.ollama import OllamaDialect
from engine.edge.mockllm.ollama_routes import OllamaRoutes
from engine.edge.mockllm.openai import OpenAIDialect
from engine.edge.mockllm.openai_responses import ResponsesDialect
from engine.edge.mockllm.replies import Reply, json_bytes, make_reply, text_of
from engine.edge.mockllm.script import ECHO, MockRule, MockScript
from engine.edge.mockllm.vectors import VectorRoutes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = b"application/json"
_BROKEN = b'{"choices": [{"index": 0, "delta": {"content": "bro'

ANTHROPIC = AnthropicDialect()
DIALECTS: tuple[Dialect, ...] = (OpenAIDialect(), ResponsesDialect(), OllamaDialect(), ANTHROPIC, GeminiDialect())
ROUTES: tuple[Routes, ...] = (OllamaRoutes(), VectorRoutes())


class MockLlm:
    """A server of models that follows a script, in all dialects at once.

    Serves what the dialects name, and GET and DELETE /mock/calls.

    Attributes:
        calls: What was asked so far: {n, time, model, messages, stream, rule, status, idempotency_key, body}.
    """

    def __init__(self, script: MockScript) -> None:
        """Start with no calls.

        Args:
            script: The rules.
        """
        self._script = script
        self._hits = [0] * len(script.rules)
        self._count = 0
        self.calls: list[dict[str, Any]] = []

    def use(self, script: MockScript) -> None:
        """Follow another script from now on; what was asked stays listed."""
        self._script = script
        self._hits = [0] * len(script.rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        chat = next((dialect for dialect in DIALECTS if dialect.is_chat(method, path)), None)
        if chat is not None:
            await self._chat(chat, scope, await _read(receive), send)
        elif (method, path) == ("GET", "/mock/calls"):
            await _send_json(send, {"count": len(self.calls), "calls": self.calls})
        elif (method, path) == ("DELETE", "/mock/calls"):
            self.reset()
            await _send_json(send, {"count": 0, "calls": []})
        elif method == "GET" or not await self._tell(method, path, await _read(receive), send):
            await self._list(method, path, _listing(scope), send)

    def reset(self) -> None:
        """Forget all calls and start counting `times` and `{n}` anew."""
        self.calls.clear()
        self._hits = [0] * len(self._script.rules)
        self._count = 0

    async def _tell(self, method: str, path: str, raw: bytes, send: Send) -> bool:
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        answers = (routes.told(method, path, body, self._script) for routes in ROUTES)
        told = next((answer for answer in answers if answer is not None), None)
        if told is None:
            return False
        if told.lines:
            await _start(send, told.status, [(b"content-type", b"application/x-ndjson")])
            for line in told.lines:
                await send({"type": "http.response.body", "body": json_bytes(line) + b"\n", "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await _send_body(send, b"" if told.body is None else json_bytes(told.body), status=told.status)
        return True

    async def _list(self, method: str, path: str, dialects: tuple[Dialect, ...], send: Send) -> None:
        try:
            told = (dialect.listing(method, path, self._script) for dialect in dialects)
            found = next((listing for listing in told if listing is not None), None)
        except KeyError as missing:
            problem = {"message": f"the script has no model {missing}", "type": "invalid_request_error"}
            await _send_json(send, {"error": problem}, status=404)
            return
        if found is None:
            problem = {"message": f"nothing is served at {method} {path}", "type": "not_found_error"}
            await _send_json(send, {"error": problem}, status=404)
            return
        await _send_json(send, found)

    async def _chat(self, dialect: Dialect, scope: Scope, raw: bytes, send: Send) -> None:
        try:
            asked = dialect.asked(scope["path"], json.loads(raw))
        except (ValueError, NotAskedRight) as error:
            told = str(error) if isinstance(error, NotAskedRight) else "the body must be JSON"
            await _send_json(send, {"error": {"message": told, "type": "invalid_request_error"}}, status=400)
            return
        self._count += 1
        n = self._count
        model = asked.model or self._script.listed()[0]
        last = next((text_of(item) for item in reversed(asked.messages) if _role(item) == "user"), "")
        index, rule = self._choose(model, last, sum(_role(item) == "assistant" for item in asked.messages))
        self._record(scope, asked, n=n, model=model, rule=rule, index=index)
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule.status is not None:
            after = [] if rule.retry_after_s is None else [(b"retry-after", f"{rule.retry_after_s:g}".encode())]
            body = dialect.refusal(rule) if rule.error is None else json_bytes(rule.error)
            await _send_body(send, body, status=rule.status, headers=after)
            return
        reply = make_reply(rule, model=model, messages=asked.messages, last=last, n=n)
        await (_stream if asked.stream else _answer)(send, dialect, asked, rule, reply)

    def _choose(self, model: str, last: str, turn: int) -> tuple[int | None, MockRule]:
        for index, rule in enumerate(self._script.rules):
            used_up = rule.times is not None and self._hits[index] >= rule.times
            if not used_up and rule.applies(model=model, last=last, turn=turn):
                self._hits[index] += 1
                return index, rule
        return None, ECHO

    def _record(self, scope: Scope, asked: Asked, *, n: int, model: str, rule: MockRule, index: int | None) -> None:
        key = next((value for name, value in scope["headers"] if name == b"idempotency-key"), b"")
        self.calls.append(
            {
                "n": n,
                "time": time.time(),
                "model": model,
                "messages": asked.messages,
                "stream": asked.stream,
                "rule": index,
                "status": rule.status or 200,
                "idempotency_key": key.decode("latin-1"),
                "body": asked.rest,
            }
        )


def create_app(script: MockScript | None = None) -> MockLlm:
    """Return the server's ASGI app.

    Args:
        script: The rules; default: none, so that every call is echoed.
    """
    return MockLlm(script or MockScript())


async def _answer(send: Send, dialect: Dialect, asked: Asked, rule: MockRule, reply: Reply) -> None:
    del asked
    body = dialect.whole(reply)
    if rule.bad_json:
        await _send_body(send, _BROKEN)
    elif rule.cut_after_chars is not None:
        await _start(send, 200, [(b"content-type", _JSON), (b"content-length", str(len(body)).encode())])
        # leaving the response unfinished makes the server drop the connection
        await send({"type": "http.response.body", "body": body[: rule.cut_after_chars], "more_body": True})
    else:
        await _send_body(send, body)


async def _stream(send: Send, dialect: Dialect, asked: Asked, rule: MockRule, reply: Reply) -> None:
    await _start(send, 200, [(b"content-type", dialect.stream_type.encode()), (b"cache-control", b"no-store")])
    if rule.bad_json:
        await send({"type": "http.response.body", "body": dialect.broken()})
        return
    is_cut = rule.cut_after_chars is not None
    if rule.cut_after_chars is not None:
        reply = _cut(reply, rule.cut_after_chars)
    events = list(dialect.chunks(reply))
    end = b"" if is_cut else dialect.ending(reply, asked)
    if rule.stream is not None and rule.stream.delay_s:
        for event in events:
            await asyncio.sleep(rule.stream.delay_s)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        events = []
    # one write for everything that needs no pause
    await send({"type": "http.response.body", "body": b"".join(events) + end, "more_body": is_cut})


def _cut(reply: Reply, after_chars: int) -> Reply:
    text = (reply.text or "")[:after_chars]
    return Reply(reply.id, reply.model, text, [], "", reply.usage, reply.chunk_chars, reply.created)


def _listing(scope: Scope) -> tuple[Dialect, ...]:
    """Return who may list models to a caller: two dialects do it at one path, but one of them names its version."""
    return (ANTHROPIC,) if any(name == b"anthropic-version" for name, _ in scope["headers"]) else DIALECTS


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_json(send: Send, value: Json, *, status: int = 200) -> None:
    await _send_body(send, json_bytes(value), status=status)


async def _send_body(
    send: Send, body: bytes, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await _start(send, status, [(b"content-type", _JSON), length, *(headers or [])])
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
