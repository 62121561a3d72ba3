"""Stage: what operators want of an execution (pause, continue, breaks, deadlines), and its outcome. Workflow-safe.

While an execution is paused no branch moves: calls under way end and are told of, answers are taken, clocks run on.
What follows from all that happens once it is continued. A cancel, and its own time limit, end a pause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.core.contracts.execution import ControlSignal
from engine.core.kinds import EventType
from engine.core.run.breaks import MOST_BREAKS, unknown_breaks
from engine.core.run.frames import GuardFrame, SleepFrame, UndoFrame, WaitFrame
from engine.core.run.guards import find_guard
from engine.core.run.state import Branch, Paused
from engine.core.run.undoing import arm_undo
from engine.core.run.waits import MAX_WAIT_S, arm_deadline, arm_sleep
from engine.core.run.walker import Walker
from engine.core.values import Json

MAX_REMEMBERED_KEYS = 1_000

CLEANING_UP = ("finally", "undo")
"""Purposes of clocks that stand still during a pause: what cleans up would else be given up because of it."""


def take_control(walker: Walker, signal: ControlSignal) -> bool:
    """Do what an operator wants, or say why not; a key that was seen before gets its first outcome again.

    Returns:
        Whether a paused execution was continued, so that clocks which struck meanwhile have their effect now.
    """
    known = walker.state.controls.get(signal.key)
    if known is not None:
        walker.emit(EventType(str(known["type"])), {**known["body"], "repeated": True})
        return False
    if signal.kind == "continue":
        return _continue(walker, signal)
    take = _TAKE.get(signal.kind)
    if take is None:
        # an API that is newer than this worker may know more
        _refuse(walker, signal, "control.unknown", f"this version does not know '{signal.kind}'")
    else:
        take(walker, signal)
    return False


def _tell(walker: Walker, signal: ControlSignal, kind: EventType, told: dict[str, Json]) -> None:
    body: dict[str, Json] = {"key": signal.key, "actor": signal.actor, **told}
    controls = walker.state.controls
    controls[signal.key] = {"type": kind.value, "body": body}
    while len(controls) > MAX_REMEMBERED_KEYS:
        del controls[next(iter(controls))]
    walker.emit(kind, body)


def _refuse(walker: Walker, signal: ControlSignal, code: str, message: str) -> None:
    _tell(walker, signal, EventType.CONTROL_REFUSED, {"kind": signal.kind, "code": code, "message": message})


# --- pause and continue --------------------------------------------------------------------------------------------


def _pause(walker: Walker, signal: ControlSignal) -> None:
    paused = walker.state.paused
    told: dict[str, Json] = {"reason": signal.reason}
    if paused is None:
        stand_still(walker, "")
    else:
        told["already"] = True
        if paused.at:
            told["at"] = paused.at
    _tell(walker, signal, EventType.EXECUTION_PAUSED, told)


def stand_still(walker: Walker, at: str) -> None:
    """Let no branch move from now on; `at` = path of the step before which the execution stopped by itself."""
    walker.state.paused = Paused(walker.effects.now_us(), at)
    walker.effects.set_paused(paused=True)


def stop_before(walker: Walker, path: str) -> None:
    """Pause just before a step, because of a break."""
    stand_still(walker, path)
    body: dict[str, Json] = {"key": "", "actor": "", "reason": "break", "at": path}
    walker.emit(EventType.EXECUTION_PAUSED, body)


def _continue(walker: Walker, signal: ControlSignal) -> bool:
    if walker.state.paused is None:
        _refuse(walker, signal, "control.not_paused", "the execution is not paused")
        return False
    told: dict[str, Json] = {}
    if signal.breaks is not None:
        problem = _problem_of(walker, signal.breaks)
        if problem:
            _refuse(walker, signal, "control.bad_path", problem)
            return False
        walker.state.breaks = list(signal.breaks)
        told["breaks"] = list(signal.breaks)
    if signal.reason:
        told["reason"] = signal.reason
    _go_on(walker)
    _tell(walker, signal, EventType.EXECUTION_CONTINUED, told)
    return True


def _go_on(walker: Walker) -> None:
    paused = walker.state.paused
    assert paused is not None
    walker.state.passed, walker.state.paused = paused.at, None
    walker.effects.set_paused(paused=False)
    _move_clean_up(walker, walker.effects.now_us() - paused.since_us)


def _move_clean_up(walker: Walker, by_us: int) -> None:
    """Give undoing and `finally` steps the time back for which they stood still."""
    for branch in list(walker.branches.values()):
        for frame in branch.stack:
            if isinstance(frame, UndoFrame):
                frame.deadline_us += by_us
                walker.disarm("undo", frame.path)
                arm_undo(walker, branch, frame)
    ending = walker.state.ending
    if ending is not None and 0 in walker.branches:
        ending.deadline_us += by_us
        walker.disarm("finally", "")
        walker.arm(walker.branches[0], "finally", "", ending.deadline_us, "time limit of the finally steps")


def end_by_force(walker: Walker, why: str, actor: str = "") -> None:
    """End a pause, and forget all breaks, since the execution is to end: `why` is `cancel` or `limit.time`."""
    walker.state.breaks = []
    if walker.state.paused is not None:
        _go_on(walker)
        walker.emit(EventType.EXECUTION_CONTINUED, {"key": "", "actor": actor, "why": why})


def is_stopped(walker: Walker, number: int) -> bool:
    """Return whether a branch is being taken down, and not shielded because something is undone in it."""
    around = walker.branches.get(number)
    while around is not None:
        if any(isinstance(frame, UndoFrame) for frame in around.stack):
            return False
        if around.unwind is not None:
            return True
        around = None if around.parent is None else walker.branches.get(around.parent)
    return False


# --- breaks --------------------------------------------------------------------------------------------------------


def _set_breaks(walker: Walker, signal: ControlSignal) -> None:
    breaks = list(signal.breaks or [])
    problem = _problem_of(walker, breaks)
    if problem:
        _refuse(walker, signal, "control.bad_path", problem)
        return
    walker.state.breaks = breaks
    _tell(walker, signal, EventType.BREAKS_CHANGED, {"breaks": list(breaks)})


def _problem_of(walker: Walker, breaks: list[str]) -> str:
    if len(breaks) > MOST_BREAKS:
        return f"{len(breaks)} breaks are too many: at most {MOST_BREAKS}"
    unknown = unknown_breaks(walker.plan, breaks)
    return f"'{unknown[0]}' names no step of the task" if unknown else ""


# --- deadlines -----------------------------------------------------------------------------------------------------


def _set_deadline(walker: Walker, signal: ControlSignal) -> None:
    latest_us = walker.effects.now_us() + round(MAX_WAIT_S * 1e6)
    if signal.deadline_us is not None and not 0 <= signal.deadline_us <= latest_us:
        _refuse(walker, signal, "control.bad_deadline", "a deadline is at most ten years away")
        return
    for branch in walker.branches.values():
        top = branch.stack[-1] if branch.stack and branch.unwind is None and not branch.returned else None
        if isinstance(top, WaitFrame) and top.wait_id == signal.wait_id:
            _move_wait(walker, branch, top, signal.deadline_us)
            break
        if isinstance(top, SleepFrame) and top.timer_id == signal.wait_id:
            if signal.deadline_us is None:
                _refuse(walker, signal, "control.sleep_needs_deadline", "a sleep cannot be without an end")
                return
            top.deadline_us = signal.deadline_us
            walker.disarm("sleep", top.timer_id)
            arm_sleep(walker, branch, top)
            break
    else:
        _refuse(walker, signal, "control.no_wait", f"no wait or sleep '{signal.wait_id}' is open")
        return
    told: dict[str, Json] = {"wait_id": signal.wait_id, "deadline_us": signal.deadline_us}
    _tell(walker, signal, EventType.DEADLINE_CHANGED, told)


def _move_wait(walker: Walker, branch: Branch, frame: WaitFrame, deadline_us: int | None) -> None:
    """Set the deadline of a wait; the `timeout` of its own step is one as well, and goes with it."""
    guard = find_guard(branch, _step_path(walker, branch))
    walker.disarm("wait", frame.wait_id)
    if guard is None or guard.attempt_deadline_us is None or frame.deadline_us is not None:
        frame.deadline_us = deadline_us
        arm_deadline(walker, branch, frame)
    if guard is not None and guard.attempt_deadline_us is not None:
        _move_timeout(walker, branch, guard, deadline_us)


def _step_path(walker: Walker, branch: Branch) -> str:
    block = walker.step_frame(branch)
    return f"{block.path}.{block.pc}"


def _move_timeout(walker: Walker, branch: Branch, guard: GuardFrame, deadline_us: int | None) -> None:
    walker.disarm("attempt", guard.path)
    guard.attempt_deadline_us = deadline_us
    if deadline_us is not None:
        walker.arm(branch, "attempt", guard.path, deadline_us, f"timeout of {guard.path}")


_TAKE: Final[dict[str, Callable[[Walker, ControlSignal], None]]] = {
    "pause": _pause,
    "breaks": _set_breaks,
    "deadline": _set_deadline,
}
