"""The form of an entry in the book of codes: the reason, a task with the fault, the same put right. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc


@dataclass(frozen=True, slots=True)
class Entry:
    """The explanation of a diagnostic code.

    Attributes:
        why: Why it is an error, or a doubt.
        bad: The text of a whole task that gives the code.
        good: The same put right; it gives no finding.
        grown: For faults of size, a piece of `bad` and how often it stands there in truth.
    """

    why: str
    bad: str
    good: str
    grown: tuple[str, int] | None = None

    @property
    def bad_source(self) -> str:
        """The bad example in full, as it gives the code."""
        if self.grown is None:
            return self.bad
        piece, times = self.grown
        return self.bad.replace(piece, piece * times, 1)

    @property
    def shown_bad(self) -> str:
        """The bad example for the eye: control characters as pictures, what is too long as a comment."""
        shown = "".join(char if char == "\n" or ord(char) >= 32 else chr(0x2400 + ord(char)) for char in self.bad)
        if self.grown is None:
            return shown
        piece, times = self.grown
        return f"# and `{piece.strip()}` {times:,} times instead of once\n{shown}"


def entry(why: str, bad: str, good: str, *, grown: tuple[str, int] | None = None) -> Entry:
    """Return an entry whose texts are written indented, as in a table of the code.

    Args:
        why: Becomes one line.
        bad: See `Entry`.
        good: See `Entry`.
        grown: See `Entry`.
    """
    return Entry(" ".join(why.split()), f"{cleandoc(bad)}\n", f"{cleandoc(good)}\n", grown)
