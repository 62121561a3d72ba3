"""Breaks: the steps before which an execution stops, named by path or label, with or without rounds. Workflow-safe.

A path is written as it is shown (`main.3.do[17].0`). Where the counter of a round is left out (`main.3.do.0`,
`main.3.do[].0`) every round is meant, and a path that begins with the name of a list (`review.2`) means that step
wherever the list runs. The slots of `parallel` and `race` are places, not rounds: they stay. In an agent,
`main.3.turn.0` is each question to the model, and `main.3.turn.1` comes before the tool calls of each turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.core.errors import BugError
from engine.core.plan.ir import Plan
from engine.core.plan.lists import step_places
from engine.core.plan.ops import AgentOp, Op, YieldOp
from engine.core.plan.paths import plain_path
from engine.core.run.frames import BlockFrame
from engine.core.run.state import Branch
from engine.core.run.walker import Walker

MOST_BREAKS = 100
ANY_ROUND = "[]"

_ROUNDS = re.compile(r"(do|map|turn)(?:\[(\d*)\])?")
_SLOT = re.compile(r"(\d+)\[(\d+)\]")

Parts = tuple[str, ...]


def parts_of(path: str) -> Parts:
    """Return the parts of a path: counters of rounds and slots are parts of their own; `[]` stands for every round."""
    found: list[str] = []
    for part in plain_path(path).split("."):
        rounds, slot = _ROUNDS.fullmatch(part), _SLOT.fullmatch(part)
        if rounds is not None:
            found += [rounds[1], f"[{rounds[2] or ''}]"]
        elif slot is not None:
            found += [slot[1], slot[2]]
        else:
            found.append(part)
    return tuple(found)


def _fits(wanted: Parts, parts: Parts) -> bool:
    return len(wanted) == len(parts) and all(
        one == other or (one == ANY_ROUND and other.startswith("[")) for one, other in zip(wanted, parts, strict=True)
    )


def stops_before(walker: Walker, branch: Branch, frame: BlockFrame, op: Op) -> bool:
    """Return whether the step that a block frame stands at is one of the breaks."""
    path = f"{frame.path}.{frame.pc}"
    list_path, name = _list_around(walker, branch)
    whole, within = parts_of(path), parts_of(f"{name}{path[len(list_path) :]}")
    for wanted in walker.state.breaks:
        if op.label and wanted == op.label:
            return True
        parts = parts_of(wanted)
        if _fits(parts, whole) or _fits(parts, within):
            return True
    return False


def _list_around(walker: Walker, branch: Branch) -> tuple[str, str]:
    """Return path and name of the named list that a branch is in, whose frame may be that of a branch around it."""
    around: Branch | None = branch
    while around is not None:
        for frame in reversed(around.stack):
            if isinstance(frame, BlockFrame) and frame.role == "list":
                return frame.path, frame.workflow
        around = None if around.parent is None else walker.branches[around.parent]
    raise BugError(f"branch {branch.id} runs in no list")


def unknown_breaks(plan: Plan, breaks: Iterable[str]) -> list[str]:
    """Return those breaks that name no step of a plan.

    Args:
        plan: The plan.
        breaks: Paths and labels.
    """
    places = {parts_of(path): op for path, op in step_places(plan)}
    labels = {op.label for op in places.values() if op.label}
    return [wanted for wanted in breaks if wanted not in labels and not _is_place(plan, places, wanted)]


def _is_place(plan: Plan, places: dict[Parts, Op], wanted: str) -> bool:
    """Return whether a path leads to a step, through the lists that steps on its way run."""
    here: Parts = ()
    left = tuple(ANY_ROUND if part.startswith("[") else part for part in parts_of(wanted))
    while left:
        op = places.get(here)
        name = parts_of(op.workflow) if isinstance(op, YieldOp) and op.workflow in plan.workflows else ()
        if isinstance(places.get(here), AgentOp) and left[0] == "turn":
            return _is_in_turn(left)
        if name and left[: len(name)] == name:
            here, left = name, left[len(name) :]
        else:
            here, left = (*here, left[0]), left[1:]
    return here in places


def _is_in_turn(left: Parts) -> bool:
    """Return whether the rest of a path names a step of an agent's turn: a question, all calls, or one of them."""
    steps = left[2:]
    return left[1] == ANY_ROUND and all(part.isdecimal() for part in steps) and len(steps) in (1, 3)
