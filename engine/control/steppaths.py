"""Where the steps of an execution stand to each other, as their paths tell."""

from __future__ import annotations

import re
from typing import Literal

from engine.core.errors import BugError
from engine.core.plan.paths import plain_path

_STEP = re.compile(r"\.\d+(?:[~!]\d+)*(?=[.\[]|$)")
ATTEMPT = re.compile(r"[~!](\d+)\Z")
"""The mark of an attempt at the end of a path."""
_NUMBERS = re.compile(r"\d+")


def steps_to(path: str) -> list[str]:
    """Return the paths of the steps around a step and its own, the outermost first, marks kept."""
    return [path[: match.end()] for match in _STEP.finditer(path)]


def order_of(path: str) -> tuple[int, ...]:
    """Return what sorts the steps of an execution into the order in which a task has them."""
    return tuple(int(number) for number in _NUMBERS.findall(plain_path(path)))


def is_inside(path: str, step: str) -> bool:
    """Whether a path leads on from that of a step, or from that of an attempt at it."""
    return path.startswith(step) and path[len(step) : len(step) + 1] in (".", "[", "~", "!")


Position = Literal["around", "before", "beside", "after"]


def position(path: str, point: str) -> Position:
    """Say where a step stands to another one; both are plain paths of steps of `main`.

    Returns:
        `around` if one stands in the other; `beside` in branches of one map, parallel or race; `before` or `after`.
    """
    common = 0
    for mine, theirs in zip(steps_to(path), steps_to(point), strict=False):
        if mine != theirs:
            return _compare(path[common:], point[common:])
        common = len(mine)
    return "around"


def race_of(path: str, point: str) -> str:
    """Return the path of the innermost step that two steps stand in."""
    common = [mine for mine, theirs in zip(steps_to(path), steps_to(point), strict=False) if mine == theirs]
    return common[-1] if common else ""


def _compare(mine: str, theirs: str) -> Position:
    """Compare two ways out of the same step, or from the top."""
    my_block, my_index = _first_step(mine)
    their_block, their_index = _first_step(theirs)
    if my_block == their_block:
        return "before" if my_index < their_index else "after"
    if my_block.startswith(("[", ".map[")):
        return "beside"
    my_round, their_round = _NUMBERS.findall(my_block), _NUMBERS.findall(their_block)
    return "before" if my_round and their_round and int(my_round[0]) < int(their_round[0]) else "after"


def _first_step(rest: str) -> tuple[str, int]:
    match = _STEP.search(rest)
    number = None if match is None else _NUMBERS.search(match.group())
    if match is None or number is None:
        raise BugError(f"{rest!r} is no path of a step")
    return rest[: match.start()], int(number.group())
