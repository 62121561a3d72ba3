"""Does one thing in a branch, and turns what goes wrong into an error of the branch or of the engine. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable

from engine.core.errors import BugError, RunError
from engine.core.run.state import Branch
from engine.core.run.walker import Walker

Action = Callable[[Walker, Branch], None]

OUR_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a mistake in the interpreter raises. Left as they are, these would fail the workflow task and be tried again for
ever without anybody being told; as BugError they end the execution."""


def attempt(walker: Walker, branch: Branch, action: Action) -> bool:
    """Do something in a branch; an error that a task may see is raised in the branch.

    Returns:
        True, since the branch can move on in either case.

    Raises:
        BugError: `bug.interpreter` for what no task can be blamed for.
    """
    try:
        action(walker, branch)
    except RunError as error:
        frame = walker.step_frame(branch)
        walker.fail(branch, error, f"{frame.path}.{frame.pc}")
    except OUR_MISTAKES as error:
        raise BugError(f"the interpreter broke: {type(error).__name__}: {error}", code="bug.interpreter") from error
    return True
