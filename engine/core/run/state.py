"""The interpreter's state: branches and all else that is carried over, as plain data. Workflow-safe.

A branch is one line of control with a stack of frames; the topmost frame says what the branch does now. Nothing about a
running execution lives in Python's own stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.core.contracts.execution import Recorded, RecordedTurn
from engine.core.run.frames import Frame, UndoRecord, Unwind
from engine.core.run.scopes import Scope
from engine.core.run.talk_frames import KeptMessage
from engine.core.values import Json


@dataclass(slots=True, eq=False)
class Branch:
    """One line of control.

    Attributes:
        id: Number of the branch in the execution; 0 is the root.
        parent: Branch whose fan frame owns this one; None for the root.
        stack: Frames, the innermost last.
        scopes: Scopes of the named lists entered in this branch, the innermost last.
        error: What `error` means here if no handler of this branch runs (inherited when the branch was started).
        unwind: What takes frames off the stack now.
        returned: Whether `value` was handed to the topmost frame and waits for it to take it.
        value: That value.
        undos: How to undo what its blocks did, once they have ended.
    """

    id: int
    parent: int | None
    stack: list[Frame]
    scopes: list[Scope]
    error: dict[str, Json] | None = None
    unwind: Unwind | None = None
    returned: bool = False
    value: Json = None
    undos: list[UndoRecord] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        """The innermost scope."""
        return self.scopes[-1]


@dataclass(slots=True, eq=False)
class Ending:
    """How the steps of the task ended, while its `finally` steps run.

    Attributes:
        kind: `ok`, `failed` or `stopped`.
        value: The output.
        error: JSON of the error.
        deadline_us: When the `finally` steps are out of time.
    """

    kind: Literal["ok", "failed", "stopped"]
    value: Json = None
    error: dict[str, Json] | None = None
    deadline_us: int = 0


@dataclass(slots=True, eq=False)
class Paused:
    """An execution stands still because somebody wants it to.

    Attributes:
        since_us: Since when.
        at: Path of the step before which it stopped by itself; empty = it was told to.
    """

    since_us: int
    at: str = ""


@dataclass(slots=True, eq=False)
class Forked:
    """What an execution still takes from the one that it was forked from.

    Attributes:
        path: Path of the first step to run.
        recorded: What steps gave that have not been come to yet, by path.
        state: Written into the state of the first step's list just before it runs.
        reached: Whether that step has begun.
        times: Recorded time of each branch that has not come to a step of its own yet, by its number.
        held: Branches beside that of the first step which wait for it.
        turns: Turns of steps that listen that have not been come to yet, by path.
    """

    path: str
    recorded: dict[str, Recorded]
    state: dict[str, Json]
    reached: bool = False
    times: dict[int, int] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    turns: dict[str, RecordedTurn] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class KeptEvent:
    """An event that nothing has waited for yet."""

    id: str
    name: str
    key: Json
    value: Json
    actor: str


@dataclass(slots=True, eq=False)
class MachineState:
    """Everything that an execution carries over continue-as-new.

    Attributes:
        branches: All living branches.
        next_branch: Number of the next branch.
        steps_run: Steps so far, for the limit.
        rounds_run: Rounds of all loops so far, for the limit.
        tokens_used: Tokens of all model calls so far.
        cost_nano_used: What they cost, in thousand-millionths of a dollar, as far as prices are known.
        waits_opened: Number of waits so far.
        deadline_us: When the execution is out of time.
        inbox: Events that nothing has waited for yet, in the order of their arrival.
        events_taken: Ids of the latest events, so that each is taken once.
        answers: Outcome of every answer key: {accepted, wait_id, code}.
        seq: Number of the last event.
        digest: Rolling hash over the events.
        times: Rolling hash over their times; None = an engine that kept none began the execution.
        cancel: {reason, actor} once cancelled.
        started: Whether the first event was emitted.
        ending: How the steps ended, once the `finally` steps run.
        undone: Whether anything was undone.
        paused: That it stands still; None = it does not.
        breaks: Paths and labels of steps before which it stops.
        passed: Path of the step before which it stopped last, until that step begins.
        controls: Outcome of every key of an operator: {type, body} of the event.
        forked: What it still takes from the execution that it was forked from; None = nothing.
        messages: Messages that no step has listened for yet, in the order of their arrival.
        messages_taken: What became of the latest messages, by id: the event without the value.
        approvals: What a person decided about all calls of a tool, by its name: {approved, reason}.
    """

    branches: list[Branch] = field(default_factory=list)
    next_branch: int = 1
    steps_run: int = 0
    rounds_run: int = 0
    tokens_used: int = 0
    cost_nano_used: int = 0
    waits_opened: int = 0
    deadline_us: int | None = None
    inbox: list[KeptEvent] = field(default_factory=list)
    events_taken: list[str] = field(default_factory=list)
    answers: dict[str, dict[str, Json]] = field(default_factory=dict)
    seq: int = 0
    digest: str = ""
    times: int | None = 0
    cancel: dict[str, Json] | None = None
    started: bool = False
    ending: Ending | None = None
    undone: bool = False
    paused: Paused | None = None
    breaks: list[str] = field(default_factory=list)
    passed: str = ""
    controls: dict[str, dict[str, Json]] = field(default_factory=dict)
    forked: Forked | None = None
    messages: list[KeptMessage] = field(default_factory=list)
    messages_taken: dict[str, dict[str, Json]] = field(default_factory=dict)
    approvals: dict[str, dict[str, Json]] = field(default_factory=dict)
