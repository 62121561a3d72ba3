"""Says what a task requires of its input beyond the schema, before an execution is created. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import ExpressionError
from engine.core.plan.ir import Plan
from engine.core.run.evaluate import Evaluator
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch
from engine.core.values import Json, compact_json


def unmet_requirements(plan: Plan, given: Json, *, now_us: int) -> list[str]:
    """Evaluate the `require` conditions of a plan on an input.

    Args:
        plan: The plan.
        given: The input, which fits the plan's schema.
        now_us: The time, Unix microseconds.

    Returns:
        The messages of the conditions that do not hold; a condition that fails does not hold, for the reason it gives.
    """
    evaluator = Evaluator(plan, "", "")
    evaluator.now_us = now_us
    nowhere = Branch(0, None, [], [Scope("", "require", given)])
    unmet: list[str] = []
    for number, item in enumerate(plan.require):
        path = f"require[{number}]"
        try:
            if evaluator.truthy(item.condition, nowhere, path, given):
                continue
            message = evaluator.evaluate(item.message, nowhere, f"{path}/message", given)
        except ExpressionError as error:
            message = f"`{item.condition.source}`: {error.message}"
        unmet.append(message if isinstance(message, str) else compact_json(message))
    return unmet
