"""The text of a model call while it runs: pieces of several kinds on one count of characters, bounded at its tail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.core.values import Json

MOST_CHARS = 256 * 1024
"""Of a longer text only the end is kept."""
MERGED_CHARS = 1_024
"""Pieces are put together up to this length, so that a long text is no list of tokens."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some characters of a call.

    Attributes:
        index: Where they stand: the number of characters of the call before them, of all kinds.
        kind: content, reasoning or tool_call.
        text: The characters, never none.
        call: Of a tool call: which one of the reply, from 0.
        member: Of a tool call: name or arguments.
    """

    index: int
    kind: str
    text: str
    call: int = 0
    member: str = ""

    @property
    def end(self) -> int:
        """Index of what comes next."""
        return self.index + len(self.text)

    def after(self, index: int) -> Piece:
        """Return what of it stands at an index or behind it."""
        skipped = max(0, index - self.index)
        return replace(self, index=self.index + skipped, text=self.text[skipped:]) if skipped else self

    def to_json(self) -> list[Json]:
        """Return it as a short list."""
        return [self.index, self.kind, self.text, self.call, self.member]


class RunningText:
    """Pieces in order.

    Attributes:
        end: Index of the next character.
    """

    def __init__(self, most_chars: int = MOST_CHARS) -> None:
        self.end = 0
        self._pieces: list[Piece] = []
        self._chars = 0
        self._most_chars = most_chars

    def add(self, kind: str, text: str, call: int = 0, member: str = "") -> None:
        """Put a piece at the end."""
        self.put(Piece(self.end, kind, text, call, member))

    def put(self, piece: Piece) -> None:
        """Put a piece where it says it stands; what is known of it already is left out.

        A piece that comes behind what is known leaves a gap, since one before it was lost.
        """
        if piece.end <= self.end:
            return
        piece = piece.after(self.end)
        last = self._pieces[-1] if self._pieces else None
        if last is not None and _continues(last, piece) and len(last.text) < MERGED_CHARS:
            self._pieces[-1] = replace(last, text=last.text + piece.text)
        else:
            self._pieces.append(piece)
        self.end = piece.end
        self._chars += len(piece.text)
        self._trim()

    def _trim(self) -> None:
        gone = 0
        while self._chars > self._most_chars and gone < len(self._pieces) - 1:
            self._chars -= len(self._pieces[gone].text)
            gone += 1
        del self._pieces[:gone]

    def since(self, index: int) -> list[Piece]:
        """Return what stands at an index or behind it, in as few pieces as it can be."""
        found: list[Piece] = []
        for piece in reversed(self._pieces):
            if piece.end <= index:
                break
            found.append(piece.after(index))
        return list(_merged(reversed(found)))


def _continues(last: Piece, piece: Piece) -> bool:
    return (last.kind, last.call, last.member, last.end) == (piece.kind, piece.call, piece.member, piece.index)


def _merged(pieces: Iterable[Piece]) -> Iterable[Piece]:
    run: list[Piece] = []
    for piece in pieces:
        if run and not _continues(run[-1], piece):
            yield replace(run[0], text="".join(one.text for one in run))
            run = []
        run.append(piece)
    if run:
        yield replace(run[0], text="".join(one.text for one in run))
