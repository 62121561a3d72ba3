"""Stage: loops — the rounds of foreach, while and until. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import LimitExceeded, RunError
from engine.core.plan.ops import ForeachOp, UntilOp, WhileOp
from engine.core.run.fans import as_items
from engine.core.run.frames import ForeachFrame, LoopFrame
from engine.core.run.state import Branch
from engine.core.run.walker import Walker
from engine.core.values import Json


def begin_foreach(walker: Walker, branch: Branch, op: ForeachOp, path: str, given: Json) -> None:
    """Start a foreach.

    Raises:
        ExpressionError: If `in` is no list.
    """
    frame = ForeachFrame(path, as_items(walker.evaluator.evaluate(op.items, branch, f"{path}/in", given), "in", path))
    branch.stack.append(frame)
    next_item(walker, branch, frame)


def next_item(walker: Walker, branch: Branch, frame: ForeachFrame) -> None:
    """Run the next round of a foreach, or end it."""
    number = len(frame.outputs)
    if number >= len(frame.items):
        branch.stack.pop()
        walker.give(branch, frame.outputs)
        return
    block = walker.step_frame(branch)
    op = walker.op_at(block)
    assert isinstance(op, ForeachOp)
    count_round(walker)
    construct = f"foreach[{number}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    path = f"{frame.path}.do[{number}]"
    walker.push_block(branch, op.do, frame.items[number], path, workflow, construct=construct, of=len(frame.items))


def begin_loop(walker: Walker, branch: Branch, path: str, given: Json) -> None:
    """Start a while or until loop.

    Raises:
        RunError: If the condition fails.
    """
    frame = LoopFrame(path, given)
    branch.stack.append(frame)
    next_round(walker, branch, frame)


def round_ended(walker: Walker, branch: Branch, frame: LoopFrame, output: Json) -> None:
    """Take the output of a round.

    Raises:
        RunError: If the condition fails or there were too many rounds.
    """
    frame.value = output
    frame.rounds += 1
    next_round(walker, branch, frame)


def next_round(walker: Walker, branch: Branch, frame: LoopFrame) -> None:
    """Run the next round of a while or until loop, or end it.

    Raises:
        RunError: `loop.too_many_rounds`, or whatever the condition raises.
        LimitExceeded: `limit.rounds`.
    """
    block = walker.step_frame(branch)
    op = walker.op_at(block)
    assert isinstance(op, (WhileOp, UntilOp))
    if isinstance(op, WhileOp) or frame.rounds > 0:
        seed = f"{frame.path}/{op.op.value}/{frame.rounds}"
        holds = walker.evaluator.truthy(op.condition, branch, seed, frame.value)
        if holds is isinstance(op, UntilOp):
            branch.stack.pop()
            walker.give(branch, frame.value)
            return
    if frame.rounds >= op.max_rounds:
        raise RunError(
            f"the {op.op.value} loop at {frame.path} has run {op.max_rounds} rounds and does not end",
            code="loop.too_many_rounds",
            hint="look at its condition, or raise max_rounds",
        )
    count_round(walker)
    construct = f"{op.op.value}[{frame.rounds}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    walker.push_block(branch, op.do, frame.value, f"{frame.path}.do[{frame.rounds}]", workflow, construct=construct)


def count_round(walker: Walker) -> None:
    """Count a round of a loop.

    Raises:
        LimitExceeded: `limit.rounds`.
    """
    walker.state.rounds_run += 1
    limit = walker.plan.limits.rounds
    if limit is not None and walker.state.rounds_run > limit:
        raise LimitExceeded(
            f"the loops of the execution have run {limit} rounds",
            code="limit.rounds",
            hint="look for an endless loop or raise limits.rounds of the task",
        )
