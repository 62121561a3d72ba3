"""The language reference as one table: entries of kinds, modifiers, keys and tools in the order of the pages."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.reference.agents import AGENTS
from engine.reference.calls import CALLS
from engine.reference.choices import CHOICES
from engine.reference.entry import Entry, Group
from engine.reference.keys import KEYS
from engine.reference.lookups import LOOKUPS
from engine.reference.loops import LOOPS
from engine.reference.modifiers import MODIFIERS
from engine.reference.pure import PURE
from engine.reference.together import TOGETHER
from engine.reference.toolkinds import TOOL_KINDS
from engine.reference.waits import WAITS

SECTIONS: Final = MappingProxyType[str, tuple[Entry, ...]](
    {
        "Compute": PURE,
        "Call": (*CALLS, *AGENTS, *LOOKUPS),
        "Choose": CHOICES,
        "Loop": LOOPS,
        "At the same time": TOGETHER,
        "Wait": WAITS,
        "Modifiers": MODIFIERS,
        "Keys of a task": KEYS,
        "Types of tools": TOOL_KINDS,
    }
)
"""Headings and the entries under them."""

ENTRIES: Final = tuple(entry for section in SECTIONS.values() for entry in section)


def entries_of(group: Group) -> list[Entry]:
    """Return the entries of a group in the order of the pages."""
    return [entry for entry in ENTRIES if entry.group is group]


def find_entries(name: str) -> list[Entry]:
    """Return the entries of a name: none, one, or several, since a kind and a key may have the same one."""
    return [entry for entry in ENTRIES if entry.name == name]
