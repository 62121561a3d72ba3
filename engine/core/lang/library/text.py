"""Text of the library: chunk_doc, humanize_text_alpha and the module string. Workflow-safe."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from engine.core.lang.context import TEXT_SHIFT, Frame, Fuel
from engine.core.lang.failures import fail
from engine.core.lang.functions import Doc, Function, module, need_int, need_text

DEFAULT_CHUNK_CHARS: Final = 2_000
MIN_CHUNK_CHARS: Final = 50
PIECE_SHIFT: Final = 4
"""2**4 characters cost one unit when a text is gone through by patterns."""

_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_LINE: Final = re.compile(r"\n")
# a sentence ends with a mark before white space; the marks of Chinese and Japanese need none
_SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]?[ \t]+|(?<=[。！？])")
_WORD: Final = re.compile(r"[ \t]+")


# --- chunk_doc -----------------------------------------------------------------------------------------------------


def chunk_doc(frame: Frame, text: Any, max_chars: Any = DEFAULT_CHUNK_CHARS, overlap: Any = 0) -> list[str]:
    """Return a text in pieces of at most `max_chars` characters, cut where the text allows it.

    It is cut between paragraphs; a paragraph that is too long between lines, then sentences, then words, and only a
    word that is too long anywhere. Neighbours are joined again as long as they fit.

    Args:
        frame: The running evaluation.
        text: What is cut.
        max_chars: Longest piece, at least 50.
        overlap: How many characters of the end of a piece stand again at the start of the next; at most half a piece.

    Returns:
        The pieces without white space around them; none is empty.
    """
    source, limit, again = need_text(text, "the text"), need_int(max_chars, "max_chars"), need_int(overlap, "overlap")
    if limit < MIN_CHUNK_CHARS:
        raise fail("value", f"max_chars must be at least {MIN_CHUNK_CHARS}")
    if not 0 <= again <= limit // 2:
        raise fail("value", "overlap must lie between 0 and half of max_chars")
    frame.fuel.charge((len(source) >> PIECE_SHIFT) + 4)
    cutter = _Cutter(source, limit - again, frame.fuel)
    chunks: list[str] = []
    start = end = 0
    for left, right in cutter.pieces(0, len(source), 0):
        if right - start > limit - again and end > start:
            chunks.append(source[start:end])
            start = left
        end = right
    chunks.append(source[start:end])
    if again:
        frame.fuel.charge((len(chunks) * again >> TEXT_SHIFT) + 1)
        chunks = [chunks[0], *(_tail(before, again) + chunk for before, chunk in pairwise(chunks))]
    return [chunk.strip() for chunk in chunks if chunk.strip()]


_CUTS: Final = (_PARAGRAPH, _LINE, _SENTENCE, _WORD)


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Takes one text apart into pieces of at most `limit` characters; each place to cut at is paid for."""

    source: str
    limit: int
    fuel: Fuel

    def pieces(self, start: int, end: int, level: int) -> Iterator[tuple[int, int]]:
        """Yield the places of pieces that fit; together they are the text from `start` to `end`."""
        if end - start <= self.limit:
            yield start, end
            return
        if level == len(_CUTS):
            self.fuel.charge((end - start) // self.limit)
            for place in range(start, end, self.limit):
                yield place, min(place + self.limit, end)
            return
        before = start
        for match in _CUTS[level].finditer(self.source, start, end):
            self.fuel.charge(1)
            if match.end() > before:
                yield from self.pieces(before, match.end(), level + 1)
                before = match.end()
        if before < end:
            yield from self.pieces(before, end, level + 1)


def _tail(text: str, size: int) -> str:
    """Return the end of a text, from a word's start if there is one."""
    tail = text[-size:]
    blank = tail.find(" ")
    return tail[blank + 1 :] if 0 <= blank < len(tail) - 1 else tail


# --- humanize_text_alpha -------------------------------------------------------------------------------------------

_SIGNS: Final = {
    **dict.fromkeys("“”„‟«»", '"'),
    **dict.fromkeys("‘’‚‛", "'"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    "…": "...",
    "–": "-",
    "‐": "-",
    "‑": "-",
}
_SIGN_TABLE: Final = str.maketrans(_SIGNS)
_DASH: Final = re.compile(r"(?<=[\w\"”’)\]])[ \t]*—[ \t]*(?=\w)")
_BLANKS: Final = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")


def humanize_text_alpha(frame: Frame, text: Any) -> str:
    """Return prose of a model with the signs of a keyboard.

    Typographic quotes and dashes, narrow and invisible blanks become plain ones; a dash between words becomes a comma.
    It changes no words; Julep's function of this name went further with foreign services, which this one never calls.
    """
    source = need_text(text, "the text")
    frame.fuel.charge((len(source) >> PIECE_SHIFT - 1) + 1)
    plain = _DASH.sub(", ", source).replace("—", "-").translate(_SIGN_TABLE)
    return _BLANKS.sub(" ", plain)


# --- string --------------------------------------------------------------------------------------------------------


def _capwords(frame: Frame, text: Any) -> str:
    source = need_text(text, "the text")
    frame.fuel.charge((len(source) >> 2) + 1)
    return " ".join(word.capitalize() for word in source.split())


CHUNK_DOC: Final = Function(
    "chunk_doc",
    chunk_doc,
    1,
    3,
    framed=True,
    keywords=("max_chars", "overlap"),
    doc=Doc(
        f"chunk_doc(text, max_chars={DEFAULT_CHUNK_CHARS}, overlap=0)",
        "The text in pieces, cut between paragraphs, lines, sentences or words, whichever fits.",
        "[len(piece) for piece in chunk_doc('A short sentence. ' * 10, max_chars=100)]",
        [89, 89],
    ),
)
HUMANIZE: Final = Function(
    "humanize_text_alpha",
    humanize_text_alpha,
    1,
    1,
    framed=True,
    doc=Doc(
        "humanize_text_alpha(text)",
        "A model's prose with the signs of a keyboard: plain quotes and blanks, no dashes between words.",
        "humanize_text_alpha('“Well” — no…')",
        '"Well", no...',
    ),
)

STRING: Final = module(
    "string",
    Function(
        "string.capwords",
        _capwords,
        1,
        1,
        framed=True,
        doc=Doc(
            "string.capwords(text)",
            "The text with a capital at the start of each word.",
            "string.capwords('a fine  day')",
            "A Fine Day",
        ),
    ),
    ascii_letters=string.ascii_letters,
    ascii_lowercase=string.ascii_lowercase,
    ascii_uppercase=string.ascii_uppercase,
    digits=string.digits,
    hexdigits=string.hexdigits,
    octdigits=string.octdigits,
    printable=string.printable,
    punctuation=string.punctuation,
    whitespace=string.whitespace,
)
