"""Stage: how each kind of step begins, and how the frames it pushed take the values that come back. Workflow-safe."""

from __future__ import annotations

from typing import assert_never

from engine.core.errors import ExpressionError, InputRejected, LimitExceeded, TaskError
from engine.core.ids import shorten_path
from engine.core.kinds import EventType
from engine.core.plan.ir import (
    ErrorOp,
    EvaluateOp,
    ForeachOp,
    GetOp,
    IfElseOp,
    MapReduceOp,
    Op,
    ParallelOp,
    PromptOp,
    ReturnOp,
    SetOp,
    SleepOp,
    ToolCallOp,
    WaitOp,
    YieldOp,
)
from engine.core.run.calls import begin_call
from engine.core.run.fans import as_items, begin_map, begin_parallel, return_from
from engine.core.run.guards import find_guard, needs_guard, push_guard
from engine.core.run.state import BlockFrame, Branch, ForeachFrame, GuardFrame, SleepFrame, WaitFrame, YieldFrame
from engine.core.run.walker import Walker
from engine.core.values import Json

MAX_YIELD_DEPTH = 1_000
MAX_LIST_PATH_CHARS = 400
MAX_SLEEP_S = 10 * 365 * 86_400.0


def start_step(walker: Walker, branch: Branch, frame: BlockFrame) -> None:
    """Start the op that a block frame stands at.

    Raises:
        RunError: If the step fails at once.
    """
    op = walker.op_at(frame)
    path = f"{frame.path}.{frame.pc}"
    walker.state.steps_run += 1
    limit = walker.plan.limits.steps
    if walker.state.steps_run > limit:
        raise LimitExceeded(
            f"the execution has run {limit} steps",
            code="limit.steps",
            hint="look for an endless loop or raise limits.steps of the task",
        )
    if op.mods.when is not None and not walker.evaluator.truthy(op.mods.when, branch, f"{path}/when", frame.value):
        walker.give(branch, frame.value)
        return
    if needs_guard(op):
        push_guard(walker, branch, op, path, frame.value)
    begin_body(walker, branch, op, path, frame.value)


def begin_body(walker: Walker, branch: Branch, op: Op, path: str, given: Json) -> None:
    """Begin one attempt of a step: give its value at once or push the frames that will.

    Raises:
        RunError: If the attempt fails at once.
    """
    if isinstance(op, (EvaluateOp, SetOp, GetOp, ErrorOp, ReturnOp)):
        _run_pure(walker, branch, op, path, given)
    elif isinstance(op, (PromptOp, ToolCallOp)):
        guard = branch.stack[-1]
        assert isinstance(guard, GuardFrame)
        begin_call(walker, branch, guard, op)
    elif isinstance(op, SleepOp):
        _begin_sleep(walker, branch, op, path, given)
    elif isinstance(op, WaitOp):
        _begin_wait(walker, branch, op, path, given)
    else:
        _begin_block(walker, branch, op, _attempt_path(branch, path), given)


def _attempt_path(branch: Branch, path: str) -> str:
    # a repeated block gets paths of its own, so that effect ids stay unique; keys leave the mark out
    guard = branch.stack[-1]
    if isinstance(guard, GuardFrame) and guard.path == path and guard.attempt > 1:
        return f"{path}~{guard.attempt}"
    return path


def _run_pure(
    walker: Walker, branch: Branch, op: EvaluateOp | SetOp | GetOp | ErrorOp | ReturnOp, path: str, given: Json
) -> None:
    evaluate = walker.evaluator.evaluate
    if isinstance(op, EvaluateOp):
        walker.give(branch, evaluate(op.value, branch, path, given))
    elif isinstance(op, SetOp):
        values = evaluate(op.values, branch, path, given)
        if not isinstance(values, dict):
            raise ExpressionError(f"`set` of {path} is not an object", code="expression.type")
        branch.scope.state.update(values)
        walker.give(branch, values)
    elif isinstance(op, GetOp):
        walker.give(branch, _read_state(branch, evaluate(op.key, branch, path, given)))
    elif isinstance(op, ErrorOp):
        message = evaluate(op.message, branch, path, given)
        raise TaskError(message if isinstance(message, str) else str(message))
    else:
        return_from(walker, branch, evaluate(op.value, branch, path, given))


def _read_state(branch: Branch, key: Json) -> Json:
    state = branch.scope.state
    if isinstance(key, list):
        return {str(name): _read_state(branch, name) for name in key}
    if not isinstance(key, str) or key not in state:
        known = ", ".join(sorted(state)) or "nothing"
        raise ExpressionError(f"the state has no '{key}'", code="expression.no_key", hint=f"it has {known}")
    return state[key]


def _begin_sleep(walker: Walker, branch: Branch, op: SleepOp, path: str, given: Json) -> None:
    seconds = walker.evaluator.evaluate(op.seconds, branch, path, given)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_SLEEP_S:
        raise InputRejected(f"{path} cannot sleep for {seconds!r} seconds", hint="a number above 0, at most ten years")
    deadline = walker.effects.now_us() + round(seconds * 1e6)
    branch.stack.append(SleepFrame(path, deadline, given))
    walker.arm(branch, "sleep", path, deadline, op.label or f"sleep {seconds:g} s")


def _begin_wait(walker: Walker, branch: Branch, op: WaitOp, path: str, given: Json) -> None:
    info = walker.evaluator.evaluate(op.info, branch, path, given)
    wait_id = _attempt_path(branch, path)
    walker.state.waits_opened += 1
    branch.stack.append(WaitFrame(wait_id, walker.state.waits_opened, op.schema))
    guard = find_guard(branch, path)
    block = walker.step_frame(branch)
    body: dict[str, Json] = {
        "path": path,
        "workflow": block.workflow,
        "index": block.pc,
        "scope": branch.scope.id,
        "label": op.label,
        "wait_id": wait_id,
        "opened": walker.state.waits_opened,
        "info": info,
        "schema": op.schema,
        "deadline_us": guard.attempt_deadline_us if guard is not None else None,
    }
    walker.emit(EventType.WAIT, body)
    walker.open_wait(wait_id)


def _begin_block(
    walker: Walker,
    branch: Branch,
    op: IfElseOp | ForeachOp | MapReduceOp | ParallelOp | YieldOp,
    path: str,
    given: Json,
) -> None:
    if isinstance(op, IfElseOp):
        _begin_if(walker, branch, op, path, given)
    elif isinstance(op, ForeachOp):
        items = as_items(walker.evaluator.evaluate(op.items, branch, f"{path}/in", given), "in", path)
        frame = ForeachFrame(path, items)
        branch.stack.append(frame)
        next_round(walker, branch, frame)
    elif isinstance(op, MapReduceOp):
        begin_map(walker, branch, op, path, given)
    elif isinstance(op, ParallelOp):
        begin_parallel(walker, branch, op, path, given)
    elif isinstance(op, YieldOp):
        _begin_yield(walker, branch, op, path, given)
    else:
        assert_never(op)


def _begin_if(walker: Walker, branch: Branch, op: IfElseOp, path: str, given: Json) -> None:
    chosen = walker.evaluator.truthy(op.condition, branch, f"{path}/if", given)
    block = op.then if chosen else op.otherwise
    if block is None:
        walker.give(branch, given)
        return
    name = "then" if chosen else "else"
    frame = walker.step_frame(branch)
    workflow = f"{frame.workflow}[{frame.pc}].if_else.{name}"
    walker.push_block(branch, block, given, f"{path}.{name}", workflow, construct=f"if_else.{name}")


def _begin_yield(walker: Walker, branch: Branch, op: YieldOp, path: str, given: Json) -> None:
    if len(branch.scopes) > MAX_YIELD_DEPTH:
        raise LimitExceeded(
            f"'{op.workflow}' calls itself deeper than {MAX_YIELD_DEPTH} levels",
            code="limit.depth",
            hint="use a loop instead of a sub-workflow that calls itself",
        )
    arguments = walker.evaluator.evaluate(op.arguments, branch, path, given)
    branch.stack.append(YieldFrame(path))
    walker.push_list(branch, op.workflow, arguments, shorten_path(f"{path}.{op.workflow}", MAX_LIST_PATH_CHARS))


def next_round(walker: Walker, branch: Branch, frame: ForeachFrame) -> None:
    """Run the next round of a foreach, or end it."""
    number = len(frame.outputs)
    if number >= len(frame.items):
        branch.stack.pop()
        walker.give(branch, frame.outputs)
        return
    block = walker.step_frame(branch)
    op = walker.op_at(block)
    assert isinstance(op, ForeachOp)
    construct = f"foreach[{number}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    path = f"{frame.path}.do[{number}]"
    walker.push_block(branch, op.do, frame.items[number], path, workflow, construct=construct, of=len(frame.items))


def end_step(walker: Walker, branch: Branch, frame: BlockFrame, output: Json) -> None:
    """Record the output of the step that a block frame stands at, and move on or leave the block."""
    op = walker.op_at(frame)
    if frame.role == "list" or op.label:
        record = {"input": frame.value, "output": output}
        if frame.role == "list":
            branch.scope.steps.append(record)
        if op.label:
            branch.scope.labels[op.label] = record
    last = frame.pc + 1 >= len(walker.plan.blocks[frame.block].ops)
    body = walker.step_body(branch, frame, op, output, last=last)
    if not last:
        walker.emit(EventType.STEP, body)
        frame.pc += 1
        frame.value = output
        return
    leave_block(walker, branch, body)
    branch.stack.pop()
    walker.give(branch, output)


def leave_block(walker: Walker, branch: Branch, body: dict[str, Json]) -> None:
    """Say that the topmost block of a branch ends with its present step."""
    is_root = branch.id == 0 and len(branch.stack) == 1
    walker.emit(EventType.FINISH if is_root else EventType.FINISH_BRANCH, body)
