"""Stage: the conversation of an agent — what of it a call carries, what a reply adds, how results look. Workflow-safe.

The agent's frame has all messages, so the execution is the truth. Workers keep what they have seen, and a call carries
what is new (`engine.core.contracts.conversations`): so a history grows with what is said, not with its square.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from engine.core.contracts.activities import ChatParams
from engine.core.contracts.conversations import Conversation, chain_all, kept_reply
from engine.core.ids import derive_uuid
from engine.core.plan.computed import Lit
from engine.core.plan.ops import Op, PromptOp
from engine.core.run.frames import BlockFrame, CallFrame, GuardFrame
from engine.core.run.state import Branch
from engine.core.run.talk_frames import AgentFrame
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json

MOST_RESULT_CHARS: Final = 50_000
"""Of one tool's result in a conversation; the whole of it stands in the event of the call."""

WHOLE_TALK: Final = Lit(None)
"""Messages of an op that sends the agent's conversation, which stands in the agent's frame."""


def agent_of(branch: Branch, guard: GuardFrame, op: Op) -> AgentFrame | None:
    """Return the agent whose conversation the step of a guard sends to a model; None = it sends none."""
    if not isinstance(op, PromptOp) or op.messages != WHOLE_TALK:
        return None
    place = branch.stack.index(guard)
    below = branch.stack[place - 2] if place >= 2 else None
    return below if isinstance(below, AgentFrame) else None


def agent_around(walker: Walker, branch: Branch) -> AgentFrame | None:
    """Return the agent in one of whose tool calls a branch, or in one of whose turns, something happens."""
    if not any(isinstance(frame, BlockFrame) and frame.ops is not None for frame in branch.stack):
        return None
    around: Branch | None = branch
    while around is not None:
        for frame in reversed(around.stack):
            if isinstance(frame, AgentFrame):
                return frame
        around = None if around.parent is None else walker.branches[around.parent]
    return None


# --- what a call carries -------------------------------------------------------------------------------------------


def new_messages(agent: AgentFrame) -> list[dict[str, Any]]:
    """Return the messages that the workers do not keep yet."""
    return agent.messages[agent.known :]


def with_conversation(
    walker: Walker, agent: AgentFrame, frame: CallFrame, op: PromptOp, asked: ChatParams
) -> ChatParams:
    """Return a call that names the conversation which its messages go on with.

    What has to fit a schema is asked for by the backend's own means where no tools are offered: many have no such means
    beside tools. A reply that did not fit is asked for without tools.

    Args:
        walker: The execution.
        agent: Whose turn it is.
        frame: The frame of the call.
        op: What is asked.
        asked: The call, with the new messages.
    """
    conversation = Conversation(
        id=derive_uuid(walker.identity.execution_id, "conversation", agent.path, str(agent.version)),
        known=agent.known,
        hash=agent.hash,
    )
    schema, tools, choice = op.output_schema, asked.tools, asked.tool_choice
    if schema is not None and frame.round > 0:
        tools, choice = [], None
    return replace(
        asked,
        conversation=conversation,
        tools=tools,
        tool_choice=choice,
        output_schema=None if tools else schema,
    )


def told_request(agent: AgentFrame, params: ChatParams) -> dict[str, Json]:
    """Return what an event tells of a call beside model and settings: only what is new, so that events stay small."""
    told: dict[str, Json] = {"messages": params.messages, "before": agent.known}
    if params.tools:
        told["tools"] = [tool["function"]["name"] for tool in params.tools]
    if params.tool_choice is not None:
        told["tool_choice"] = params.tool_choice
    return told


# --- what a reply adds ---------------------------------------------------------------------------------------------


def forget_kept(agent: AgentFrame) -> None:
    """Let the next call carry the whole conversation."""
    agent.known, agent.hash = 0, ""


def take_message(agent: AgentFrame, message: dict[str, Any]) -> dict[str, Any]:
    """Add a reply's message to the conversation, in a form that backends take back; the worker keeps it as well.

    Args:
        agent: The agent.
        message: The message as the model wrote it.

    Returns:
        The message as it stands in the conversation.
    """
    kept = kept_reply(message, len(agent.messages))
    agent.messages.append(kept)
    agent.hash = chain_all(agent.hash, new_messages(agent))
    agent.known = len(agent.messages)
    return kept


def say(agent: AgentFrame, text: str) -> None:
    """Add a message of the engine to the conversation; as a user's, since many models take only one of the system."""
    agent.messages.append({"role": "user", "content": text})


def rewrite(agent: AgentFrame, messages: list[dict[str, Any]], *, first: int) -> None:
    """Put other messages in the place of the conversation; `first` = how many of them it begins with."""
    agent.messages, agent.first = messages, first
    agent.version += 1
    forget_kept(agent)


# --- what is kept short --------------------------------------------------------------------------------------------


def result_text(output: Json) -> str:
    """Return a tool's result as the model reads it; if it is too long, the end is left out, and the text says so."""
    text = output if isinstance(output, str) else compact_json(output)
    if len(text) <= MOST_RESULT_CHARS:
        return text
    return f"{text[:MOST_RESULT_CHARS]}\n… (the first {MOST_RESULT_CHARS:,} of {len(text):,} characters)"
