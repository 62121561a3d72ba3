"""A step that is made in another file than its task, for tests of places."""

from __future__ import annotations

from engine import Step, expr
from engine import evaluate as make


def wrong_step() -> Step:
    """Return a step with a name that does not exist."""
    return make(expr("nobody"))
