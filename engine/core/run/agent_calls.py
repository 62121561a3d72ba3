"""Stage: the tool calls of an agent's turn — which are made, how, and what the model is told of them. Workflow-safe.

Each call that may be made is a `tool_call` step in a branch of its own, so cancels, pauses, approvals, retries and
continue-as-new treat it like any other. One that may not be made is never begun: its branch fails before it starts.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

from engine.core.contracts.conversations import MOST_NAME_CHARS, read_arguments
from engine.core.errors import ToolError
from engine.core.kinds import EventType
from engine.core.plan.computed import Lit
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import AgentOp, ToolCallOp
from engine.core.run.agent_rules import Offer, is_last, offer_of, rule_of, tool_names, wants_result
from engine.core.run.agent_talk import agent_around, result_text
from engine.core.run.frames import BlockFrame, FanFrame
from engine.core.run.state import Branch
from engine.core.run.talk_frames import AgentFrame, AskedCall, MadeCall
from engine.core.run.waits import MAX_WAIT_S
from engine.core.run.walker import Walker, error_json
from engine.core.schemas import MAX_CHECKS, parts_of, value_problems
from engine.core.values import Json, canonical_json, compact_json

MOST_CALLS: Final = 128
"""Tool calls of one turn; no model means more than that."""
MOST_PARTS: Final = 20_000
"""Values in the arguments of a turn, which are checked here at one go; texts may be as long as they are."""
LEAST_CHECKS: Final = 2_000
DENIED: Final = "tool.denied"


# --- what a reply asks for -----------------------------------------------------------------------------------------


def read_calls(
    walker: Walker, op: AgentOp, agent: AgentFrame, written: dict[str, Any], kept: dict[str, Any], offer: Offer
) -> list[AskedCall]:
    """Return the tool calls of a reply, each with the reason if it may not be made.

    Args:
        walker: The execution.
        op: The agent's step.
        agent: Its frame.
        written: The reply's message as the model wrote it, whose names and arguments count.
        kept: The message as it stands in the conversation, whose ids count.
        offer: What the turn offered.
    """
    counts, closed = dict(agent.called), ""
    found: list[AskedCall] = []
    bodies = list(zip(written.get("tool_calls") or (), kept.get("tool_calls") or (), strict=True))
    room = MOST_PARTS
    for number, (body, shown) in enumerate(bodies):
        function = body.get("function") if isinstance(body, dict) else None
        function = function if isinstance(function, dict) else {}
        call = AskedCall(shown["id"], str(function.get("name") or "")[:MOST_NAME_CHARS])
        found.append(call)
        problem = _refusal(walker, op, call.tool, offer, counts, closed)
        if problem is None and number >= MOST_CALLS:
            problem = ToolError(f"a turn makes {MOST_CALLS} calls at most", code="tool.not_allowed")
        if problem is None:
            most = max(MAX_CHECKS // len(bodies), LEAST_CHECKS)
            call.arguments, problem = _arguments(walker, op, call.tool, function.get("arguments"), room, most)
            room -= parts_of(call.arguments)
        if problem is not None:
            call.refused = error_json(problem, "")
            continue
        counts[call.tool] = counts.get(call.tool, 0) + 1
        if is_last(op, call.tool):
            closed = call.tool
    return found


def _refusal(
    walker: Walker, op: AgentOp, tool: str, offer: Offer, counts: dict[str, int], closed: str
) -> ToolError | None:
    """Say why a call is not made whatever its arguments; None = it may be."""
    if tool not in tool_names(op):
        return ToolError(f"there is no tool '{tool}' here", code="tool.unknown")
    if tool not in offer.tools:
        return ToolError(f"the tool '{tool}' may not be called now", code="tool.not_allowed")
    if closed:
        return ToolError(f"nothing may be called beside '{closed}' after it", code="tool.not_allowed")
    rule = rule_of(op, tool)
    if rule is not None and rule.at_most is not None and counts.get(tool, 0) >= rule.at_most:
        return ToolError(f"the tool '{tool}' may be called {rule.at_most} times at most", code="tool.not_allowed")
    return None


def _arguments(
    walker: Walker, op: AgentOp, tool: str, given: Json, room: int, most: int
) -> tuple[dict[str, Json], ToolError | None]:
    """Read and check the arguments of a call, at most so many values and keywords."""
    arguments, problem = read_arguments(given)
    if not problem and parts_of(arguments) > room:
        problem = f"the arguments of a turn hold {MOST_PARTS:,} values at most"
    problems = [problem] if problem else value_problems(arguments, _contract(walker, op, tool).parameters, most=most)
    if not problems:
        return arguments, None
    told = f"tool '{tool}' does not take these arguments: {'; '.join(problems)}"
    return {}, ToolError(told, code="tool.bad_arguments", details={"tool": tool})


# --- contracts -----------------------------------------------------------------------------------------------------


def contract_of_call(walker: Walker, branch: Branch, frame: BlockFrame, op: ToolCallOp) -> ToolContract:
    """Return the contract of the tool that a step calls; that of an agent's call has the approvals of its rules."""
    agent = None if frame.ops is None else agent_around(walker, branch)
    if agent is None:
        return walker.plan.tools[op.tool]
    step = agent_op(walker, branch, agent)
    contract, rule = _contract(walker, step, op.tool), rule_of(step, op.tool)
    if rule is None or rule.approve is None:
        return contract
    return replace(contract, approve=(*contract.approve, rule.approve))


def agent_op(walker: Walker, branch: Branch, agent: AgentFrame) -> AgentOp:
    """Return the step of an agent, whose frame stands in a branch or in one around it."""
    around: Branch = branch
    while agent not in around.stack:
        assert around.parent is not None
        around = walker.branches[around.parent]
    below = around.stack[: around.stack.index(agent)]
    block = next(found for found in reversed(below) if isinstance(found, BlockFrame))
    op = walker.op_at(block)
    assert isinstance(op, AgentOp)
    return op


def _contract(walker: Walker, op: AgentOp, tool: str) -> ToolContract:
    """Return the contract of a tool of an agent; a function that the client runs has none in the plan."""
    known = walker.plan.tools.get(tool) if tool in op.tools else None
    if known is not None:
        return known
    function = next(item["function"] for item in op.functions if item["function"]["name"] == tool)
    told = str(function.get("description") or "")
    return ToolContract(
        name=tool, type="function", parameters=function.get("parameters"), description=told, timeout_s=MAX_WAIT_S
    )


def tool_shapes(walker: Walker, op: AgentOp, offer: Offer) -> tuple[dict[str, Any], ...]:
    """Return the tools of an offer as backends take them."""
    written = {function["function"]["name"]: function for function in op.functions}
    return tuple(written.get(name) or _shape(walker.plan.tools[name]) for name in offer.tools)


def _shape(contract: ToolContract) -> dict[str, Any]:
    parameters = contract.parameters if isinstance(contract.parameters, dict) else {"type": "object", "properties": {}}
    function = {"name": contract.name, "description": contract.description, "parameters": parameters}
    return {"type": "function", "function": function}


def call_mark(frame: BlockFrame, op: ToolCallOp, arguments: dict[str, Json]) -> str:
    """Return what an agent's call adds to its idempotency key: another attempt at the agent may call something else."""
    if frame.ops is None:
        return ""
    text = canonical_json([op.tool, arguments])
    return f"/{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


# --- the branches --------------------------------------------------------------------------------------------------


def start_tool_call(walker: Walker, branch: Branch, fan: FanFrame, slot: int, block: BlockFrame) -> int | None:
    """Start the branch of a call and return its number; None = the call is refused, and nothing is started."""
    agent = agent_in(branch)
    call, path = agent.calls[slot], f"{fan.path}[{slot}]"
    if call.refused is not None:
        walker.emit(EventType.BRANCH_FAILED, {"path": path, "error": call.refused, "taken": "collect"})
        return None
    construct = f"parallel[{slot}]"
    ops = (ToolCallOp(tool=call.tool, arguments=Lit(call.arguments)),)
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    return walker.start_branch(branch, -1, fan.items[slot], path, workflow, construct, len(fan.items), ops)


def agent_in(branch: Branch) -> AgentFrame:
    """Return the innermost agent on the stack of a branch."""
    return next(frame for frame in reversed(branch.stack) if isinstance(frame, AgentFrame))


def calls_ended(walker: Walker, branch: Branch, fan: FanFrame) -> None:
    """Put what the calls of a turn gave into the conversation, in the order of the calls; the fan's frame is gone.

    Raises:
        ExpressionError: If a condition of a rule cannot be evaluated.
    """
    agent = agent_in(branch)
    op = agent_op(walker, branch, agent)
    told: list[dict[str, Json]] = []
    for slot, call in enumerate(agent.calls):
        error = call.refused or (fan.done[str(slot)]["error"] if slot in fan.left_out else None)
        told.append(_told(op, call, error, fan.done.get(str(slot))))
    _note(op, agent, told)
    missed = any(not item["made"] for item in told)
    following = offer_of(walker, branch, op, agent).tools if missed else ()
    for slot, item in enumerate(told):
        item["content"] = result_text(fan.done.get(str(slot))) if item["ok"] else _error_text(item, following)
    _say_results(agent, told)
    walker.give(branch, [{name: value for name, value in item.items() if name != "output"} for item in told])


def take_recorded_calls(op: AgentOp, agent: AgentFrame, told: list[dict[str, Json]]) -> None:
    """Put into the conversation what the calls of a turn gave when they were recorded; nothing is called."""
    _note(op, agent, told)
    _say_results(agent, told)


def _told(op: AgentOp, call: AskedCall, error: dict[str, Json] | None, output: Json) -> dict[str, Json]:
    """Return what is told of a call: {id, tool, ok, made, error?, result?, output?}; the last one to nobody else."""
    told: dict[str, Json] = {"id": call.id, "tool": call.tool, "ok": error is None}
    if error is not None:
        told["error"] = {"code": error.get("code"), "message": error.get("message")}
    told["made"] = call.refused is None and (error is None or error.get("code") != DENIED)
    if told["made"] and wants_result(op, call.tool):
        told["result"] = output if error is None else {"error": told["error"]}
    return told | {"output": output}


def _note(op: AgentOp, agent: AgentFrame, told: list[dict[str, Json]]) -> None:
    """Note the calls of a turn for the rules."""
    agent.calls, agent.reminded, agent.denied = [], [], False
    made: list[MadeCall] = []
    for item in told:
        tool, rule = str(item["tool"]), rule_of(op, str(item["tool"]))
        if item["made"]:
            agent.called[tool] = agent.called.get(tool, 0) + 1
            made.append(MadeCall(tool, failed=not item["ok"], result=item.get("result")))
        elif item.get("error", {}).get("code") == DENIED:
            agent.denied = True
            agent.settled.append(tool)
        if rule is not None and rule.ends and item["ok"]:
            agent.ended = {"tool": tool, "output": item.get("output")}
    agent.made = made or agent.made


def _say_results(agent: AgentFrame, told: list[dict[str, Json]]) -> None:
    for item in told:
        agent.messages.append({"role": "tool", "tool_call_id": item["id"], "content": item["content"]})


def _error_text(item: dict[str, Json], following: tuple[str, ...]) -> str:
    """Return what the model is told of a call that was not made, or that failed."""
    error: dict[str, Json] = dict(item["error"])
    if not item["made"] and error.get("code") in ("tool.unknown", "tool.not_allowed"):
        error["you_may_call"] = list(following)
    return result_text(compact_json({"error": error}))
