"""Calls HTTP services as tools (`api_call`): builds the request from contract and arguments, and judges the answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import mimetypes
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.masking import has_secrets, without_secrets
from activities.net import (
    CONNECT_TIMEOUT_S,
    HTTP_EXCEPTIONS,
    NetFault,
    ShardedPool,
    describe_fault,
    fault_of,
    header_text,
    make_ssl_context,
    retry_after_s,
)
from activities.tools.named_arguments import named_properties, placed, unknown_argument
from engine.control.guard import GRANT, AddressGuard, GuardedTransport
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.contracts.failures import clip
from engine.core.errors import ExpressionError, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.schemas import value_problems
from engine.core.values import Json, compact_json, to_json_value
from engine.obs.telemetry import current_traceparent
from engine.settings import HttpConfig

MAX_CONNECTIONS = 200
MAX_REDIRECTS = 10
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

RETRYABLE_STATUS = frozenset({408, 429, 503, 504, 524})

_Scalar = str | int | float | bool


class HttpFile(BaseModel):
    """A file of a form; its content is base64."""

    model_config = ConfigDict(extra="forbid")

    content: str
    filename: str = ""
    content_type: str = ""


class HttpCall(BaseModel):
    """One request: {method, url, headers?, params?, json? | data? | files? | content?, cookies?, follow_redirects?, …}.

    Attributes:
        method: HTTP verb.
        url: Absolute address with http or https.
        headers: Request headers.
        params: Query parameters; a list repeats its name.
        body: JSON body (`json` in the definition).
        data: Form fields.
        files: Files of a form by field: content in base64, or {content, filename?, content_type?}.
        content: Raw body, base64.
        cookies: Cookies.
        follow_redirects: Whether redirects are followed.
        timeout: Longest time in seconds.
        include_response_content: Whether the output holds the answer's raw body.
        answer: JSON Schema of the answer's JSON (`schema` in the definition); None = anything.
    """

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    method: str = "GET"
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    params: dict[str, _Scalar | list[_Scalar]] = Field(default_factory=dict)
    body: Json = Field(default=None, alias="json")
    data: dict[str, Any] | str | None = None
    content: str | None = None
    files: dict[str, str | HttpFile] | None = None
    cookies: dict[str, str] = Field(default_factory=dict)
    follow_redirects: bool = False
    timeout: float | None = Field(default=None, gt=0)
    include_response_content: bool = True
    answer: Json = Field(default=None, alias="schema")


FROM_ARGUMENTS = frozenset(
    {"url", "method", "headers", "params", "json", "json_", "data", "content", "files", "cookies", "follow_redirects"}
)
"""What a call's arguments may override."""
BODIES = frozenset({"json", "data", "content", "files"})


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
            request = _build_request(client, call, tool, context, marked=marked)
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


def merge_call(tool: ToolContract, arguments: Mapping[str, Any]) -> HttpCall:
    """Lay a call's arguments over the tool's definition.

    Single values of the arguments win; query parameters and cookies are merged by name, the arguments winning; headers
    are merged by name too, but there the definition wins. Arguments that the tool's schema names, and that are no parts
    of a request, stand in the address, the query or the body.

    Raises:
        ToolError: `tool.bad_arguments` if an argument is unknown or does not fit, `tool.bad_definition` if the
            definition alone is wrong.
    """
    names = named_properties(tool) - FROM_ARGUMENTS
    named = {name: value for name, value in arguments.items() if name in names}
    given = {name: value for name, value in arguments.items() if name not in names}
    for name in given:
        if name not in FROM_ARGUMENTS:
            raise unknown_argument(tool, name, FROM_ARGUMENTS, names)
    if "json_" in given:
        given.setdefault("json", given.pop("json_"))
    given = {name: value for name, value in given.items() if value is not None or name == "json"}
    given = placed(tool, given, named)
    spec = {name: value for name, value in tool.spec.items() if value is not None}
    merged = {**spec, **given}
    for name in ("params", "cookies"):
        if isinstance(merged.get(name, {}), dict):
            merged[name] = {**_object(spec.get(name)), **_object(given.get(name))}
    if isinstance(merged.get("headers", {}), dict):
        defined = _object(spec.get("headers"))
        taken = {name.lower() for name in defined}
        free = {name: value for name, value in _object(given.get("headers")).items() if name.lower() not in taken}
        merged["headers"] = {**free, **defined}
    if given.keys() & BODIES:
        # a request has one body: what the arguments bring replaces the definition's, of whatever kind
        kept = set(given)
        if "files" in merged and not isinstance(merged.get("data"), str) and given.keys() & {"files", "data"}:
            # the fields of a form may come from elsewhere than its files
            kept |= {"files", "data"}
        for name in BODIES - kept:
            merged.pop(name, None)
    try:
        return HttpCall.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        whose = "bad_arguments" if str(first["loc"][0]) in given else "bad_definition"
        raise ToolError(f"tool '{tool.name}': {place}: {first['msg']}", code=f"tool.{whose}") from error


def _object(value: Any) -> dict[str, Any]:
    """Return the members of an object that have a value; a null member is one that is not sent."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else {}


def _build_request(
    client: httpx.AsyncClient, call: HttpCall, tool: ToolContract, context: CallContext, *, marked: bool
) -> httpx.Request:
    headers = dict(call.headers)
    if marked and "idempotency-key" not in {name.lower() for name in headers}:
        headers["Idempotency-Key"] = header_text(context.key)
    here = current_traceparent() if marked else ""
    if here and "traceparent" not in {name.lower() for name in headers}:
        headers["traceparent"] = here
    body: dict[str, Any] = {}
    if call.files is not None:
        if call.content is not None or isinstance(call.data, str) or "body" in call.model_fields_set:
            raise ToolError(f"tool '{tool.name}': files stand beside another body", code="tool.bad_arguments")
        body = {"files": _files(tool, call.files), "data": call.data or None}
    elif call.content is not None:
        try:
            body["content"] = base64.b64decode(call.content, validate=True)
        except binascii.Error as error:
            raise ToolError(f"tool '{tool.name}': content is not base64: {error}", code="tool.bad_arguments") from error
    elif isinstance(call.data, str):
        body["content"] = call.data.encode()
    elif call.data is not None:
        body["data"] = call.data
    elif "body" in call.model_fields_set:
        # httpx takes a JSON null for no body at all
        body["content"] = compact_json(call.body).encode("utf-8", "surrogatepass")
        if "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/json"
    try:
        request = client.build_request(
            call.method.upper(),
            _address_of(call),
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            cookies=call.cookies or None,
            extensions={} if context.allow is None else {GRANT: context.allow},
            **body,
        )
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise ToolError(
            f"tool '{tool.name}': the request cannot be built: {error}", code="tool.bad_arguments"
        ) from error
    return request


def _files(tool: ToolContract, files: Mapping[str, str | HttpFile]) -> list[tuple[str, tuple[str, bytes, str]]]:
    found = []
    for name, given in files.items():
        file = HttpFile(content=given) if isinstance(given, str) else given
        try:
            content = base64.b64decode(file.content, validate=True)
        except binascii.Error as error:
            message = f"tool '{tool.name}': the content of the file '{name}' is not base64: {error}"
            raise ToolError(message, code="tool.bad_arguments") from error
        kind = file.content_type or mimetypes.guess_type(file.filename)[0] or "application/octet-stream"
        found.append((name, (file.filename or name, content, kind)))
    return found


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


def _address_of(call: HttpCall) -> httpx.URL:
    # merging nothing would still write the query anew: `?flag` would become `?flag=`
    return httpx.URL(call.url).copy_merge_params(call.params) if call.params else httpx.URL(call.url)


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
