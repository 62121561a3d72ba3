"""Stage: agents — a model is asked turn after turn, its tool calls are made, until it answers. Workflow-safe.

A turn is a block that stands in no plan: its first step is a prompt, and if the reply asks for tools, the next one runs
their calls side by side. These are steps like those of a plan (`main.3.turn[5].0`, `main.3.turn[5].1[0].0`): what holds
for steps holds for them, and what reads events needs to know nothing of agents.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from engine.core.contracts.conversations import CONVERSATION_MISSING
from engine.core.errors import ForkDiverged, InputRejected, RunError
from engine.core.plan.computed import Lit
from engine.core.plan.ops import AgentOp, Op, ParallelOp, PromptOp
from engine.core.plan.policies import Modifiers
from engine.core.run.agent_calls import agent_op, read_calls, take_recorded_calls, tool_shapes
from engine.core.run.agent_overflow import TOO_LONG, is_summary, make_room, take_summary, tell_overflow
from engine.core.run.agent_rules import Offer, missing_tools, offer_of
from engine.core.run.agent_talk import WHOLE_TALK, agent_of, forget_kept, say, take_message
from engine.core.run.calls import Repair, ask_again, build_messages, read_reply
from engine.core.run.checking import ask_person, first_failed
from engine.core.run.effects import CallOutcome, Failed, Ok, Stopped
from engine.core.run.frames import BlockFrame, CallFrame, GuardFrame
from engine.core.run.loops import count_round
from engine.core.run.spending import check_spent
from engine.core.run.state import Branch
from engine.core.run.talk_frames import AgentFrame
from engine.core.run.usage import TOKENS, tokens_of
from engine.core.run.walker import Walker, error_json
from engine.core.values import Json, compact_json

_OWN: Final = ("label", "mods", "op", "messages", "settings", "tools")
_SHARED: Final = tuple(
    field.name for field in fields(PromptOp) if field.name not in _OWN and hasattr(AgentOp, field.name)
)
"""What a turn asks as its agent says it: the model, what it needs, the schema, …"""
_WANTED: Final = "Once you need no more tools, answer with nothing but JSON that fits this JSON Schema:"


# --- beginning -----------------------------------------------------------------------------------------------------


def begin_agent(walker: Walker, branch: Branch, op: AgentOp, path: str, given: Json) -> None:
    """Begin a conversation; its first turn begins when the branch goes on.

    Raises:
        RunError: `expression.…` if messages, instructions or settings cannot be computed, `input.rejected` if they are
            none.
    """
    settings = walker.evaluator.evaluate(op.settings, branch, f"{path}/settings", given)
    if not isinstance(settings, dict):
        raise InputRejected(f"the settings of {path} are not an object")
    messages = _first_messages(walker, branch, op, path, given)
    branch.stack.append(AgentFrame(path, given, settings, messages, len(messages)))


def _first_messages(walker: Walker, branch: Branch, op: AgentOp, path: str, given: Json) -> list[dict[str, Any]]:
    asked = PromptOp(messages=op.messages)
    if op.instructions is None:
        messages = build_messages(walker, branch, asked, path, given)
    else:
        value = walker.evaluator.evaluate(op.instructions, branch, f"{path}/instructions", given)
        text = value if isinstance(value, str) else compact_json(value)
        messages = build_messages(walker, branch, asked, path, given, instructions="")
        messages.insert(0, {"role": "system", "content": text})
    if op.output_schema is not None and (op.tools or op.functions):
        # where tools are offered the schema is only asked for in words
        messages = _with_instruction(messages, f"{_WANTED} {compact_json(op.output_schema)}")
    return messages


def _with_instruction(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    first = messages[0]
    if first["role"] == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


# --- turns ---------------------------------------------------------------------------------------------------------


def begin_turn(walker: Walker, branch: Branch, agent: AgentFrame) -> None:
    """Begin the next turn of the agent on top of a branch's stack.

    Raises:
        RunError: `agent.max_rounds`, or whatever a condition of a rule raises.
        LimitExceeded: `limit.rounds`.
    """
    op = agent_op(walker, branch, agent)
    if agent.turns >= op.max_rounds:
        raise _too_many_rounds(agent, op)
    count_round(walker)
    block, number = walker.step_frame(branch), agent.turns
    asked = _turn_op(walker, branch, op, agent)
    agent.turns += 1
    construct = f"agent[{number}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    walker.push_block(branch, -1, None, f"{agent.path}.turn[{number}]", workflow, construct=construct, ops=(asked,))


def _turn_op(walker: Walker, branch: Branch, op: AgentOp, agent: AgentFrame) -> PromptOp:
    offer = offer_of(walker, branch, op, agent)
    shared: dict[str, Any] = {name: getattr(op, name) for name in _SHARED}
    return PromptOp(
        **shared
        | {
            "messages": WHOLE_TALK,
            "settings": Lit(agent.settings),
            "tools": tool_shapes(walker, op, offer),
            "tool_choice": "required" if offer.forced else None,
            "unwrap": False,
            # a model call is tried again, never what earlier turns did
            "mods": Modifiers(retry=op.mods.retry, timeout_s=op.mods.timeout_s),
        }
    )


def _too_many_rounds(agent: AgentFrame, op: AgentOp) -> RunError:
    return RunError(
        f"the agent at {agent.path} has asked its model {op.max_rounds} times and has no answer",
        code="agent.max_rounds",
        hint="raise max_rounds, or tell the model when it is to stop",
        details={"turns": agent.turns, "called": dict(agent.called)},
    )


# --- replies -------------------------------------------------------------------------------------------------------


def is_turn(walker: Walker, branch: Branch) -> bool:
    """Whether the call on top of a branch is that of an agent's turn to its model."""
    guard = branch.stack[-2] if len(branch.stack) > 1 else None
    if not isinstance(guard, GuardFrame):
        return False
    return agent_of(branch, guard, walker.op_at(walker.step_frame_below(branch, guard))) is not None


def take_turn(walker: Walker, branch: Branch, frame: CallFrame, outcome: CallOutcome) -> None:
    """Take the outcome of a turn's call to the model.

    Raises:
        RunError: The error of the call, for the guards below.
    """
    guard = branch.stack[-2]
    assert isinstance(guard, GuardFrame)
    block = walker.step_frame_below(branch, guard)
    asked = walker.op_at(block)
    agent = agent_of(branch, guard, asked)
    assert agent is not None
    assert isinstance(asked, PromptOp)
    if isinstance(outcome, Ok):
        _take_reply(walker, branch, frame, block, agent, asked, outcome.value)
        return
    if isinstance(outcome, Stopped):
        branch.stack.pop()
        raise RunError("the call was cancelled by other hands", code="effect.cancelled")
    if outcome.error.code == CONVERSATION_MISSING and agent.known:
        # nothing was asked: the worker wants all of it, which is no attempt of the step
        forget_kept(agent)
        frame.call_id, frame.parked = f"{frame.call_id}/whole", True
        return
    branch.stack.pop()
    if not _has_room(walker, branch, guard, frame, block, agent, asked, outcome):
        raise outcome.error


def _has_room(
    walker: Walker,
    branch: Branch,
    guard: GuardFrame,
    frame: CallFrame,
    block: BlockFrame,
    agent: AgentFrame,
    asked: PromptOp,
    outcome: Failed,
) -> bool:
    """Make the conversation shorter, if it has outgrown the model and that is wanted; the turn goes on behind."""
    if outcome.error.code != TOO_LONG:
        return False
    told = make_room(walker, agent, agent_op(walker, branch, agent), block, asked)
    if told is None:
        return False
    tell_overflow(walker, guard, frame, asked, error_json(outcome.error, guard.path), told)
    walker.give(branch, told)
    return True


def _take_reply(
    walker: Walker,
    branch: Branch,
    frame: CallFrame,
    block: BlockFrame,
    agent: AgentFrame,
    asked: PromptOp,
    result: dict[str, Json],
) -> None:
    op = agent_op(walker, branch, agent)
    reply = read_reply(walker, asked, result)
    _add_usage(agent, result.get("usage"))
    if isinstance(reply, Repair):
        take_message(agent, result["message"])
    else:
        check_spent(walker)
        # a repair round offers no tools
        offered = () if frame.round and asked.output_schema is not None else asked.tools
        _take_message(walker, agent, op, offered, result["message"], reply)
        reply = _checked(walker, branch, frame, op, agent, reply)
    if isinstance(reply, Repair):
        ask_again(walker, branch, frame, asked, result, reply)
        say(agent, (frame.messages or [])[-1]["content"])
        frame.messages = None
        return
    _let_call(agent, op, block)
    branch.stack.pop()
    walker.give(branch, reply)


def _take_message(
    walker: Walker,
    agent: AgentFrame,
    op: AgentOp,
    offered: tuple[dict[str, Any], ...],
    written: dict[str, Any],
    reply: dict[str, Json],
) -> None:
    """Put a reply into the conversation, and read what it asks for."""
    message = take_message(agent, {name: value for name, value in written.items() if name != "parsed"})
    names = tuple(str(tool["function"]["name"]) for tool in offered)
    agent.calls = read_calls(walker, op, agent, written, message, Offer(names))
    if op.hands_over:
        left = [call for call in agent.calls if call.refused is not None or call.tool in op.tools]
        agent.handed, agent.calls = len(left) < len(agent.calls), left
    agent.reply, agent.answered = reply, not agent.calls


def _let_call(agent: AgentFrame, op: AgentOp, block: BlockFrame) -> None:
    """Let the tool calls of a reply follow in its turn."""
    if agent.calls and _may_call(agent, op):
        assert block.ops is not None
        block.ops = (*block.ops, ParallelOp(branches=(), parallelism=op.parallelism, on_item_error="collect"))


def _checked(
    walker: Walker, branch: Branch, frame: CallFrame, op: AgentOp, agent: AgentFrame, reply: Json
) -> Json | Repair:
    """Return a reply, or what of it has to be repaired since the answer does not pass a check."""
    if not agent.answered or missing_tools(op, agent) or frame.round >= op.repair:
        return reply
    output = _output(agent, op)
    found = first_failed(walker, branch, op, agent.path, output)
    if found is None or found.check.on_fail != "repair":
        return reply
    agent.answered = False
    return Repair((found.message,), found.error(output))


def _may_call(agent: AgentFrame, op: AgentOp) -> bool:
    """Whether the calls of a reply are made; in the last turn nobody would see what they give."""
    ends = {rule.tool for rule in op.rules if rule.ends}
    return agent.turns < op.max_rounds or any(call.tool in ends and call.refused is None for call in agent.calls)


def _add_usage(agent: AgentFrame, usage: Json) -> None:
    for name in TOKENS:
        count = tokens_of(usage, name)
        if count:
            agent.usage[name] = agent.usage.get(name, 0) + count


def step_of_turn_ended(
    walker: Walker, branch: Branch, frame: BlockFrame, op: Op, output: Json, *, recorded: bool
) -> None:
    """Take the output of a step of a turn: a summary goes into the conversation, and so does what was recorded.

    Args:
        walker: The execution.
        branch: The branch.
        frame: The turn.
        op: The step.
        output: Its output.
        recorded: Whether it was taken over from another execution, so that nothing was run.

    Raises:
        ForkDiverged: What was recorded is no output of such a step.
    """
    agent = branch.stack[branch.stack.index(frame) - 1]
    if not isinstance(agent, AgentFrame):
        return
    if is_summary(op):
        take_summary(agent, output)
    elif recorded:
        try:
            _take_recorded(walker, branch, frame, agent, op, output)
        except (AttributeError, LookupError, TypeError) as error:
            path = f"{frame.path}.{frame.pc}"
            raise ForkDiverged(f"the recorded output of {path} is not that of a turn of an agent") from error


def _take_recorded(walker: Walker, branch: Branch, frame: BlockFrame, agent: AgentFrame, op: Op, output: Json) -> None:
    step = agent_op(walker, branch, agent)
    if isinstance(op, ParallelOp):
        take_recorded_calls(step, agent, output)
    elif isinstance(op, PromptOp) and "overflow" in output:
        make_room(walker, agent, step, frame, op)
    elif isinstance(op, PromptOp):
        _take_message(walker, agent, step, op.tools, output["choices"][0]["message"], output)
        _let_call(agent, step, frame)


# --- ends ----------------------------------------------------------------------------------------------------------


def turn_ended(walker: Walker, branch: Branch, agent: AgentFrame) -> None:
    """Go on after a turn: with the next one, or with the end of the step.

    Raises:
        RunError: The rounds are used up, or the answer does not pass a check.
    """
    op = agent_op(walker, branch, agent)
    if agent.calls:
        raise _too_many_rounds(agent, op)
    if not agent.answered and not agent.handed and agent.ended is None:
        return
    missing = missing_tools(op, agent)
    if missing and not agent.handed and agent.ended is None:
        agent.answered, agent.reminded = False, missing
        say(agent, f"You cannot finish yet: first call {' and '.join(missing)}.")
        return
    output = _output(agent, op)
    branch.stack.pop()
    found = first_failed(walker, branch, op, agent.path, output)
    if found is None:
        walker.give(branch, output)
    elif found.check.on_fail == "ask":
        ask_person(walker, branch, op, agent.path, agent.path, found, output)
    else:
        raise found.error(output)


def _output(agent: AgentFrame, op: AgentOp) -> Json:
    """Return the output of the step: that of the tool which ended it, or the last reply."""
    if op.unwrap and agent.ended is not None:
        return agent.ended["output"]
    if op.unwrap:
        message = agent.reply["choices"][0]["message"]
        return message["parsed"] if op.output_schema is not None else message.get("content") or ""
    told: dict[str, Json] = {
        "turns": agent.turns,
        "total_usage": {name: agent.usage.get(name, 0) for name in TOKENS if name in agent.usage or name in TOKENS[:3]},
        "messages": agent.messages[agent.first :],
    }
    if agent.ended is not None:
        told["ended_by"] = agent.ended
    return {**agent.reply, **told}
