"""Why a `dispatch` block is wrong or doubtful: reason, bad and good example of each code. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import codes
from engine.core.spec.codebook.entry import Entry, entry

ENTRIES: Final[MappingProxyType[str, Entry]] = MappingProxyType(
    {
        codes.BAD_CRON: entry(
            """A cron has five fields: minute, hour, day of the month, month, day of the week. What is outside a field
            starts nothing, and neither does the 31st of February.""",
            """
            dispatch:
              cron: 0 25 * * mon-fri
            main:
              - evaluate: {done: true}
            """,
            """
            dispatch:
              cron: 0 5 * * mon-fri
            main:
              - evaluate: {done: true}
            """,
        ),
        codes.BOTH_DAYS: entry(
            """Old cron programs start on a day that fits either field. Here it has to fit both, as in "the first Monday
            of a month": the cron of the bad example comes on Fridays the 13th only.""",
            """
            dispatch:
              cron: 0 9 13 * fri
            main:
              - evaluate: {done: true}
            """,
            """
            dispatch:
              cron: [0 9 13 * *, 0 9 * * fri]
            main:
              - evaluate: {done: true}
            """,
        ),
    }
)
"""Entries of the codes that only a `dispatch` block has."""
