"""markdown_to_html of the library: the everyday part of Markdown, in linear time. Workflow-safe.

Covered: headings with `#`, paragraphs, emphasis, strong text, code, fenced code, quotes, lists within lists, rules,
links and images, hard breaks, tables, backslash escapes. HTML in the source is shown as text, never passed through,
and links lead to http, https, mailto or relative places only. Not covered: reference links, footnotes, setext
headings and indented code.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from html import escape
from typing import Any, Final

from engine.core.lang.context import TEXT_SHIFT, Frame
from engine.core.lang.failures import fail
from engine.core.lang.functions import Doc, Function, need_text

MAX_NESTING: Final = 20
_BREAK: Final = "\x01"
"""Stands for a line break until the text around it is escaped; it is taken out of the source."""
CHAR_SHIFT: Final = 2
"""2**2 characters cost one unit: about 0.25 µs each, for every level of quotes and lists around them."""

# possessive, so that a failure is not tried again in other lengths and no places to go back to are kept
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]{0,40})[^`\n]*")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_RULE: Final = re.compile(r" {0,3}(?:(?:-[ \t]*+){3,}+|(?:\*[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)")
_QUOTE: Final = re.compile(r" {0,3}>[ ]?")
_ITEM: Final = re.compile(r"( {0,3})([-*+]|[0-9]{1,9}[.)])([ \t]+|$)")
_TABLE_LINE: Final = re.compile(r" {0,3}\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*+")
_SAFE_LINK: Final = re.compile(r"(?:https?://|mailto:|[#/.?]|[^:/?#]*(?:[/?#]|$))", re.IGNORECASE)


def markdown_to_html(frame: Frame, text: Any) -> str:
    """Return a Markdown text as HTML; see the module's docstring for what is covered.

    Raises:
        ExpressionError: `expression.too_deep` if quotes and lists are nested deeper than 20 levels.
    """
    source = need_text(text, "the Markdown").replace("\r\n", "\n").replace("\t", "    ").replace(_BREAK, "")
    out: list[str] = []
    _blocks(frame, source.split("\n"), out, 0, False)
    frame.fuel.charge(sum(map(len, out)) >> TEXT_SHIFT)
    return "\n".join(out)


# --- blocks --------------------------------------------------------------------------------------------------------


def _blocks(frame: Frame, lines: list[str], out: list[str], depth: int, tight: bool) -> None:
    """Write the blocks of some lines; in a tight list a paragraph has no tags."""
    if depth > MAX_NESTING:
        raise fail("too_deep", f"quotes and lists are nested deeper than {MAX_NESTING} levels")
    frame.fuel.charge((sum(map(len, lines)) >> CHAR_SHIFT) + len(lines))
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif fence := _FENCE.fullmatch(line):
            at = _fenced(frame, lines, at, fence, out)
        elif heading := _HEADING.fullmatch(line):
            level = len(heading[1])
            words = (heading[2] or "").rstrip().rstrip("#").rstrip()
            out.append(f"<h{level}>{inline(frame, words)}</h{level}>")
            at += 1
        elif _RULE.fullmatch(line):
            out.append("<hr>")
            at += 1
        elif _QUOTE.match(line):
            at = _quote(frame, lines, at, out, depth)
        elif _ITEM.match(line):
            at = _list(frame, lines, at, out, depth)
        elif "|" in line and at + 1 < len(lines) and "-" in lines[at + 1] and _TABLE_LINE.fullmatch(lines[at + 1]):
            at = _table(frame, lines, at, out)
        else:
            at = _paragraph(frame, lines, at, out, tight)


def _fenced(frame: Frame, lines: list[str], at: int, fence: re.Match[str], out: list[str]) -> int:
    mark, language = fence[1], fence[2]
    end = at + 1
    while end < len(lines):
        line = lines[end].strip()
        if line.startswith(mark) and not line.strip(mark[0]):
            break
        end += 1
    kind = f' class="language-{escape(language)}"' if language else ""
    body = "".join(f"{escape(line, quote=False)}\n" for line in lines[at + 1 : end])
    out.append(f"<pre><code{kind}>{body}</code></pre>")
    return end + 1


def _quote(frame: Frame, lines: list[str], at: int, out: list[str], depth: int) -> int:
    inner: list[str] = []
    while at < len(lines) and (match := _QUOTE.match(lines[at])):
        inner.append(lines[at][match.end() :])
        at += 1
    out.append("<blockquote>")
    _blocks(frame, inner, out, depth + 1, False)
    out.append("</blockquote>")
    return at


def _list(frame: Frame, lines: list[str], at: int, out: list[str], depth: int) -> int:
    first = _ITEM.match(lines[at])
    ordered = first is not None and first[2][0].isdigit()
    items: list[list[str]] = []
    loose = False
    while at < len(lines):
        match = _ITEM.match(lines[at])
        if match is None or match[2][0].isdigit() != ordered or _RULE.fullmatch(lines[at]):
            break
        width = match.end() if match[3] and len(match[3]) <= 4 else match.end(2) + 1
        item = [lines[at][width:]]
        at += 1
        while at < len(lines):
            line = lines[at]
            indent = len(line) - len(line.lstrip(" "))
            if line.strip() and indent < width and (not item[-1].strip() or _starts_block(line)):
                break
            item.append(line[min(indent, width) :])
            at += 1
        while len(item) > 1 and not item[-1].strip():
            item.pop()
            # a blank line between two items makes the list a loose one
            following = _ITEM.match(lines[at]) if at < len(lines) else None
            loose = loose or (following is not None and following[2][0].isdigit() == ordered)
        loose = loose or any(not line.strip() for line in item[1:])
        items.append(item)
    number = first[2][:-1] if ordered and first is not None else "1"
    tag = "ol" if ordered else "ul"
    start = "" if not ordered or int(number) == 1 else f' start="{int(number)}"'
    out.append(f"<{tag}{start}>")
    for item in items:
        body: list[str] = []
        _blocks(frame, item, body, depth + 1, not loose)
        out.append(f"<li>{chr(10).join(body)}</li>")
    out.append(f"</{tag}>")
    return at


def _starts_block(line: str) -> bool:
    return any(form.match(line) for form in (_ITEM, _QUOTE, _HEADING, _FENCE)) or _RULE.fullmatch(line) is not None


def _table(frame: Frame, lines: list[str], at: int, out: list[str]) -> int:
    head = _cells(lines[at])
    aligns = []
    for cell in _cells(lines[at + 1]):
        side = {(True, True): "center", (False, True): "right", (True, False): "left"}.get(
            (cell.startswith(":"), cell.endswith(":"))
        )
        aligns.append(f' style="text-align: {side}"' if side else "")
    aligns = (aligns + [""] * len(head))[: len(head)]
    out.append("<table>")
    out.append(_row(frame, head, aligns, "th"))
    at += 2
    while at < len(lines) and "|" in lines[at]:
        out.append(_row(frame, _cells(lines[at]), aligns, "td"))
        at += 1
    out.append("</table>")
    return at


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    inner = inner.removesuffix("|") if not inner.endswith("\\|") else inner
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _row(frame: Frame, cells: list[str], aligns: list[str], tag: str) -> str:
    frame.fuel.charge(len(aligns) + 1)
    full = (cells + [""] * len(aligns))[: len(aligns)]
    made = [f"<{tag}{side}>{inline(frame, cell)}</{tag}>" for cell, side in zip(full, aligns, strict=True)]
    return f"<tr>{''.join(made)}</tr>"


def _paragraph(frame: Frame, lines: list[str], at: int, out: list[str], tight: bool) -> int:
    words = [lines[at]]
    at += 1
    while at < len(lines) and lines[at].strip() and not _starts_block(lines[at]):
        words.append(lines[at])
        at += 1
    *heads, last = [line.lstrip(" ") for line in words]
    body = "".join(f"{_with_break(line)}\n" for line in heads) + last.rstrip()
    made = inline(frame, body).replace(_BREAK, "<br>")
    out.append(made if tight else f"<p>{made}</p>")
    return at


def _with_break(line: str) -> str:
    """Return a line without blanks at its end; two blanks or a backslash there become a break."""
    bare = line.rstrip(" ")
    if len(line) - len(bare) >= 2:
        return bare + _BREAK
    return bare[:-1] + _BREAK if bare.endswith("\\") and not bare.endswith("\\\\") else bare


# --- inline --------------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r"\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|(?P<ticks>`+)"
    r"|(?P<link>!?\[)"
    r"|(?P<auto><(?:https?://|mailto:)[^\s<>]{1,2000}>)"
    r"|(?P<mark>\*+|_+|~~)"
)
# possessive, so that a failure is not tried again in other lengths
_TARGET: Final = re.compile(
    r"\([ \t]*+(?:<([^<>\n]{0,2000}+)>|([^\s()<>]{0,2000}+))(?:[ \t]++\"([^\"\n]{0,500}+)\")?+[ \t]*+\)"
)
_TICKS: Final = re.compile(r"`+")
_LABEL_CHARS: Final = 1_000


def inline(frame: Frame, text: str, depth: int = 0) -> str:
    """Return the text of a line or paragraph with its marks as tags, all else escaped."""
    frame.fuel.charge((len(text) >> CHAR_SHIFT) + 1)
    out: list[str] = []
    # open marks with the place in `out` where each stands
    open_marks: list[tuple[str, int]] = []
    at = 0
    runs: dict[int, list[int]] = {}
    while (match := _TOKEN.search(text, at)) is not None:
        out.append(escape(text[at : match.start()]))
        at = match.end()
        if match["escaped"]:
            out.append(escape(match["escaped"]))
        elif match["ticks"]:
            at = _code(text, match, out, runs)
        elif match["auto"]:
            target = match["auto"][1:-1]
            out.append(f'<a href="{escape(target)}">{escape(target)}</a>')
        elif match["link"]:
            at = _link(frame, text, match, out, depth)
        else:
            _emphasis(text, match, out, open_marks)
    out.append(escape(text[at:]))
    frame.fuel.charge(len(out) >> 2)
    return "".join(out)


def _code(text: str, match: re.Match[str], out: list[str], runs: dict[int, list[int]]) -> int:
    ticks = match["ticks"]
    if not runs:
        for run in _TICKS.finditer(text):
            runs.setdefault(len(run[0]), []).append(run.start())
    places = runs.get(len(ticks), [])
    following = bisect_left(places, match.end())
    if following == len(places):
        out.append(ticks)
        return match.end()
    place = places[following]
    body = text[match.end() : place].replace("\n", " ")
    if body.strip() and body[0] == body[-1] == " ":
        body = body[1:-1]
    out.append(f"<code>{escape(body, quote=False)}</code>")
    return place + len(ticks)


def _link(frame: Frame, text: str, match: re.Match[str], out: list[str], depth: int) -> int:
    start = match.end()
    end = _closing(frame, text, start)
    target = _TARGET.match(text, end + 1) if end >= 0 else None
    if target is None or depth >= 2:
        out.append(match["link"])
        return start
    place = (target[1] if target[1] is not None else target[2]).replace("\\", "")
    title = f' title="{escape(target[3])}"' if target[3] else ""
    href = escape(place) if _SAFE_LINK.match(place) else "#"
    label = text[start:end]
    if match["link"] == "![":
        out.append(f'<img src="{href}" alt="{escape(label)}"{title}>')
    else:
        out.append(f'<a href="{href}"{title}>{inline(frame, label, depth + 1)}</a>')
    return target.end()


_BRACKET: Final = re.compile(r"(?<!\\)[\[\]]")


def _closing(frame: Frame, text: str, start: int) -> int:
    """Return the place of the bracket that closes a label, or -1."""
    level = 0
    frame.fuel.charge(2)
    for match in _BRACKET.finditer(text, start, min(len(text), start + _LABEL_CHARS)):
        if match[0] == "[":
            level += 1
            # each may be asked for its own end, with all that are in it
            frame.fuel.charge(1)
        elif not level:
            return match.start()
        else:
            level -= 1
    return -1


_TAGS: Final = {"*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "del"}


def _emphasis(text: str, match: re.Match[str], out: list[str], open_marks: list[tuple[str, int]]) -> None:
    mark = match["mark"]
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    parts = ["**", "*"] if mark == "***" else ["__", "_"] if mark == "___" else [mark]
    if any(part not in _TAGS for part in parts):
        out.append(mark)
        return
    # an underscore inside of a word is a letter
    inside = mark[0] == "_" and before.isalnum() and after.isalnum()
    closes = bool(before.strip()) and not inside
    opens = bool(after.strip()) and not inside
    known = [name for name, _ in open_marks[-6:]]
    if closes and all(part in known for part in parts):
        for part in reversed(parts) if known[-1] != parts[0] else parts:
            while open_marks:
                name, place = open_marks.pop()
                if name == part:
                    out[place] = f"<{_TAGS[part]}>"
                    out.append(f"</{_TAGS[part]}>")
                    break
    elif opens:
        for part in parts:
            open_marks.append((part, len(out)))
            out.append(part)
    else:
        out.append(mark)


MARKDOWN_TO_HTML: Final = Function(
    "markdown_to_html",
    markdown_to_html,
    1,
    1,
    framed=True,
    doc=Doc(
        "markdown_to_html(text)",
        "Markdown as HTML: headings, lists, quotes, code, tables, links, emphasis; HTML in it is shown as text.",
        "markdown_to_html('# Hi\\n\\nA **bold** [link](https://a.org).')",
        '<h1>Hi</h1>\n<p>A <strong>bold</strong> <a href="https://a.org">link</a>.</p>',
    ),
)
