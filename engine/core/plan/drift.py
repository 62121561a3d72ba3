"""Says in words how the present definition of a tool differs from the one that a plan holds. Workflow-safe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from engine.core.plan.ir import Drift, ToolContract
from engine.core.values import Json, canonical_json

DEFINING: Final = ("type", "parameters", "effect", "idempotent", "description", "timeout_s", "spec")
"""Members of a contract that say what a tool is; the others say how the operator has it called."""
MOST_CHANGES: Final = 20
MOST_CHARS: Final = 120


def definition_hash(contract: ToolContract) -> str:
    """Return the hash of a tool's definition: 16 hexadecimal digits, equal for equal definitions on every machine."""
    text = canonical_json({name: getattr(contract, name) for name in DEFINING})
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def present_of(pinned: ToolContract, present: ToolContract) -> ToolContract:
    """Return a tool as it is defined now, with what the task itself says of it.

    Args:
        pinned: The tool as the task's plan has it.
        present: The operator's definition.
    """
    own: dict[str, Any] = {name: getattr(pinned, name) for name in (*pinned.own, "own", "own_approve")}
    return replace(present, **own)


def drift_of(pinned: ToolContract, present: ToolContract | None) -> Drift | None:
    """Compare two definitions of a tool.

    Args:
        pinned: The one that the task was checked against.
        present: The one that there is now; None = the tool is gone.

    Returns:
        What differs; None if nothing does.
    """
    if present is None:
        return Drift(pinned.name, definition_hash(pinned), changes=("the tool is gone",))
    present = present_of(pinned, present)
    if all(getattr(pinned, name) == getattr(present, name) for name in DEFINING):
        return None
    changes: list[str] = []
    for name in DEFINING:
        for change in _differences(getattr(pinned, name), getattr(present, name), name):
            if len(changes) == MOST_CHANGES:
                changes.append("and more")
                break
            changes.append(change)
    return Drift(pinned.name, definition_hash(pinned), definition_hash(present), tuple(changes[: MOST_CHANGES + 1]))


def drifts(pinned: Mapping[str, ToolContract], present: Mapping[str, ToolContract | None]) -> tuple[Drift, ...]:
    """Compare the tools of a plan with those that there are now.

    Args:
        pinned: Those of the plan.
        present: Those that there are, of the same names.
    """
    found = (drift_of(pinned[name], present[name]) for name in sorted(pinned) if name in present)
    return tuple(drift for drift in found if drift is not None)


def _differences(before: Any, after: Any, place: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            here = f"{place}/{key}"
            if key not in after:
                yield f"{here} is gone, it was {_shown(before[key])}"
            elif key not in before:
                yield f"{here} is new: {_shown(after[key])}"
            else:
                yield from _differences(before[key], after[key], here)
    else:
        yield f"{place} is {_shown(after)}, it was {_shown(before)}"


def _shown(value: Json) -> str:
    text = canonical_json(value)
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"
