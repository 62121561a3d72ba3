"""Stage: modifiers around a step — retries with pauses, time limits and `on_error`. Workflow-safe."""

from __future__ import annotations

from engine.core.contracts.failures import OUTCOME_UNKNOWN
from engine.core.errors import RunError, StepTimeout, WaitExpired
from engine.core.ids import shorten_id
from engine.core.kinds import EventType, StepKind
from engine.core.plan.ops import Op, ToolCallOp
from engine.core.plan.policies import RetryPolicy
from engine.core.run.frames import GuardFrame, Unwind
from engine.core.run.state import Branch
from engine.core.run.walker import Walker, error_json
from engine.core.values import Json

ONE_ATTEMPT = RetryPolicy(attempts=1)

LONGEST_ASKED_PAUSE_S = 86_400.0
"""A server may ask for a pause longer than the policy's, but not for one that no execution would survive."""

_CALLS = (StepKind.PROMPT, StepKind.TOOL_CALL, StepKind.EMBED, StepKind.SEARCH)
_BLOCKS = (
    StepKind.IF_ELSE,
    StepKind.SWITCH,
    StepKind.FOREACH,
    StepKind.WHILE,
    StepKind.UNTIL,
    StepKind.LISTEN,
    StepKind.MAP_REDUCE,
    StepKind.PARALLEL,
    StepKind.RACE,
    StepKind.YIELD,
)


def needs_guard(op: Op) -> bool:
    """Return whether a step can be retried, timed out or have its error handled."""
    mods = op.mods
    return (
        op.op in _CALLS
        or op.op is StepKind.TASK
        or mods.retry is not None
        or mods.on_error is not None
        or mods.timeout_s is not None
        or mods.total_timeout_s is not None
    )


def policy_of(walker: Walker, op: Op) -> RetryPolicy:
    """Return the author's retry policy, or the default that the step's contract allows."""
    if op.op is StepKind.AGENT:
        # its policy is that of each call of its model: what its tools did is never done again because of one
        return ONE_ATTEMPT
    if op.mods.retry is not None:
        return op.mods.retry
    if op.op in (StepKind.PROMPT, StepKind.EMBED, StepKind.SEARCH):
        return walker.plan.defaults.retry
    if isinstance(op, ToolCallOp):
        # functions of an agent, which the client runs, have no contract in the plan
        contract = walker.plan.tools.get(op.tool)
        return walker.plan.defaults.retry if contract is not None and contract.repeatable else ONE_ATTEMPT
    return ONE_ATTEMPT


def push_guard(walker: Walker, branch: Branch, op: Op, path: str, value: Json) -> None:
    """Put a guard around a step that is about to start."""
    guard = GuardFrame(path, value)
    if op.op in _BLOCKS and policy_of(walker, op).attempts > 1:
        guard.state = dict(branch.scope.state)
    branch.stack.append(guard)
    if op.mods.total_timeout_s is not None:
        guard.total_deadline_us = walker.effects.now_us() + round(op.mods.total_timeout_s * 1e6)
        walker.arm(branch, "total", path, guard.total_deadline_us, f"total_timeout of {path}")
    arm_attempt(walker, branch, guard, op)


def arm_attempt(walker: Walker, branch: Branch, guard: GuardFrame, op: Op) -> None:
    """Start the clock of one attempt; calls keep their own time, because waiting for a worker does not count."""
    if op.mods.timeout_s is None or op.op in (*_CALLS, StepKind.AGENT):
        return
    guard.attempt_deadline_us = walker.effects.now_us() + round(op.mods.timeout_s * 1e6)
    walker.arm(branch, "attempt", guard.path, guard.attempt_deadline_us, f"timeout of {guard.path}")


def release_guard(walker: Walker, guard: GuardFrame) -> None:
    """Stop all clocks of a guard."""
    for purpose in ("pause", "attempt", "total"):
        walker.disarm(purpose, guard.path)


def handle_error(walker: Walker, branch: Branch, guard: GuardFrame, error: RunError) -> bool:
    """Decide what a guard does about an error of its step.

    Returns:
        True if the guard took it (the step is tried again or `on_error` runs), False if it goes further down.
    """
    block = walker.step_frame_below(branch, guard)
    op = walker.op_at(block)
    walker.disarm("attempt", guard.path)
    guard.attempt_deadline_us = None
    if guard.attempt > 1 or error.details.get("step", guard.path) == guard.path:
        # the attempts of a step inside are not forgotten because a guard around it saw the error pass
        error.details["attempts"] = guard.attempt
    guard.error = error_json(error, guard.path)
    if guard.phase == "handler" or not error.catchable:
        return False
    pause_s = _pause_before_retry(walker, op, guard, error)
    body: dict[str, Json] = {
        "path": guard.path,
        # the call that failed, which may be the last of several rounds; of a block, or before a call, there is none
        "effect_id": guard.call_id or shorten_id(attempt_id(guard.path, guard.attempt)),
        "kind": op.op.value,
        "attempt": guard.attempt,
        "error": guard.error,
        "retry_in_s": pause_s,
    }
    walker.emit(EventType.ATTEMPT_FAILED, body)
    if pause_s is not None:
        guard.phase = "pause"
        guard.deadline_us = walker.effects.now_us() + round(pause_s * 1e6)
        walker.arm(branch, "pause", guard.path, guard.deadline_us, f"retry {guard.attempt + 1} of {guard.path}")
        return True
    if op.mods.on_error is not None:
        guard.phase = "handler"
        walker.push_block(
            branch,
            op.mods.on_error,
            guard.input,
            f"{guard.path}.on_error",
            f"{block.workflow}[{block.pc}].on_error",
            construct="on_error",
        )
        return True
    return False


def _pause_before_retry(walker: Walker, op: Op, guard: GuardFrame, error: RunError) -> float | None:
    policy = policy_of(walker, op)
    if guard.attempt >= policy.attempts:
        return None
    if policy.on:
        if not any(error.code == code or error.code.startswith(f"{code}.") for code in policy.on):
            return None
    elif error.code == OUTCOME_UNKNOWN or not (error.retryable or (op.mods.retry is not None and _plain(error))):
        return None
    asked = error.details.get("retry_after_s")
    least = min(asked, LONGEST_ASKED_PAUSE_S) if isinstance(asked, (int, float)) else 0.0
    return max(_growing_pause(policy, guard.attempt), least)


def _growing_pause(policy: RetryPolicy, attempt: int) -> float:
    try:
        return min(policy.initial_s * policy.factor ** (attempt - 1), policy.max_s)
    except OverflowError:
        return policy.max_s


def _plain(error: RunError) -> bool:
    # an author's own policy also covers failures of the tool itself, which only the author can judge; errors in the
    # task (bad arguments, a failed expression) would come again
    return error.code in (
        "check.failed",
        "tool.failed",
        "tool.http_status",
        "task.error",
        "step.timeout",
        "wait.expired",
    )


def attempt_id(path: str, attempt: int) -> str:
    """Return the id of one attempt at a step."""
    return f"{path}#{attempt}"


def attempt_timed_out(walker: Walker, branch: Branch, guard: GuardFrame) -> None:
    """Take everything above the guard off and raise the timeout to the guard itself."""
    op = walker.op_at(walker.step_frame_below(branch, guard))
    depth = branch.stack.index(guard) + 1
    error: RunError
    if op.op in (StepKind.WAIT_FOR_INPUT, StepKind.APPROVE, StepKind.WAIT_FOR_EVENT):
        error = WaitExpired(f"no answer came within {op.mods.timeout_s:g} s", hint="give the wait an on_error")
    else:
        limit_s = op.mods.timeout_s
        if limit_s is None and isinstance(op, ToolCallOp):
            limit_s = walker.plan.tools[op.tool].timeout_s
        error = StepTimeout(f"{guard.path} took longer than its timeout of {limit_s or 0:g} s", retryable=True)
    walker.unwind(branch, Unwind(depth, "raise", error_json(error, guard.path)))


def total_timed_out(walker: Walker, branch: Branch, guard: GuardFrame) -> None:
    """Take the guard off with everything above and raise the timeout to the guards below."""
    op = walker.op_at(walker.step_frame_below(branch, guard))
    error = StepTimeout(
        f"{guard.path} took longer than its total_timeout of {op.mods.total_timeout_s:g} s", code="step.total_timeout"
    )
    error.details["attempts"] = guard.attempt
    walker.unwind(branch, Unwind(branch.stack.index(guard), "raise", error_json(error, guard.path)))


def find_guard(branch: Branch, path: str) -> GuardFrame | None:
    """Return the guard of a step path in a branch."""
    for frame in branch.stack:
        if isinstance(frame, GuardFrame) and frame.path == path:
            return frame
    return None


def restore_timers(walker: Walker, branch: Branch) -> None:
    """Start the clocks of a carried branch's guards again."""
    for frame in branch.stack:
        if not isinstance(frame, GuardFrame):
            continue
        if frame.total_deadline_us is not None:
            walker.arm(branch, "total", frame.path, frame.total_deadline_us, f"total_timeout of {frame.path}")
        if frame.attempt_deadline_us is not None and frame.phase == "body":
            walker.arm(branch, "attempt", frame.path, frame.attempt_deadline_us, f"timeout of {frame.path}")
        if frame.phase == "pause" and frame.deadline_us is not None:
            walker.arm(branch, "pause", frame.path, frame.deadline_us, f"retry {frame.attempt + 1} of {frame.path}")
