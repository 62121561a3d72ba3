"""Version and patches of the interpreter: what it asks Temporal for that older histories do not know. Workflow-safe.

A history replays only if the interpreter asks for the same calls, timers, children and attributes in the same order. A
change of that needs a patch: an entry in PATCHES, and `effects.patched(PATCH)` around what is new, with what was before
in the other branch. An execution that had already passed the place goes the old way to the end of its run; all others
go the new way. See docs/upgrades.md for when one is needed and when the old way may be taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

INTERPRETER = 2
"""Version of the interpreter, in each row of `executions`: that which last told its events.

Raise it with every release that tells other events or asks Temporal for something else. 1: plan format 1. 2: plan
format 2; executions can be paused, steered and forked."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of what the interpreter asks of Temporal.

    Attributes:
        name: The mark that it leaves in histories; never used again for another change.
        since: Version of the interpreter that came with it.
        what: What is asked otherwise, for whoever reads the table.
    """

    name: str
    since: int
    what: str


INNER_LISTENS = Patch(
    "inner-listens",
    since=2,
    what="a message goes to the step that waits for it, also inside a turn of another step that listens there",
)

PATCHES: tuple[Patch, ...] = (INNER_LISTENS,)
"""All patches whose old way is still there, the oldest first."""
