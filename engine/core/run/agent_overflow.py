"""Stage: conversations that outgrow the model — what is left out or summarised, so that it goes on. Workflow-safe.

The first message and those of the system stay, and so does what was said last. A tool call and its result go together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from engine.core.kinds import EventType
from engine.core.plan.computed import Lit
from engine.core.plan.ops import AgentOp, PromptOp
from engine.core.run.agent_talk import rewrite
from engine.core.run.frames import BlockFrame, CallFrame, GuardFrame
from engine.core.run.talk_frames import AgentFrame
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json

TOO_LONG: Final = "backend.context_too_long"
MOST_CUTS: Final = 5
"""How often the conversation is shortened within one turn."""
MOST_TO_SUMMARISE: Final = 60_000
"""Characters that a model is given to summarise; a small model takes no more."""
MOST_OF_MESSAGE: Final = 4_000
"""Characters of one message among them."""
LEAST_OF_RESULT: Final = 500
"""To how many characters tool results are shortened at most, once nothing else is left to leave out."""
SUMMARY: Final = "Summary of what was said before:"

_TASK: Final = (
    "You shorten conversations between an assistant and its tools. Keep what is needed to go on: the goal, decisions, "
    "names, numbers and results, and what is still to be done. Answer with the summary alone."
)


def make_room(
    walker: Walker, agent: AgentFrame, op: AgentOp, block: BlockFrame, asked: PromptOp
) -> dict[str, Json] | None:
    """Shorten the conversation, or let a model summarise it, and ask once more: both are further steps of the turn.

    Args:
        walker: The execution.
        agent: The agent.
        op: Its step.
        block: The turn.
        asked: What was asked.

    Returns:
        What the step that was asked in vain hands on; None = nothing can be left out any more.
    """
    assert block.ops is not None
    if op.on_overflow == "error" or sum(other == asked for other in block.ops) > MOST_CUTS:
        return None
    number = _units_to_drop(agent)
    told: dict[str, Json] = {"overflow": op.on_overflow, "messages": _size(agent, number)}
    if number and op.on_overflow == "summarise":
        block.ops = (*block.ops, _summary_op(agent, asked, number), asked)
        return told
    if number:
        _replace_units(agent, number, [])
    elif not _shorten_results(agent):
        return None
    block.ops = (*block.ops, asked)
    return told


def tell_overflow(
    walker: Walker, guard: GuardFrame, frame: CallFrame, op: PromptOp, error: dict[str, Json], told: dict[str, Json]
) -> None:
    """Say that the conversation has outgrown the model, and what is done about it."""
    body: dict[str, Json] = {
        "path": guard.path,
        "effect_id": frame.call_id,
        "kind": op.op.value,
        "attempt": guard.attempt,
        "error": error,
        "retry_in_s": 0,
        **told,
    }
    walker.emit(EventType.ATTEMPT_FAILED, body)


def take_summary(agent: AgentFrame, summary: Json) -> None:
    """Put a summary in the place of what it is of."""
    text = summary if isinstance(summary, str) else compact_json(summary)
    _replace_units(agent, _units_to_drop(agent), [{"role": "user", "content": f"{SUMMARY}\n{text}"}])


def is_summary(op: object) -> bool:
    """Whether an op of a turn asks for a summary."""
    return isinstance(op, PromptOp) and op.unwrap


# --- what is left out ----------------------------------------------------------------------------------------------


def _head(agent: AgentFrame) -> int:
    """Return how many messages always stay: those of the system at the beginning, and the first one after them."""
    number = 0
    while number < len(agent.messages) and agent.messages[number].get("role") in ("system", "developer"):
        number += 1
    return min(number + 1, len(agent.messages))


def _units(agent: AgentFrame) -> list[list[dict[str, Any]]]:
    """Return what can be left out, in parts that belong together: a message and the tool results behind it."""
    units: list[list[dict[str, Any]]] = []
    for message in agent.messages[_head(agent) :]:
        if units and message.get("role") == "tool":
            units[-1].append(message)
        else:
            units.append([message])
    return units


def _units_to_drop(agent: AgentFrame) -> int:
    """Return how many of the oldest parts go, so that half of the characters are left; the last part always stays."""
    sizes = [len(compact_json(unit)) for unit in _units(agent)]
    half, left, number = sum(sizes) / 2, sum(sizes), 0
    while number < len(sizes) - 1 and (left > half or number == 0):
        left -= sizes[number]
        number += 1
    return number


def _size(agent: AgentFrame, units: int) -> int:
    return sum(len(unit) for unit in _units(agent)[:units])


def _replace_units(agent: AgentFrame, number: int, instead: list[dict[str, Any]]) -> None:
    head, units = _head(agent), _units(agent)
    kept = [message for unit in units[number:] for message in unit]
    rewrite(agent, [*agent.messages[:head], *instead, *kept], first=min(agent.first, head))


def _shorten_results(agent: AgentFrame) -> bool:
    """Cut the results of tools to half of what they are; False if none is long enough for that."""
    messages = [_shortened(message) for message in agent.messages]
    if messages == agent.messages:
        return False
    rewrite(agent, messages, first=agent.first)
    return True


def _shortened(message: dict[str, Any]) -> dict[str, Any]:
    text = message.get("content")
    if message.get("role") != "tool" or not isinstance(text, str) or len(text) <= 2 * LEAST_OF_RESULT:
        return message
    return {**message, "content": f"{text[: len(text) // 2]}\n… (shortened)"}


# --- summaries -----------------------------------------------------------------------------------------------------


def _summary_op(agent: AgentFrame, asked: PromptOp, number: int) -> PromptOp:
    said = [_line(message) for unit in _units(agent)[:number] for message in unit]
    text = "\n\n".join(said)
    whole = sum(len(compact_json(message)) for message in agent.messages)
    most = min(MOST_TO_SUMMARISE, max(whole // 2, LEAST_OF_RESULT))
    if len(text) > most:
        text = f"…{text[-most:]}"
    messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": text}]
    # whom to ask and how stays; what only tools and schemas need goes
    return replace(asked, messages=Lit(messages), tools=(), tool_choice=None, output_schema=None, unwrap=True)


def _line(message: dict[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else compact_json(content) if content else ""
    calls = [compact_json(call.get("function")) for call in message.get("tool_calls") or ()]
    told = "\n".join([text, *(f"calls {call}" for call in calls)]).strip()
    return f"[{message.get('role')}] {told[:MOST_OF_MESSAGE]}"
