"""What a crash test counted, as a table that pytest prints at its end, quiet or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PROPERTY = "chaos table"


@dataclass(frozen=True, slots=True)
class Table:
    """Names and values under a title."""

    title: str
    rows: Mapping[str, Any]

    def record(self, record_property: Callable[[str, object], None]) -> None:
        """Hand it to pytest."""
        record_property(PROPERTY, self.text)

    @property
    def text(self) -> str:
        """The table as lines."""
        width = max(len(name) for name in self.rows)
        return "\n".join([self.title, *(f"  {name:<{width}}  {value}" for name, value in self.rows.items())])


def counted(counts: Mapping[Any, int]) -> str:
    """Return counts as words: `2 cut, 1 delay`."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
