"""Searches papers on arXiv and returns their titles, authors and abstracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

from activities.tools.integrations.service import MAX_TITLE_CHARS, MAX_URL_CHARS, Service, in_one_line
from engine.core.errors import ToolError
from engine.core.values import Json

ATOM = "{http://www.w3.org/2005/Atom}"
MAX_AUTHORS = 20


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Search.

    Args:
        service: The call.
        arguments: {query?, id_list?, max_results?, sort_by?, sort_order?}.

    Returns:
        {results: [{title, url, text, authors, published, updated, pdf_url}]}, the best first.

    Raises:
        ToolError: tool.bad_arguments if arXiv cannot make sense of them, or what `Service.ask` says.
    """
    params: dict[str, str | int] = {
        "max_results": arguments.get("max_results", 5),
        "sortBy": arguments.get("sort_by", "relevance"),
        "sortOrder": arguments.get("sort_order", "descending"),
    }
    if arguments.get("query"):
        params["search_query"] = arguments["query"]
    if arguments.get("id_list"):
        params["id_list"] = ",".join(arguments["id_list"])
    answer = await service.ask("/query", params)
    entries = _feed(service, answer.body).findall(f"{ATOM}entry")
    for entry in entries:
        if "/api/errors" in _text(entry, "id", 300):
            raise ToolError(
                f"tool '{service.tool.name}': arXiv refuses the search: {_text(entry, 'summary', 300)}",
                code="tool.bad_arguments",
            )
    share = service.share(len(entries))
    return {"results": [_paper(entry, share) for entry in entries]}


def _paper(entry: ET.Element, share: int) -> dict[str, Json]:
    authors = [in_one_line(name.text, 200) for name in entry.findall(f"{ATOM}author/{ATOM}name")]
    links = {link.get("title"): link.get("href") for link in entry.findall(f"{ATOM}link")}
    return {
        "title": _text(entry, "title", MAX_TITLE_CHARS),
        "url": _text(entry, "id", MAX_URL_CHARS),
        "text": _text(entry, "summary", share),
        "authors": [*authors[:MAX_AUTHORS], *(["…"] if len(authors) > MAX_AUTHORS else [])],
        "published": _text(entry, "published", 40),
        "updated": _text(entry, "updated", 40),
        "pdf_url": in_one_line(links.get("pdf"), MAX_URL_CHARS),
    }


def _text(entry: ET.Element, name: str, limit: int) -> str:
    return in_one_line(entry.findtext(f"{ATOM}{name}"), limit)


class _NoEntities(ET.TreeBuilder):
    """Refuses documents that declare entities, which may grow without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("a feed has no document type")


def _feed(service: Service, body: bytes) -> ET.Element:
    try:
        root = ET.fromstring(body, ET.XMLParser(target=_NoEntities()))  # noqa: S314 - see _NoEntities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise service.bad_reply("is no feed") from error
    if root.tag != f"{ATOM}feed":
        raise service.bad_reply("is no feed")
    return root
