"""Words of searches: those that say something, and how alike they are spelled to the words of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_WORDS = 64
"""Of a query; more of them say no more about what is looked for."""

_COMMON = (
    "a an and are as at be been but by can do does for from had has have he her his how i if in into is it its me my "
    "no not of on or our she so than that the their them then there these they this to up us was we were what when "
    "where which who why will with you your"
)
COMMON = frozenset(_COMMON.split())
"""Words that say nothing of what is looked for; the index of PostgreSQL knows none of them, that of SQLite all."""

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words that are looked for: those that say something, if there are any, each once."""
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    return ([word for word in words if word not in COMMON] or words)[:MOST_WORDS]


def trigrams(word: str) -> frozenset[str]:
    """Return the runs of three characters of a word, with two blanks in front and one behind it."""
    padded = f"  {word} "
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))


class Spelling:
    """Tells how well the words of a query are matched by the most alike words of texts.

    Args:
        words: The words of the query.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._wanted = [trigrams(word) for word in words]
        self._known: dict[str, list[float]] = {}

    def likeness(self, content: str) -> float:
        """Return how well they are matched by a text, 0 to 1 on average."""
        there = [self._of_word(word) for word in set(_WORD.findall(content.lower()))]
        if not there or not self._wanted:
            return 0.0
        best: list[float] = [max(likenesses) for likenesses in zip(*there, strict=True)]
        return sum(best) / len(best)

    def _of_word(self, word: str) -> list[float]:
        # texts have most of their words in common
        if word not in self._known:
            other = trigrams(word)
            self._known[word] = [len(one & other) / len(one | other) for one in self._wanted]
        return self._known[word]
