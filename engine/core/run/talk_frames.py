"""Frames of steps that hold a conversation: one that listens for messages, and an agent. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.core.run.scopes import StepRecord
from engine.core.values import Json


@dataclass(slots=True, eq=False)
class KeptMessage:
    """A message that no turn has taken yet; `busy` is the policy by which it waits, or that it wishes for itself."""

    id: str
    name: str
    value: Json
    actor: str
    busy: str = ""


@dataclass(slots=True, eq=False)
class Before:
    """What a turn may be rolled back to."""

    state: dict[str, Json]
    labels: dict[str, StepRecord]


@dataclass(slots=True, eq=False)
class ListenFrame:
    """Takes messages, and runs a block for each turn.

    Attributes:
        path: Step path.
        opened: Number of the step among all that wait; of two with the same inbox the older one takes a message.
        value: Output of the last turn that ended; before, the step's input.
        turns: Turns that have begun.
        queue: Messages for later turns, in order.
        before: What the present turn may be rolled back to; None = no message can ask for that.
    """

    path: str
    opened: int
    value: Json
    turns: int = 0
    queue: list[KeptMessage] = field(default_factory=list)
    before: Before | None = None
    t: Literal["listen"] = "listen"


@dataclass(slots=True, eq=False)
class AskedCall:
    """A tool call that a model asked for.

    Attributes:
        id: The model's id of the call.
        tool: Name of the tool, as the model wrote it.
        arguments: What it is called with.
        refused: JSON of the error for which it is not made; None = it is made.
    """

    id: str
    tool: str
    arguments: dict[str, Json] = field(default_factory=dict)
    refused: dict[str, Json] | None = None


@dataclass(slots=True, eq=False)
class MadeCall:
    """A tool call of the last turn in which any was made; what may follow depends on it.

    Attributes:
        tool: The tool.
        failed: Whether it ended with an error.
        result: What it gave, or {error}, if anything depends on that.
    """

    tool: str
    failed: bool = False
    result: Json = None


@dataclass(slots=True, eq=False)
class AgentFrame:
    """Lets a model use tools, turn after turn.

    Attributes:
        path: Step path.
        input: Input of the step.
        settings: The sampling settings as computed.
        messages: The whole conversation.
        first: How many messages it began with.
        turns: Turns that have begun.
        version: How often the conversation was rewritten, so that what the workers keep of it is of no use.
        known: How many of the messages the workers keep.
        hash: Hash of these.
        called: How often each tool was called.
        made: The calls of the last turn that made any.
        settled: Tools whose calls a person denied.
        denied: Whether that happened in the last turn.
        reminded: Tools that the model has to call next, since it wanted to end without them.
        calls: The calls of the present turn.
        handed: Whether its reply also called a function that is left to the client, so that no turn follows.
        reply: The last reply, in the shape that tasks see.
        answered: Whether it asked for no tool, so that it may be the answer.
        ended: {tool, output} once a tool was called that ends the loop.
        usage: Tokens of all replies together.
    """

    path: str
    input: Json
    settings: dict[str, Any]
    messages: list[dict[str, Any]]
    first: int
    turns: int = 0
    version: int = 0
    known: int = 0
    hash: str = ""
    called: dict[str, int] = field(default_factory=dict)
    made: list[MadeCall] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    denied: bool = False
    reminded: list[str] = field(default_factory=list)
    calls: list[AskedCall] = field(default_factory=list)
    handed: bool = False
    reply: dict[str, Json] = field(default_factory=dict)
    answered: bool = False
    ended: dict[str, Json] | None = None
    usage: dict[str, int] = field(default_factory=dict)
    t: Literal["agent"] = "agent"
