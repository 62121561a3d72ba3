"""html_to_markdown of the library: what a reader sees of a page, as Markdown, in linear time. Workflow-safe.

Covered: headings, paragraphs and other blocks, emphasis, strong and struck text, code, preformatted text, links,
images, lists within lists, quotes, rules, breaks and tables. Scripts, styles, comments and the page's head are left
out. Forms, media and the look of a page are not covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.lang.context import TEXT_SHIFT, Frame
from engine.core.lang.functions import Doc, Function, need_text
from engine.core.lang.library.html_tokens import Token, tokens

MAX_MARKS: Final = 8
"""Emphasis and links within each other; what is nested deeper loses its marks."""
MAX_LEVELS: Final = 20
"""Lists and quotes within each other; what is nested deeper is not moved further to the right."""
CHAR_SHIFT: Final = 2

_MARKS: Final = {"b": "**", "strong": "**", "i": "*", "em": "*", "del": "~~", "s": "~~", "code": "`", "kbd": "`"}
_HEADINGS: Final = {f"h{level}": "#" * level for level in range(1, 7)}
_BLOCKS: Final = frozenset(
    (
        *("p", "div", "section", "article", "header", "footer", "main", "nav", "aside", "figure", "figcaption"),
        *("address", "form", "fieldset", "dl", "dt", "dd", "body", "html", "details", "summary", "tbody", "thead"),
        *("tfoot", "caption"),
    )
)
_WITH_ATTRIBUTES: Final = frozenset({"a", "img", "code", "pre", "ol"})
_BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
_SPECIAL: Final = re.compile(r"[\\`*\[\]<]|(?<![^\W_])_|_(?![^\W_])")
_LINE_START: Final = re.compile(r"(?:#{1,6}(?=\s|$)|[-+>](?=\s|$)|={3,}|~{3,}|[0-9]{1,9}(?=[.)](?:\s|$)))")
_LANGUAGE: Final = re.compile(r"(?:^|\s)(?:language|lang)-([\w+#.-]{1,40})")
_TICKS: Final = re.compile(r"`+")


def html_to_markdown(frame: Frame, text: Any) -> str:
    """Return what a reader sees of HTML as Markdown; see the module's docstring for what is covered."""
    source = need_text(text, "the HTML")
    page = _Page(frame)
    for token in tokens(source, frame.fuel, _WITH_ATTRIBUTES):
        if not token.name:
            page.text(token.text)
        elif token.closes:
            page.end(token.name)
        else:
            page.start(token)
    return page.finish()


@dataclass(slots=True)
class _Mark:
    """An open inline element: its tag, its place among the pieces, and where a link leads."""

    name: str
    place: int
    target: str = ""


@dataclass(slots=True)
class _Level:
    """An open list or quote.

    Attributes:
        name: `ul`, `ol` or `blockquote`.
        number: Number of the next item of an `ol`.
        bullet: What stands before the item's first line and was not written yet.
        width: By how much the lines of an item are moved.
    """

    name: str
    number: int = 1
    bullet: str = ""
    width: int = 0


@dataclass(slots=True)
class _Page:
    """What was written so far, and what is open."""

    frame: Frame
    lines: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    marks: list[_Mark] = field(default_factory=list)
    levels: list[_Level] = field(default_factory=list)
    deeper: int = 0
    heading: str = ""
    pre: list[str] | None = None
    language: str = ""
    rows: list[list[str]] | None = None
    in_item: bool = False
    margin: str = ""

    # --- tokens ---

    def text(self, text: str) -> None:
        """Take text of the page."""
        self.frame.fuel.charge((len(text) >> CHAR_SHIFT) + 1)
        if self.pre is not None:
            self.pre.append(text)
            return
        plain = _BLANKS.sub(" ", text)
        in_code = any(mark.name in ("code", "kbd") for mark in self.marks)
        self.pieces.append(plain if in_code else _SPECIAL.sub(r"\\\g<0>", plain))

    def start(self, token: Token) -> None:
        """Take a start tag."""
        name = token.name
        if self.pre is not None:
            if name == "code":
                self.language = self.language or _language(token)
            elif name == "br":
                self.pre.append("\n")
        elif name in _MARKS or name == "a":
            if len(self.marks) < MAX_MARKS:
                self.marks.append(_Mark(name, len(self.pieces), token.attributes.get("href", "")))
        elif name == "br":
            self.pieces.append("  \n" if self.rows is None and not self.heading else " ")
        elif name == "img":
            self.image(token)
        elif self.rows is not None:
            self.cell_tag(name)
        else:
            self.block(token)

    def block(self, token: Token) -> None:
        """Take the start tag of a block."""
        name = token.name
        if name in _HEADINGS:
            self.flush()
            self.heading = _HEADINGS[name] + " "
        elif name == "hr":
            self.flush()
            self.write(["---"])
        elif name == "pre":
            self.flush()
            self.pre, self.language = [], _language(token)
        elif name in ("ul", "ol", "blockquote"):
            self.flush()
            digits = token.attributes.get("start", "1")
            number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else 1
            self.open_level(_Level(name, number))
        elif name == "li":
            self.flush()
            self.item()
        elif name == "table":
            self.flush()
            self.rows = []
        elif name in _BLOCKS:
            self.flush()

    def end(self, name: str) -> None:
        """Take an end tag."""
        if self.pre is not None:
            if name == "pre":
                self.end_pre()
        elif name in _MARKS or name == "a":
            self.close_marks(name)
        elif self.rows is not None:
            if name == "table":
                self.end_table()
            else:
                self.cell_tag(f"/{name}")
        elif name in ("ul", "ol", "blockquote"):
            self.flush()
            if self.deeper:
                self.deeper -= 1
            elif any(level.name == name for level in self.levels):
                while self.levels.pop().name != name:
                    pass
                self.in_item = self.in_item and bool(self.levels) and self.levels[-1].name != "blockquote"
        elif name in _HEADINGS or name in _BLOCKS or name == "li":
            self.flush()
            self.heading = ""

    def finish(self) -> str:
        """Return the Markdown."""
        if self.pre is not None:
            self.end_pre()
        if self.rows is not None:
            self.end_table()
        self.flush()
        self.frame.fuel.charge(sum(map(len, self.lines)) >> TEXT_SHIFT)
        return "\n".join(self.lines).strip("\n")

    # --- inline ---

    def image(self, token: Token) -> None:
        """Take a picture; without a source that can be written down, its text stands for it."""
        alt = _BLANKS.sub(" ", token.attributes.get("alt", ""))
        source = token.attributes.get("src", "")
        self.pieces.append(f"![{alt}]({_place(source)})" if source and not source.startswith("data:") else alt)

    def close_marks(self, name: str) -> None:
        """Close an inline element and those that were opened in it."""
        if all(mark.name != name for mark in self.marks):
            return
        while self.marks:
            mark = self.marks.pop()
            inner = "".join(self.pieces[mark.place :])
            self.frame.fuel.charge((len(inner) >> CHAR_SHIFT) + 1)
            self.pieces[mark.place :] = [_marked(mark, inner)]
            if mark.name == name:
                return

    def take_pieces(self) -> str:
        """Return the inline text so far and start anew; what is open goes on in the next block."""
        if not self.pieces:
            return ""
        again = [_Mark(mark.name, 0, mark.target) for mark in self.marks]
        while self.marks:
            self.close_marks(self.marks[-1].name)
        self.frame.fuel.charge((len(self.pieces) >> 2) + len(again))
        text = "".join(self.pieces)
        self.pieces, self.marks = [], again
        return text

    # --- blocks ---

    def flush(self) -> None:
        """Write the inline text as a paragraph or heading."""
        text = self.take_pieces()
        self.frame.fuel.charge(1 + (len(text) >> CHAR_SHIFT))
        lines = [re.sub(r"(?<=\S) ++", " ", line).strip(" ") for line in text.split("\n")]
        lines = [line for line in lines if line]
        if not lines:
            return
        # each line but the last ended with a break
        lines = [*(f"{line}  " for line in lines[:-1]), lines[-1]]
        if self.heading:
            lines[0] = self.heading + lines[0]
        else:
            lines[0] = _LINE_START.sub(_escape_start, lines[0], count=1) if _LINE_START.match(lines[0]) else lines[0]
        self.write(lines)

    def write(self, lines: list[str]) -> None:
        """Write the lines of a block behind the marks of the lists and quotes around it."""
        fresh = any(level.bullet for level in self.levels)
        first = rest = ""
        for level in self.levels:
            if level.name == "blockquote":
                first += "> "
                rest += "> "
            elif level.width:
                first += level.bullet or " " * level.width
                rest += " " * level.width
            level.bullet = ""
        self.frame.fuel.charge(len(lines) * (1 + (len(rest) >> TEXT_SHIFT - 1)))
        if self.lines and not (fresh and self.in_item):
            self.lines.append(_common(self.margin, rest).rstrip())
        self.margin = rest
        self.in_item = bool(self.levels) and self.levels[-1].name != "blockquote"
        self.lines.append(first + lines[0])
        self.lines += [rest + line if line else rest.rstrip() for line in lines[1:]]

    def open_level(self, level: _Level) -> None:
        """Enter a list or quote; too deep ones are only counted, so that their ends are known."""
        if len(self.levels) < MAX_LEVELS:
            self.levels.append(level)
        else:
            self.deeper += 1

    def item(self) -> None:
        """Start an item of the innermost list."""
        if not self.levels or self.levels[-1].name == "blockquote":
            self.open_level(_Level("ul"))
        level = self.levels[-1]
        if level.name == "blockquote":
            return
        level.bullet = "- " if level.name == "ul" else f"{level.number}. "
        level.width = len(level.bullet)
        level.number += 1

    def end_pre(self) -> None:
        """Write preformatted text between fences that do not occur in it."""
        text = "".join(self.pre or []).strip("\n")
        self.pre = None
        self.frame.fuel.charge((len(text) >> CHAR_SHIFT) + 1)
        fence = "`" * max(3, 1 + max((len(run) for run in _TICKS.findall(text)), default=0))
        self.write([fence + self.language, *text.split("\n"), fence])

    # --- tables ---

    def cell_tag(self, name: str) -> None:
        """Take a tag inside of a table: rows and cells; other blocks are blanks there."""
        if self.rows is None:
            return
        if name in ("tr", "td", "th", "/tr", "/td", "/th"):
            text = self.take_pieces().strip().replace("|", "\\|")
            self.frame.fuel.charge((len(text) >> CHAR_SHIFT) + 1)
            if text and self.rows and self.rows[-1]:
                self.frame.fuel.charge(len(self.rows[-1][-1]) >> TEXT_SHIFT)
                self.rows[-1][-1] = f"{self.rows[-1][-1]} {text}".strip()
            if name == "tr":
                self.rows.append([])
            elif name in ("td", "th"):
                if not self.rows:
                    self.rows.append([])
                self.rows[-1].append("")
        else:
            self.pieces.append(" ")

    def end_table(self) -> None:
        """Write the table; its first row is its head."""
        self.cell_tag("/td")
        rows = [row for row in self.rows or [] if row]
        self.rows = None
        if not rows:
            self.flush()
            return
        width = max(map(len, rows))
        self.frame.fuel.charge(len(rows) * (width + 1) >> 1)
        full = [row + [""] * (width - len(row)) for row in rows]
        lines = [f"| {' | '.join(row)} |" for row in full]
        self.write([lines[0], f"|{' --- |' * width}", *lines[1:]])


def _common(left: str, right: str) -> str:
    """Return the start that two margins share."""
    size = next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(min(left, right, key=len))
    )
    return left[:size]


def _language(token: Token) -> str:
    match = _LANGUAGE.search(token.attributes.get("class", ""))
    return match[1] if match else ""


def _marked(mark: _Mark, inner: str) -> str:
    bare = inner.strip()
    if not bare:
        return inner
    lead = inner[: len(inner) - len(inner.lstrip())]
    trail = inner[len(inner.rstrip()) :]
    if mark.name == "a":
        text = f"[{bare}]({_place(mark.target)})" if mark.target else bare
    elif _MARKS[mark.name] == "`":
        ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(bare)), default=0))
        text = f"{ticks} {bare} {ticks}" if bare[0] == "`" or bare[-1] == "`" else f"{ticks}{bare}{ticks}"
    else:
        text = f"{_MARKS[mark.name]}{bare}{_MARKS[mark.name]}"
    return lead + text + trail


def _place(url: str) -> str:
    plain = _BLANKS.sub("", url.strip())
    return f"<{plain}>" if "(" in plain or ")" in plain else plain


def _escape_start(match: re.Match[str]) -> str:
    return f"{match[0]}\\" if match[0][0].isdigit() else f"\\{match[0]}"


HTML_TO_MARKDOWN: Final = Function(
    "html_to_markdown",
    html_to_markdown,
    1,
    1,
    framed=True,
    doc=Doc(
        "html_to_markdown(text)",
        "What a reader sees of HTML, as Markdown: headings, lists, quotes, code, tables, links, emphasis.",
        "html_to_markdown('<h1>Hi</h1><p>A <b>bold</b> <a href=\"/x\">link</a></p><ul><li>one<li>two</ul>')",
        "# Hi\n\nA **bold** [link](/x)\n\n- one\n- two",
    ),
)
