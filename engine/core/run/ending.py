"""Stage: the end of an execution — its `finally` steps, shielded from cancels, and the final event. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import LimitExceeded, RunError
from engine.core.kinds import EventType
from engine.core.run.effects import Failed, Ok, Stopped
from engine.core.run.fans import BranchOutcome, Returned
from engine.core.run.frames import BlockFrame, Unwind
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch, Ending
from engine.core.run.walker import Walker, error_json, error_of
from engine.core.values import Json

CLEAN_UP_STEPS = 10_000
"""Most steps of `finally` and `undo` beyond the limit of the task, which may be what ended it."""


def begin_finally(walker: Walker, outcome: BranchOutcome, root: Branch) -> bool:
    """Start the `finally` steps after the steps of the task have ended.

    Args:
        walker: The execution.
        outcome: How they ended.
        root: The branch they ran in.

    Returns:
        False if there are none, or they have run.
    """
    block = walker.plan.ending
    if block is None or walker.state.ending is not None:
        return False
    deadline_us = walker.effects.now_us() + round(walker.plan.defaults.clean_up_s * 1e6)
    if isinstance(outcome, Failed):
        ending = Ending("failed", None, error_json(outcome.error, ""), deadline_us)
    elif isinstance(outcome, Stopped):
        cancel = walker.state.cancel or {}
        # the members that every error has, so that steps which show `error.message` also work after a cancel
        said = {"message": cancel.get("reason") or "the execution was cancelled", "step": "", "attempts": 1}
        error: dict[str, Json] = {"code": "execution.cancelled", **said, "details": {}, "retryable": False, **cancel}
        ending = Ending("stopped", None, error, deadline_us)
    else:
        ending = Ending("ok", outcome.value, None, deadline_us)
    walker.state.ending = ending
    walker.disarm("limit", "")
    main = root.scopes[0]
    scope = Scope(walker.scope_id("finally"), "finally", main.input, state=main.state)
    branch = Branch(0, None, [], [scope], ending.error)
    walker.branches[0] = branch
    look_at_ending(walker)
    body: dict[str, Json] = {
        "path": "finally",
        "workflow": "finally",
        "scope": scope.id,
        "construct": "finally",
        "input": ending.value,
    }
    walker.emit(EventType.INIT_BRANCH, body)
    branch.stack.append(BlockFrame(block, 0, ending.value, "finally", "finally", "list"))
    walker.enqueue(branch)
    return True


def look_at_ending(walker: Walker) -> None:
    """Let expressions see the output, and watch the clock, while the `finally` steps run; also after a carry."""
    ending = walker.state.ending
    if ending is not None:
        walker.evaluator.show("output", ending.value)
        walker.arm(walker.branches[0], "finally", "", ending.deadline_us, "time limit of the finally steps")


def finally_timed_out(walker: Walker, root: Branch) -> None:
    """Stop the `finally` steps, which took too long."""
    limit_s = walker.plan.defaults.clean_up_s
    error = LimitExceeded(f"the finally steps took longer than {limit_s:g} s", code="limit.finally")
    walker.unwind(root, Unwind(0, "raise", error_json(error, "finally")))


def final_outcome(walker: Walker, outcome: BranchOutcome) -> Ok | Failed | Stopped:
    """Return how the execution ends, and say so.

    An error of the `finally` steps fails an execution that had succeeded; one that had failed or was cancelled stays
    so, and the error of `finally` goes into the details of its own, or is told with the cancel.
    """
    walker.disarm("limit", "")
    walker.disarm("finally", "")
    result = _joined(walker.state.ending, outcome)
    if isinstance(result, Failed):
        walker.emit(EventType.ERROR, {"error": error_json(result.error, "")})
    elif isinstance(result, Stopped):
        cancelled: dict[str, Json] = {"reason": "", "actor": "", **(walker.state.cancel or {})}
        if isinstance(outcome, Failed):
            cancelled["finally"] = error_json(outcome.error, "finally")
        walker.emit(EventType.CANCELLED, cancelled)
    elif walker.state.ending is not None:
        scope = walker.scope_id("main")
        walker.emit(EventType.FINISH, {"workflow": "main", "scope": scope, "output": result.value, "next": None})
    return result


def _joined(ending: Ending | None, outcome: BranchOutcome) -> Ok | Failed | Stopped:
    if ending is None:
        return Ok(outcome.value) if isinstance(outcome, Returned) else outcome
    if ending.kind == "ok":
        return outcome if isinstance(outcome, Failed) else Ok(ending.value)
    if ending.kind == "stopped":
        return Stopped()
    error: RunError = error_of(ending.error or {})
    if isinstance(outcome, Failed):
        error.details["finally"] = error_json(outcome.error, "finally")
    return Failed(error)
