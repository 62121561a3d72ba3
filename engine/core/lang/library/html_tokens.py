"""Takes HTML apart into tags and text in linear time, however broken it is. Workflow-safe."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from engine.core.lang.context import Fuel

MAX_TAG_CHARS: Final = 65_536
"""A longer tag, such as one with a picture in it, counts as text."""
CHAR_SHIFT: Final = 2
"""2**2 characters cost one unit."""
RETRY_SHIFT: Final = 6

_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,30}+)((?:[^<>\"']|\"[^\"]*+\"|'[^']*+')*+)>")
_ATTRIBUTE: Final = re.compile(r"(?<![\w-])([a-zA-Z-]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_GIANT: Final = re.compile(r"&#[xX]?[0-9a-fA-F]{12,};?")
_RAW: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        name: re.compile(f"</{name}[^>]{{0,100}}>", re.IGNORECASE)
        for name in ("script", "style", "noscript", "template", "svg", "title")
    }
)
"""Elements whose content is no text of the page."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Token:
    """A tag, or text between tags.

    Attributes:
        name: Name of the tag in small letters; empty for text.
        text: The text, with its entities resolved.
        closes: Whether it is an end tag.
        attributes: Those of a start tag by their small names.
    """

    name: str
    text: str = ""
    closes: bool = False
    attributes: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


def tokens(source: str, fuel: Fuel, wanted: frozenset[str]) -> Iterator[Token]:
    """Yield the tags and texts of HTML; comments, declarations and scripts are left out.

    Args:
        source: The HTML.
        fuel: What pays.
        wanted: Tags whose attributes are read.
    """
    fuel.charge((len(source) >> CHAR_SHIFT) + 2)
    at = start = 0
    has_end = True
    while (place := source.find("<", at)) >= 0:
        if source.startswith("<!--", place):
            end = source.find("-->", place + 4)
            following = len(source) if end < 0 else end + 3
        elif source[place + 1 : place + 2] in ("!", "?"):
            end = source.find(">", place) if has_end else -1
            has_end = end >= 0
            following = end + 1 if has_end else -1
        else:
            following = -1
        if following >= 0:
            yield from _text(source[start:place], fuel)
            at = start = following
            continue
        match = _TAG.match(source, place, min(len(source), place + MAX_TAG_CHARS))
        if match is None:
            # a lone bracket is text
            if source[place + 1 : place + 2].isalpha() or source[place + 1 : place + 2] == "/":
                fuel.charge(min(len(source) - place, MAX_TAG_CHARS) >> RETRY_SHIFT)
            at = place + 1
            continue
        yield from _text(source[start:place], fuel)
        name = match[2].lower()
        at = start = match.end()
        fuel.charge(3)
        if match[1]:
            yield Token(name, closes=True)
            continue
        yield Token(name, attributes=_attributes(match[3], fuel) if name in wanted else _NOTHING)
        raw = _RAW.get(name)
        if raw is not None and not match[3].endswith("/"):
            end_tag = raw.search(source, at)
            at = start = len(source) if end_tag is None else end_tag.end()
    yield from _text(source[start:], fuel)


def _text(text: str, fuel: Fuel) -> Iterator[Token]:
    if text:
        fuel.charge(text.count("&") + 1)
        yield Token("", _unescape(text))


def _unescape(text: str) -> str:
    # no character has a number of so many digits, and reading them would fail
    return html.unescape(_GIANT.sub("\ufffd", text) if "&#" in text else text)


def _attributes(text: str, fuel: Fuel) -> dict[str, str]:
    fuel.charge((len(text) >> 3) + 1)
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = next((part for part in match.groups()[1:] if part is not None), "")
        found.setdefault(match[1].lower(), _unescape(value))
    return found
