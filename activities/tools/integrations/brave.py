"""Searches the web with Brave's search service."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from activities.tools.integrations.service import (
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
    Service,
    in_one_line,
    items_of,
    member,
)
from engine.core.values import Json

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Search.

    Args:
        service: The call.
        arguments: {query, count?}.

    Returns:
        {results: [{title, url, text}]}, the best first.

    Raises:
        ToolError: What `Service.secret` and `Service.ask` say.
    """
    count = arguments.get("count", 5)
    params: dict[str, str | int] = {"q": arguments["query"], "count": count, "text_decorations": "false"}
    headers = {"X-Subscription-Token": service.secret(service.config.api_key_env), "Accept": "application/json"}
    reply = service.object_of(await service.ask("/web/search", params, headers))
    if reply.get("type") != "search":
        raise service.bad_reply("is not that of a search")
    found = items_of(member(reply, "web", "results"))[:count]
    share = service.share(len(found))
    return {
        "results": [
            {
                "title": in_one_line(_plain(item.get("title")), MAX_TITLE_CHARS),
                "url": in_one_line(item.get("url"), MAX_URL_CHARS),
                "text": in_one_line(_plain(item.get("description")), share),
            }
            for item in found
        ]
    }


def _plain(text: Any) -> str:
    return html.unescape(_TAG.sub("", text)) if isinstance(text, str) else ""
