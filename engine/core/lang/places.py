"""Where a node of a template stands: Jinja tells the line only, so its words are looked for in order. Workflow-safe."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

SEARCHED_CHARS: Final = 4_000
"""How far behind its line's start a word is looked for."""

_NEWLINE: Final = re.compile(r"\r\n|\r|\n")


@dataclass(slots=True)
class Place:
    """Finds the character of a node; Jinja tells the line only, so the words are looked for in the source's order."""

    text: str
    starts: list[int] = field(default_factory=list)
    cursor: int = 0

    def __post_init__(self) -> None:
        self.starts = [0, *(match.end() for match in _NEWLINE.finditer(self.text))]

    def line(self, number: int | None) -> int:
        """Return the first character of a line, counted from 1; some nodes have none and stand where we are."""
        if number is None:
            return self.cursor
        return self.starts[max(0, min(number, len(self.starts)) - 1)]

    def word(self, word: str, line: int | None) -> int:
        """Return the place of the next occurrence of a word from its line on, or the start of the line."""
        start = self.line(line)
        for begin in (max(start, self.cursor), start):
            found = self._find(word, begin)
            if found >= 0:
                self.cursor = found + len(word)
                return found
        return start

    def _find(self, word: str, begin: int) -> int:
        limit = begin + SEARCHED_CHARS
        while True:
            found = self.text.find(word, begin, limit)
            if found < 0:
                return -1
            around = self.text[found - 1 : found] + self.text[found + len(word) : found + len(word) + 1]
            if not any(char.isalnum() or char == "_" for char in around):
                return found
            begin = found + 1

    def skip(self, data: str) -> None:
        """Move behind literal text."""
        found = self.text.find(data, self.cursor)
        if found >= 0:
            self.cursor = found + len(data)
