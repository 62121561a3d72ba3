"""Makes one flat JSON Schema of an operation's parameters and body, and notes where each argument goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.control.openapi.document import EXCLUDE, Document
from engine.control.openapi.schemas import SchemaReader, is_read_only
from engine.core.values import Json, compact_json

PLACES = ("path", "query", "header", "cookie")
MAX_NAME_CHARS = 64
MAX_SCHEMA_CHARS = 64 * 1024
"""Every call carries it in its history, and models read it: what is larger is of use to neither."""
BODY = "body"
NOT_ARGUMENTS = frozenset(
    {
        *("accept", "authorization", "connection", "content-length", "content-type", "host", "idempotency-key"),
        *("proxy-authorization", "traceparent", "transfer-encoding"),
    }
)
"""Headers that are not the caller's to choose: the engine sends them, or the body does."""
_STYLES = {
    "path": ("simple",),
    "query": ("form", "deepObject", "spaceDelimited", "pipeDelimited"),
    "header": ("simple",),
    "cookie": ("form",),
}
_PLAIN = frozenset({"type", "properties", "required", "additionalProperties", "allOf", "$ref", "title", "description"})
_NOTES = frozenset({"example", "examples", "default", "xml", "externalDocs", "deprecated", "$schema", "nullable"})
Hidden = frozenset[tuple[str, str]]
"""Place and name, headers in small letters, of what carries credentials."""


@dataclass(slots=True)
class _Part:
    """One argument before names are settled: `where` is a place of a parameter, or the body."""

    wire: str
    where: str
    schema: Json
    required: bool
    sent: dict[str, Any]
    description: str = ""


@dataclass(slots=True)
class _Body:
    """Members of a body, of which the arguments are made."""

    properties: dict[str, tuple[Any, str]]
    required: set[str]
    rest: tuple[Any, str] | None = None


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call takes.

    Attributes:
        schema: JSON Schema of the arguments.
        parameters: Where each goes: {argument, name, in, style, explode, json?, reserved?}.
        body: {media, how, required, members | argument, rest?, joined?, types?}; None = there is none.
    """

    schema: dict[str, Any]
    parameters: list[dict[str, Any]]
    body: dict[str, Any] | None


def read_arguments(
    document: Document, item: Mapping[str, Any], operation: Mapping[str, Any], place: str, hidden: Hidden
) -> Arguments:
    """Read what an operation takes.

    Args:
        document: The document.
        item: The path's object, whose parameters count for all its operations.
        operation: The operation.
        place: Where it stands.
        hidden: Parameters that are no arguments, since they carry credentials.

    Raises:
        InvalidInput: `config.openapi`.
    """
    reader = SchemaReader(document)
    parts = list(_parameters(document, reader, item, operation, place, hidden))
    body, members, rest, joint = _body(document, reader, operation, place)
    parts += members
    properties, required, parameters, names = _named(parts)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False if rest is None else rest
    if joint:
        # a body that may be left out is either left out or whole
        wanted = sorted(names[name] for name in joint)
        schema["dependentRequired"] = {name: [each for each in wanted if each != name] for name in names.values()}
    if reader.definitions:
        schema["$defs"] = reader.definitions
    _check(document, schema, place)
    if body is not None and "argument" not in body:
        body["members"] = {argument: wire for wire, argument in names.items()}
    elif body is not None:
        body["argument"] = names[BODY]
    return Arguments(schema, parameters, body)


def _check(document: Document, schema: dict[str, Any], place: str) -> None:
    if len(compact_json(schema)) > MAX_SCHEMA_CHARS:
        size = f"{MAX_SCHEMA_CHARS // 1024} KB"
        raise document.fault(place, f"the schema of its arguments is larger than {size}", EXCLUDE)


# --- names ---------------------------------------------------------------------------------------------------------


def _named(parts: list[_Part]) -> tuple[dict[str, Json], list[str], list[dict[str, Any]], dict[str, str]]:
    """Give all arguments names of their own: where two would have the same, each has its place in front."""
    count = Counter(_argument_name(part.wire) for part in parts)
    properties: dict[str, Json] = {}
    required: list[str] = []
    parameters: list[dict[str, Any]] = []
    members: dict[str, str] = {}
    taken = set(count)
    for part in parts:
        name = _argument_name(part.wire)
        if count[name] > 1:
            name = f"{part.where}_{name}"[:MAX_NAME_CHARS]
            while name in taken:
                name = f"{name[: MAX_NAME_CHARS - 1]}_"
            taken.add(name)
        properties[name] = _described(part.schema, part.description)
        if part.required:
            required.append(name)
        if part.where == BODY:
            members[part.wire] = name
        else:
            parameters.append({"argument": name, "name": part.wire, "in": part.where, **part.sent})
    return properties, required, parameters, members


def _argument_name(wire: str) -> str:
    """Return a name that models of all providers can write."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", wire).strip("_")[:MAX_NAME_CHARS] or "_"


def _described(schema: Json, description: str) -> Json:
    if not description or (isinstance(schema, dict) and schema.get("description")):
        return schema
    if schema is True:
        return {"description": description}
    return {**schema, "description": description} if isinstance(schema, dict) else schema


# --- parameters ----------------------------------------------------------------------------------------------------


def _parameters(
    document: Document,
    reader: SchemaReader,
    item: Mapping[str, Any],
    operation: Mapping[str, Any],
    place: str,
    hidden: Hidden,
) -> Iterable[_Part]:
    found: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
    # an operation's own parameter replaces that of its path
    for owner, above in ((item, place.rpartition("/")[0]), (operation, place)):
        listed = owner.get("parameters", [])
        if not isinstance(listed, list):
            raise document.fault(f"{above}/parameters", "a list must stand here")
        for index, entry in enumerate(listed):
            parameter, where = document.resolved(entry, f"{above}/parameters/{index}")
            name, inside = parameter.get("name"), parameter.get("in")
            if not isinstance(name, str) or not name or inside not in PLACES:
                raise document.fault(where, f"a parameter needs a name, and `in`: one of {', '.join(PLACES)}")
            found[str(inside), name] = parameter, where
    template = set(re.findall(r"\{([^{}]*)\}", _path_of(place)))
    known = {name for inside, name in found if inside == "path"}
    if template != known:
        odd = sorted(template ^ known)[0]
        raise document.fault(place, f"the path and its parameters differ in '{odd[:60]}'", "name each in both")
    for inside in PLACES:
        for (its, name), (parameter, where) in found.items():
            key = name.lower() if its == "header" else name
            if its != inside or (its, key) in hidden or (its == "header" and key in NOT_ARGUMENTS):
                continue
            yield _parameter(document, reader, parameter, where)


def _path_of(place: str) -> str:
    # #/paths/~1pets~1{id}/get
    return place.split("/")[2].replace("~1", "/").replace("~0", "~")


def _parameter(document: Document, reader: SchemaReader, parameter: dict[str, Any], place: str) -> _Part:
    inside = str(parameter["in"])
    style = parameter.get("style") or _STYLES[inside][0]
    if style not in _STYLES[inside]:
        reason = f"the style '{str(style)[:40]}' of a parameter in {inside} is not supported"
        raise document.fault(place, reason, EXCLUDE)
    explode = parameter.get("explode")
    sent: dict[str, Any] = {"style": style, "explode": style == "form" if explode is None else explode is True}
    if parameter.get("allowReserved") is True and inside == "query":
        sent["reserved"] = True
    content = parameter.get("content")
    node, at = parameter.get("schema", {}), f"{place}/schema"
    if isinstance(content, dict) and content:
        media = next(iter(content))
        if not is_json(media):
            raise document.fault(f"{place}/content", f"a parameter of type {media[:60]} is not supported", EXCLUDE)
        inner, at = document.resolved(content[media], f"{place}/content/{escaped(media)}")
        node, at, sent["json"] = inner.get("schema", {}), f"{at}/schema", True
    return _Part(
        wire=parameter["name"],
        where=inside,
        schema=reader.schema(node, at),
        required=parameter.get("required") is True or inside == "path",
        sent=sent,
        description=str(parameter.get("description") or "").strip(),
    )


# --- the body ------------------------------------------------------------------------------------------------------


def _body(
    document: Document, reader: SchemaReader, operation: Mapping[str, Any], place: str
) -> tuple[dict[str, Any] | None, list[_Part], Json, list[str]]:
    """Return the body, its arguments, the schema of further members, and members that come all or not at all."""
    if operation.get("requestBody") is None:
        return None, [], None, []
    request, at = document.resolved(operation["requestBody"], f"{place}/requestBody")
    content = request.get("content")
    if not isinstance(content, dict) or not content:
        raise document.fault(at, "a body needs `content` with its media type")
    media, how = _chosen(content)
    inner, at = document.resolved(content[media], f"{at}/content/{escaped(media)}")
    node, at = inner.get("schema", {}), f"{at}/schema"
    required = request.get("required") is True
    about = str(request.get("description") or "").strip()
    body: dict[str, Any] = {"media": media, "how": how, "required": required}
    found = _members(document, node, at, 0) if how in ("json", "form", "multipart") else None
    if found is None or not found.properties:
        if how in ("form", "multipart") and found is None:
            raise document.fault(at, f"a body of type {media} must be an object with properties", EXCLUDE)
        schema = {"type": "string", "contentEncoding": "base64"} if how == "binary" else reader.schema(node, at)
        if how == "text":
            schema = {"type": "string"}
        body["argument"] = BODY
        return body, [_Part(BODY, BODY, schema, required, {}, about)], None, []
    parts: list[_Part] = []
    for name, (part, where) in found.properties.items():
        schema, binary = _sent_member(reader, document, part, where, how)
        parts.append(_Part(name, BODY, schema, required and name in found.required, {}))
        if binary:
            body.setdefault("binary", []).append(name)
    rest = None if found.rest is None else reader.schema(*found.rest)
    if rest is not None:
        body["rest"] = True
    if how in ("form", "multipart"):
        _encode(body, inner.get("encoding"))
    joint = [] if required else sorted(found.required & found.properties.keys())
    return body, parts, rest, joint


def _chosen(content: dict[str, Any]) -> tuple[str, str]:
    """Return the media type that is sent, and how it is written."""
    for how, fits in (
        ("json", is_json),
        ("form", lambda media: media.startswith("application/x-www-form-urlencoded")),
        ("multipart", lambda media: media.startswith("multipart/form-data")),
        ("text", lambda media: media.startswith("text/") or media.split(";")[0].endswith("xml")),
    ):
        for media in content:
            if fits(media.lower()):
                return media, how
    return next(iter(content)), "binary"


def is_json(media: str) -> bool:
    """Say whether a media type is JSON."""
    kind = media.lower().partition(";")[0].strip()
    return kind == "application/json" or kind.endswith("+json")


def escaped(token: str) -> str:
    """Return a member's name as it stands in a place of a document."""
    return token.replace("~", "~0").replace("/", "~1")


def _members(document: Document, node: Any, place: str, depth: int) -> _Body | None:
    """Return the members of an object of fixed shape, or None if arguments of their own cannot be made of them."""
    node, place = document.resolved({} if node is True else node, place)
    kind = node.get("type", "object")
    if depth > 20 or kind != "object":
        return None
    if any(key not in _PLAIN and key not in _NOTES and not key.startswith("x-") for key in node):
        return None
    found = _Body({}, set())
    parts, required = node.get("allOf", []), node.get("required", [])
    if not isinstance(parts, list) or not isinstance(required, list):
        return None
    for index, part in enumerate(parts):
        inner = _members(document, part, f"{place}/allOf/{index}", depth + 1)
        if inner is None or inner.properties.keys() & found.properties.keys():
            return None
        found.properties.update(inner.properties)
        found.required |= inner.required
        found.rest = found.rest or inner.rest
    own = node.get("properties", {})
    if not isinstance(own, dict) or own.keys() & found.properties.keys():
        return None
    found.properties.update(
        {name: (part, f"{place}/properties/{escaped(name)}") for name, part in own.items() if not is_read_only(part)}
    )
    found.required |= {name for name in required if isinstance(name, str)}
    hidden = {name for name, part in own.items() if is_read_only(part)}
    found.required -= hidden
    more = node.get("additionalProperties")
    if more is not None and more is not False:
        found.rest = more, f"{place}/additionalProperties"
    return found


def _sent_member(reader: SchemaReader, document: Document, node: Any, place: str, how: str) -> tuple[Json, bool]:
    """Return a member's schema, and whether it is a file, which travels as base64."""
    if how == "multipart":
        target, at = document.resolved(node, place)
        if _is_file(target):
            about = str(target.get("description") or "A file").strip().rstrip(".")
            return {"type": "string", "contentEncoding": "base64", "description": f"{about} (base64)."}, True
        items = target.get("items")
        if target.get("type") == "array" and items is not None:
            inner, _ = document.resolved(items, f"{at}/items")
            if _is_file(inner):
                about = str(target.get("description") or "Files").strip().rstrip(".")
                item = {"type": "string", "contentEncoding": "base64"}
                return {"type": "array", "items": item, "description": f"{about} (each in base64)."}, True
    return reader.schema(node, place), False


def _is_file(schema: dict[str, Any]) -> bool:
    if schema.get("format") == "binary":
        return True
    return "contentMediaType" in schema and "contentEncoding" not in schema


def _encode(body: dict[str, Any], encoding: Any) -> None:
    if not isinstance(encoding, dict):
        return
    for name, how in encoding.items():
        if isinstance(how, dict) and how.get("explode") is False:
            body.setdefault("joined", []).append(name)
        if isinstance(how, dict) and isinstance(how.get("contentType"), str):
            body.setdefault("types", {})[name] = how["contentType"].partition(",")[0].strip()
