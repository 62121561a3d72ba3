"""Stage: what follows when a timer reaches its deadline, at once or, during a pause, afterwards. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import LimitExceeded
from engine.core.run import control, guards, recorded
from engine.core.run.ending import finally_timed_out
from engine.core.run.fans import stagger_passed
from engine.core.run.frames import FanFrame, GuardFrame, SleepFrame, Unwind, WaitFrame
from engine.core.run.listening import idle_passed
from engine.core.run.state import Branch
from engine.core.run.steps import begin_body
from engine.core.run.times import iso_time
from engine.core.run.trying import attempt
from engine.core.run.undoing import undo_timed_out
from engine.core.run.waits import expire
from engine.core.run.walker import Walker, error_json


def strike(walker: Walker, timer_id: str) -> None:
    """Take the news that a timer reached its deadline."""
    timer = walker.timers.get(timer_id)
    branch = walker.branches.get(timer.branch) if timer is not None else None
    if timer is not None and walker.state.paused is not None and timer.purpose != "limit":
        if timer.purpose not in control.CLEANING_UP:
            walker.late[timer_id] = None
        return
    walker.timers.pop(timer_id, None)
    if timer is None or branch is None:
        return
    if timer.purpose == "limit":
        _out_of_time(walker, branch)
    elif timer.purpose == "finally":
        finally_timed_out(walker, branch)
    elif timer.purpose == "sleep":
        top = branch.stack[-1]
        if isinstance(top, SleepFrame) and branch.unwind is None:
            branch.stack.pop()
            walker.give(branch, top.value)
    elif timer.purpose == "undo":
        undo_timed_out(walker, branch, timer.path)
    elif timer.purpose in ("wait", "stagger"):
        _frame_timer(walker, branch, timer.purpose)
    else:
        _guard_timer(walker, branch, timer.purpose, timer.path)
    walker.enqueue(branch)


def strike_late(walker: Walker) -> None:
    """Let the timers that struck during a pause have their effect, where anything still goes on."""
    late, walker.late = list(walker.late), {}
    for timer_id in late:
        timer = walker.timers.get(timer_id)
        if timer is not None and not control.is_stopped(walker, timer.branch):
            strike(walker, timer_id)


def end_by_force(walker: Walker, why: str, actor: str = "") -> None:
    """Let nothing stand in the way of an execution's end; see `control.end_by_force`."""
    control.end_by_force(walker, why, actor)
    recorded.forget_fork(walker)


def _out_of_time(walker: Walker, root: Branch) -> None:
    limit, deadline_us = walker.plan.limits.seconds, walker.identity.deadline_us
    error = LimitExceeded(f"the execution took longer than its limit of {limit} s", code="limit.time")
    if deadline_us is not None and deadline_us == walker.state.deadline_us:
        at = iso_time(deadline_us)
        error = LimitExceeded(f"the execution did not end before its deadline, {at}", code="limit.time")
    end_by_force(walker, "limit.time")
    walker.unwind(root, Unwind(0, "raise", error_json(error, "main")))
    strike_late(walker)


def _frame_timer(walker: Walker, branch: Branch, purpose: str) -> None:
    top = branch.stack[-1] if branch.stack else None
    if branch.unwind is not None:
        return
    if purpose == "wait" and isinstance(top, WaitFrame):
        take = expire if top.inbox is None else idle_passed
        attempt(walker, branch, lambda _, moved: take(walker, moved, top))
    elif purpose == "stagger" and isinstance(top, FanFrame):
        attempt(walker, branch, lambda _, moved: stagger_passed(walker, moved, top))


def _guard_timer(walker: Walker, branch: Branch, purpose: str, path: str) -> None:
    guard = guards.find_guard(branch, path)
    if guard is None or (branch.returned and branch.stack[-1] is guard):
        return  # the step has its value already: what is done before the clock strikes counts
    if purpose == "attempt":
        guards.attempt_timed_out(walker, branch, guard)
    elif purpose == "total":
        guards.total_timed_out(walker, branch, guard)
    elif branch.unwind is None and guard.phase == "pause":
        _next_attempt(walker, branch, guard)


def _next_attempt(walker: Walker, branch: Branch, guard: GuardFrame) -> None:
    op = walker.op_at(walker.step_frame_below(branch, guard))
    guard.attempt += 1
    guard.phase, guard.deadline_us, guard.call_id = "body", None, ""
    if guard.state is not None:
        branch.scope.state = dict(guard.state)
    guards.arm_attempt(walker, branch, guard, op)
    attempt(walker, branch, lambda _, moved: begin_body(walker, moved, op, guard.path, guard.input))
