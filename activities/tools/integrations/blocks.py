"""Puts blocks of Markdown together: what stands before the lines of lists and quotations, tables, and the main part."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DEPTH = 12
"""Deeper lists and quotations are shown as deep as this."""
MAX_COLUMNS = 40
MAIN_SHARE = 0.2
"""Least part of a page's text that its `main` must hold to be taken for the whole."""
ARTICLE_SHARE = 0.5


@dataclass(slots=True)
class _Container:
    """A list, an item of one, or a quotation.

    Attributes:
        kind: `ul`, `ol`, `li` or `quote`.
        number: Number of a list's last item.
        items: How many a list has had.
        marker: What stands before the first line of an item.
        fresh: Whether that has yet to come.
    """

    kind: str
    number: int = 0
    items: int = 0
    marker: str = ""
    fresh: bool = True


@dataclass(slots=True)
class _Block:
    text: str
    tight: bool
    in_main: bool
    in_article: bool


class Blocks:
    """The finished paragraphs, headings, items and tables of a page.

    Attributes:
        in_main: How many elements that are the main part are open.
        in_article: How many articles are open.
    """

    def __init__(self) -> None:
        self.in_main = 0
        self.in_article = 0
        self._blocks: list[_Block] = []
        self._containers: list[_Container] = []

    def begin_list(self, tag: str, start: str) -> None:
        """Begin a list: of numbers if it is `ol`, from `start` on."""
        first = int(start) if start.isascii() and start.isdigit() and len(start) < 6 else 1
        self._containers.append(_Container("ol" if tag == "ol" else "ul", number=first - 1))

    def begin_item(self) -> None:
        """Begin an item of the innermost list."""
        marker = "- "
        owner = self._containers[-1] if self._containers else None
        if owner is not None and owner.kind in ("ul", "ol"):
            owner.number += 1
            owner.items += 1
            marker = f"{owner.number}. " if owner.kind == "ol" else marker
        self._containers.append(_Container("li", marker=marker))

    def begin_quote(self) -> None:
        """Begin a quotation."""
        self._containers.append(_Container("quote"))

    def end(self) -> None:
        """End the innermost list, item or quotation."""
        self._containers.pop()

    def add(self, text: str) -> None:
        """Add a block."""
        first = rest = ""
        tight = False
        for depth, item in enumerate(self._containers[:MAX_DEPTH]):
            if item.kind == "quote":
                first, rest, tight = f"{first}> ", f"{rest}> ", False
            elif item.kind == "li":
                space = " " * len(item.marker)
                first, rest = first + (item.marker if item.fresh else space), rest + space
                owner = self._containers[depth - 1] if depth else item
                # the items of a list stand together, and so do those of a list in an item
                tight = item.fresh and (owner.items > 1 or depth > 1)
                item.fresh = False
        lines = text.split("\n")
        shown = "\n".join([f"{first}{lines[0]}", *(f"{rest}{line}".rstrip() for line in lines[1:])])
        self._blocks.append(_Block(shown, tight, self.in_main > 0, self.in_article > 0))

    def text(self) -> str:
        """Return the main part of the page, or all of it if it names none."""
        whole = sum(len(block.text) for block in self._blocks)
        main = [block for block in self._blocks if block.in_main]
        articles = [block for block in self._blocks if block.in_article]
        chosen = self._blocks
        if main and sum(len(block.text) for block in main) >= MAIN_SHARE * whole:
            chosen = main
        elif articles and sum(len(block.text) for block in articles) >= ARTICLE_SHARE * whole:
            chosen = articles
        parts: list[str] = []
        for block in chosen:
            parts += ["\n" if block.tight else "\n\n", block.text]
        return "".join(parts[1:])


@dataclass(slots=True)
class Table:
    """A table that is open.

    Attributes:
        rows: The cells that are finished.
        in_cell: Whether a cell is open whose text is gathered.
        is_layout: Whether it only lays out the page, so that its cells are paragraphs.
    """

    rows: list[list[str]] = field(default_factory=list)
    in_cell: bool = False
    is_layout: bool = False

    def begin_row(self) -> None:
        """Begin a row."""
        self.rows.append([])

    def begin_cell(self) -> None:
        """Begin a cell."""
        self.in_cell = not self.is_layout

    def end_cell(self, text: str) -> None:
        """End a cell that has this text."""
        self.in_cell = False
        if not self.rows:
            self.rows.append([])
        self.rows[-1].append(text)

    def dissolve(self) -> list[str]:
        """Become mere layout, and return what the finished cells hold."""
        told = [cell for row in self.rows for cell in row if cell]
        self.rows.clear()
        self.in_cell, self.is_layout = False, True
        return told

    def rendered(self) -> list[str]:
        """Return the table as one block, or as paragraphs if it has one column or too many of them."""
        rows = [row for row in self.rows if any(row)]
        width = max((len(row) for row in rows), default=0)
        if width < 2 or width > MAX_COLUMNS:
            return [" | ".join(cell for cell in row if cell) for row in rows]
        lines = [_row([*row, *[""] * (width - len(row))]) for row in rows]
        return ["\n".join([lines[0], _row(["---"] * width), *lines[1:]])]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
