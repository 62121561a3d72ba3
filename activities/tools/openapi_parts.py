"""Writes arguments of an operation as OpenAPI's parameter styles and body types have them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json, compact_json

_RESERVED = ":/?@!$'()*,;[]"
"""What may stand in a query value as it is where the document allows reserved characters; & = + # would end it."""
_JOINED_BY = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}


def plain_text(value: Json) -> str:
    """Return a value as text: true and false, numbers, texts; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else compact_json(value)


def path_text(tool: ToolContract, parameter: Mapping[str, Any], value: Json) -> str:
    """Return what takes the place of a parameter in the path.

    Raises:
        ToolError: `tool.bad_arguments` if it is empty, since the path would be another one.
    """
    text = _simple(parameter, value, lambda part: quote(part, safe=""))
    if not text:
        raise ToolError(
            f"tool '{tool.name}': the argument '{parameter['argument']}' stands in the path and must not be empty",
            code="tool.bad_arguments",
        )
    return text


def header_value(parameter: Mapping[str, Any], value: Json) -> str:
    """Return the value of a header, or of a cookie before it is encoded."""
    return _simple(parameter, value, lambda part: part)


def _simple(parameter: Mapping[str, Any], value: Json, encode: Any) -> str:
    if parameter.get("json"):
        return str(encode(compact_json(value)))
    if isinstance(value, list):
        return ",".join(encode(plain_text(item)) for item in value)
    if isinstance(value, dict):
        between = "=" if parameter["explode"] else ","
        return ",".join(f"{encode(key)}{between}{encode(plain_text(item))}" for key, item in value.items())
    return str(encode(plain_text(value)))


def query_pairs(parameter: Mapping[str, Any], value: Json) -> list[tuple[str, str]]:
    """Return names and values of a parameter in the query, both percent-encoded."""
    safe = _RESERVED if parameter.get("reserved") else ""

    def encode(item: Json) -> str:
        return quote(plain_text(item), safe=safe)

    name = quote(parameter["name"], safe="[]$")
    if parameter.get("json"):
        return [(name, quote(compact_json(value), safe=safe))]
    style = parameter["style"]
    if isinstance(value, dict):
        if style == "deepObject":
            return [(f"{name}[{quote(key, safe='')}]", encode(item)) for key, item in value.items()]
        if parameter["explode"]:
            return [(quote(key, safe=""), encode(item)) for key, item in value.items()]
        parts = [encode(part) for pair in value.items() for part in pair]
        return [(name, _JOINED_BY[style].join(parts))]
    if isinstance(value, list):
        if parameter["explode"] or style == "deepObject":
            return [(name, encode(item)) for item in value]
        return [(name, _JOINED_BY[style].join(encode(item) for item in value))]
    return [(name, encode(value))]


# --- bodies --------------------------------------------------------------------------------------------------------


def body_of(tool: ToolContract, body: Mapping[str, Any] | None, given: Mapping[str, Json]) -> tuple[str, bytes] | None:
    """Return media type and bytes of a request's body.

    Args:
        tool: The tool.
        body: What its contract says of the body; None = there is none.
        given: The arguments that are no parameters.

    Raises:
        ToolError: `tool.bad_arguments` if a file is not base64.
    """
    if body is None:
        return None
    argument = body.get("argument")
    if argument is not None:
        if argument not in given:
            return None
        value = given[argument]
    else:
        names: dict[str, str] = body["members"]
        if not given and not body["required"]:
            return None
        value = {names.get(name, name): item for name, item in given.items()}
    media, how = str(body["media"]), body["how"]
    if how == "json":
        return media, compact_json(value).encode("utf-8", "surrogatepass")
    if how == "text":
        return media, plain_text(value).encode("utf-8", "surrogatepass")
    if how == "binary":
        return media, _decoded(tool, value)
    members = value if isinstance(value, dict) else {}
    if how == "form":
        return media, urlencode(_form_pairs(body, members)).encode("ascii")
    return _multipart(tool, body, members)


def _form_pairs(body: Mapping[str, Any], members: Mapping[str, Json]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, item in members.items():
        if isinstance(item, list) and name in body.get("joined", ()):
            pairs.append((name, ",".join(plain_text(part) for part in item)))
        elif item is not None:
            pairs += [(name, plain_text(part)) for part in (item if isinstance(item, list) else [item])]
    return pairs


def _multipart(tool: ToolContract, body: Mapping[str, Any], members: Mapping[str, Json]) -> tuple[str, bytes]:
    types: Mapping[str, str] = body.get("types", {})
    files: list[tuple[str, Any]] = []
    for name, item in members.items():
        for part in item if isinstance(item, list) else [item]:
            if part is None:
                continue
            if name in body.get("binary", ()):
                kind = types.get(name, "application/octet-stream")
                files.append((name, (name, _decoded(tool, part), "application/octet-stream" if "*" in kind else kind)))
            elif isinstance(part, (dict, list)):
                files.append((name, (None, compact_json(part).encode(), types.get(name, "application/json"))))
            else:
                text = plain_text(part).encode("utf-8", "surrogatepass")
                files.append((name, (None, text, types[name]) if name in types else (None, text)))
    if not files:
        # the library would send no body for no parts
        return "multipart/form-data; boundary=none", b"--none--\r\n"
    request = httpx.Request("POST", "http://body.invalid/", files=files)
    return request.headers["Content-Type"], request.read()


def _decoded(tool: ToolContract, value: Json) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError(f"tool '{tool.name}': a file must be base64: {error}", code="tool.bad_arguments") from error
