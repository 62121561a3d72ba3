"""Calls operations of OpenAPI services as tools: puts arguments where they go and adds the worker's credentials."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from activities.tools.http import HttpAnswer, HttpCall, HttpTools, parse_json
from activities.tools.openapi_parts import body_of, cookie_pair, header_value, path_text, query_pairs
from engine.control.openapi.arguments import is_json
from engine.control.openapi.services import origin_of
from engine.core.contracts.activities import ToolParams
from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json
from engine.settings import CredentialConfig, OpenApiConfig
from engine.tooling import ToolCatalog

MASK = "***"
MIN_MASKED_CHARS = 4
"""What is shorter stands in every other text by chance."""
_DOTS = frozenset({".", ".."})


class OpenApiTools:
    """Calls operations; satisfies `ToolAdapter`."""

    def __init__(self, services: Mapping[str, OpenApiConfig], catalog: ToolCatalog, http: HttpTools) -> None:
        """Bind the services.

        Args:
            services: How the operator registered them, by name.
            catalog: The tools of this worker, which say where its services are.
            http: Sends the requests.
        """
        self._services = services
        self._http = http
        self._origins: dict[str, set[str]] = {}
        self.learn(catalog.others)

    def learn(self, contracts: Mapping[str, ToolContract]) -> None:
        """Take note of where the services are now.

        Args:
            contracts: The tools of this worker.
        """
        self._origins = {}
        for contract in contracts.values():
            if contract.type == "openapi":
                origins = self._origins.setdefault(contract.spec["service"], set())
                origins.add(origin_of(contract.spec["base_url"]))

    async def call(self, params: ToolParams) -> Json:
        """Send the request of an operation.

        Args:
            params: The call; its arguments fit the contract's schema.

        Returns:
            The answer: JSON as it is, text as text, anything else as {content_type, content}, content in base64.

        Raises:
            ToolError: tool.unknown, .credentials or .service_moved before anything is sent, else as HTTP tools.
            AuthorityError: `authority.denied` if the service is beyond the bound of the call.
        """
        tool = params.tool
        config = self._registered(tool)
        secrets = _secrets_of(tool, config)
        call = _build(tool, params.arguments, _carried(config, secrets))
        # a service may show what it was sent
        mask = _Mask(list(secrets.values()))
        try:
            answer = await self._http.send(call, tool, params.context, clean=mask.bytes)
            if answer.status >= 300:
                raise _sent_on(tool, answer)
            return _output(tool, answer)
        except ToolError as error:
            raise _without(error, mask) from None

    def _registered(self, tool: ToolContract) -> OpenApiConfig:
        name = str(tool.spec.get("service"))
        config = self._services.get(name)
        if config is None:
            known = ", ".join(sorted(self._services)) or "none"
            raise ToolError(
                f"tool '{tool.name}': this worker has no OpenAPI service '{name}'",
                code="tool.unknown",
                hint=f"register it under [tools.openapi.{name}] in the worker's everstep.toml; it has {known}",
            )
        base_url = str(tool.spec.get("base_url"))
        try:
            origin = origin_of(base_url)
        except InvalidInput as error:
            raise ToolError(f"tool '{tool.name}': {error.message}", code="tool.bad_definition") from error
        if origin not in self._origins.get(name, set()):
            # the credentials are meant for where the service is now, not for where it once was
            raise ToolError(
                f"tool '{tool.name}' was planned for the service '{name}' at {base_url}, which is no longer there",
                code="tool.service_moved",
                hint="start the task anew, or register the service with that base_url until its executions have ended",
            )
        return config


# --- credentials ---------------------------------------------------------------------------------------------------


def _secrets_of(tool: ToolContract, config: OpenApiConfig) -> dict[str, str]:
    """Return the values of all variables that the credentials name; looked up per call, so that nothing keeps them."""
    found: dict[str, str] = {}
    for way in config.auth:
        for variable in (way.bearer_env, way.basic_user_env, way.basic_password_env, way.env):
            if not variable:
                continue
            value = os.environ.get(variable, "").strip()
            if not value or not (value.isascii() and value.isprintable()):
                state = "is not set" if not value else "holds something that cannot stand in a request"
                raise ToolError(
                    f"tool '{tool.name}' needs a credential, but the environment variable {variable} {state}",
                    code="tool.credentials",
                    hint=f"set {variable} where the worker is started",
                )
            found[variable] = value
    return found


def _carried(config: OpenApiConfig, secrets: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (place, name, value) of what says who the worker is."""
    return [(*way.goes_to, _value_of(way, secrets)) for way in config.auth]


def _value_of(way: CredentialConfig, secrets: Mapping[str, str]) -> str:
    if way.bearer_env:
        return f"Bearer {secrets[way.bearer_env]}"
    if way.basic_user_env:
        both = f"{secrets[way.basic_user_env]}:{secrets[way.basic_password_env]}"
        return f"Basic {base64.b64encode(both.encode()).decode('ascii')}"
    return secrets[way.env]


class _Mask:
    """Takes secrets out of bytes and texts, also where they are written as in a URL, in JSON or in base64."""

    def __init__(self, secrets: list[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            in_json = secret.replace("\\", "\\\\").replace('"', '\\"')
            forms |= {secret, quote(secret, safe=""), quote_plus(secret), in_json, in_json.replace("/", "\\/")}
            forms.add(cookie_pair("", secret)[1:])
        forms |= {base64.b64encode(f"{one}:{two}".encode()).decode("ascii") for one in secrets for two in secrets}
        kept = sorted((form for form in forms if len(form) >= MIN_MASKED_CHARS), key=len, reverse=True)
        self._in_text = re.compile("|".join(map(re.escape, kept))) if kept else None
        self._in_bytes = re.compile(b"|".join(re.escape(form.encode()) for form in kept)) if kept else None

    def bytes(self, body: bytes) -> bytes:
        """Return a body without them."""
        return body if self._in_bytes is None else self._in_bytes.sub(MASK.encode(), body)

    def text(self, text: str) -> str:
        """Return a text without them."""
        return text if self._in_text is None else self._in_text.sub(MASK, text)


def _without(error: ToolError, mask: _Mask) -> ToolError:
    details = {key: mask.text(item) if isinstance(item, str) else item for key, item in error.details.items()}
    return ToolError(
        mask.text(error.message), code=error.code, hint=error.hint, retryable=error.retryable, details=details
    )


# --- request and answer --------------------------------------------------------------------------------------------


def _build(tool: ToolContract, arguments: Mapping[str, Any], carried: list[tuple[str, str, str]]) -> HttpCall:
    spec = tool.spec
    given = {name: value for name, value in arguments.items() if value is not None}
    path = str(spec["path"])
    pairs: list[tuple[str, str]] = []
    headers: dict[str, str] = {"Accept": "application/json, */*;q=0.5"}
    cookies: list[str] = []
    for parameter in spec["parameters"]:
        argument, name, place = parameter["argument"], parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", path_text(tool, parameter, given.get(argument)))
        elif argument not in given:
            continue
        elif place == "query":
            pairs += query_pairs(parameter, given[argument])
        elif place == "header":
            headers[name] = header_value(parameter, given[argument])
        else:
            cookies.append(cookie_pair(name, header_value(parameter, given[argument])))
    # some servers decode a path before they look at its parts
    if not _DOTS.isdisjoint(re.split(r"[/\\]", unquote(path))):
        raise ToolError(f"tool '{tool.name}': a part of the path would be . or ..", code="tool.bad_arguments")
    for place, name, value in carried:
        if place == "query":
            pairs.append((quote(name, safe=""), quote(value, safe="")))
        elif place == "cookie":
            cookies.append(cookie_pair(name, value))
        else:
            headers[name] = value
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    taken = {parameter["argument"] for parameter in spec["parameters"]}
    rest = {name: value for name, value in arguments.items() if name not in taken}
    content = body_of(tool, spec.get("body"), rest)
    if content is not None:
        headers["Content-Type"] = content[0]
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return HttpCall(
        method=spec["method"],
        url=f"{spec['base_url']}{path}{'?' if query else ''}{query}",
        headers=headers,
        content=None if content is None else base64.b64encode(content[1]).decode("ascii"),
    )


def _sent_on(tool: ToolContract, answer: HttpAnswer) -> ToolError:
    # what says who the worker is must not go where the service points to
    where = str(answer.url.copy_with(query=None, fragment=None))
    return ToolError(
        f"tool '{tool.name}': {where} answered {answer.status}, and redirects are not followed",
        code="tool.http_status",
        hint="register the service with the address that it redirects to as base_url",
        details={"status": answer.status},
    )


def _output(tool: ToolContract, answer: HttpAnswer) -> Json:
    if not answer.body:
        return None
    media = answer.headers.get("content-type", "")
    kind, _, more = media.partition(";")
    if not kind.strip() or is_json(media):
        parsed = parse_json(answer.body, tool)
        if parsed is not None or answer.body.strip() == b"null":
            return parsed
    charset = re.search(r"charset\s*=\s*\"?([\w.:-]+)", more)
    try:
        text = answer.body.decode(charset[1] if charset else "utf-8")
    except (UnicodeError, LookupError):
        text = "\0"
    if "\0" in text:
        return {"content_type": media, "content": base64.b64encode(answer.body).decode("ascii")}
    return text
