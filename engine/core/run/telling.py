"""Stage: telling how a call ended, with what a model used and what it cost. Workflow-safe."""

from __future__ import annotations

from engine.core.kinds import EventType
from engine.core.plan.ops import EmbedOp, Op, PromptOp, SearchOp, TaskOp
from engine.core.run.effects import CallOutcome, Failed, Ok, Stopped
from engine.core.run.frames import CallFrame, GuardFrame
from engine.core.run.state import Branch
from engine.core.run.walker import Walker
from engine.core.values import Json


def tell_end(walker: Walker, branch: Branch, frame: CallFrame, outcome: CallOutcome) -> None:
    """Say how a call ended; what becomes of its result stands in the events that follow."""
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    op = walker.op_at(walker.step_frame_below(branch, guard))
    runs_task = isinstance(op, TaskOp) or bool(frame.runs)
    if runs_task and not frame.child_id:
        return  # nothing was told of the look-up either
    body: dict[str, Json] = {
        "path": frame.path,
        "effect_id": frame.call_id,
        "kind": op.op.value,
        "attempt": guard.attempt,
        "outcome": "cancelled" if isinstance(outcome, Stopped) else "failed" if isinstance(outcome, Failed) else "ok",
    }
    if isinstance(outcome, Failed):
        body["error"] = {"code": outcome.error.code, "message": outcome.error.message}
    elif isinstance(outcome, Ok) and not runs_task:
        body |= _told_result(op, outcome)
    walker.emit(EventType.EFFECT_FINISHED, body)


def _told_result(op: Op, outcome: Ok) -> dict[str, Json]:
    told: dict[str, Json] = {"took_s": outcome.took_s}
    if outcome.cached:
        told["cached"] = True
    if outcome.deliveries > 1:
        told["deliveries"] = outcome.deliveries
    if isinstance(op, PromptOp):
        told |= {name: outcome.value.get(name) for name in ("model", "backend", "finish_reason", "usage", "cost")}
        if outcome.value.get("route"):
            told["route"] = outcome.value["route"]
        told["reply"] = outcome.value["message"]
    elif isinstance(op, EmbedOp | SearchOp):
        names = ("model", "backend", "usage", "cost", "route")
        told |= {name: value for name in names if (value := outcome.value.get(name))}
    return told
