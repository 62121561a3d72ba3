"""Speaks streamable HTTP with an MCP server: through the guard, with credentials, one failed call being one's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from mcp.client.streamable_http import streamable_http_client

from engine.control.credentials import Mask, carried, cookie_pair, secrets_of
from engine.control.guard import AddressGuard, GuardedTransport
from engine.control.mcp.failing import NO_ANSWER, Failures, too_large
from engine.control.mcp.stdio import MAX_MESSAGE_BYTES, Streams
from engine.core.contracts.failures import clip
from engine.core.errors import ToolError
from engine.settings import McpConfig

CONNECT_TIMEOUT_S = 10.0
MAX_SHOWN_BYTES = 4_000
"""Of the body of a refusal."""
RETRYABLE_STATUS = frozenset({408, 429, 502, 503, 504, 524})
"""A server that is not there answers so by its proxy; whether a call may be made again is the tool's matter."""
FORGOTTEN = frozenset({400, 404})
"""How a server refuses a session that it does not know: the latter by the protocol, the former as many do."""
JSON, EVENTS, SESSION = "application/json", "text/event-stream", "mcp-session-id"


@asynccontextmanager
async def open_address(name: str, config: McpConfig, guard: AddressGuard, failures: Failures) -> AsyncIterator[Streams]:
    """Carry messages to a server and back for the length of the block.

    Args:
        name: The name under which it is registered.
        config: Where it is.
        guard: Decides about addresses, also those that redirects lead to.
        failures: Take down what became of calls that got no answer of the server's own.

    Raises:
        ToolError: `tool.credentials`.
    """
    secrets = secrets_of(config.auth, f"the MCP server '{name}'")
    mask = Mask(secrets.values())
    headers, cookies = {**config.headers, "Accept-Encoding": "identity"}, []
    url = httpx.URL(config.url)
    for place, key, value in carried(config.auth, secrets):
        if place == "query":
            url = url.copy_add_param(key, value)
        elif place == "cookie":
            cookies.append(cookie_pair(key, value))
        else:
            headers[key] = value
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    guarded = GuardedTransport(
        guard, verify=httpx.create_ssl_context(), limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0)
    )
    transport = _Answering(name, guarded, failures, mask)
    async with (
        httpx.AsyncClient(
            transport=transport,
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
        ) as client,
        streamable_http_client(str(url), http_client=client) as (incoming, outgoing, _),
    ):
        yield incoming, outgoing


class _Answering(httpx.AsyncBaseTransport):
    """Answers a request in place of a server that did not, as JSON-RPC has it.

    The SDK's transport ends the whole session if one request fails, and lets a caller wait for ever whose answer broke
    off: with this in between it gets neither to see.
    """

    def __init__(self, name: str, inner: httpx.AsyncBaseTransport, failures: Failures, mask: Mask) -> None:
        self._name = name
        self._inner = inner
        self._failures = failures
        self._mask = mask

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return await self._inner.handle_async_request(request)
        asked = json.loads(request.content)
        number = asked.get("id") if isinstance(asked, dict) and "method" in asked else None
        try:
            response = await self._inner.handle_async_request(request)
            if response.status_code >= httpx.codes.BAD_REQUEST:
                raise await self._refusal(request, response, number)
            if number is None or response.status_code != httpx.codes.OK:
                return response
            if response.headers.get("content-type", "").lower().startswith(EVENTS):
                stream = _Events(self, response.stream, number)
                return httpx.Response(response.status_code, headers=response.headers, stream=stream)
            content = await self._whole(response)
            self._check_answer(content)
            return httpx.Response(response.status_code, headers=_kept(response.headers), content=content)
        except (httpx.HTTPError, ToolError) as error:
            if number is None:
                # nobody waits for what became of a word in passing
                return httpx.Response(httpx.codes.ACCEPTED)
            return httpx.Response(200, headers={"content-type": JSON}, content=self.answer(number, error))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _refusal(self, request: httpx.Request, response: httpx.Response, number: Any) -> ToolError:
        status = response.status_code
        if status in FORGOTTEN and SESSION in request.headers:
            self._failures.forgotten.add(number)
        body = b""
        try:
            async for part in response.aiter_raw():
                body += part
                if len(body) >= MAX_SHOWN_BYTES:
                    break
        finally:
            await response.aclose()
        text = self._mask.bytes(body[:MAX_SHOWN_BYTES]).decode("utf-8", "replace")
        return ToolError(
            f"the MCP server '{self._name}' answered {status}",
            code="tool.http_status",
            retryable=status in RETRYABLE_STATUS,
            details={"status": status, "body": clip(text)},
        )

    async def _whole(self, response: httpx.Response) -> bytes:
        parts, total = [], 0
        try:
            async for part in response.aiter_raw():
                total += len(part)
                if total > MAX_MESSAGE_BYTES:
                    raise too_large(self._name, MAX_MESSAGE_BYTES)
                parts.append(part)
        finally:
            await response.aclose()
        return b"".join(parts)

    def _check_answer(self, content: bytes) -> None:
        try:
            is_answer = json.loads(content).get("jsonrpc") == "2.0"
        except (ValueError, AttributeError, RecursionError):
            is_answer = False
        if not is_answer:
            shown = self._mask.bytes(content[:200]).decode("utf-8", "replace")
            raise ToolError(
                f"the MCP server '{self._name}' answered with something that is none of MCP: {clip(shown, 200)}",
                code="tool.bad_reply",
            )

    def answer(self, number: Any, error: Exception) -> bytes:
        """Return the answer to a request that failed, and take down why it did."""
        if not isinstance(error, ToolError):
            error = self._broken(error)
        self._failures.by_id[number] = error
        body = {"jsonrpc": "2.0", "id": number, "error": {"code": NO_ANSWER, "message": error.message}}
        return json.dumps(body).encode()

    def _broken(self, error: Exception) -> ToolError:
        # what httpx says may hold the address, and that a key
        reason = self._mask.text(str(error)) or type(error).__name__
        sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        what = "the connection broke" if sent else "there is no connection"
        return ToolError(
            f"the MCP server '{self._name}' gave no answer: {what}: {clip(reason, 500)}",
            code="tool.unreachable",
            retryable=not sent,
        )


class _Events(httpx.AsyncByteStream):
    """Events of a server; if they break off before the answer, or are too many, one that says so is put behind them."""

    def __init__(self, owner: _Answering, inner: Any, number: Any) -> None:
        self._owner = owner
        self._inner = inner
        self._number = number

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total, resumable = 0, False
        failure: Exception = httpx.RemoteProtocolError("the answer broke off")
        try:
            async for part in self._inner:
                total += len(part)
                if total > MAX_MESSAGE_BYTES:
                    raise too_large(self._owner._name, MAX_MESSAGE_BYTES)
                resumable = resumable or part.startswith(b"id:") or b"\nid:" in part
                yield part
            if resumable:
                # the SDK asks for the rest, here as after a break
                return
        except (httpx.HTTPError, ToolError) as error:
            if resumable and not isinstance(error, ToolError):
                raise
            failure = error
        yield b"\n\nevent: message\ndata: " + self._owner.answer(self._number, failure) + b"\n\n"

    async def aclose(self) -> None:
        await self._inner.aclose()


def _kept(headers: httpx.Headers) -> dict[str, str]:
    return {"content-type": JSON, **({SESSION: headers[SESSION]} if SESSION in headers else {})}
