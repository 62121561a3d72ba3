"""Reads an OpenAPI document, JSON or YAML, into plain JSON values in which references can be followed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml

from engine.core.errors import InvalidInput
from engine.core.values import Json

MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
MAX_HOPS = 50
"""References that lead to references; more of them go in a circle."""
MAX_LEVELS = 200
EXCLUDE = 'leave the operation out: operations = ["*", "!ITS_ID"]'
"""The remedy for an operation that cannot be a tool in a service whose others can."""

_YAML_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_YAML_BASE):  # type: ignore[misc]
    """YAML as JSON has it: a date is text, and so are `no` and `on`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own shape


for _tag, _pattern, _starts in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z", list("-+.0123456789")),
    ("merge", r"<<\Z", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _starts)


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        service: The name under which it is registered.
        source: Its file or address, for people.
        root: What it says.
        is_30: Whether its schemas are those of OpenAPI 3.0, which differ from JSON Schema.
        base: Its own address, from which relative addresses of servers start; empty = it is a file.
        sound: Places of schemas that were found to be right: hundreds of operations share some.
    """

    service: str
    source: str
    root: Mapping[str, Any]
    is_30: bool
    base: str = ""
    sound: set[str] = field(default_factory=set)

    def fault(self, place: str, reason: str, hint: str = "") -> InvalidInput:
        """Return the error that says what is wrong at a place of the document."""
        return fault(self.service, self.source, reason, place=place, hint=hint)

    def at(self, pointer: str, place: str) -> Any:
        """Return what a reference within the document means.

        Args:
            pointer: Such as `#/components/schemas/Pet`.
            place: Where the reference stands.

        Raises:
            InvalidInput: `config.openapi` if it leads nowhere, or out of the document.
        """
        if pointer == "#":
            return self.root
        if not pointer.startswith("#/"):
            raise self.fault(
                place,
                f"the reference '{pointer[:100]}' leads out of the document",
                "bundle the document into one file first",
            )
        found: Any = self.root
        for token in pointer[2:].split("/"):
            key = unquote(token).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise self.fault(place, f"the reference '{pointer[:100]}' leads nowhere", "mend the reference")
        return found

    def resolved(self, node: Any, place: str) -> tuple[dict[str, Any], str]:
        """Follow references until something else comes.

        Args:
            node: An object, or a reference to one.
            place: Where it stands.

        Returns:
            The object and its own place.

        Raises:
            InvalidInput: `config.openapi` if there is none, or the references go in a circle.
        """
        for _ in range(MAX_HOPS):
            if not isinstance(node, dict):
                raise self.fault(place, "an object must stand here")
            pointer = node.get("$ref")
            if not isinstance(pointer, str):
                return node, place
            node, place = self.at(pointer, f"{place}/$ref"), pointer
        raise self.fault(place, "references go in a circle")


def fault(service: str, source: str, reason: str, *, place: str = "", hint: str = "") -> InvalidInput:
    """Return `config.openapi`: service, file or address, place in the document, reason and remedy."""
    where = f"{source} at {place}" if place else source
    return InvalidInput(f"OpenAPI service '{service}': {where}: {reason}", code="config.openapi", hint=hint)


def read_document(text: str, *, service: str, source: str, base: str = "") -> Document:
    """Read a document.

    Args:
        text: JSON or YAML.
        service: The name under which it is registered.
        source: Its file or address, for people.
        base: Its address, if it has one.

    Raises:
        InvalidInput: `config.openapi` if the text is neither, or no OpenAPI 3 document.
    """
    root = _parse(text, service, source)
    version = root.get("openapi") if isinstance(root, dict) else None
    if not isinstance(root, dict) or not isinstance(version, (str, float)):
        old = isinstance(root, dict) and "swagger" in root
        raise fault(
            service,
            source,
            "it is a document of Swagger 2" if old else "it is no OpenAPI document: it does not say `openapi: 3.…`",
            hint="convert it to OpenAPI 3" if old else "name the document itself, often …/openapi.json",
        )
    if not str(version).startswith(("3.0", "3.1")):
        raise fault(service, source, f"its version is {str(version)[:20]}", hint="versions 3.0 and 3.1 are read")
    return Document(service, source, root, str(version).startswith("3.0"), base)


def _parse(text: str, service: str, source: str) -> Json:
    if len(text) > MAX_DOCUMENT_BYTES:
        raise fault(service, source, f"it is larger than {MAX_DOCUMENT_BYTES // (1024 * 1024)} MB")
    text = text.removeprefix("\ufeff")
    try:
        if text.lstrip().startswith(("{", "[")):
            try:
                return _plain(json.loads(text), {}, 0)
            except json.JSONDecodeError as error:
                at = f"line {error.lineno}, column {error.colno}"
                return _flow_yaml(text, f"it is not JSON: {error.msg} at {at}", service, source)
        return _plain(yaml.load(text, Loader=_Loader), {}, 0)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise fault(service, source, f"it is not YAML: {error.problem}{at}", hint="mend its syntax") from error
    except (yaml.YAMLError, ValueError) as error:
        raise fault(service, source, f"it cannot be read: {str(error)[:200]}", hint="mend its syntax") from error
    except RecursionError as error:
        raise fault(service, source, f"it has more than {MAX_LEVELS} levels") from error


def _flow_yaml(text: str, reason: str, service: str, source: str) -> Json:
    # YAML may begin with a brace too, but whoever wrote JSON wants to hear of JSON
    try:
        return _plain(yaml.load(text, Loader=_Loader), {}, 0)  # noqa: S506 - derived from the safe loader
    except yaml.YAMLError as error:
        raise fault(service, source, reason, hint="mend its syntax") from error


def _plain(value: Any, known: dict[int, Any], depth: int) -> Json:
    """Return a value with texts for keys; what an alias repeats stays one value."""
    if isinstance(value, (dict, list)):
        if depth > MAX_LEVELS:
            raise RecursionError
        found = known.get(id(value))
        if found is None:
            if isinstance(value, dict):
                found = {_key(key): _plain(item, known, depth + 1) for key, item in value.items()}
            else:
                found = [_plain(item, known, depth + 1) for item in value]
            known[id(value)] = found
        return found
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"JSON has no {type(value).__name__} such as {str(value)[:40]}")


def _key(key: Any) -> str:
    # the numbers of answers are written without quotes in YAML
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    return str(key)
