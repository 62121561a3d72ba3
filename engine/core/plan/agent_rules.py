"""What an agent must observe about its tools: order, number of calls, ends of the loop, approvals. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.plan.computed import Expr, Value


@dataclass(frozen=True, slots=True)
class Approval:
    """Which calls of a tool wait for a person, who may approve, change the arguments, or deny with a reason.

    Attributes:
        condition: Condition on the arguments (`_`); None = all calls.
        info: Evaluates to what the person is told beside tool and arguments.
        deadline: Evaluates to the seconds after which nobody is waited for; None = never.
        default: Evaluates to the decision at the deadline, such as {approved: false}; None = the call is denied.
    """

    condition: Expr | None = None
    info: Value | None = None
    deadline: Value | None = None
    default: Value | None = None


@dataclass(frozen=True, slots=True)
class NextTool:
    """A tool that may be called right after another one, if a condition on that one's result (`_`) holds."""

    tool: str
    condition: Expr | None = None


@dataclass(frozen=True, slots=True)
class ToolRule:
    """The rules for one tool of an agent. A call that they forbid is not made; the model is told what it may call.

    Attributes:
        tool: The tool.
        first: Whether it must be called before any other one.
        next: What alone may be called right after it; None = anything, () never occurs.
        only_after: The tools right after which it may be called; empty = any time.
        at_most: Most calls of it; None = any number.
        ends: Whether the loop ends with its result.
        required: Whether the loop cannot end before it was called.
        approve: Which of its calls wait for a person; None = none.
    """

    tool: str
    first: bool = False
    next: tuple[NextTool, ...] | None = None
    only_after: tuple[str, ...] = ()
    at_most: int | None = None
    ends: bool = False
    required: bool = False
    approve: Approval | None = None
