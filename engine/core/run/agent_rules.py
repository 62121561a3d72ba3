"""Which tools an agent may call next, by the rules of its step. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.errors import ExpressionError
from engine.core.plan.agent_rules import ToolRule
from engine.core.plan.ops import AgentOp
from engine.core.run.state import Branch
from engine.core.run.talk_frames import AgentFrame, MadeCall
from engine.core.run.walker import Walker


@dataclass(frozen=True, slots=True)
class Offer:
    """What a turn offers to the model.

    Attributes:
        tools: Names of the tools, in the order of the step.
        forced: Whether the model must call one of them.
    """

    tools: tuple[str, ...]
    forced: bool = False


def tool_names(op: AgentOp) -> tuple[str, ...]:
    """Return the names of all tools of an agent."""
    return (*op.tools, *(function["function"]["name"] for function in op.functions))


def rule_of(op: AgentOp, tool: str) -> ToolRule | None:
    """Return the rules for a tool; None = there are none."""
    return next((rule for rule in op.rules if rule.tool == tool), None)


def missing_tools(op: AgentOp, agent: AgentFrame) -> list[str]:
    """Return the tools without whose call the loop cannot end; one that a person denied counts as called."""
    return [
        rule.tool
        for rule in op.rules
        if rule.required and not agent.called.get(rule.tool) and rule.tool not in agent.settled
    ]


def offer_of(walker: Walker, branch: Branch, op: AgentOp, agent: AgentFrame) -> Offer:
    """Return what the next turn offers.

    Raises:
        ExpressionError: If a condition of a rule cannot be evaluated on the result of a call that succeeded.
    """
    names = tool_names(op)
    allowed, forced = set(names), False
    first = {rule.tool for rule in op.rules if rule.first}
    if first and not agent.called:
        allowed, forced = allowed & first, True
    for made in agent.made:
        following = _following(walker, branch, op, agent, made)
        if following is not None:
            allowed, forced = allowed & following, True
    before, missing = {made.tool for made in agent.made}, missing_tools(op, agent)
    for rule in op.rules:
        too_early = bool(rule.only_after) and before.isdisjoint(rule.only_after)
        used_up = rule.at_most is not None and agent.called.get(rule.tool, 0) >= rule.at_most
        cannot_end = rule.ends and any(tool != rule.tool for tool in missing)
        if too_early or used_up or cannot_end:
            allowed.discard(rule.tool)
    wanted = allowed.intersection(agent.reminded)
    if wanted:
        allowed, forced = wanted, True
    # to ask again for what a person has just denied would only ask the person again
    return Offer(tuple(name for name in names if name in allowed), bool(allowed) and forced and not agent.denied)


def _following(walker: Walker, branch: Branch, op: AgentOp, agent: AgentFrame, made: MadeCall) -> set[str] | None:
    """Return what alone may follow a call; None = anything."""
    rule = rule_of(op, made.tool)
    if rule is None or rule.next is None:
        return None
    found: set[str] = set()
    for number, choice in enumerate(rule.next):
        path = f"{agent.path}/rules/{made.tool}/next/{number}/{agent.turns}"
        try:
            if choice.condition is None or walker.evaluator.truthy(choice.condition, branch, path, made.result):
                found.add(choice.tool)
        except ExpressionError:
            # what a condition says of a result says nothing of a failure
            if not made.failed:
                raise
    return found


def wants_result(op: AgentOp, tool: str) -> bool:
    """Whether what may follow a call of a tool depends on its result."""
    rule = rule_of(op, tool)
    return rule is not None and any(choice.condition is not None for choice in rule.next or ())


def is_last(op: AgentOp, tool: str) -> bool:
    """Whether no other call can follow one of this tool in the same turn, since its result decides what may."""
    rule = rule_of(op, tool)
    return rule is not None and (rule.ends or rule.next is not None)
