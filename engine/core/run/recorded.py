"""Stage: what an execution takes over from the one that it was forked from, up to its first step. Workflow-safe.

Steps that ended there give what they gave there: nothing of them is run, told or undone here. Until the first step is
reached nothing is called: what comes before it in its own line must have been recorded, and branches beside it wait.
"""

from __future__ import annotations

import re

from engine.core.contracts.execution import Fork
from engine.core.errors import ForkDiverged
from engine.core.kinds import StepKind
from engine.core.plan.ops import Op, ReturnOp, SetOp
from engine.core.plan.paths import plain_path
from engine.core.run.frames import BlockFrame
from engine.core.run.state import Branch, Forked
from engine.core.run.steps import end_step
from engine.core.run.walker import Walker

_HARMLESS = frozenset(
    {
        *(StepKind.EVALUATE, StepKind.SET, StepKind.GET, StepKind.LOG, StepKind.ERROR, StepKind.RETURN),
        *(StepKind.IF_ELSE, StepKind.SWITCH, StepKind.FOREACH, StepKind.WHILE, StepKind.UNTIL, StepKind.YIELD),
        *(StepKind.MAP_REDUCE, StepKind.PARALLEL, StepKind.RACE),
    }
)
"""Kinds of steps that do nothing outside by themselves."""

_LIMITS = frozenset({"limit", "attempt", "total"})
"""Purposes of clocks at whose end nothing goes on."""

_BRANCH = re.compile(r"(\d+|map)\[\d+\]")
_HINT = "retry or fork from an earlier step, or give the steps before it what leads to the chosen one"


def begin_fork(walker: Walker, fork: Fork) -> None:
    """Begin with the recorded steps of another execution."""
    began_us = fork.began_us or walker.effects.now_us()
    recorded, turns = dict(fork.recorded), dict(fork.turns)
    walker.state.forked = Forked(fork.path, recorded, dict(fork.state), times={0: began_us}, turns=turns)
    see_times(walker)


def see_times(walker: Walker) -> None:
    """Let expressions see the recorded time of their branch; also after a carry."""
    forked = walker.state.forked
    walker.evaluator.times = None if forked is None else forked.times


def is_recorded(walker: Walker, frame: BlockFrame) -> bool:
    """Return whether the step that a block frame stands at was recorded."""
    forked = walker.state.forked
    if forked is None or plain_path(f"{frame.path}.{frame.pc}") not in forked.recorded:
        return False
    # a `return` takes frames off; it is computed anew
    return not isinstance(walker.op_at(frame), ReturnOp)


def take_recorded(walker: Walker, branch: Branch, frame: BlockFrame) -> None:
    """End the step that a block frame stands at with what was recorded of it.

    Raises:
        ForkDiverged: That is no output of such a step.
    """
    forked = walker.state.forked
    assert forked is not None
    entry = forked.recorded.pop(plain_path(f"{frame.path}.{frame.pc}"))
    op = walker.op_at(frame)
    frame.started_us = walker.evaluator.now_us
    frame.unmade = True
    walker.state.steps_run += 1
    branch.scope.state.update(entry.state)
    if isinstance(op, SetOp) and isinstance(entry.output, dict):
        branch.scope.state.update(entry.output)
    branch.scope.labels.update(entry.labels)
    forked.times[branch.id] = entry.at_us
    end_step(walker, branch, frame, entry.output, recorded=entry)


def hold_back(walker: Walker, branch: Branch, frame: BlockFrame) -> bool:
    """Let a step wait if it stands beside the first step of the fork and that has not been reached."""
    forked = walker.state.forked
    if forked is None or forked.reached or not _acts(walker.op_at(frame)):
        return False
    if not _are_beside(plain_path(f"{frame.path}.{frame.pc}"), forked.path):
        return False
    forked.held.append(branch.id)
    return True


def begin_own_step(walker: Walker, branch: Branch, frame: BlockFrame) -> None:
    """Look at a step that is about to run here, because nothing of it was recorded.

    Raises:
        ForkDiverged: If it does something although the first step of the fork has not been reached.
    """
    forked = walker.state.forked
    if forked is None:
        return
    path = plain_path(f"{frame.path}.{frame.pc}")
    if path == forked.path and not forked.reached:
        _reach(walker, branch, forked)
    elif not _acts(walker.op_at(frame)) or is_inside(forked.path, path):
        return
    elif forked.reached:
        _go_by_own_time(walker, branch, forked)
    else:
        raise _diverged(f"it comes to {path}, which is not recorded, before {forked.path}")


def _acts(op: Op) -> bool:
    return op.op not in _HARMLESS


def is_inside(path: str, step: str) -> bool:
    """Return whether a path lies inside a step."""
    return path.startswith(step) and path[len(step) : len(step) + 1] in (".", "[")


def _are_beside(one: str, other: str) -> bool:
    """Return whether two steps stand in concurrent branches of the same step."""
    for part, another in zip(one.split("."), other.split("."), strict=False):
        if part != another:
            mine, theirs = _BRANCH.fullmatch(part), _BRANCH.fullmatch(another)
            return mine is not None and theirs is not None and mine[1] == theirs[1]
    return False


def _diverged(why: str) -> ForkDiverged:
    return ForkDiverged(
        f"the execution goes another way than the one it was forked from: {why}", code="fork.diverged", hint=_HINT
    )


def _reach(walker: Walker, branch: Branch, forked: Forked) -> None:
    """Begin with the first step: from here on everything runs, at the present time."""
    forked.reached = True
    branch.scope.state.update(forked.state)
    forked.state = {}
    _go_by_own_time(walker, branch, forked)
    # what was recorded in the line of this step is behind it, or will never be come to
    forked.recorded = {path: entry for path, entry in forked.recorded.items() if _are_beside(path, forked.path)}
    forked.turns = {path: turn for path, turn in forked.turns.items() if _are_beside(path, forked.path)}
    for number in forked.held:
        walker.runnable.append(number)
    forked.held = []
    _close(walker, forked)


def _go_by_own_time(walker: Walker, branch: Branch, forked: Forked) -> None:
    around: Branch | None = branch
    while around is not None:
        forked.times.pop(around.id, None)
        around = None if around.parent is None else walker.branches.get(around.parent)


def _close(walker: Walker, forked: Forked) -> None:
    if forked.reached and not forked.recorded and not forked.turns:
        walker.state.forked = None
        see_times(walker)


def branch_ended(walker: Walker, branch: Branch) -> None:
    """Let the branch around one that has ended go on at its time."""
    forked = walker.state.forked
    if forked is None:
        return
    at_us = forked.times.pop(branch.id, None)
    if at_us is not None and branch.parent is not None and branch.parent in forked.times:
        forked.times[branch.parent] = max(at_us, forked.times[branch.parent])


def step_ended(walker: Walker, path: str) -> None:
    """Forget what was recorded inside a step that has run here."""
    forked = walker.state.forked
    if forked is not None and forked.reached and is_inside(forked.path, path):
        forked.recorded = {place: entry for place, entry in forked.recorded.items() if not is_inside(place, path)}
        forked.turns = {place: turn for place, turn in forked.turns.items() if not is_inside(place, path)}
        _close(walker, forked)


def forget_fork(walker: Walker) -> None:
    """Take nothing over any more: the execution is to end, and what cleans up must be able to run."""
    forked = walker.state.forked
    if forked is not None:
        walker.state.forked = None
        see_times(walker)
        for number in forked.held:
            walker.runnable.append(number)


def check_progress(walker: Walker) -> None:
    """Say that the first step cannot be reached, once all other branches wait for it.

    Raises:
        ForkDiverged: It cannot.
    """
    forked = walker.state.forked
    if forked is None or forked.reached or not forked.held:
        return
    if all(timer.purpose in _LIMITS for timer in walker.timers.values()):
        forked.held = []
        raise _diverged(f"no branch leads to {forked.path}")
