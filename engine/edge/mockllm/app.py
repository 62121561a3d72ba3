"""The mock LLM server as a bare ASGI app; bare, because benchmarks must not measure a framework."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.core.values import compact_json
from engine.edge.mockllm.replies import Reply, chunks, completion, ending, make_reply, refusal, text_of
from engine.edge.mockllm.script import ECHO, MockRule, MockScript

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = b"application/json"
_BROKEN = b'{"choices": [{"index": 0, "delta": {"content": "bro'


class MockLlm:
    """An OpenAI-compatible server that follows a script.

    Serves POST /v1/chat/completions, GET /v1/models and /v1/models/{id}, GET and DELETE
    /mock/calls.

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
        route = (scope["method"], scope["path"])
        if route == ("POST", "/v1/chat/completions"):
            await self._chat(scope, await _read(receive), send)
        elif route == ("GET", "/v1/models"):
            listed = [_model(name) for name in self._script.listed()]
            await _send_json(send, {"object": "list", "data": listed})
        elif scope["method"] == "GET" and scope["path"].startswith("/v1/models/"):
            name = scope["path"].removeprefix("/v1/models/")
            if self._script.models and name not in self._script.models:
                problem = {"message": f"the script has no model {name!r}", "type": "invalid_request_error"}
                await _send_json(send, {"error": problem}, status=404)
            else:
                await _send_json(send, _model(name))
        elif route == ("GET", "/mock/calls"):
            await _send_json(send, {"count": len(self.calls), "calls": self.calls})
        elif route == ("DELETE", "/mock/calls"):
            self.reset()
            await _send_json(send, {"count": 0, "calls": []})
        else:
            problem = {"message": f"nothing is served at {scope['method']} {scope['path']}", "type": "not_found_error"}
            await _send_json(send, {"error": problem}, status=404)

    def reset(self) -> None:
        """Forget all calls and start counting `times` and `{n}` anew."""
        self.calls.clear()
        self._hits = [0] * len(self._script.rules)
        self._count = 0

    async def _chat(self, scope: Scope, raw: bytes, send: Send) -> None:
        try:
            body = json.loads(raw)
            messages = body["messages"]
            if not isinstance(messages, list):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            problem = {"message": "the body must be JSON with a list 'messages'", "type": "invalid_request_error"}
            await _send_json(send, {"error": problem}, status=400)
            return
        self._count += 1
        n = self._count
        model = str(body.get("model") or self._script.listed()[0])
        last = next((text_of(item) for item in reversed(messages) if _role(item) == "user"), "")
        index, rule = self._choose(model, last, sum(_role(item) == "assistant" for item in messages))
        self._record(scope, body, n=n, model=model, rule=rule, index=index)
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule.status is not None:
            after = [] if rule.retry_after_s is None else [(b"retry-after", f"{rule.retry_after_s:g}".encode())]
            await _send_body(send, refusal(rule), status=rule.status, headers=after)
            return
        reply = make_reply(rule, model=model, messages=messages, last=last, n=n)
        if body.get("stream"):
            options = body.get("stream_options")
            await _stream(
                send, rule, reply, with_usage=isinstance(options, dict) and bool(options.get("include_usage"))
            )
        else:
            await _answer(send, rule, reply)

    def _choose(self, model: str, last: str, turn: int) -> tuple[int | None, MockRule]:
        for index, rule in enumerate(self._script.rules):
            used_up = rule.times is not None and self._hits[index] >= rule.times
            if not used_up and rule.applies(model=model, last=last, turn=turn):
                self._hits[index] += 1
                return index, rule
        return None, ECHO

    def _record(
        self, scope: Scope, body: dict[str, Any], *, n: int, model: str, rule: MockRule, index: int | None
    ) -> None:
        key = next((value for name, value in scope["headers"] if name == b"idempotency-key"), b"")
        self.calls.append(
            {
                "n": n,
                "time": time.time(),
                "model": model,
                "messages": body["messages"],
                "stream": bool(body.get("stream")),
                "rule": index,
                "status": rule.status or 200,
                "idempotency_key": key.decode("latin-1"),
                "body": {name: value for name, value in body.items() if name not in ("messages", "model", "stream")},
            }
        )


def create_app(script: MockScript | None = None) -> MockLlm:
    """Return the server's ASGI app.

    Args:
        script: The rules; default: none, so that every call is echoed.
    """
    return MockLlm(script or MockScript())


async def _answer(send: Send, rule: MockRule, reply: Reply) -> None:
    body = completion(reply)
    if rule.bad_json:
        await _send_body(send, _BROKEN)
    elif rule.cut_after_chars is not None:
        await _start(send, 200, [(b"content-type", _JSON), (b"content-length", str(len(body)).encode())])
        # leaving the response unfinished makes the server drop the connection
        await send({"type": "http.response.body", "body": body[: rule.cut_after_chars], "more_body": True})
    else:
        await _send_body(send, body)


async def _stream(send: Send, rule: MockRule, reply: Reply, *, with_usage: bool) -> None:
    await _start(send, 200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")])
    if rule.bad_json:
        await send({"type": "http.response.body", "body": b"data: " + _BROKEN + b"\n\n"})
        return
    if rule.cut_after_chars is not None:
        reply = _cut(reply, rule.cut_after_chars)
    events = list(chunks(reply))
    end = b"" if rule.cut_after_chars is not None else ending(reply, with_usage=with_usage)
    if rule.stream is not None and rule.stream.delay_s:
        for event in events:
            await asyncio.sleep(rule.stream.delay_s)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        events = []
    # one write for everything that needs no pause
    rest = b"".join(events) + end
    await send({"type": "http.response.body", "body": rest, "more_body": rule.cut_after_chars is not None})


def _cut(reply: Reply, after_chars: int) -> Reply:
    text = (reply.text or "")[:after_chars]
    return Reply(reply.id, reply.model, text, [], "", reply.usage, reply.chunk_chars, reply.created)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mock"}


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_json(send: Send, value: Any, *, status: int = 200) -> None:
    await _send_body(send, compact_json(value).encode("utf-8", "surrogatepass"), status=status)


async def _send_body(
    send: Send, body: bytes, *, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await _start(send, status, [(b"content-type", _JSON), length, *(headers or [])])
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
