"""Puts arguments that an `api_call` tool names in its schema where its request carries them: address, query or body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from engine.core.diagnostics import did_you_mean
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json, compact_json

WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests carry the arguments in their body; those of others stand in the query."""
_PLACE: Final = re.compile(r"\{(\w+)\}")
_ORIGIN: Final = re.compile(r"[^:/?#]*://[^/?#\\]*")
_DOTS: Final = frozenset({".", ".."})


def named_properties(tool: ToolContract) -> frozenset[str]:
    """Return the names of the arguments that a tool says it takes."""
    schema = tool.parameters
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return frozenset(properties) if isinstance(properties, dict) else frozenset()


def unknown_argument(tool: ToolContract, name: str, parts: frozenset[str], named: frozenset[str]) -> ToolError:
    """Return the error about an argument that is neither a part of a request nor named by the tool's schema."""
    takes = f"an api_call takes {', '.join(sorted(parts))}"
    if named:
        takes = f"it takes {', '.join(sorted(named))}; {takes}"
    nearest = did_you_mean(name, parts | named)
    return ToolError(
        f"tool '{tool.name}' does not take the argument '{name}'",
        code="tool.bad_arguments",
        hint=" ".join(part for part in (nearest, takes) if part),
    )


def placed(tool: ToolContract, given: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return parts of a request that also carry the named arguments.

    Args:
        tool: The tool.
        given: Parts of the request that the call brings itself: `url`, `params`, `json`, ….
        named: The arguments that the tool's schema names.

    Raises:
        ToolError: `tool.bad_arguments` if the address needs an argument that is missing or cannot stand in it.
    """
    request = {**tool.spec, **given}
    url, rest = _filled(tool, request.get("url"), named)
    parts = dict(given) if url is None else {**given, "url": url}
    if not rest:
        return parts
    if str(request.get("method", "GET")).upper() not in WITH_BODY:
        return {**parts, "params": _laid_over(given.get("params"), rest)}
    place = "data" if isinstance(request.get("data"), dict) or "files" in request else "json"
    return {**parts, place: _laid_over(request.get(place), rest)}


def _laid_over(base: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    return {**(base if isinstance(base, dict) else {}), **named}


def _filled(tool: ToolContract, url: Any, named: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the address with arguments in the places that have their names, and the other arguments.

    The host is never filled in: whom a tool reaches is no matter of its arguments.
    """
    names = named_properties(tool)
    origin = _ORIGIN.match(url) if isinstance(url, str) else None
    if origin is None:
        return None, dict(named)
    path = url[origin.end() :]
    places = {name for name in _PLACE.findall(path) if name in names}
    if not places:
        return None, dict(named)
    texts = {name: _path_text(tool, name, named.get(name)) for name in places}
    path = _PLACE.sub(lambda found: texts.get(found[1], found[0]), path)
    return origin[0] + path, {name: value for name, value in named.items() if name not in places}


def _path_text(tool: ToolContract, name: str, value: Json) -> str:
    text = value if isinstance(value, str) else compact_json(value)
    if value is None or text == "" or text in _DOTS:
        why = "is missing" if value is None else f"must not be {text!r}"
        raise ToolError(
            f"tool '{tool.name}': the argument '{name}' stands in the address and {why}", code="tool.bad_arguments"
        )
    return quote(text, safe="")
