"""Fetches a page of the web and returns its readable text as Markdown; other texts come as they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import httpx

from activities.tools.http import HttpAnswer
from activities.tools.http_request import HttpCall
from activities.tools.integrations.charset import decoded
from activities.tools.integrations.markdown import Page, read_page
from activities.tools.integrations.service import (
    MAX_ANSWER_BYTES,
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
    Service,
    in_one_line,
    shown,
)
from engine import __version__
from engine.core.contracts.failures import clip
from engine.core.errors import ToolError
from engine.core.values import Json

HEADERS = {
    "User-Agent": f"Everstep/{__version__}",
    "Accept": "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.8,application/xml;q=0.8,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})

_TEXT_TYPE = re.compile(r"text/.+|application/(.+\+)?(json|xml|yaml|toml|javascript|x-ndjson|rtf)")
_LOOKS_LIKE_HTML = re.compile(
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.{0,500}?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.I | re.S
)


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Fetch a page.

    Args:
        service: The call.
        arguments: {url, start?}.

    Returns:
        {url, title, text, next_start}: where the page was after redirects, its title, its text from `start` on, and
        where the rest begins, null if there is none.

    Raises:
        ToolError: tool.not_text for pictures, archives and the like, tool.too_large, or what `HttpTools.call` says.
        AuthorityError: `authority.denied` if the page, or a redirect, lies beyond the task's bound.
    """
    redirects = service.tool.spec.get("follow_redirects") is True
    wanted = HttpCall(url=arguments["url"], headers=dict(HEADERS), follow_redirects=redirects)
    answer = await service.http.send(wanted, service.tool, service.context, marked=False, max_bytes=MAX_ANSWER_BYTES)
    kind, _, parameters = answer.headers.get("content-type", "").lower().partition(";")
    kind = kind.strip()
    is_html = kind in HTML_TYPES or (not kind and _LOOKS_LIKE_HTML.match(answer.body) is not None)
    if not is_html and not _is_text(kind, answer.body):
        raise ToolError(
            f"tool '{service.tool.name}': the page is no text but {clip(kind, 100) or 'of no known type'}",
            code="tool.not_text",
            details={"content_type": clip(kind, 100)},
        )
    # long pages take seconds, in which the worker would do nothing else
    loop = asyncio.get_running_loop()
    page = await loop.run_in_executor(service.threads, _read, answer, parameters, is_html)
    part, following = _part_of(page.text, arguments.get("start", 0), service.config.max_chars)
    return {
        "url": shown(_bare(answer.url), MAX_URL_CHARS),
        "title": in_one_line(page.title, MAX_TITLE_CHARS),
        "text": shown(part, len(part)),
        "next_start": following,
    }


def _read(answer: HttpAnswer, parameters: str, is_html: bool) -> Page:
    text = decoded(answer.body, parameters, is_html=is_html)
    return read_page(text, _bare(answer.url)) if is_html else Page(title="", text=text)


def _is_text(kind: str, body: bytes) -> bool:
    if kind:
        return _TEXT_TYPE.fullmatch(kind) is not None
    return b"\0" not in body[:1024]


def _part_of(text: str, start: int, limit: int) -> tuple[str, int | None]:
    """Return a part of a text and where the next one begins; a part ends at the end of a line if one is near."""
    if start + limit >= len(text):
        return text[start:], None
    end = start + limit
    line = text.rfind("\n", start + limit // 2, end)
    end = line + 1 if line > 0 else end
    return text[start:end], end


def _bare(url: httpx.URL) -> str:
    return str(url.copy_with(username=None, password=None, fragment=None))
