"""Makes the keys by which starts of a task count together, of their inputs. Workflow-safe."""

from __future__ import annotations

import hashlib

from engine.core.errors import ExpressionError
from engine.core.plan.computed import Expr
from engine.core.plan.ir import Plan
from engine.core.run.evaluate import Evaluator
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch
from engine.core.values import Json, compact_json

MOST_KEY_CHARS = 100
"""Longer keys are kept as a hash."""


def key_of(expression: Expr, plan: Plan, given: Json, *, rule: str, task_id: str, now_us: int) -> str:
    """Evaluate a key of `dispatch.admission` on an input.

    Args:
        expression: The key.
        plan: The plan of the task.
        given: The input.
        rule: Name of the rule, such as `debounce`.
        task_id: The task.
        now_us: The time, Unix microseconds.

    Returns:
        The key as text that is short enough to stand in an index.

    Raises:
        ExpressionError: It cannot be made of this input.
    """
    evaluator = Evaluator(plan, "", task_id)
    evaluator.now_us = now_us
    path = f"dispatch.admission.{rule}.key"
    try:
        value = evaluator.evaluate(expression, Branch(0, None, [], [Scope("", "dispatch", given)]), path, given)
    except ExpressionError as error:
        raise ExpressionError(f"the key of `{rule}`, `{expression.source}`: {error.message}") from error
    text = compact_json(value)
    return text if len(text) <= MOST_KEY_CHARS else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
