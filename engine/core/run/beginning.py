"""Stage: how an execution begins, and how one that was carried over goes on. Workflow-safe."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.kinds import EventType
from engine.core.plan.ir import Plan
from engine.core.run import guards, recorded
from engine.core.run.ending import look_at_ending
from engine.core.run.fans import resume_race
from engine.core.run.frames import BlockFrame, FanFrame, SleepFrame, UndoFrame, WaitFrame
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch
from engine.core.run.undoing import arm_undo
from engine.core.run.waits import MAX_WAIT_S, arm_deadline, arm_sleep
from engine.core.run.walker import Identity, Walker
from engine.core.values import Json


def begin(walker: Walker, given: Json, breaks: Sequence[str]) -> None:
    """Begin an execution.

    Args:
        walker: The execution.
        given: Its input.
        breaks: Steps before which it pauses.
    """
    identity, plan = walker.identity, walker.plan
    scope = Scope(walker.scope_id("main"), "main", given)
    root = Branch(0, None, [BlockFrame(plan.workflows["main"], 0, given, "main", "main", "list")], [scope])
    walker.branches[0] = root
    walker.emit(
        EventType.INIT,
        {
            "workflow": "main",
            "scope": scope.id,
            "input": given,
            "task": plan.task,
            "task_id": identity.task_id,
            "version": identity.task_version,
            "tenant": identity.tenant,
            "agent_id": plan.agent.id,
            "metadata": identity.metadata or {},
            **_told_of(identity),
            **_drift_of(plan),
        },
    )
    walker.state.breaks = list(breaks)
    if identity.fork is not None:
        recorded.begin_fork(walker, identity.fork)
    now_us = walker.effects.now_us()
    # Temporal knows no timers of thousands of years
    ends = [None if identity.deadline_us is None else min(identity.deadline_us, now_us + round(MAX_WAIT_S * 1e6))]
    if plan.limits.seconds is not None:
        ends.append(now_us + round(plan.limits.seconds * 1e6))
    walker.state.deadline_us = min((end for end in ends if end is not None), default=None)
    _arm_limit(walker)
    walker.enqueue(root)


def _told_of(identity: Identity) -> dict[str, Json]:
    """Return what an execution's first event tells beside its task, as far as there is something to tell."""
    told: dict[str, Json] = {
        "labels": list(identity.labels),
        "actor": identity.actor,
        "created_us": identity.created_us,
        "trace": identity.trace,
    }
    if identity.fork is not None:
        fork = identity.fork
        place: dict[str, Json] = {"kind": fork.kind, "execution_id": fork.execution_id, "path": fork.path}
        told["forked"] = {**place, "seed": fork.seed, "keys": identity.keys}
    origin = identity.origin
    if origin is not None:
        keys = {"keys": origin.keys} if origin.tells_keys else {}
        told["parent"] = {"execution_id": origin.execution_id, "path": origin.path, **keys}
    return {name: value for name, value in told.items() if value}


def _drift_of(plan: Plan) -> dict[str, Json]:
    if not plan.drift:
        return {}
    told: list[Json] = [
        {"tool": item.tool, "before": item.before, "after": item.after, "changes": list(item.changes)}
        for item in plan.drift
    ]
    return {"drift": told}


def go_on(walker: Walker) -> None:
    """Start the clocks of a carried execution again, and tell the outside how it stands."""
    _arm_limit(walker)
    recorded.see_times(walker)
    look_at_ending(walker)
    for branch in list(walker.branches.values()):
        _restore(walker, branch)
    if walker.open_waits:
        walker.effects.set_waiting(tuple(walker.open_waits))
    if walker.state.paused is not None:
        walker.effects.set_paused(paused=True)
        # which of them could run on was not carried over; those that wait for something go on waiting
        for branch in walker.branches.values():
            walker.enqueue(branch)


def _restore(walker: Walker, branch: Branch) -> None:
    guards.restore_timers(walker, branch)
    top = branch.stack[-1] if branch.stack else None
    if isinstance(top, SleepFrame):
        arm_sleep(walker, branch, top)
    elif isinstance(top, WaitFrame):
        walker.open_waits[top.wait_id] = None
        arm_deadline(walker, branch, top)
    elif isinstance(top, FanFrame):
        resume_race(walker, branch, top)
    for frame in branch.stack:
        if isinstance(frame, UndoFrame):
            arm_undo(walker, branch, frame)


def _arm_limit(walker: Walker) -> None:
    deadline = walker.state.deadline_us
    if deadline is not None and walker.state.ending is None:
        walker.arm(walker.branches[0], "limit", "", deadline, "time limit of the execution")
