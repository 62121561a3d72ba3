"""Reads plans of older formats: one pure step from each format to the next, one after another. Workflow-safe.

Plans live long: in the inputs of workflows that wait for weeks, and in the store. A step may add, rename and rewrite
members, but keeps number and order of blocks and of the ops in them: running executions stand at (block, position).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.errors import BugError
from engine.core.plan.ir import PLAN_FORMAT

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _say_the_defaults(plan: dict[str, Any]) -> dict[str, Any]:
    """1 → 2: what holds where the author says nothing stood in the interpreter, and stands in the plan."""
    retry = {"attempts": 4, "initial_s": 1.0, "factor": 2.0, "max_s": 30.0, "on": []}
    return {**plan, "defaults": {"retry": retry, "chat_timeout_s": 600.0, "clean_up_s": 600.0}}


STEPS: Final[Mapping[int, Step]] = MappingProxyType({1: _say_the_defaults})
"""By the format that they begin with. Written out: what a format meant must not change with the code of today."""


def format_of(body: Mapping[str, Any]) -> int:
    """Return the format of a plan as JSON; 0 if it names none."""
    found = body.get("format")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def upgrade_plan(body: dict[str, Any]) -> dict[str, Any]:
    """Return a plan in the present format.

    Args:
        body: A plan as JSON, of any format; stays as it is.

    Returns:
        The same object if there is nothing to do.

    Raises:
        BugError: `plan.format` if a newer engine made it, `plan.unreadable` if it is no plan.
    """
    made = format_of(body)
    if made > PLAN_FORMAT:
        raise BugError(
            f"the plan has format {made}, this engine reads formats up to {PLAN_FORMAT}",
            code="plan.format",
            hint="run the version that made the plan, or a newer one",
        )
    if made == 0:
        raise BugError(f"the plan cannot be read: its format is {body.get('format')!r}", code="plan.unreadable")
    for number in range(made, PLAN_FORMAT):
        body = {**STEPS[number](body), "format": number + 1}
    return body
