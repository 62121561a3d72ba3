"""Stage: steps that wait — for a time, or for an answer with a deadline and a default. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import InputRejected, RunError, WaitExpired
from engine.core.kinds import EventType
from engine.core.lang.failures import type_name
from engine.core.plan.computed import Value
from engine.core.plan.ops import ApproveOp, EventOp, SleepOp, WaitOp
from engine.core.run.approvals import take_answer_for_call
from engine.core.run.frames import SleepFrame, WaitFrame
from engine.core.run.guards import find_guard
from engine.core.run.state import Branch
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json, duration_seconds

MAX_WAIT_S = 10 * 365 * 86_400.0
_MAX_SHOWN_CHARS = 60
_TIME_HINT = "give seconds as a number above 0, or text such as 30s, 5m, 2h; at most ten years"


def begin_sleep(walker: Walker, branch: Branch, op: SleepOp, path: str, given: Json) -> None:
    """Start the timer of a sleep.

    Raises:
        RunError: If its time cannot be computed or is no time.
    """
    seconds = seconds_of(walker, branch, op.seconds, path, given, "sleep for")
    deadline = walker.effects.now_us() + round(seconds * 1e6)
    branch.stack.append(SleepFrame(path, deadline, given))
    walker.arm(branch, "sleep", path, deadline, op.label or f"sleep {seconds:g} s")


def arm_sleep(walker: Walker, branch: Branch, frame: SleepFrame) -> None:
    """Start the timer of a sleep that goes on, or ends at another time."""
    walker.arm(branch, "sleep", frame.timer_id, frame.deadline_us, f"sleep of {frame.timer_id}")


def seconds_of(walker: Walker, branch: Branch, value: Value, path: str, given: Json, verb: str) -> float:
    """Compute a time in seconds.

    Raises:
        RunError: If it cannot be computed or is no time.
    """
    amount = walker.evaluator.evaluate(value, branch, path, given)
    seconds = duration_seconds(amount) if isinstance(amount, str) else amount
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_WAIT_S:
        raise InputRejected(f"{path} cannot {verb} {_shown(amount)}", hint=_TIME_HINT)
    return float(seconds)


def _shown(amount: Json) -> str:
    """Return what was given as a time, as JSON if that is short."""
    if isinstance(amount, (int, float)) and not isinstance(amount, bool):
        return f"{compact_json(amount)[:_MAX_SHOWN_CHARS]} seconds"
    text = compact_json(amount)
    return text if len(text) <= _MAX_SHOWN_CHARS else type_name(amount)


def begin_wait(
    walker: Walker, branch: Branch, op: WaitOp | ApproveOp | EventOp, path: str, wait_id: str, given: Json
) -> WaitFrame:
    """Open a wait and say so.

    Args:
        walker: The execution.
        branch: The branch that waits.
        op: The step.
        path: Its path.
        wait_id: Its path with the number of the attempt.
        given: Its input.

    Returns:
        The frame of the wait.

    Raises:
        RunError: If what it tells, its deadline or its default cannot be computed.
    """
    frame = WaitFrame(wait_id, walker.state.waits_opened + 1, op.schema)
    if isinstance(op, EventOp):
        frame.event, frame.key = op.event, walker.evaluator.evaluate(op.key, branch, f"{path}/key", given)
        info: Json = {"event": frame.event, "key": frame.key}
    else:
        info = walker.evaluator.evaluate(op.info, branch, path, given)
    walker.state.waits_opened += 1
    if op.default is not None:
        frame.has_default = True
        frame.default = walker.evaluator.evaluate(op.default, branch, f"{path}/default", given)
    if op.deadline is not None:
        seconds = seconds_of(walker, branch, op.deadline, f"{path}/deadline", given, "wait for")
        frame.deadline_us = walker.effects.now_us() + round(seconds * 1e6)
    branch.stack.append(frame)
    arm_deadline(walker, branch, frame)
    open_wait(walker, branch, frame, path=path, label=op.label, info=info)
    return frame


def open_wait(walker: Walker, branch: Branch, frame: WaitFrame, *, path: str, label: str, info: Json) -> None:
    """Say that a wait is open; its frame is on top of the branch's stack."""
    guard = find_guard(branch, path)
    block = walker.step_frame(branch)
    ends = [frame.deadline_us, None if guard is None else guard.attempt_deadline_us]
    body: dict[str, Json] = {
        "path": path,
        "workflow": block.workflow,
        "index": block.pc,
        "scope": branch.scope.id,
        "label": label,
        "wait_id": frame.wait_id,
        "opened": frame.opened,
        "info": info,
        "schema": frame.schema,
        "deadline_us": min((end for end in ends if end is not None), default=None),
    }
    frame.opened_us = walker.evaluator.now_us
    walker.emit(EventType.WAIT, body)
    walker.open_wait(frame.wait_id)


def arm_deadline(walker: Walker, branch: Branch, frame: WaitFrame) -> None:
    """Start the timer of a wait that has a deadline."""
    if frame.deadline_us is not None:
        walker.arm(branch, "wait", frame.wait_id, frame.deadline_us, f"deadline of {frame.wait_id}")


def expire(walker: Walker, branch: Branch, frame: WaitFrame) -> None:
    """Take the news that a wait is past its deadline: go on with its default, or raise.

    Raises:
        WaitExpired: If there is no default.
    """
    if not frame.has_default:
        raise WaitExpired("no answer came before the deadline", hint="give the wait a default or an on_error")
    resume(walker, branch, frame, frame.default, {"wait_id": frame.wait_id, "key": "", "actor": "", "expired": True})


def resume(walker: Walker, branch: Branch, frame: WaitFrame, value: Json, how: dict[str, Json]) -> None:
    """End a wait with a value, and go on with it; `how` says who gave it."""
    place = close(walker, branch, frame, value, how)
    if frame.about:
        take_answer_for_call(walker, branch, frame, value)
    elif not frame.asks:
        walker.give(branch, value)
    elif isinstance(value, dict) and value.get("accept"):
        walker.give(branch, value.get("output", frame.subject))
    else:
        error = RunError(f"the result was not accepted: {frame.problem}", code="check.failed")
        walker.fail(branch, error, place)


def close(walker: Walker, branch: Branch, frame: WaitFrame, value: Json, how: dict[str, Json]) -> str:
    """Say that a wait has ended with a value, take its frame off, and return the path of its step."""
    block = walker.step_frame(branch)
    path = f"{block.path}.{block.pc}"
    place: dict[str, Json] = {
        "path": path,
        "workflow": block.workflow,
        "index": block.pc,
        "scope": branch.scope.id,
        "output": value,
        "opened_us": frame.opened_us,
    }
    walker.emit(EventType.RESUME, {**place, **how})
    branch.stack.pop()
    walker.disarm("wait", frame.wait_id)
    walker.close_wait(frame.wait_id)
    walker.enqueue(branch)
    return path
