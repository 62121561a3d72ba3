"""Calls HTTP services as tools (`api_call`): sends the request, and judges the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from activities.masking import has_secrets, without_secrets
from activities.net import (
    CONNECT_TIMEOUT_S,
    HTTP_EXCEPTIONS,
    NetFault,
    ShardedPool,
    describe_fault,
    fault_of,
    make_ssl_context,
    retry_after_s,
)
from activities.tools.http_request import HttpCall, build_request, merge_call
from engine.control.guard import AddressGuard, GuardedTransport
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.contracts.failures import clip
from engine.core.errors import ExpressionError, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.schemas import value_problems
from engine.core.values import Json, to_json_value
from engine.settings import HttpConfig

MAX_CONNECTIONS = 200
MAX_REDIRECTS = 10
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

RETRYABLE_STATUS = frozenset({408, 429, 503, 504, 524})


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer below 400, whole.

    Attributes:
        url: Where it came from, after redirects.
        status: Its status.
        headers: Its headers.
        body: Its body, decompressed.
    """

    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: bytes


class HttpTools:
    """Calls HTTP services; satisfies `ToolAdapter`."""

    def __init__(self, config: HttpConfig) -> None:
        """Prepare the adapter; no connection is made yet.

        Args:
            config: Which private addresses may be reached.
        """
        self._guard = AddressGuard(config)
        self._pool = ShardedPool(self._make_client, MAX_CONNECTIONS)

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return make_ssl_context()

    def _make_client(self, limits: httpx.Limits) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=GuardedTransport(self._guard, verify=self._ssl, limits=limits),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            max_redirects=MAX_REDIRECTS,
            trust_env=False,
            # a jar that keeps nothing: what one execution was given is none of another's business
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    async def call(self, params: ToolParams) -> Json:
        """Send the request.

        Args:
            params: The call.

        Returns:
            {status_code, headers, json, content?}: json is null unless the body is JSON, content is base64.

        Raises:
            ToolError: tool.http_status, .unreachable, .timeout, .address_refused, .bad_arguments, .bad_definition,
                .bad_reply or .too_large.
            AuthorityError: `authority.denied` if the call, or a redirect that it follows, leads to a host beyond its
                bound.
        """
        tool = params.tool
        call = merge_call(tool, params.arguments)
        answer = await self.send(call, tool, params.context)
        output: dict[str, Any] = {
            "status_code": answer.status,
            "headers": dict(answer.headers),
            "json": parse_json(answer.body, tool),
        }
        _check_answer(tool, call, output["json"])
        if call.include_response_content:
            output["content"] = base64.b64encode(answer.body).decode("ascii")
        return output

    async def send(
        self,
        call: HttpCall,
        tool: ToolContract,
        context: CallContext,
        *,
        marked: bool = True,
        max_bytes: int = MAX_RESPONSE_BYTES,
        clean: Callable[[bytes], bytes] | None = None,
    ) -> HttpAnswer:
        """Send a request and return the answer as it came.

        Args:
            call: The request.
            tool: Whose call it is.
            context: Who calls.
            marked: Whether it carries the call's key and the trace, which strangers need not see.
            max_bytes: Longest body of an answer.
            clean: Takes out of the body what nobody may see, before anything is made of it.

        Raises:
            ToolError: As `call`.
            AuthorityError: As `call`.
        """
        try:
            async with asyncio.timeout(call.timeout):
                return await self._send(call, tool, context, marked=marked, max_bytes=max_bytes, clean=clean)
        except TimeoutError as error:
            raise ToolError(
                f"tool '{tool.name}' took longer than {call.timeout:g} s",
                code="tool.timeout",
                retryable=tool.repeatable,
            ) from error
        except HTTP_EXCEPTIONS as error:
            raise _net_error(tool, call, error) from error

    async def _send(
        self,
        call: HttpCall,
        tool: ToolContract,
        context: CallContext,
        *,
        marked: bool,
        max_bytes: int,
        clean: Callable[[bytes], bytes] | None,
    ) -> HttpAnswer:
        with self._pool.client() as client:
            request = build_request(client, call, tool, context, marked=marked)
            if call.follow_redirects and has_secrets():
                response = await _send_within(client, request, tool)
            else:
                response = await client.send(request, stream=True, follow_redirects=call.follow_redirects)
            try:
                body = await _read_body(response, tool, max_bytes)
            finally:
                await response.aclose()
        body = without_secrets(body if clean is None else clean(body))
        if response.status_code >= 400:
            raise _status_error(tool, response, body)
        return HttpAnswer(url=response.url, status=response.status_code, headers=response.headers, body=body)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _check_answer(tool: ToolContract, call: HttpCall, answer: Json) -> None:
    problems = [] if call.answer is None else value_problems(answer, call.answer)
    if problems:
        raise ToolError(
            f"tool '{tool.name}': the answer does not fit its schema: {clip('; '.join(problems), 500)}",
            code="tool.bad_result",
            hint="look at the service, or at `schema` of the api_call",
        )


async def _send_within(client: httpx.AsyncClient, request: httpx.Request, tool: ToolContract) -> httpx.Response:
    """Send a request that holds secrets and follow redirects within its origin: nobody else is meant to get them."""
    origin = _origin(request.url)
    for _ in range(MAX_REDIRECTS):
        response = await client.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        await response.aclose()
        request = response.next_request
        if _origin(request.url) != origin:
            raise ToolError(
                f"tool '{tool.name}': a call with secrets is not followed from {origin} to {_origin(request.url)}",
                code="tool.redirect_refused",
                hint="call the service where it is, so that it is clear who gets the secrets",
            )
    raise httpx.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects", request=request)


def _origin(url: httpx.URL) -> str:
    return str(url.copy_with(path="/", query=None, fragment=None, username=None, password=None)).rstrip("/")


async def _read_body(response: httpx.Response, tool: ToolContract, max_bytes: int) -> bytes:
    parts, total = [], 0
    async for part in response.aiter_bytes():
        total += len(part)
        if total > max_bytes:
            raise ToolError(
                f"tool '{tool.name}': the answer is larger than {max_bytes // (1024 * 1024)} MB",
                code="tool.too_large",
                hint="ask the service for less, for example page by page",
            )
        parts.append(part)
    return b"".join(parts)


def parse_json(body: bytes, tool: ToolContract) -> Json:
    """Return a body as JSON, or None if it is none.

    Raises:
        ToolError: `tool.bad_result` if a history cannot hold it.
    """
    try:
        parsed = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    try:
        return to_json_value(parsed, where=f"the reply to tool '{tool.name}'")
    except ExpressionError as error:
        # Temporal would repeat a call whose result it cannot read, and the workflow could not write it down
        raise ToolError(error.message, code="tool.bad_result", hint=error.hint) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _status_error(tool: ToolContract, response: httpx.Response, body: bytes) -> ToolError:
    status = response.status_code
    details: dict[str, Any] = {"status": status, "body": clip(body.decode("utf-8", "replace"))}
    after = retry_after_s(response.headers)
    if after is not None:
        details["retry_after_s"] = after
    return ToolError(
        f"tool '{tool.name}': {_where(response.request.url)} answered {status} {response.reason_phrase}".rstrip(),
        code="tool.http_status",
        retryable=status in RETRYABLE_STATUS,
        details=details,
    )


def _net_error(tool: ToolContract, call: HttpCall, error: Exception) -> ToolError:
    fault = fault_of(error)
    codes = {
        NetFault.NOT_SENT: ("tool.unreachable", True),
        NetFault.TIMED_OUT: ("tool.timeout", tool.repeatable),
        # the service may have done its work before the connection broke
        NetFault.BROKEN: ("tool.unreachable", tool.repeatable),
        NetFault.BAD_REPLY: ("tool.bad_reply", False),
        NetFault.BAD_REQUEST: ("tool.bad_arguments", False),
    }
    code, retryable = codes[fault]
    try:
        where = _where(httpx.URL(call.url))
    except httpx.InvalidURL:
        where = "the service"
    return ToolError(f"tool '{tool.name}': {describe_fault(error, where=where)}", code=code, retryable=retryable)


def _where(url: httpx.URL) -> str:
    """Return an address without user, query and fragment, which may hold secrets."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))
