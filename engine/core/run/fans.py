"""Stage: concurrent branches of map, parallel and race — starting, collecting outcomes, folding. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from engine.core.errors import ExpressionError, RunError
from engine.core.kinds import EventType
from engine.core.lang.failures import type_name
from engine.core.plan.ops import MapReduceOp, Op, ParallelOp, RaceOp
from engine.core.run.agent_calls import agent_in, calls_ended, start_tool_call
from engine.core.run.effects import Failed, Ok, Stopped
from engine.core.run.frames import BlockFrame, FanFrame, FoldFrame, Unwind, YieldFrame
from engine.core.run.state import Branch
from engine.core.run.walker import Walker, error_json
from engine.core.values import Json


@dataclass(frozen=True, slots=True)
class Returned:
    """A branch ended with a `return` that ends the surrounding named list."""

    value: Json


BranchOutcome = Ok | Failed | Stopped | Returned


def begin_map(walker: Walker, branch: Branch, op: MapReduceOp, path: str, given: Json) -> None:
    """Start a map.

    Raises:
        ExpressionError: If `over` is no list.
    """
    items = walker.evaluator.evaluate(op.over, branch, f"{path}/over", given)
    branch.stack.append(FanFrame(path, as_items(items, "over", path)))
    start_more(walker, branch)


def begin_parallel(walker: Walker, branch: Branch, op: ParallelOp | RaceOp, path: str, given: Json) -> None:
    """Start the branches of a parallel or race step, all on the same input; or the tool calls of an agent's turn."""
    if walker.step_frame(branch).ops is None:
        branch.stack.append(FanFrame(path, [given] * len(op.branches)))
    else:
        asked = [{"id": call.id, "tool": call.tool, "arguments": call.arguments} for call in agent_in(branch).calls]
        branch.stack.append(FanFrame(path, asked, calls=True))
    start_more(walker, branch)


def as_items(value: Json, field: str, path: str) -> list[Json]:
    """Return the items of a loop: a list as it is, an object as its keys.

    Raises:
        ExpressionError: `expression.type` for anything else.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value)
    raise ExpressionError(
        f"`{field}` of {path} is {type_name(value)}, not a list", code="expression.type", hint="give it a list"
    )


def fan_op(walker: Walker, branch: Branch) -> tuple[Op, BlockFrame]:
    """Return the op of the fan on top of a branch and the block frame that stands at it."""
    block = walker.step_frame(branch)
    return walker.op_at(block), block


def start_more(walker: Walker, branch: Branch) -> None:
    """Start branches up to the op's parallelism; complete the fan when all have ended.

    Raises:
        RunError: If the fold fails.
    """
    fan = branch.stack[-1]
    assert isinstance(fan, FanFrame)
    op, block = fan_op(walker, branch)
    if isinstance(op, RaceOp):
        _start_racers(walker, branch, fan, op)
        return
    assert isinstance(op, (MapReduceOp, ParallelOp))
    while fan.next < len(fan.items) and len(fan.running) < op.parallelism:
        slot = fan.next
        fan.next += 1
        if fan.calls:
            call = start_tool_call(walker, branch, fan, slot, block)
            if call is not None:
                fan.running[str(call)] = slot
            continue
        if isinstance(op, MapReduceOp):
            number, path, construct = op.map, f"{fan.path}.map[{slot}]", f"mapreduce[{slot}]"
        else:
            number, path, construct = op.branches[slot], f"{fan.path}[{slot}]", f"parallel[{slot}]"
        workflow = f"{block.workflow}[{block.pc}].{construct}"
        started = walker.start_branch(branch, number, fan.items[slot], path, workflow, construct, len(fan.items))
        fan.running[str(started)] = slot
    if not fan.running and fan.next >= len(fan.items):
        _complete(walker, branch, fan, op)


# --- race ----------------------------------------------------------------------------------------------------------


def _start_racers(walker: Walker, branch: Branch, fan: FanFrame, op: RaceOp) -> None:
    """Start as many branches as it is time for."""
    now_us = walker.effects.now_us()
    while fan.next < len(fan.items) and (fan.next_us is None or fan.next_us <= now_us):
        _start_racer(walker, branch, fan, op)
        if op.stagger_s > 0:
            fan.next_us = now_us + round(op.stagger_s * 1e6)
    resume_race(walker, branch, fan)


def _start_racer(walker: Walker, branch: Branch, fan: FanFrame, op: RaceOp) -> None:
    slot = fan.next
    fan.next += 1
    block = walker.step_frame(branch)
    construct = f"race[{slot}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    path = f"{fan.path}[{slot}]"
    started = walker.start_branch(branch, op.branches[slot], fan.items[slot], path, workflow, construct, len(fan.items))
    fan.running[str(started)] = slot


def resume_race(walker: Walker, branch: Branch, fan: FanFrame) -> None:
    """Start the timer for the next branch of a staggered race, if there is one to come."""
    waits = fan.next_us is not None and fan.next < len(fan.items) and not fan.stopping
    if waits and fan.next_us is not None and f"stagger:{fan.path}" not in walker.timers:
        walker.arm(branch, "stagger", fan.path, fan.next_us, f"next branch of {fan.path}")


def stagger_passed(walker: Walker, branch: Branch, fan: FanFrame) -> None:
    """Take the news that it is time for the next branch of a race."""
    fan.next_us = None
    start_more(walker, branch)


def _racer_ended(walker: Walker, branch: Branch, fan: FanFrame, slot: int, outcome: Ok | Failed, op: RaceOp) -> None:
    if isinstance(outcome, Ok):
        fan.order.append(slot)
        fan.done[str(slot)] = outcome.value
        if len(fan.order) >= op.take:
            outputs = [fan.done[str(winner)] for winner in fan.order]
            output = outputs[0] if op.take == 1 else outputs
            # takes the fan itself off, which stops the branches that still run
            walker.unwind(branch, Unwind(len(branch.stack) - 1, "return", value=output))
        return
    if not outcome.error.catchable:
        walker.unwind(branch, Unwind(len(branch.stack), "raise", error_json(outcome.error, fan.path)))
        return
    body = error_json(outcome.error, fan.path)
    walker.emit(EventType.BRANCH_FAILED, {"path": f"{fan.path}[{slot}]", "error": body, "taken": "race"})
    fan.errors.append(body)
    left = len(fan.items) - len(fan.errors)
    if left < op.take:
        wanted = "every branch failed" if op.take == 1 else f"only {left} of the {op.take} wanted can still succeed"
        error = RunError(
            f"the race at {fan.path} is lost: {wanted}", code="race.failed", details={"errors": fan.errors}
        )
        walker.unwind(branch, Unwind(len(branch.stack), "raise", error_json(error, fan.path)))
        return
    if fan.next_us is not None:
        # nobody waits for a branch that has failed
        walker.disarm("stagger", fan.path)
        fan.next_us = None


def child_ended(walker: Walker, branch: Branch, fan: FanFrame, child: int, outcome: BranchOutcome) -> None:
    """Take the outcome of one branch.

    Raises:
        RunError: If the fold that follows cannot begin.
    """
    slot = fan.running.pop(str(child))
    if branch.unwind is not None:
        # the fan is being taken down: only the count matters
        walker.enqueue(branch)
        return
    op, _ = fan_op(walker, branch)
    if isinstance(op, RaceOp) and isinstance(outcome, (Ok, Failed)):
        _racer_ended(walker, branch, fan, slot, outcome, op)
    elif isinstance(outcome, Ok):
        fan.done[str(slot)] = outcome.value
    elif isinstance(outcome, Failed):
        _child_failed(walker, branch, fan, slot, outcome.error)
    elif isinstance(outcome, Returned):
        return_from(walker, branch, outcome.value)
    elif isinstance(outcome, Stopped):
        raise RunError("a branch stopped without reason", code="effect.cancelled")
    else:
        assert_never(outcome)
    if branch.unwind is None:
        start_more(walker, branch)


def _child_failed(walker: Walker, branch: Branch, fan: FanFrame, slot: int, error: RunError) -> None:
    op, _ = fan_op(walker, branch)
    assert isinstance(op, (MapReduceOp, ParallelOp))
    if op.on_item_error == "fail" or not error.catchable:
        walker.unwind(branch, Unwind(len(branch.stack), "raise", error_json(error, fan.path)))
        return
    body = error_json(error, fan.path)
    place = f"{fan.path}.map[{slot}]" if isinstance(op, MapReduceOp) else f"{fan.path}[{slot}]"
    walker.emit(EventType.BRANCH_FAILED, {"path": place, "error": body, "taken": op.on_item_error})
    if op.on_item_error == "collect":
        # the index tells which item it was where the position is lost: in `reduce`, or once the list was filtered
        fan.done[str(slot)] = {"error": body, "index": slot}
    if op.on_item_error == "skip" or fan.calls:
        fan.left_out.append(slot)


def _complete(walker: Walker, branch: Branch, fan: FanFrame, op: MapReduceOp | ParallelOp) -> None:
    outputs = [fan.done[str(slot)] for slot in range(len(fan.items)) if str(slot) in fan.done]
    branch.stack.pop()
    if fan.calls:
        calls_ended(walker, branch, fan)
        return
    if isinstance(op, MapReduceOp) and op.reduce is not None:
        results = walker.evaluator.evaluate(op.initial, branch, f"{fan.path}/initial", walker.step_frame(branch).value)
        branch.stack.append(FoldFrame(fan.path, outputs, results=results))
        return
    walker.give(branch, outputs)


def fold_one(walker: Walker, branch: Branch, frame: FoldFrame) -> None:
    """Fold the next output of a map, or hand on what the fold has given.

    Raises:
        RunError: If the expression fails.
    """
    number = frame.next
    if number >= len(frame.outputs):
        branch.stack.pop()
        walker.give(branch, frame.results)
        return
    op, _ = fan_op(walker, branch)
    assert isinstance(op, MapReduceOp)
    assert op.reduce is not None
    extra = {"results": frame.results}
    output = frame.outputs[number]
    frame.results = walker.evaluator.evaluate(op.reduce, branch, f"{frame.path}/reduce/{number}", output, extra)
    frame.next += 1


def return_from(walker: Walker, branch: Branch, value: Json) -> None:
    """End the surrounding named list with a value; siblings are stopped by the unwinding."""
    depth = 0
    for index in range(len(branch.stack) - 1, -1, -1):
        if isinstance(branch.stack[index], YieldFrame):
            depth = index + 1
            break
    walker.unwind(branch, Unwind(depth, "return", value=value))
