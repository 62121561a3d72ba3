"""Turns the bytes of a page into text: by its mark, its header, its own `meta`, else as what most pages are."""

from __future__ import annotations

import codecs
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_KNOWN = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|iso-?8859-?\d{1,2}|latin-?\d|(windows-|cp)(125\d|874|932|949)|koi8-[ru]|gbk|gb2312|gb18030|big5(-hkscs)?"
    r"|euc-(jp|kr)|shift[_-]jis|iso-2022-jp|macintosh|mac-cyrillic|tis-620|ibm866"
)
"""Names that may be looked up: Python knows codecs that are no charsets, some of them slow."""
_LATIN = re.compile(r"(us-)?ascii|iso-?8859-?1|latin-?1")
_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)")
_META = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.I)
_XML = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})", re.I)
_LOOKED_AT = 4096


def decoded(body: bytes, parameters: str, *, is_html: bool) -> str:
    """Return the text of a page; what its charset cannot hold becomes U+FFFD.

    Args:
        body: Its bytes.
        parameters: What follows the type in its Content-Type.
        is_html: Whether it may say itself what it is written in.
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, "replace")
    named = _HEADER.search(parameters.lower())
    names = [named[1]] if named else []
    if is_html:
        head = body[:_LOOKED_AT]
        inside = [found[1].decode("ascii").lower() for found in (_META.search(head), _XML.match(head)) if found]
        # what can be read as ASCII to find this out is not UTF-16, whatever it says
        names += ["utf-8" if name.startswith("utf-16") else name for name in inside]
    for name in names:
        if _LATIN.fullmatch(name):
            # as browsers do: the characters that Windows added are meant
            return body.decode("windows-1252", "replace")
        if _KNOWN.fullmatch(name):
            try:
                return body.decode(name.replace("windows-874", "cp874"), "replace")
            except LookupError:
                continue
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        # UTF-8 with a slip, or one of the old charsets of the West, whose letters are hardly ever UTF-8 by chance
        damaged = body.decode("utf-8", "replace")
        beyond = sum(character > "\x7f" for character in damaged)
        return damaged if damaged.count("�") * 2 < beyond else body.decode("windows-1252", "replace")
