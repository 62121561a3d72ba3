"""Stage: how each kind of step begins, and how the frames it pushed take the values that come back. Workflow-safe."""

from __future__ import annotations

from typing import assert_never

from engine.core.contracts.execution import Recorded
from engine.core.errors import ExpressionError, LimitExceeded, TaskError
from engine.core.ids import shorten_path
from engine.core.kinds import EventType
from engine.core.plan.ops import (
    AgentOp,
    ApproveOp,
    EmbedOp,
    ErrorOp,
    EvaluateOp,
    EventOp,
    ForeachOp,
    GetOp,
    IfElseOp,
    ListenOp,
    LogOp,
    MapReduceOp,
    Op,
    ParallelOp,
    PromptOp,
    RaceOp,
    ReturnOp,
    SearchOp,
    SetOp,
    SleepOp,
    SwitchOp,
    TaskOp,
    ToolCallOp,
    UntilOp,
    WaitOp,
    WhileOp,
    YieldOp,
)
from engine.core.run.agents import begin_agent, step_of_turn_ended
from engine.core.run.calls import begin_call
from engine.core.run.children import begin_child
from engine.core.run.ending import CLEAN_UP_STEPS
from engine.core.run.fans import begin_map, begin_parallel, return_from
from engine.core.run.frames import BlockFrame, GuardFrame, UndoFrame, YieldFrame
from engine.core.run.guards import needs_guard, push_guard
from engine.core.run.inbox import look_into_inbox
from engine.core.run.listening import begin_listen
from engine.core.run.lookups import begin_lookup
from engine.core.run.loops import begin_foreach, begin_loop
from engine.core.run.state import Branch
from engine.core.run.undoing import hand_down, note_undo
from engine.core.run.waits import begin_sleep, begin_wait
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json

MAX_YIELD_DEPTH = 1_000
MAX_LIST_PATH_CHARS = 400


def start_step(walker: Walker, branch: Branch, frame: BlockFrame) -> None:
    """Start the op that a block frame stands at.

    Raises:
        RunError: If the step fails at once.
    """
    op = walker.op_at(frame)
    path = f"{frame.path}.{frame.pc}"
    frame.started_us = walker.evaluator.now_us
    walker.state.steps_run += 1
    limit = walker.plan.limits.steps
    if walker.state.steps_run > limit and not _may_exceed(walker, branch):
        raise LimitExceeded(
            f"the execution has run {limit} steps",
            code="limit.steps",
            hint="look for an endless loop or raise limits.steps of the task",
        )
    if op.mods.when is not None and not walker.evaluator.truthy(op.mods.when, branch, f"{path}/when", frame.value):
        frame.unmade = True
        walker.give(branch, frame.value)
        return
    if needs_guard(op):
        push_guard(walker, branch, op, path, frame.value)
    begin_body(walker, branch, op, path, frame.value)


def _may_exceed(walker: Walker, branch: Branch) -> bool:
    # what cleans up after the limit was reached must be able to run
    cleans_up = walker.state.ending is not None or any(isinstance(frame, UndoFrame) for frame in branch.stack)
    return cleans_up and walker.state.steps_run <= walker.plan.limits.steps + CLEAN_UP_STEPS


def begin_body(walker: Walker, branch: Branch, op: Op, path: str, given: Json) -> None:
    """Begin one attempt of a step: give its value at once or push the frames that will.

    Raises:
        RunError: If the attempt fails at once.
    """
    if isinstance(op, (EvaluateOp, SetOp, GetOp, LogOp, ErrorOp, ReturnOp)):
        _run_pure(walker, branch, op, path, given)
    elif isinstance(op, (PromptOp, ToolCallOp)):
        guard = branch.stack[-1]
        assert isinstance(guard, GuardFrame)
        begin_call(walker, branch, guard, op)
    elif isinstance(op, TaskOp):
        begin_child(branch)
    elif isinstance(op, SleepOp):
        begin_sleep(walker, branch, op, path, given)
    elif isinstance(op, (WaitOp, ApproveOp)):
        begin_wait(walker, branch, op, path, _attempt_path(branch, path), given)
    elif isinstance(op, EventOp):
        look_into_inbox(walker, branch, begin_wait(walker, branch, op, path, _attempt_path(branch, path), given))
    elif isinstance(op, ListenOp):
        begin_listen(walker, branch, op, _attempt_path(branch, path), given)
    elif isinstance(op, (EmbedOp, SearchOp)):
        begin_lookup(branch)
    elif isinstance(op, AgentOp):
        begin_agent(walker, branch, op, path, given)
    else:
        _begin_block(walker, branch, op, _attempt_path(branch, path), given)


def _attempt_path(branch: Branch, path: str) -> str:
    # a repeated block gets paths of its own, so that effect ids stay unique; keys leave the mark ~ out, but not the
    # mark ! of a block that was undone before: its calls are new ones
    guard = branch.stack[-1]
    if isinstance(guard, GuardFrame) and guard.path == path and guard.attempt > 1:
        return f"{path}{'!' if guard.undone else '~'}{guard.attempt}"
    return path


def _run_pure(
    walker: Walker, branch: Branch, op: EvaluateOp | SetOp | GetOp | LogOp | ErrorOp | ReturnOp, path: str, given: Json
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
    elif isinstance(op, LogOp):
        said = evaluate(op.message, branch, path, given)
        walker.step_frame(branch).log = said if isinstance(said, str) else compact_json(said)
        walker.give(branch, given)
    elif isinstance(op, ErrorOp):
        message = evaluate(op.message, branch, path, given)
        raise TaskError(message if isinstance(message, str) else compact_json(message))
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


def _begin_block(
    walker: Walker,
    branch: Branch,
    op: IfElseOp | SwitchOp | ForeachOp | WhileOp | UntilOp | MapReduceOp | ParallelOp | RaceOp | YieldOp,
    path: str,
    given: Json,
) -> None:
    if isinstance(op, IfElseOp):
        _begin_if(walker, branch, op, path, given)
    elif isinstance(op, SwitchOp):
        _begin_switch(walker, branch, op, path, given)
    elif isinstance(op, ForeachOp):
        begin_foreach(walker, branch, op, path, given)
    elif isinstance(op, (WhileOp, UntilOp)):
        begin_loop(walker, branch, path, given)
    elif isinstance(op, MapReduceOp):
        begin_map(walker, branch, op, path, given)
    elif isinstance(op, (ParallelOp, RaceOp)):
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


def _begin_switch(walker: Walker, branch: Branch, op: SwitchOp, path: str, given: Json) -> None:
    for number, case in enumerate(op.cases):
        seed = f"{path}/case/{number}"
        if case.condition is None or walker.evaluator.truthy(case.condition, branch, seed, given):
            frame = walker.step_frame(branch)
            construct = f"switch[{number}]"
            workflow = f"{frame.workflow}[{frame.pc}].{construct}"
            walker.push_block(branch, case.then, given, f"{path}.case[{number}]", workflow, construct=construct)
            return
    walker.give(branch, given)


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


def end_step(
    walker: Walker, branch: Branch, frame: BlockFrame, output: Json, *, recorded: Recorded | None = None
) -> None:
    """Record the output of the step that a block frame stands at, and move on or leave the block.

    Args:
        walker: The execution.
        branch: The branch.
        frame: The frame.
        output: The output.
        recorded: What was recorded of it in another execution, if nothing was run here.
    """
    op = walker.op_at(frame)
    note_undo(frame, op, output)
    if frame.ops is not None:
        step_of_turn_ended(walker, branch, frame, op, output, recorded=recorded is not None)
    if frame.role == "list" or op.label:
        given = frame.value if recorded is None or recorded.input is None else recorded.input
        record = {"input": given, "output": output}
        if frame.role == "list":
            branch.scope.steps.append(record)
        if op.label:
            branch.scope.labels[op.label] = record
    last = frame.pc + 1 >= len(walker.ops_of(frame))
    body = walker.step_body(branch, frame, op, output, last=last)
    if frame.log is not None:
        body["log"], frame.log = frame.log, None
    if frame.child_id:
        body["child_id"], frame.child_id = frame.child_id, ""
    if recorded is not None:
        body |= _told_recorded(recorded)
    if not last:
        walker.emit(EventType.STEP, body)
        frame.pc += 1
        frame.value = output
        return
    branch.stack.pop()
    leave_block(walker, branch, body, below=len(branch.stack))
    hand_down(branch, frame.undos)
    walker.give(branch, output)


def _told_recorded(recorded: Recorded) -> dict[str, Json]:
    # whoever forks this execution in turn finds what it needs in its own events
    told: dict[str, Json] = {"recorded": True, "at_us": recorded.at_us}
    if recorded.input is not None:
        told["input"] = recorded.input
    return told | {name: value for name in ("state", "labels") if (value := getattr(recorded, name))}


def leave_block(walker: Walker, branch: Branch, body: dict[str, Json], *, below: int) -> None:
    """Say that a block of a branch ends with its present step; `below` = number of frames below it."""
    is_end = branch.id == 0 and below == 0 and walker.plan.ending is None
    walker.emit(EventType.FINISH if is_end else EventType.FINISH_BRANCH, body)
