"""Frames: what a branch does now, and what it goes back to when that has ended. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.core.plan.ops import Op
from engine.core.run.talk_frames import AgentFrame, ListenFrame
from engine.core.values import Json


@dataclass(slots=True, eq=False)
class UndoRecord:
    """How to undo a step that succeeded.

    Attributes:
        block: Block that does it.
        output: Output of the step.
        path: Path of the step.
        workflow: Name of the step's list in transitions, with its position.
    """

    block: int
    output: Json
    path: str
    workflow: str


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
        log: What the present step said; goes into the event of its end.
        child_id: The child execution that the present step started last; goes into that event as well.
        undos: How to undo the steps that succeeded, in order.
        unmade: Whether the present step did nothing that could be undone: it was skipped, or its error was handled.
        started_us: When the present step began.
        ops: Ops of a block that stands in no plan: a turn of an agent, or a tool call of one; then `block` is -1.
    """

    block: int
    pc: int
    value: Json
    path: str
    workflow: str
    role: Literal["list", "body"]
    log: str | None = None
    child_id: str = ""
    undos: list[UndoRecord] = field(default_factory=list)
    unmade: bool = False
    started_us: int = 0
    ops: tuple[Op, ...] | None = None
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
        undos: How to undo what succeeded inside the step.
        undone: Whether something inside the step was undone, so that its calls are new ones in the next attempt.
        call_id: Id of the last call of the present attempt; empty = it made none.
        decided: What a person decided about the call: {approved, arguments, reason, secrets?}; None = nobody was asked.
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
    undos: list[UndoRecord] = field(default_factory=list)
    undone: bool = False
    call_id: str = ""
    decided: dict[str, Json] | None = None
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
        round: Repair round of a reply, from 0.
        spent_s: How long the model took for the rounds before, in seconds.
        messages: Messages of the prompt, None for tools.
        runs: The task that the called tool runs as a child; empty = the tool runs none.
        task: The task that is to be run as a child, once it was found (a ResolvedTask as JSON).
        child_id: The child execution, once it was started.
        cancelling: True once the end of the call was asked for.
        replied: Whether the client has made the call.
        reply: What it returned.
        secrets: Where its arguments have placeholders for texts with secrets.
    """

    path: str
    input: Json
    call_id: str
    parked: bool = False
    round: int = 0
    messages: list[dict[str, Any]] | None = None
    spent_s: float = 0.0
    task: dict[str, Json] | None = None
    child_id: str = ""
    cancelling: bool = False
    replied: bool = False
    reply: Json = None
    secrets: list[dict[str, Json]] = field(default_factory=list)
    runs: str = ""
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
        deadline_us: When it gives up; None = never.
        has_default: Whether there is an output for that case.
        default: That output.
        event: Name of the event that is waited for; None = an answer is.
        key: What its key must equal.
        asks: Whether a person is asked to accept `subject`, the result of a call that did not pass its check.
        subject: That result.
        problem: What is wrong with it.
        opened_us: When it was opened.
        inbox: Name of the inbox whose next message is waited for; None = an answer or an event is.
        about: What the answer is for: `approval` or `function_call` of the call in the frame below; empty = its step.
    """

    wait_id: str
    opened: int
    schema: Json
    deadline_us: int | None = None
    has_default: bool = False
    default: Json = None
    event: str | None = None
    key: Json = None
    asks: bool = False
    subject: Json = None
    problem: str = ""
    opened_us: int = 0
    inbox: str | None = None
    about: str = ""
    t: Literal["wait"] = "wait"


@dataclass(slots=True, eq=False)
class ForeachFrame:
    """Runs a block for one item after another."""

    path: str
    items: list[Json]
    outputs: list[Json] = field(default_factory=list)
    t: Literal["foreach"] = "foreach"


@dataclass(slots=True, eq=False)
class LoopFrame:
    """Runs a block again and again while, or until, a condition holds.

    Attributes:
        path: Step path.
        value: Input of the next round; the output of the round before, or of the step itself.
        rounds: Rounds so far.
    """

    path: str
    value: Json
    rounds: int = 0
    t: Literal["loop"] = "loop"


@dataclass(slots=True, eq=False)
class FanFrame:
    """Runs branches concurrently.

    Attributes:
        path: Step path of the map, parallel or race step.
        items: Input of each branch.
        next: Number of the first branch that was not started yet.
        running: Slot number of each running branch, by branch id (as text, for JSON).
        done: Outputs by slot number (as text).
        left_out: Slots whose failed item was skipped.
        stopping: Whether the running branches were told to stop.
        order: Of a race: slots that succeeded, in order of success.
        errors: Of a race: errors of the branches that failed.
        next_us: Of a race: when the next branch is started.
        calls: Whether its items are the tool calls of an agent's turn.
    """

    path: str
    items: list[Json]
    next: int = 0
    running: dict[str, int] = field(default_factory=dict)
    done: dict[str, Json] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    stopping: bool = False
    order: list[int] = field(default_factory=list)
    errors: list[Json] = field(default_factory=list)
    next_us: int | None = None
    calls: bool = False
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


@dataclass(slots=True, eq=False)
class Unwind:
    """A branch is taking frames off its stack.

    Attributes:
        depth: Frames at or above this depth go whatever they are.
        then: What happens at that depth: `raise` the error to the guards below, `return` the value to the frame below,
            or `stop` the branch; `interrupt` and `rollback` end the turn of a step that listens, which stands there.
        error: JSON of the error for `raise`.
        value: Value for `return`.
    """

    depth: int
    then: Literal["raise", "return", "stop", "interrupt", "rollback"]
    error: dict[str, Json] | None = None
    value: Json = None


@dataclass(slots=True, eq=False)
class UndoFrame:
    """Undoes what a block did before it failed or was stopped; shielded: what comes meanwhile waits.

    Attributes:
        path: Path of the block.
        records: What is still to be undone, the last first.
        unwind: What goes on afterwards.
        deadline_us: When it gives up.
    """

    path: str
    records: list[UndoRecord]
    unwind: Unwind
    deadline_us: int
    t: Literal["undo"] = "undo"


Frame = Annotated[
    BlockFrame
    | GuardFrame
    | CallFrame
    | SleepFrame
    | WaitFrame
    | ForeachFrame
    | LoopFrame
    | ListenFrame
    | FanFrame
    | FoldFrame
    | AgentFrame
    | YieldFrame
    | UndoFrame,
    Field(discriminator="t"),
]
