"""The interpreter's state: scopes, frames and branches as plain data that can be stored at any moment. Workflow-safe.

A branch is one line of control with a stack of frames; the topmost frame says what the branch does now. Nothing about a
running execution lives in Python's own stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.core.contracts.execution import Recorded, RecordedTurn
from engine.core.plan.ops import Op
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
