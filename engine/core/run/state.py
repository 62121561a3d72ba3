"""The interpreter's state: scopes, frames and branches as plain data that can be stored at any moment. Workflow-safe.

A branch is one line of control with a stack of frames; the topmost frame says what the branch does now. Nothing about a
running execution lives in Python's own stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.core.values import Json

StepRecord = dict[str, Json]
"""{input, output} of a step that ended."""


@dataclass(slots=True, eq=False)
class Scope:
    """What the steps of one named list see of each other.

    Attributes:
        id: UUID text, derived from the execution and the place.
        workflow: Name of the list.
        input: Its input.
        steps: Records of the top-level steps that ended, in order.
        labels: Records of labelled steps that are visible.
        state: What `set` steps wrote.
    """

    id: str
    workflow: str
    input: Json
    steps: list[StepRecord] = field(default_factory=list)
    labels: dict[str, StepRecord] = field(default_factory=dict)
    state: dict[str, Json] = field(default_factory=dict)

    def fork(self) -> Scope:
        """Return the copy that a concurrent branch works on."""
        return Scope(self.id, self.workflow, self.input, list(self.steps), dict(self.labels), dict(self.state))


@dataclass(slots=True, eq=False)
class BlockFrame:
    """Walks the ops of a block.

    Attributes:
        block: Number of the block in the plan.
        pc: Position of the op that runs now.
        value: Input of that op.
        path: Step path of the block; ops are `<path>.<pc>`.
        workflow: Name shown in transitions, e.g. `main[3].if_else.then`.
        role: `list` for a named list (its ops are numbered in `steps`), `body` for a branch body.
    """

    block: int
    pc: int
    value: Json
    path: str
    workflow: str
    role: Literal["list", "body"]
    t: Literal["block"] = "block"


@dataclass(slots=True, eq=False)
class GuardFrame:
    """Watches over a step that has a retry policy, a time limit or error handling.

    Attributes:
        path: Step path.
        input: Input of the step, given to every attempt.
        attempt: Attempt that runs now, from 1.
        phase: `body` = the step runs; `pause` = before the next attempt; `handler` = `on_error` runs.
        state: The scope's state before the first attempt; None if there is nothing to restore.
        error: JSON of the last error.
        deadline_us: When the present pause ends.
        attempt_deadline_us: When the present attempt is out of time.
        total_deadline_us: When the step is out of time.
    """

    path: str
    input: Json
    attempt: int = 1
    phase: Literal["body", "pause", "handler"] = "body"
    state: dict[str, Json] | None = None
    error: dict[str, Json] | None = None
    deadline_us: int | None = None
    attempt_deadline_us: int | None = None
    total_deadline_us: int | None = None
    t: Literal["guard"] = "guard"


@dataclass(slots=True, eq=False)
class CallFrame:
    """Waits for a call to the outside.

    Attributes:
        path: Step path.
        input: Input of the step.
        call_id: Id of the call.
        parked: True until the call is started: it may be held back because the run is about to be continued as new, or
            because too many calls are under way.
        round: Repair round of a structured reply, from 0.
        messages: Messages of the prompt, None for tools.
        cancelling: True once the end of the call was asked for.
    """

    path: str
    input: Json
    call_id: str
    parked: bool = False
    round: int = 0
    messages: list[dict[str, Any]] | None = None
    cancelling: bool = False
    t: Literal["call"] = "call"


@dataclass(slots=True, eq=False)
class SleepFrame:
    """Waits for a time; then hands its value on."""

    timer_id: str
    deadline_us: int
    value: Json
    t: Literal["sleep"] = "sleep"


@dataclass(slots=True, eq=False)
class WaitFrame:
    """Waits for an answer.

    Attributes:
        wait_id: Id of the wait (the step path).
        opened: Number of the wait in the execution, which gives the order.
        schema: JSON Schema of the answer.
    """

    wait_id: str
    opened: int
    schema: Json
    t: Literal["wait"] = "wait"


@dataclass(slots=True, eq=False)
class ForeachFrame:
    """Runs a block for one item after another."""

    path: str
    items: list[Json]
    outputs: list[Json] = field(default_factory=list)
    t: Literal["foreach"] = "foreach"


@dataclass(slots=True, eq=False)
class FanFrame:
    """Runs branches concurrently.

    Attributes:
        path: Step path of the map or parallel step.
        items: Input of each branch.
        next: Number of the first branch that was not started yet.
        running: Slot number of each running branch, by branch id (as text, for JSON).
        done: Outputs by slot number (as text).
        left_out: Slots whose failed item was skipped.
        stopping: Whether the running branches were told to stop.
    """

    path: str
    items: list[Json]
    next: int = 0
    running: dict[str, int] = field(default_factory=dict)
    done: dict[str, Json] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    stopping: bool = False
    t: Literal["fan"] = "fan"


@dataclass(slots=True, eq=False)
class FoldFrame:
    """Folds the outputs of a map, item by item, so that a long fold can pause between two of them.

    Attributes:
        path: Step path of the map.
        outputs: What is folded.
        next: Number of the output that comes next.
        results: What the fold has given so far.
    """

    path: str
    outputs: list[Json]
    next: int = 0
    results: Json = None
    t: Literal["fold"] = "fold"


@dataclass(slots=True, eq=False)
class YieldFrame:
    """Marks where a named list was entered; the branch's innermost scope belongs to it."""

    path: str
    t: Literal["yield"] = "yield"


Frame = Annotated[
    BlockFrame | GuardFrame | CallFrame | SleepFrame | WaitFrame | ForeachFrame | FanFrame | FoldFrame | YieldFrame,
    Field(discriminator="t"),
]


@dataclass(slots=True, eq=False)
class Unwind:
    """A branch is taking frames off its stack.

    Attributes:
        depth: Frames at or above this depth go whatever they are.
        then: What happens at that depth: `raise` the error to the guards below, `return` the value to the frame below,
            or `stop` the branch.
        error: JSON of the error for `raise`.
        value: Value for `return`.
    """

    depth: int
    then: Literal["raise", "return", "stop"]
    error: dict[str, Json] | None = None
    value: Json = None


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
    """

    id: int
    parent: int | None
    stack: list[Frame]
    scopes: list[Scope]
    error: dict[str, Json] | None = None
    unwind: Unwind | None = None
    returned: bool = False
    value: Json = None

    @property
    def scope(self) -> Scope:
        """The innermost scope."""
        return self.scopes[-1]


@dataclass(slots=True, eq=False)
class MachineState:
    """Everything that an execution carries over continue-as-new.

    Attributes:
        branches: All living branches.
        next_branch: Number of the next branch.
        steps_run: Steps so far, for the limit.
        tokens_used: Tokens of all model calls so far.
        waits_opened: Number of waits so far.
        deadline_us: When the execution is out of time.
        answers: Outcome of every answer key: {accepted, wait_id, code}.
        seq: Number of the last event.
        digest: Rolling hash over the events.
        cancel: {reason, actor} once cancelled.
        started: Whether the first event was emitted.
    """

    branches: list[Branch] = field(default_factory=list)
    next_branch: int = 1
    steps_run: int = 0
    tokens_used: int = 0
    waits_opened: int = 0
    deadline_us: int | None = None
    answers: dict[str, dict[str, Json]] = field(default_factory=dict)
    seq: int = 0
    digest: str = ""
    cancel: dict[str, Json] | None = None
    started: bool = False
