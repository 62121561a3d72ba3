"""Makes tools of the operations of an OpenAPI document: names, effects, addresses, arguments."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from engine.control.openapi.arguments import Hidden, escaped, read_arguments
from engine.control.openapi.document import Document
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.settings import OpenApiConfig

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
READS = frozenset({"get", "head", "options", "trace"})
REPEATABLE = frozenset({"put", "delete"})
MAX_NAME_CHARS = 64
MAX_DESCRIPTION_CHARS = 1_000


def contracts_of(document: Document, config: OpenApiConfig) -> dict[str, ToolContract]:
    """Return the tools of a service by name.

    Args:
        document: Its document.
        config: How the operator registered it.

    Raises:
        InvalidInput: `config.openapi` if an operation cannot be a tool, two would have one name, or none is left.
    """
    hidden = _hidden(document, config)
    tools: dict[str, ToolContract] = {}
    places: dict[str, str] = {}
    for path, item, method, operation, place in _operations(document):
        label = _label(operation, method, path)
        if operation.get("deprecated") is True or not matches(config.operations, label):
            continue
        name = tool_name(document.service, label)
        if name in tools:
            raise document.fault(
                place,
                f"it would be the tool '{name}' as well as {places[name]}",
                "give each operation an operationId of its own, or offer one of them: operations = […]",
            )
        arguments = read_arguments(document, item, operation, place, hidden)
        spec: dict[str, Any] = {
            "service": document.service,
            "method": method.upper(),
            "path": path,
            "base_url": _base_url(document, config, item, operation, place),
            "parameters": arguments.parameters,
        }
        if arguments.body is not None:
            spec["body"] = arguments.body
        places[name] = place
        tools[name] = ToolContract(
            name=name,
            type="openapi",
            parameters=arguments.schema,
            effect=_effect(document, config, operation, method, label, place),
            idempotent=_idempotent(document, config, operation, method, label, place),
            description=_description(operation, method, path),
            timeout_s=config.timeout_s,
            spec=spec,
        )
    _check_globs(document, config)
    if not tools:
        raise document.fault("#/paths", "it offers no operation", "mend `operations`, or leave the service out")
    return tools


def tool_name(service: str, label: str) -> str:
    """Return the name of an operation's tool: letters, digits, `_` and `-`, at most 64 of them."""
    name = f"{service}_{re.sub(r'[^A-Za-z0-9_-]+', '_', label).strip('_')}"
    if len(name) <= MAX_NAME_CHARS:
        return name
    mark = hashlib.blake2b(name.encode(), digest_size=3).hexdigest()
    return f"{name[: MAX_NAME_CHARS - len(mark) - 1].rstrip('_')}_{mark}"


def matches(globs: Sequence[str], label: str) -> bool:
    """Say whether an operationId is chosen: by a glob, and by none that has `!` in front."""
    wanted = [glob for glob in globs if not glob.startswith("!")] or ["*"]
    if any(fnmatch.fnmatchcase(label, glob[1:]) for glob in globs if glob.startswith("!")):
        return False
    return any(fnmatch.fnmatchcase(label, glob) for glob in wanted)


def _operations(document: Document) -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any], str]]:
    paths = document.root.get("paths", {})
    if not isinstance(paths, dict):
        raise document.fault("#/paths", "an object must stand here")
    for path, found in paths.items():
        if path.startswith("x-"):
            continue
        place = f"#/paths/{escaped(path)}"
        if not path.startswith("/"):
            raise document.fault(place, "a path starts with /")
        item, _ = document.resolved(found, place)
        for method in METHODS:
            if method in item:
                if not isinstance(item[method], dict):
                    raise document.fault(f"{place}/{method}", "an object must stand here")
                yield path, item, method, item[method], f"{place}/{method}"


def _label(operation: Mapping[str, Any], method: str, path: str) -> str:
    """Return the operationId, or one made of method and path."""
    given = operation.get("operationId")
    if isinstance(given, str) and re.search(r"[A-Za-z0-9]", given):
        return given
    return f"{method}_{re.sub(r'[^A-Za-z0-9]+', '_', path).strip('_')}".strip("_")


def _check_globs(document: Document, config: OpenApiConfig) -> None:
    labels = [_label(operation, method, path) for path, _, method, operation, _ in _operations(document)]
    for member, globs in (
        ("operations", config.operations),
        ("effects", list(config.effects)),
        ("idempotent", config.idempotent),
    ):
        for glob in globs:
            if not any(fnmatch.fnmatchcase(label, glob.removeprefix("!")) for label in labels):
                known = ", ".join(sorted(labels)[:20])
                raise document.fault(
                    "#/paths", f"no operation is called '{glob[:60]}', as `{member}` has it", f"there are {known}"
                )


# --- what an operation does to the world ---------------------------------------------------------------------------


def _effect(
    document: Document, config: OpenApiConfig, operation: Mapping[str, Any], method: str, label: str, place: str
) -> ToolEffect:
    for glob, effect in config.effects.items():
        if fnmatch.fnmatchcase(label, glob):
            return effect
    said = operation.get("x-everstep-effect")
    if said is None:
        return ToolEffect.READ if method in READS else ToolEffect.WRITE
    if not isinstance(said, str) or said not in set(ToolEffect):
        raise document.fault(
            f"{place}/x-everstep-effect", f"there is no effect '{str(said)[:40]}'", f"one of {', '.join(ToolEffect)}"
        )
    return ToolEffect(said)


def _idempotent(
    document: Document, config: OpenApiConfig, operation: Mapping[str, Any], method: str, label: str, place: str
) -> bool:
    for glob in config.idempotent:
        if fnmatch.fnmatchcase(label, glob.removeprefix("!")):
            return not glob.startswith("!")
    said = operation.get("x-everstep-idempotent")
    if said is None:
        return method in REPEATABLE
    if not isinstance(said, bool):
        raise document.fault(f"{place}/x-everstep-idempotent", "true or false must stand here")
    return said


def _description(operation: Mapping[str, Any], method: str, path: str) -> str:
    parts = [str(operation.get(key) or "").strip() for key in ("summary", "description")]
    text = "\n".join(dict.fromkeys(part for part in parts if part)) or f"{method.upper()} {path}"
    return text if len(text) <= MAX_DESCRIPTION_CHARS else f"{text[: MAX_DESCRIPTION_CHARS - 1]}…"


# --- addresses and credentials -------------------------------------------------------------------------------------


def _base_url(
    document: Document, config: OpenApiConfig, item: Mapping[str, Any], operation: Mapping[str, Any], place: str
) -> str:
    if config.base_url:
        return config.base_url.rstrip("/")
    servers, where = document.root.get("servers"), "#/servers"
    for owner, above in ((operation, place), (item, place.rpartition("/")[0])):
        if owner.get("servers"):
            servers, where = owner["servers"], f"{above}/servers"
            break
    first = servers[0] if isinstance(servers, list) and servers else {"url": "/"}
    url = first.get("url") if isinstance(first, dict) else None
    if not isinstance(url, str):
        raise document.fault(where, "a server needs its url")
    variables = first.get("variables", {})
    for name in re.findall(r"\{([^{}]*)\}", url):
        facts = variables.get(name) if isinstance(variables, dict) else None
        if not isinstance(facts, dict) or "default" not in facts:
            raise document.fault(where, f"the variable '{name[:60]}' has no default", _SAY_WHERE)
        url = url.replace(f"{{{name}}}", str(facts["default"]))
    return _checked(document, urljoin(document.base, url) if document.base else url, where)


_SAY_WHERE = 'say where the service is: base_url = "https://…"'


def _checked(document: Document, url: str, where: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise document.fault(where, f"'{url[:100]}' is no address with http or https", _SAY_WHERE)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise document.fault(where, "the address of a server holds more than host and path", _SAY_WHERE)
    return url.rstrip("/")


def _hidden(document: Document, config: OpenApiConfig) -> Hidden:
    """Return the parameters that carry credentials, as the document and the operator name them."""
    found: set[tuple[str, str]] = set()
    for way in config.auth:
        place, name = way.goes_to
        found.add((place, name.lower() if place == "header" else name))
    components = document.root.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    for key, scheme in schemes.items() if isinstance(schemes, dict) else ():
        facts, _ = document.resolved(scheme, f"#/components/securitySchemes/{escaped(key)}")
        called, where = facts.get("name"), facts.get("in")
        if facts.get("type") == "apiKey" and isinstance(called, str) and isinstance(where, str):
            found.add((where, called.lower() if where == "header" else called))
    return frozenset(found)


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address, the port of the scheme written out.

    Raises:
        InvalidInput: `config.openapi` if it has none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"'{url[:100]}' is no address", code="config.openapi") from error
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"
