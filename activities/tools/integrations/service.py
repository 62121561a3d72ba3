"""What the shipped integrations share: their call, settings and key, requests to a service, and short plain texts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import httpx

from activities.tools.http import HttpAnswer, HttpTools
from activities.tools.http_request import HttpCall
from engine import __version__
from engine.control.guard import AddressGuard
from engine.control.integrations import base_url_of
from engine.core.contracts.activities import CallContext
from engine.core.contracts.failures import clip
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract
from engine.settings import IntegrationConfig

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_TITLE_CHARS = 300
MAX_URL_CHARS = 4_000

_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One call of an integration, and what it may use.

    Attributes:
        provider: What it speaks to.
        config: The operator's settings.
        tool: The contract.
        context: Who calls.
        http: Sends requests under the guard.
        guard: Decides about addresses.
        threads: Where what takes long, or cannot be awaited, is done.
        own_secrets: What the task itself gives in place of variables of the environment, by their names.
    """

    provider: str
    config: IntegrationConfig
    tool: ToolContract
    context: CallContext
    http: HttpTools
    guard: AddressGuard
    threads: Executor
    own_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def secret(self, variable: str) -> str:
        """Return what a variable of the environment holds.

        Looked up for each call, so that it never stands in a value that could be printed.

        Raises:
            ToolError: `tool.credentials` if it is not set, or cannot be sent.
        """
        value = (self.own_secrets.get(variable) or os.environ.get(variable, "")).strip()
        if not value or not (value.isascii() and value.isprintable()):
            state = "is not set" if not value else "holds something that is not printable ASCII"
            raise ToolError(
                f"tool '{self.tool.name}' needs a secret, but the environment variable {variable} {state}",
                code="tool.credentials",
                hint=f"set {variable} where the worker is started",
            )
        return value

    async def ask(
        self, path: str, params: Mapping[str, str | int], headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Send a GET request to the service.

        Args:
            path: What follows `base_url`.
            params: The query.
            headers: Further headers.

        Raises:
            ToolError: As `HttpTools.call`; `tool.http_status` also if the service wants us elsewhere, since a key
                must not follow it there.
        """
        call = HttpCall(
            url=base_url_of(self.config, self.provider) + path,
            params=dict(params),
            headers={"User-Agent": f"Everstep/{__version__}", "Accept-Encoding": "gzip", **(headers or {})},
        )
        answer = await self.http.send(call, self.tool, self.context, marked=False, max_bytes=MAX_ANSWER_BYTES)
        if answer.status >= 300:
            raise ToolError(
                f"tool '{self.tool.name}': the service answered {answer.status} and sends its callers elsewhere",
                code="tool.http_status",
                hint=f"check base_url of [tools.integrations.{self.tool.name}] in everstep.toml",
                details={"status": answer.status, "location": clip(_place(answer.headers.get("location", "")), 500)},
            )
        return answer

    def object_of(self, answer: HttpAnswer) -> dict[str, Any]:
        """Return the JSON object of an answer.

        Raises:
            ToolError: `tool.bad_reply` if it has none.
        """
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise self.bad_reply("is not JSON") from error
        if not isinstance(found, dict):
            raise self.bad_reply("is no JSON object")
        return found

    def bad_reply(self, what: str) -> ToolError:
        """Return the error for an answer that does not look as the service's answers do."""
        return ToolError(
            f"tool '{self.tool.name}': the answer of the service {what}",
            code="tool.bad_reply",
            hint=f"is base_url of [tools.integrations.{self.tool.name}] a service of the kind '{self.provider}'?",
        )

    def share(self, count: int) -> int:
        """Return how many characters of text each of `count` results may have."""
        return max(self.config.max_chars // max(count, 1), 1)


def member(value: Any, *names: str) -> Any:
    """Return what stands in nested objects, or None."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def items_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, whatever else stands in it; of anything else none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def shown(text: Any, limit: int) -> str:
    """Return text without control characters, cut at a length.

    Args:
        text: The text; anything else gives an empty one.
        limit: Most characters, the mark of the cut included.
    """
    clean = _UNSHOWN.sub("", text).strip() if isinstance(text, str) else ""
    return clean if len(clean) <= limit else f"{clean[: limit - 1].rstrip()}…"


def in_one_line(text: Any, limit: int) -> str:
    """Return text whose white space is single spaces, as `shown` does."""
    return shown(" ".join(text.split()) if isinstance(text, str) else "", limit)


def _place(address: str) -> str:
    # the query is not shown: a service may repeat in it what it was sent
    try:
        return str(httpx.URL(address).copy_with(query=None, fragment=None, username=None, password=None))
    except httpx.InvalidURL:
        return ""
