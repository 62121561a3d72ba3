"""Stage: steps and tools that run another task — finding it, starting the child, taking its end. Workflow-safe.

Both are calls of one frame, one after the other: the first finds the task and checks the input, the second is the
child. So limits, cancels and continue-as-new treat a child like any call. The call of a tool comes here once it may be
made, with its arguments as the input.
"""

from __future__ import annotations

from engine.core.contracts.activities import CallContext
from engine.core.contracts.children import (
    LOOK_UP_TIMEOUT_S,
    MAX_DEPTH,
    ChildParams,
    ResolvedTask,
    ResolveParams,
)
from engine.core.contracts.execution import Origin
from engine.core.errors import BugError, ChildError, LimitExceeded, RunError
from engine.core.ids import derive_uuid, shorten_id
from engine.core.plan.grant import check_permitted
from engine.core.plan.ops import TaskOp, ToolCallOp
from engine.core.run.agent_calls import call_mark
from engine.core.run.calls import idempotency_key
from engine.core.run.checking import ask_person, first_failed
from engine.core.run.effects import Call, CallOutcome, Failed, Ok, Stopped
from engine.core.run.frames import CallFrame, GuardFrame
from engine.core.run.guards import attempt_id
from engine.core.run.state import Branch
from engine.core.run.tracing import below
from engine.core.run.undoing import mark_guards
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json

NO_LIMIT_S = 10 * 365 * 86_400.0
"""A child ends by its own limits, or by the `timeout` of its step."""
MAX_SUMMARY_CHARS = 120


def begin_child(branch: Branch) -> None:
    """Push the frame of a child; the interpreter goes on with it as soon as calls may start."""
    guard = branch.stack[-1]
    assert isinstance(guard, GuardFrame)
    branch.stack.append(CallFrame(guard.path, guard.input, _look_up_id(guard), parked=True))


def is_child(walker: Walker, branch: Branch) -> bool:
    """Return whether the call on top of a branch belongs to a step, or to a tool, that runs another task."""
    top = branch.stack[-1]
    if not isinstance(top, CallFrame):
        return False
    return bool(top.runs) or isinstance(walker.op_at(walker.step_frame(branch)), TaskOp)


def send_child(walker: Walker, branch: Branch, frame: CallFrame) -> None:
    """Look for the task of a frame, or start it once it was found.

    Raises:
        RunError: If the input cannot be computed or the child may not be started.
    """
    guard, op = _step_of(walker, branch)
    if frame.task is None:
        _look_up(walker, branch, frame, guard, op)
    else:
        _start(walker, branch, frame, guard, op)


def take_child(walker: Walker, branch: Branch, frame: CallFrame, outcome: CallOutcome) -> None:
    """Take what was found, or how the child ended.

    Raises:
        RunError: There is no such task, it does not take this input, or the child did not succeed.
    """
    guard, op = _step_of(walker, branch)
    if isinstance(outcome, Ok) and frame.task is None:
        frame.task, frame.call_id, frame.parked = outcome.value, shorten_id(attempt_id(guard.path, guard.attempt)), True
        return
    branch.stack.pop()
    if isinstance(op, ToolCallOp):
        # what a person is asked about the output takes none of the call's time
        walker.disarm("attempt", guard.path)
        guard.attempt_deadline_us = None
    if isinstance(outcome, Ok):
        _take_output(walker, branch, op, frame, outcome.value)
    elif frame.task is None:
        if isinstance(outcome, Failed):
            raise outcome.error
        raise RunError("the call was cancelled by other hands", code="effect.cancelled")
    else:
        raise _error_of_child(walker, branch, frame, outcome)


def _step_of(walker: Walker, branch: Branch) -> tuple[GuardFrame, TaskOp | ToolCallOp]:
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    op = walker.op_at(walker.step_frame_below(branch, guard))
    if not isinstance(op, TaskOp | ToolCallOp):
        raise BugError(f"a {op.op} step ran a task")
    return guard, op


# --- beginning -----------------------------------------------------------------------------------------------------


def _look_up_id(guard: GuardFrame) -> str:
    return shorten_id(f"{attempt_id(guard.path, guard.attempt)}/task")


def _look_up(walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: TaskOp | ToolCallOp) -> None:
    named = op.task if isinstance(op, TaskOp) else frame.runs
    depth = 0 if walker.identity.origin is None else walker.identity.origin.depth
    if depth >= MAX_DEPTH:
        raise LimitExceeded(
            f"{guard.path} would run '{named}' below {depth} executions that run each other",
            code="limit.depth",
            hint="use a loop instead of a task that runs itself",
        )
    check_permitted(walker.plan.allow, "tasks", named)
    if isinstance(op, TaskOp):
        # the input is computed once: what is checked is what the child gets
        frame.input = walker.evaluator.evaluate(op.arguments, branch, f"{guard.path}/arguments", guard.input)
    params = ResolveParams(
        context=_context(walker, branch, frame, guard, op),
        task=named,
        input=frame.input,
        agent_id=walker.plan.agent.id,
        grant=walker.plan.allow,
    )
    frame.call_id = _look_up_id(guard)
    call = Call(id=frame.call_id, params=params, summary=_clip(named), repeatable=True, timeout_s=LOOK_UP_TIMEOUT_S)
    walker.start_quiet_call(branch, frame, call, len(compact_json(frame.input)))


def _context(
    walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: TaskOp | ToolCallOp
) -> CallContext:
    identity = walker.identity
    block = walker.step_frame_below(branch, guard)
    mark = call_mark(block, op, frame.input) if isinstance(op, ToolCallOp) else ""
    # as with blocks: after something was undone inside, the next attempt is not the same effect again
    path = f"{guard.path}!{guard.attempt}" if guard.undone and guard.attempt > 1 else guard.path
    return CallContext(
        tenant=identity.tenant,
        execution_id=identity.execution_id,
        path=guard.path,
        key=idempotency_key(identity.keys, path) + mark,
        attempt=guard.attempt,
        trace=below(identity.trace, identity.execution_id, guard.path),
    )


def _start(walker: Walker, branch: Branch, frame: CallFrame, guard: GuardFrame, op: TaskOp | ToolCallOp) -> None:
    task = ResolvedTask(**(frame.task or {}))
    identity, context = walker.identity, _context(walker, branch, frame, guard, op)
    origin = Origin(
        execution_id=identity.execution_id,
        path=guard.path,
        depth=1 if identity.origin is None else identity.origin.depth + 1,
        keys=derive_uuid(context.key, "keys"),
        agent_id=task.agent_id,
        grant=walker.plan.allow,
        tells_keys=True,
    )
    # each attempt is an execution of its own, and the same one however often the start itself is repeated
    frame.child_id = derive_uuid(identity.execution_id, "child", frame.call_id)
    walker.step_frame(branch).child_id = frame.child_id
    params = ChildParams(
        context=context,
        execution_id=frame.child_id,
        task=task,
        input=frame.input,
        origin=origin,
        actor=identity.actor,
    )
    named, name = (op.task, task.name) if isinstance(op, TaskOp) else (frame.runs, op.tool)
    call = Call(
        id=frame.call_id,
        params=params,
        summary=_clip(op.label or name),
        repeatable=True,
        timeout_s=NO_LIMIT_S,
        tool=op.tool if isinstance(op, ToolCallOp) else "",
    )
    body: dict[str, Json] = {
        "path": frame.path,
        "effect_id": frame.call_id,
        "kind": op.op.value,
        "name": name,
        "attempt": guard.attempt,
        "request": {"task": named, "arguments": frame.input},
        "child_id": frame.child_id,
        "task_id": task.id,
        "version": task.version,
    }
    if op.label:
        body["label"] = op.label
    if isinstance(op, ToolCallOp):
        _arm(walker, branch, guard, op)
    walker.start_call(branch, frame, call, body)


def _arm(walker: Walker, branch: Branch, guard: GuardFrame, op: ToolCallOp) -> None:
    """Start the clock of a tool's call; that of a step that runs a task has begun with its attempt."""
    limit_s = op.mods.timeout_s or walker.plan.tools[op.tool].timeout_s
    if limit_s < NO_LIMIT_S:
        guard.attempt_deadline_us = walker.effects.now_us() + round(limit_s * 1e6)
        walker.arm(branch, "attempt", guard.path, guard.attempt_deadline_us, f"timeout of {guard.path}")


# --- ends ----------------------------------------------------------------------------------------------------------


def _take_output(walker: Walker, branch: Branch, op: TaskOp | ToolCallOp, frame: CallFrame, output: Json) -> None:
    found = first_failed(walker, branch, op, frame.path, output)
    if found is None:
        walker.give(branch, output)
    elif found.check.on_fail == "ask":
        ask_person(walker, branch, op, frame.path, frame.call_id, found, output)
    else:
        raise found.error(output)


def _error_of_child(walker: Walker, branch: Branch, frame: CallFrame, outcome: Failed | Stopped) -> ChildError:
    name = str((frame.task or {}).get("name", ""))
    details: dict[str, Json] = {"execution_id": frame.child_id, "task": name}
    if isinstance(outcome, Stopped):
        # one that is cancelled cleans up after itself
        mark_guards(walker, branch)
        return ChildError(f"the task '{name}' was cancelled by other hands", code="task.cancelled", details=details)
    error = outcome.error
    inner = dict(error.details)
    if inner.pop("undone", False):
        mark_guards(walker, branch)
    place = inner.pop("step", "")
    inner.pop("attempts", None)
    if place:
        details["at"] = place
    if inner:
        details["details"] = inner
    return ChildError(
        # of executions that run each other, the one that failed itself is told of once
        error.message if isinstance(error, ChildError) else f"the task '{name}' failed: {error.message}",
        code=error.code,
        hint=error.hint,
        retryable=error.retryable,
        details=details,
    )


def _clip(text: str) -> str:
    return text if len(text) <= MAX_SUMMARY_CHARS else f"{text[: MAX_SUMMARY_CHARS - 1]}…"
