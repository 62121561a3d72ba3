"""Stage: calls of tools that wait for a person — which, what is asked, what the answer means. Workflow-safe.

Steps that call a tool and agents use the same words: a wait whose info is {kind: approval, tool, arguments, …}, and an
answer {approved, arguments?, reason?, remember?}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.core.errors import BugError, ExpressionError, ToolError
from engine.core.lang.secret import still_there
from engine.core.plan.agent_rules import Approval
from engine.core.plan.ops import ToolCallOp
from engine.core.run.frames import CallFrame, GuardFrame, WaitFrame
from engine.core.run.state import Branch
from engine.core.run.walker import Walker
from engine.core.values import Json

APPROVAL: Final = "approval"
FUNCTION_CALL: Final = "function_call"
"""What the `kind` in a wait's info can be."""

DECISION: Final[Json] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "arguments": {"type": "object"},
        "reason": {"type": "string"},
        "remember": {"type": "boolean"},
    },
    "required": ["approved"],
}
"""What a person answers: whether the call is made, with which arguments instead, why not, and for all later calls."""

_ARGUMENTS: Final = "#/properties/arguments"


def decision_schema(parameters: Json) -> Json:
    """Return the schema of an answer, whose arguments must be such that the tool takes them.

    Args:
        parameters: JSON Schema of the tool's arguments; references in it are to its own parts.
    """
    if not isinstance(parameters, dict):
        return DECISION
    return {**DECISION, "properties": {**DECISION["properties"], "arguments": _moved(parameters)}}


def _moved(node: Json) -> Json:
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Json] = {}
    for name, item in node.items():
        is_place = name in ("$ref", "$dynamicRef") and isinstance(item, str) and (item == "#" or item.startswith("#/"))
        found[name] = f"{_ARGUMENTS}{item[1:]}" if is_place else _moved(item)
    return found


NO_ANSWER: Final = "nobody answered before the deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about a call.

    Attributes:
        approved: Whether it is made.
        arguments: What it is made with.
        reason: Why not.
    """

    approved: bool
    arguments: dict[str, Json]
    reason: str = ""


def remembered(walker: Walker, tool: str, arguments: dict[str, Json]) -> Decision | None:
    """Return what a person decided for all calls of a tool in this execution; None = nothing."""
    known = walker.state.approvals.get(tool)
    return None if known is None else _decision(known, arguments)


def approval_for(
    walker: Walker, branch: Branch, path: str, approvals: Sequence[Approval], arguments: dict[str, Json]
) -> Approval | None:
    """Return the first approval that a call needs, or None.

    Args:
        walker: The execution.
        branch: The branch that calls.
        path: Path of the call.
        approvals: Those of the tool's contract, and of whoever offers it.
        arguments: The arguments of the call.
    """
    for number, approval in enumerate(approvals):
        if approval.condition is None:
            return approval
        try:
            if walker.evaluator.truthy(approval.condition, branch, f"{path}/approve/{number}", arguments):
                return approval
        except ExpressionError:
            # arguments that the condition cannot judge are no reason to let the call pass
            return approval
    return None


def approval_info(
    walker: Walker, branch: Branch, path: str, approval: Approval, tool: str, arguments: dict[str, Json]
) -> dict[str, Json]:
    """Return what the person is told: {kind, tool, arguments, info?}.

    Raises:
        ExpressionError: If what the author wants to tell cannot be computed.
    """
    told: dict[str, Json] = {"kind": APPROVAL, "tool": tool, "arguments": arguments}
    if approval.info is not None:
        told["info"] = walker.evaluator.evaluate(approval.info, branch, f"{path}/approve/info", arguments)
    return told


def decide(walker: Walker, tool: str, answer: Json, arguments: dict[str, Json]) -> Decision:
    """Read an answer, and keep it for later calls if it says so.

    Args:
        walker: The execution.
        tool: The tool.
        answer: What was answered, or the default at the deadline; what is no decision denies the call.
        arguments: The arguments that the person saw.
    """
    body: dict[str, Any] = answer if isinstance(answer, dict) else {"reason": NO_ANSWER}
    decision = _decision(body, arguments)
    if body.get("remember") is True:
        # other arguments were meant for this call alone
        walker.state.approvals[tool] = {"approved": decision.approved, "reason": decision.reason}
    return decision


def denied(tool: str, decision: Decision) -> ToolError:
    """Return the error of a call that was not let through."""
    why = f": {decision.reason}" if decision.reason else ""
    return ToolError(
        f"the call of the tool '{tool}' was denied{why}",
        code="tool.denied",
        details={"tool": tool, "reason": decision.reason},
    )


def take_answer_for_call(walker: Walker, branch: Branch, wait: WaitFrame, value: Json) -> None:
    """Tell the call of a step, whose frame is on top again, what was answered; it goes on by itself.

    Args:
        walker: The execution.
        branch: Its branch.
        wait: The wait, which is over.
        value: The answer.
    """
    call, guard = branch.stack[-1], branch.stack[-2]
    if not isinstance(call, CallFrame) or not isinstance(guard, GuardFrame):
        raise BugError(f"the wait {wait.wait_id} stands on no call")
    if wait.about == FUNCTION_CALL:
        call.replied, call.reply = True, value
        return
    op = walker.op_at(walker.step_frame_below(branch, guard))
    assert isinstance(op, ToolCallOp)
    decision = decide(walker, op.tool, value, wait.subject)
    guard.decided = {"approved": decision.approved, "arguments": decision.arguments, "reason": decision.reason}
    if call.secrets:
        # what the person wrote in the place of a secret is what is sent
        guard.decided["secrets"] = still_there(decision.arguments, call.secrets)


def approved_arguments(tool: str, decided: dict[str, Json]) -> Json:
    """Return what a call is made with about which a person was asked.

    Raises:
        ToolError: `tool.denied`.
    """
    decision = Decision(approved=decided["approved"], arguments=decided["arguments"], reason=decided["reason"])
    if not decision.approved:
        raise denied(tool, decision)
    return decision.arguments


def _decision(body: dict[str, Json], arguments: dict[str, Json]) -> Decision:
    instead = body.get("arguments")
    return Decision(
        approved=body.get("approved") is True,
        arguments=instead if isinstance(instead, dict) else arguments,
        reason=str(body.get("reason") or "")[:2_000],
    )
