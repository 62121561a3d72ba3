"""The book of codes: the explanations of all diagnostic codes in one table. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec.codebook import dispatch, names, source, structure, values
from engine.core.spec.codebook.entry import Entry

BOOK: Final[MappingProxyType[str, Entry]] = MappingProxyType(
    {**source.ENTRIES, **structure.ENTRIES, **names.ENTRIES, **values.ENTRIES, **dispatch.ENTRIES}
)
"""Why each code is an error or a doubt, with a bad and a good example; `CODES` has its meaning in one line."""

GROUPS: Final = MappingProxyType(
    {
        "E1": "Source",
        "E2": "Structure",
        "E3": "Expressions and templates",
        "E4": "Names and references",
        "E5": "Schemas and values",
        "W6": "Warnings",
    }
)
"""Titles of the groups of codes by the first two characters of their codes."""
