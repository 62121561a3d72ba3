"""Cuts HTML into tags and text in one pass, however broken it is; the standard library's parser may take hours.

html.parser looks at the rest of the page again for each tag or comment that has no end (as of Python 3.11), so that a
page of two megabytes can keep a processor busy for a day. Here each character is looked at a bounded number of times.
"""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

MAX_QUOTED_CHARS = 100_000
"""Where a quoted attribute with `>` in it must end, or else its quote is a slip of the pen."""
KEPT = frozenset({"href", "src", "alt", "role", "hidden", "aria-hidden", "style", "start"})
"""The attributes that tell something to a reader."""
RAW = frozenset({"script", "style", "xmp", "iframe", "noembed", "noframes", "textarea", "title"})
"""Elements in which tags are text."""

_NEXT = re.compile(r"<(?:(!--)|([!?])|(/)?([a-zA-Z][^\s/<>]{0,39}))")
_QUOTED = re.compile(r"=\s*(?:\"[^\"]*(\")?|'[^']*(')?)")
_ATTRIBUTE = re.compile(r"([^\s=/>\"'<][^\s=/>]*)(?:\s*=\s*(?:\"([^\"]*)\"?|'([^']*)'?|([^\s>\"']+)))?")
_HUGE_REFERENCE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{8,});?")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a page.

    Attributes:
        kind: What it is.
        text: The name of a tag in lower case, or the text with its references resolved.
        attributes: Those of a start tag that are kept.
        closed: Whether a start tag ends with `/>`.
    """

    kind: Literal["start", "end", "text"]
    text: str
    attributes: dict[str, str] = field(default_factory=dict)
    closed: bool = False


def tokens_of(page: str) -> Iterator[Token]:
    """Yield tags and texts in their order, without comments, declarations, scripts and styles.

    Args:
        page: The HTML.
    """
    place = 0
    endless: set[str] = set()
    while found := _NEXT.search(page, place):
        if found.start() > place:
            yield Token("text", resolved(page[place : found.start()]))
        if found[1]:
            end = page.find("-->", found.start() + 2)
            place = end + 3
        else:
            end = page.find(">", found.end()) if found[2] else _tag_end(page, found.end())
            place = end + 1
        if end < 0:
            return  # the rest is a comment or tag that was never finished
        if not found[4]:
            continue
        name = found[4].lower()
        if found[3]:
            yield Token("end", name)
            continue
        inside = page[found.end() : end]
        yield Token("start", name, _attributes(inside), closed=inside.endswith("/"))
        if name in RAW and name not in endless:
            last = re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE).search(page, place)
            if last is None:
                endless.add(name)  # not looked for again
                if name in ("script", "style"):
                    return
                continue
            if name in ("title", "textarea"):
                yield Token("text", resolved(page[place : last.start()]))
            place = last.start()
    if place < len(page):
        yield Token("text", resolved(page[place:]))


def resolved(text: str) -> str:
    """Return text with its references, such as `&amp;`, replaced by what they stand for."""
    # the library reads any number of digits, and refuses some
    return html.unescape(_HUGE_REFERENCE.sub("�", text)) if "&" in text else text


def _tag_end(page: str, place: int) -> int:
    """Return where a tag ends: at the first `>` that stands in no quoted attribute; -1 if it does not end."""
    while True:
        end = page.find(">", place)
        if end < 0:
            return -1
        quote = _open_quote(page[place:end])
        closing = page.find(quote, end, end + MAX_QUOTED_CHARS) if quote else -1
        if closing < 0:
            return end
        place = closing + 1


def _open_quote(inside: str) -> str:
    """Return the quote that is still open at the end of a part of a tag, or an empty text."""
    last = next(iter(deque(_QUOTED.finditer(inside), maxlen=1)), None)
    if last is None or last[1] or last[2]:
        return ""
    return '"' if '"' in last[0] else "'"


def _attributes(inside: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(inside):
        name = match[1].lower()
        if name in KEPT:
            value = next((part for part in match.group(2, 3, 4) if part is not None), "")
            found.setdefault(name, resolved(value))
    return found
