"""Searches Wikipedia, or another MediaWiki, and returns the introductions of the articles that fit best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from activities.tools.integrations.service import (
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
    Service,
    in_one_line,
    items_of,
    member,
    shown,
)
from engine.core.errors import ToolError
from engine.core.values import Json

BUSY = frozenset({"maxlag", "ratelimited", "readonly"})


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Search.

    Args:
        service: The call.
        arguments: {query, load_max_docs?}.

    Returns:
        {results: [{title, url, text}]}, the best first.

    Raises:
        ToolError: tool.failed if the wiki refuses the search, or what `Service.ask` says.
    """
    params: dict[str, str | int] = {
        "action": "query",
        "format": "json",
        "formatversion": 2,
        "generator": "search",
        "gsrsearch": arguments["query"],
        "gsrlimit": arguments.get("load_max_docs", 2),
        "prop": "extracts|info",
        "exintro": 1,
        "explaintext": 1,
        # without it a wiki gives the text of the first article only
        "exlimit": "max",
        "inprop": "url",
    }
    reply = service.object_of(await service.ask("/api.php", params))
    error = reply.get("error")
    if error is not None:
        code = in_one_line(member(error, "code"), 100)
        raise ToolError(
            f"tool '{service.tool.name}': the wiki refuses: {in_one_line(member(error, 'info'), 300) or code}",
            code="tool.failed",
            retryable=code in BUSY,
            details={"code": code},
        )
    if "query" not in reply and "batchcomplete" not in reply:
        raise service.bad_reply("is not that of a wiki")
    pages = sorted(items_of(member(reply, "query", "pages")), key=_rank)
    share = service.share(len(pages))
    return {
        "results": [
            {
                "title": in_one_line(page.get("title"), MAX_TITLE_CHARS),
                "url": in_one_line(page.get("fullurl"), MAX_URL_CHARS),
                "text": shown(page.get("extract"), share),
            }
            for page in pages
        ]
    }


def _rank(page: dict[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else 1_000
