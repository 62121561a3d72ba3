"""Turns HTML into Markdown for reading: headings, paragraphs, lists, links, tables, code; no scripts, menus and forms.

It is meant for models and not for making the page anew: characters that mean something in Markdown are not escaped,
what only a style sheet says is not known, and text that a script would write is not there.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from activities.tools.integrations.blocks import Blocks, Table
from activities.tools.integrations.htmltokens import Token, tokens_of

MAX_OPEN = 256
"""Elements that are open at one time; a page has some dozens."""
MAX_LINK_CHARS = 1_000
MAX_TITLE_CHARS = 1_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SKIPPED = _words(
    "script style noscript template svg math canvas iframe object applet audio video map nav footer aside dialog "
    "button select textarea datalist"
)
_SKIPPED_ROLES = frozenset({"navigation", "contentinfo", "dialog", "alertdialog", "search"})
_VOID = _words("area base br col embed hr img input link meta param source track wbr")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = _words(
    "p div section article main header hgroup address figure figcaption details summary fieldset form legend dl "
    "dt dd body html center caption tr thead tbody tfoot"
)
_LISTS = frozenset({"ul", "ol", "menu"})
_CELLS = frozenset({"td", "th"})
_WIDE = frozenset({*_HEADINGS, *_LISTS, "blockquote", "pre", "table", "hr"})
"""Blocks that a table of data has in no cell: a table that has them only lays out the page."""
_MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "del": "~~", "s": "~~", "code": "`", "kbd": "`", "samp": "`"}
_INLINE = frozenset({*_MARKS, "a", "span", "font", "u", "small", "sub", "sup", "abbr", "cite", "q", "label", "mark"})
_WALLS = frozenset({"table", "td", "th", "main", "article", "body", "html"})
"""Elements that the end of another one, written in the wrong place, does not end."""
_ENDS = {
    # an element that begins ends those of the first kind, up to the nearest of the second
    "li": (frozenset({"li"}), _LISTS),
    "dt": (frozenset({"dt", "dd"}), frozenset({"dl"})),
    "dd": (frozenset({"dt", "dd"}), frozenset({"dl"})),
    "td": (_CELLS, frozenset({"tr", "table"})),
    "th": (_CELLS, frozenset({"tr", "table"})),
    "tr": (frozenset({"tr"}), frozenset({"table"})),
    "a": (frozenset({"a"}), frozenset({"table", "td", "th"})),
}
_SPACES = re.compile(r"[ \t\n\r\f\xa0]+")
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_SCHEMES = frozenset({"http", "https", "mailto", "tel"})


@dataclass(frozen=True, slots=True)
class Page:
    """What can be read of a page."""

    title: str
    text: str


def read_page(html: str, address: str) -> Page:
    """Return the readable text of a page.

    If it says what its main part is (`main`, else `article`), that alone is taken.

    Args:
        html: The page.
        address: Where it was, for its relative links.
    """
    reader = _Reader(address)
    for token in tokens_of(html):
        reader.take(token)
    reader.close()
    return Page(title=_SPACES.sub(" ", "".join(reader.title)).strip(), text=reader.text())


@dataclass(slots=True)
class _Open:
    """An element that is open.

    Attributes:
        tag: Its name.
        skipped: Whether its text is left out.
        main: Whether it calls itself the main part of the page.
    """

    tag: str
    skipped: bool = False
    main: bool = False


@dataclass(slots=True)
class _Inline:
    """A link or mark that is open: what is put around its text, and where in the line that begins."""

    tag: str
    before: str
    after: str
    begins: int


class _Reader:
    """Collects blocks from tags and texts."""

    def __init__(self, address: str) -> None:
        self.title: list[str] = []
        self._address = address
        self._blocks = Blocks()
        self._line: list[str] = []
        self._open: list[_Open] = []
        self._counts: Counter[str] = Counter()
        self._skipped = 0
        self._inlines: list[_Inline] = []
        self._tables: list[Table] = []
        self._heading = 0
        self._in_title = False

    def text(self) -> str:
        """Return what was read."""
        return self._blocks.text()

    def close(self) -> None:
        """Take what is left."""
        while self._open:
            self._pop()
        self._flush()

    def take(self, token: Token) -> None:
        """Take the next tag or text."""
        if token.kind == "start":
            self._start_tag(token.text, token.attributes, closed=token.closed)
        elif token.kind == "end":
            self._end_tag(token.text)
        elif self._in_title:
            self.title.append(token.text[:MAX_TITLE_CHARS])
        elif not self._skipped:
            self._line.append(token.text if self._counts["pre"] else _SPACES.sub(" ", token.text))

    # --- tags --------------------------------------------------------------------------------------------------------

    def _start_tag(self, tag: str, given: dict[str, str], *, closed: bool) -> None:
        self._in_title = tag == "title" and not self.title and not self._skipped
        if tag == "base" and given.get("href"):
            self._address = _joined(self._address, given["href"])
        if tag in _VOID:
            if not self._skipped:
                self._void(tag, given)
            return
        # `<p/>` is `<p>` in HTML, but drawings and formulas, which are skipped, have elements that end so
        if len(self._open) >= MAX_OPEN or (closed and self._skipped):
            return
        self._end_implied(tag)
        role = given.get("role", "")
        item = _Open(tag, skipped=_is_skipped(tag, role, given), main=tag == "main" or role == "main")
        self._open.append(item)
        self._counts[tag] += 1
        self._skipped += item.skipped
        if not self._skipped:
            self._blocks.in_main += item.main
            self._blocks.in_article += tag == "article"
            self._begin(tag, given)

    def _end_tag(self, tag: str) -> None:
        self._in_title = False
        if not self._counts[tag]:
            return
        depth = self._depth_of(tag)
        # what is still open inside ends with it
        for _ in range(depth):
            self._pop()
        if not depth and tag in _INLINE and not self._skipped:
            self._end_crossed(tag)

    def _depth_of(self, tag: str) -> int:
        """Return how many elements end with this one; 0 if its end stands where it means nothing."""
        for depth, item in enumerate(reversed(self._open), 1):
            if item.tag == tag:
                return depth
            if tag not in _WALLS and item.tag in _WALLS:
                return 0
            if tag in _INLINE and item.tag not in _INLINE:
                return 0
        return 0

    def _end_implied(self, tag: str) -> None:
        if self._counts["p"] and (tag in _BLOCKS or tag in _WIDE):
            self._end_up_to(frozenset({"p"}), frozenset({*_CELLS, "button", "div", "li", "blockquote"}))
        ends, walls = _ENDS.get(tag, (frozenset(), frozenset()))
        if any(self._counts[name] for name in ends):
            self._end_up_to(ends, walls)

    def _end_up_to(self, ends: frozenset[str], walls: frozenset[str]) -> None:
        for depth, item in enumerate(reversed(self._open), 1):
            if item.tag in ends:
                for _ in range(depth):
                    self._pop()
                return
            if item.tag in walls:
                return

    def _pop(self) -> None:
        item = self._open.pop()
        self._counts[item.tag] -= 1
        if not self._skipped:
            self._end(item.tag)
            self._blocks.in_main -= item.main
            self._blocks.in_article -= item.tag == "article"
        self._skipped -= item.skipped

    def _void(self, tag: str, given: dict[str, str]) -> None:
        if tag == "br":
            self._line.append("\n")
        elif tag == "hr":
            self._lay_out()
            self._flush()
            self._blocks.add("---")
        elif tag == "img" and given.get("alt", "").strip():
            target = self._target(given.get("src", ""))
            text = _SPACES.sub(" ", given["alt"]).strip()
            self._line.append(f"![{text}]({target})" if target else f"[{text}]")

    def _begin(self, tag: str, given: dict[str, str]) -> None:
        if tag in _WIDE:
            self._lay_out()
        if tag in _INLINE:
            self._begin_inline(tag, given)
        elif tag in _CELLS and self._tables:
            self._flush_stray()
            self._tables[-1].begin_cell()
        elif tag in _BLOCKS:
            self._break()
            if tag == "tr" and self._tables:
                self._tables[-1].begin_row()
        elif tag in _WIDE or tag == "li":
            self._break()
            if tag in _LISTS:
                self._blocks.begin_list(tag, given.get("start", ""))
            elif tag == "li":
                self._blocks.begin_item()
            elif tag == "blockquote":
                self._blocks.begin_quote()
            elif tag == "table":
                self._tables.append(Table())
            else:
                self._heading = _HEADINGS.get(tag, 0)

    def _end(self, tag: str) -> None:
        if tag in _INLINE:
            self._wrap(self._inlines.pop())
        elif tag in _CELLS and self._tables:
            self._end_cell()
        elif tag == "pre":
            self._end_code()
        elif tag in _BLOCKS:
            self._break()
        elif tag == "table" and self._tables:
            self._flush_stray()
            for text in self._tables.pop().rendered():
                self._blocks.add(text)
        elif tag in _WIDE or tag == "li":
            self._break()
            self._heading = 0
            if tag in _LISTS or tag in ("li", "blockquote"):
                self._blocks.end()

    # --- tables ------------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Make the tables that we are in mere layout: their cells become paragraphs."""
        for table in self._tables:
            for text in table.dissolve():
                self._blocks.add(text)

    def _end_cell(self) -> None:
        table = self._tables[-1]
        if table.in_cell:
            self._wrap_all()
            table.end_cell(_in_one_line("".join(self._line)))
            self._line.clear()
        else:
            self._flush()

    def _flush_stray(self) -> None:
        # text of a table that stands in no cell
        if not (self._tables and self._tables[-1].in_cell):
            self._flush()

    # --- lines -------------------------------------------------------------------------------------------------------

    def _begin_inline(self, tag: str, given: dict[str, str]) -> None:
        before = after = ""
        if not self._counts["pre"]:
            mark = _MARKS.get(tag, "")
            target = self._target(given.get("href", "")) if tag == "a" else ""
            if target:
                before, after = "[", f"]({target})"
            elif mark and not any(item.before == mark for item in self._inlines):
                before = after = mark
        self._inlines.append(_Inline(tag, before, after, len(self._line)))

    def _wrap(self, item: _Inline) -> None:
        if not item.before:
            return
        text = "".join(self._line[item.begins :])
        inner = text.strip(" \n")
        if inner:
            begins = text.index(inner)
            ends = begins + len(inner)
            self._line[item.begins :] = [text[:begins], item.before, inner, item.after, text[ends:]]

    def _end_crossed(self, tag: str) -> None:
        """End a link or mark whose element stays open, because blocks were begun in it that have not ended."""
        crossed = next((item for item in reversed(self._inlines) if item.tag == tag and item.before), None)
        if crossed is None:
            return
        self._wrap_all()
        for item in self._inlines:
            item.begins = len(self._line)
        crossed.before = ""

    def _wrap_all(self) -> None:
        """End all links and marks with the line; they go on in the next one."""
        for item in reversed(self._inlines):
            self._wrap(item)
            item.begins = 0

    def _break(self) -> None:
        if self._tables and self._tables[-1].in_cell:
            self._line.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        self._wrap_all()
        lines = [_in_one_line(line) for line in "".join(self._line).split("\n")]
        self._line.clear()
        shown = [line for line in lines if line]
        if not shown:
            return
        if self._heading:
            self._blocks.add(f"{'#' * self._heading} {' '.join(shown)}")
        else:
            self._blocks.add("\n".join(shown))

    def _end_code(self) -> None:
        self._wrap_all()
        text = "".join(self._line).replace("\r\n", "\n").removeprefix("\n").rstrip()
        self._line.clear()
        if text:
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
            self._blocks.add(f"{fence}\n{text}\n{fence}")

    def _target(self, link: str) -> str:
        """Return where a link leads, or an empty text if that is nothing to tell."""
        link = link.strip()
        if not link or link.startswith("#") or len(link) > MAX_LINK_CHARS:
            return ""
        target = _joined(self._address, link)
        scheme = target.partition(":")[0].lower()
        if scheme not in _SCHEMES or len(target) > MAX_LINK_CHARS:
            return ""
        return re.sub(r"[\s<>()]", lambda found: f"%{ord(found[0]):02X}", target)


def _is_skipped(tag: str, role: str, given: dict[str, str]) -> bool:
    hidden = "hidden" in given or given.get("aria-hidden") == "true"
    return tag in _SKIPPED or role in _SKIPPED_ROLES or hidden or bool(_HIDDEN_STYLE.search(given.get("style", "")))


def _in_one_line(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def _joined(base: str, link: str) -> str:
    try:
        joined = urljoin(base, link)
        urlsplit(joined)
    except ValueError:
        return ""
    return joined
