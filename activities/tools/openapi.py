"""Calls operations of OpenAPI services as tools: puts arguments where they go and adds the worker's credentials."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from activities.tools.http import HttpAnswer, HttpTools, parse_json
from activities.tools.http_request import HttpCall
from activities.tools.openapi_parts import body_of, header_value, path_text, query_pairs
from engine.control.credentials import Mask, carried, cookie_pair, secrets_of
from engine.control.openapi.arguments import is_json
from engine.control.openapi.services import origin_of
from engine.core.contracts.activities import ToolParams
from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.ir import ToolContract
from engine.core.values import Json
from engine.settings import OpenApiConfig
from engine.tooling.catalog import ToolCatalog

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
        secrets = secrets_of(config.auth, f"tool '{tool.name}'")
        call = _build(tool, params.arguments, carried(config.auth, secrets))
        # a service may show what it was sent
        mask = Mask(secrets.values())
        try:
            answer = await self._http.send(call, tool, params.context, clean=mask.bytes)
            if answer.status >= 300:
                raise _sent_on(tool, answer)
            return _output(tool, answer)
        except ToolError as error:
            raise mask.error(error) from None

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


# --- request and answer --------------------------------------------------------------------------------------------


def _build(tool: ToolContract, arguments: Mapping[str, Any], credentials: list[tuple[str, str, str]]) -> HttpCall:
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
    for place, name, value in credentials:
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
