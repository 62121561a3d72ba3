"""The request of an HTTP tool (`api_call`): the tool's definition with a call's arguments laid over it."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.net import header_text
from activities.tools.named_arguments import named_properties, placed, unknown_argument
from engine.control.guard import GRANT
from engine.core.contracts.activities import CallContext
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json, compact_json
from engine.obs.telemetry import current_traceparent

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


def build_request(
    client: httpx.AsyncClient, call: HttpCall, tool: ToolContract, context: CallContext, *, marked: bool
) -> httpx.Request:
    """Return the request of a call, ready to be sent.

    Args:
        client: What will send it.
        call: The call.
        tool: Whose call it is.
        context: Who calls.
        marked: Whether it carries the call's key and the trace, which strangers need not see.

    Raises:
        ToolError: `tool.bad_arguments` if it cannot be built.
    """
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


def _address_of(call: HttpCall) -> httpx.URL:
    # merging nothing would still write the query anew: `?flag` would become `?flag=`
    return httpx.URL(call.url).copy_merge_params(call.params) if call.params else httpx.URL(call.url)
