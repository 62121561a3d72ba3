"""Stage: tool steps that wait — for a person who approves the call, or for the client that makes it. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import ToolError
from engine.core.ids import shorten_id
from engine.core.plan.agent_rules import Approval
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import ToolCallOp
from engine.core.run.approvals import (
    APPROVAL,
    FUNCTION_CALL,
    approval_for,
    approval_info,
    decision_schema,
    denied,
    remembered,
)
from engine.core.run.frames import CallFrame, GuardFrame, WaitFrame
from engine.core.run.state import Branch
from engine.core.run.waits import MAX_WAIT_S, arm_deadline, open_wait, seconds_of
from engine.core.run.walker import Walker
from engine.core.schemas import value_problems
from engine.core.values import Json


def waits_for_others(
    walker: Walker,
    branch: Branch,
    frame: CallFrame,
    op: ToolCallOp,
    contract: ToolContract,
    arguments: dict[str, Json],
) -> bool:
    """Open the wait that a call needs before it can be made, or in which the client makes it.

    Args:
        walker: The execution.
        branch: The branch that calls.
        frame: The frame of the call, on top of the guard of its step.
        op: The step.
        contract: The tool.
        arguments: The arguments as computed, or as a person changed them.

    Returns:
        Whether a wait was opened; the call goes on when that is over.

    Raises:
        RunError: `tool.denied`; or if what the wait tells, or its deadline, cannot be computed.
    """
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    if guard.decided is None:
        rules = (*contract.approve, *contract.own_approve)
        decision = remembered(walker, op.tool, arguments)
        approval = None if decision else approval_for(walker, branch, frame.path, rules, arguments)
        if decision is not None and not decision.approved and rules:
            raise denied(op.tool, decision)
        if approval is not None:
            _check_arguments(contract, arguments)
            _ask_person(walker, branch, frame, op, contract, approval, arguments)
            return True
    if contract.type == "task":
        _check_arguments(contract, arguments)
    if contract.type != "function":
        return False
    _check_arguments(contract, arguments)
    _ask_client(walker, branch, frame, op, contract, arguments)
    return True


def _check_arguments(contract: ToolContract, arguments: dict[str, Json]) -> None:
    """Refuse arguments before anybody is asked about them; of other calls the activity does it."""
    problems = value_problems(arguments, contract.parameters)
    if problems:
        raise ToolError(
            f"tool '{contract.name}' does not take these arguments: {'; '.join(problems)}",
            code="tool.bad_arguments",
            details={"tool": contract.name},
        )


def _ask_person(
    walker: Walker,
    branch: Branch,
    frame: CallFrame,
    op: ToolCallOp,
    contract: ToolContract,
    approval: Approval,
    arguments: dict[str, Json],
) -> None:
    info = approval_info(walker, branch, frame.path, approval, op.tool, arguments)
    schema = decision_schema(contract.parameters)
    wait = WaitFrame(shorten_id(f"{frame.call_id}/approval"), walker.state.waits_opened + 1, schema, about=APPROVAL)
    wait.subject = arguments
    if approval.deadline is not None:
        path = f"{frame.path}/approve/deadline"
        seconds = seconds_of(walker, branch, approval.deadline, path, arguments, "wait for")
        wait.deadline_us = walker.effects.now_us() + round(seconds * 1e6)
        # without a default of the author's, nobody's answer denies the call
        wait.has_default = True
    if approval.default is not None:
        wait.default = walker.evaluator.evaluate(approval.default, branch, f"{frame.path}/approve/default", arguments)
    _open(walker, branch, frame, op, wait, info)


def _ask_client(
    walker: Walker,
    branch: Branch,
    frame: CallFrame,
    op: ToolCallOp,
    contract: ToolContract,
    arguments: dict[str, Json],
) -> None:
    wait = WaitFrame(frame.call_id, walker.state.waits_opened + 1, None, about=FUNCTION_CALL)
    timeout_s = op.mods.timeout_s or contract.timeout_s
    if timeout_s < MAX_WAIT_S:
        wait.deadline_us = walker.effects.now_us() + round(timeout_s * 1e6)
    _open(walker, branch, frame, op, wait, {"kind": FUNCTION_CALL, "tool": op.tool, "arguments": arguments})


def _open(walker: Walker, branch: Branch, frame: CallFrame, op: ToolCallOp, wait: WaitFrame, info: Json) -> None:
    walker.state.waits_opened += 1
    branch.stack.append(wait)
    arm_deadline(walker, branch, wait)
    open_wait(walker, branch, wait, path=frame.path, label=op.label, info=info)
