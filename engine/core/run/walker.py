"""The interpreter's common ground: state, events, timers and the ways a frame ends. Workflow-safe."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from engine.core.contracts.execution import Fork, Origin
from engine.core.errors import BugError, RunError, run_error_from_json
from engine.core.ids import scope_id
from engine.core.kinds import EventType
from engine.core.plan.ir import Plan
from engine.core.plan.ops import Op
from engine.core.run.effects import Call, Effects
from engine.core.run.evaluate import Evaluator
from engine.core.run.events import roll_digest, roll_time
from engine.core.run.frames import BlockFrame, CallFrame, FanFrame, GuardFrame, UndoFrame, Unwind
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch, MachineState
from engine.core.values import Json, compact_json

CALL_WEIGHT = 5_000
"""What a call weighs beside the characters of its request: Temporal's SDK works on it longer than on its text."""
COMMAND_WEIGHT = 500
"""What a timer or the end of a call weighs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who runs: facts about the execution that never change.

    Attributes:
        execution_id: The root execution.
        tenant: Its tenant.
        task_id: The task's id.
        task_version: The task's version.
        metadata: The caller's metadata.
        origin: Where it comes from, if another execution started it.
        labels: Words by which to find it.
        actor: Who started it.
        created_us: When it was asked for, Unix microseconds; 0 = when it began.
        trace: W3C traceparent of what started it; empty = no trace.
        fork: Whose recorded steps it begins with; None = it begins at its beginning.
        deadline_us: When it is out of time, beside the limit of its plan; None = never.
    """

    execution_id: str
    tenant: str = "default"
    task_id: str = ""
    task_version: int = 1
    metadata: dict[str, Any] | None = None
    origin: Origin | None = None
    labels: tuple[str, ...] = ()
    actor: str = ""
    created_us: int = 0
    trace: str = ""
    fork: Fork | None = None
    deadline_us: int | None = None

    @property
    def keys(self) -> str:
        """What the idempotency keys of its calls are made of."""
        if self.fork is not None and self.fork.keys:
            return self.fork.keys
        return self.execution_id if self.origin is None else self.origin.keys


@dataclass(frozen=True, slots=True)
class Timer:
    """What a timer means when it fires."""

    branch: int
    purpose: str
    path: str


def error_json(error: RunError, step: str) -> dict[str, Json]:
    """Return what tasks and callers see of an error: {code, message, step, attempts, details, hint?, retryable}."""
    details = {key: value for key, value in error.details.items() if key not in ("step", "attempts")}
    body: dict[str, Json] = {
        "code": error.code,
        "message": error.message,
        "step": error.details.get("step", step),
        "attempts": error.details.get("attempts", 1),
        "details": details,
        "retryable": error.retryable,
    }
    if error.hint:
        body["hint"] = error.hint
    return body


def error_of(body: dict[str, Json]) -> RunError:
    """Rebuild the error of an error JSON, with its step and attempts in the details."""
    error = run_error_from_json(body, retryable=bool(body.get("retryable", False)))
    error.details["step"] = body.get("step", "")
    error.details["attempts"] = body.get("attempts", 1)
    return error


def _wins(unwind: Unwind, present: Unwind) -> bool:
    return present.then != "stop" and (unwind.then == "stop" or unwind.depth < present.depth)


class Walker:
    """State of one execution and the operations that all stages share.

    Args:
        plan: The plan.
        effects: The outside world.
        identity: Who runs.
        state: State carried over from an earlier run; None to begin.
    """

    def __init__(self, plan: Plan, effects: Effects, identity: Identity, state: MachineState | None = None) -> None:
        self.plan = plan
        self.effects = effects
        self.identity = identity
        self.state = state or MachineState()
        self.branches: dict[int, Branch] = {branch.id: branch for branch in self.state.branches}
        seed = "" if identity.fork is None else identity.fork.seed
        self.evaluator = Evaluator(plan, identity.execution_id, identity.task_id, seed=seed)
        # in the present activation: characters of events, and the weight of what the outside was asked for
        self.told = self.asked = 0
        self.held: deque[int] = deque()
        self.runnable: deque[int] = deque()
        self.calls: dict[str, int] = {}
        self.timers: dict[str, Timer] = {}
        # those that struck while the execution stood still
        self.late: dict[str, None] = {}
        self.open_waits: dict[str, None] = {}
        self.draining = False

    # --- events ------------------------------------------------------------------------------------------------

    def emit(self, event_type: EventType, body: dict[str, Json]) -> None:
        """Number an event, add it to the rolling hash and hand it out."""
        state = self.state
        state.seq += 1
        text = compact_json(body)
        state.digest = roll_digest(state.digest, state.seq, event_type.value, text)
        if state.times is not None:
            state.times = roll_time(state.times, self.effects.now_us())
        self.told += len(text)
        self.effects.emit(state.seq, event_type.value, text)

    def step_body(self, branch: Branch, frame: BlockFrame, op: Op, output: Json, *, last: bool) -> dict[str, Json]:
        """Return the members that `step`, `finish_branch` and `finish` events of a step have in common."""
        body: dict[str, Json] = {
            "path": f"{frame.path}.{frame.pc}",
            "workflow": frame.workflow,
            "index": frame.pc,
            "scope": branch.scope.id,
            "kind": op.op.value,
            "output": output,
            "next": None if last else frame.pc + 1,
        }
        if op.label:
            body["label"] = op.label
        if frame.started_us != self.evaluator.now_us:
            body["started_us"] = frame.started_us
        return body

    # --- places ------------------------------------------------------------------------------------------------

    def op_at(self, frame: BlockFrame) -> Op:
        """Return the op that a block frame stands at."""
        return self.ops_of(frame)[frame.pc]

    def ops_of(self, frame: BlockFrame) -> tuple[Op, ...]:
        """Return all ops of the block that a frame walks."""
        return self.plan.blocks[frame.block].ops if frame.ops is None else frame.ops

    def step_frame(self, branch: Branch) -> BlockFrame:
        """Return the innermost block frame, which stands at the step that is running.

        Raises:
            BugError: If there is none.
        """
        for frame in reversed(branch.stack):
            if isinstance(frame, BlockFrame):
                return frame
        raise BugError("a running branch has no block")

    def step_frame_below(self, branch: Branch, guard: GuardFrame) -> BlockFrame:
        """Return the block frame that stands at the step which a guard watches.

        Raises:
            BugError: If a guard has no block below it.
        """
        below = branch.stack[branch.stack.index(guard) - 1]
        if isinstance(below, BlockFrame):
            return below
        raise BugError(f"the guard of {guard.path} stands on no block")

    def scope_id(self, path: str) -> str:
        """Return the id of the scope that is opened at a path."""
        return scope_id(self.identity.execution_id, path)

    # --- ways on -----------------------------------------------------------------------------------------------

    def enqueue(self, branch: Branch) -> None:
        """Let a branch run on."""
        self.runnable.append(branch.id)

    def give(self, branch: Branch, value: Json) -> None:
        """Hand a value to the topmost frame of a branch."""
        branch.returned = True
        branch.value = value

    def push_block(
        self,
        branch: Branch,
        block: int,
        value: Json,
        path: str,
        workflow: str,
        *,
        construct: str,
        of: int | None = None,
        more: dict[str, Json] | None = None,
        ops: tuple[Op, ...] | None = None,
    ) -> None:
        """Enter a branch body.

        Args:
            branch: The branch.
            block: Number of the block; -1 = it stands in no plan.
            value: Its input.
            path: Its path.
            workflow: Its name in transitions.
            construct: What it is.
            of: How many bodies the loop or fan will run.
            more: Told beside that.
            ops: What it runs, if it stands in no plan.
        """
        body: dict[str, Json] = {
            "path": path,
            "workflow": workflow,
            "scope": branch.scope.id,
            "construct": construct,
            "input": value,
        }
        if of is not None:
            body["of"] = of
        self.emit(EventType.INIT_BRANCH, body | (more or {}))
        branch.stack.append(BlockFrame(block, 0, value, path, workflow, "body", ops=ops))

    def push_list(self, branch: Branch, name: str, value: Json, path: str) -> None:
        """Enter a named list with a fresh scope; the caller has pushed the frame that marks the place."""
        scope = Scope(self.scope_id(path), name, value)
        branch.scopes.append(scope)
        self.emit(
            EventType.INIT_BRANCH,
            {"path": path, "workflow": name, "scope": scope.id, "construct": "yield", "input": value},
        )
        branch.stack.append(BlockFrame(self.plan.workflows[name], 0, value, path, name, "list"))

    def start_branch(
        self,
        parent: Branch,
        block: int,
        value: Json,
        path: str,
        workflow: str,
        construct: str,
        of: int,
        ops: tuple[Op, ...] | None = None,
    ) -> int:
        """Start a concurrent branch with a copy of its parent's scope and return its number; see `push_block`."""
        number = self.state.next_branch
        self.state.next_branch += 1
        inherited = next(
            (
                frame.error
                for frame in reversed(parent.stack)
                if isinstance(frame, GuardFrame) and frame.phase == "handler"
            ),
            parent.error,
        )
        branch = Branch(number, parent.id, [], [parent.scope.fork()], inherited)
        self.branches[number] = branch
        forked = self.state.forked
        if forked is not None and parent.id in forked.times:
            forked.times[number] = forked.times[parent.id]
        self.push_block(branch, block, value, path, workflow, construct=construct, of=of, ops=ops)
        self.enqueue(branch)
        return number

    def fail(self, branch: Branch, error: RunError, path: str) -> None:
        """Raise an error in a branch: frames go until a guard takes it."""
        self.unwind(branch, Unwind(len(branch.stack), "raise", error_json(error, path)))

    def unwind(self, branch: Branch, unwind: Unwind) -> None:
        """Begin to take frames off; an unwinding that goes deeper, or stops the branch, wins over one under way."""
        shield = next((i for i, frame in enumerate(branch.stack) if isinstance(frame, UndoFrame)), None)
        if shield is not None and unwind.depth <= shield:
            frame = branch.stack[shield]
            assert isinstance(frame, UndoFrame)
            if _wins(unwind, frame.unwind):
                frame.unwind = unwind
            return
        present = branch.unwind
        if present is None or _wins(unwind, present):
            branch.unwind = unwind
            branch.returned = False
        self.enqueue(branch)

    def stop_children(self, fan: FanFrame, *, gently: bool = False) -> None:
        """Stop every running branch of a fan; asked again whenever one of thousands has ended, it does nothing.

        Args:
            fan: The fan.
            gently: Nothing is undone in them: what has to be stays with the branch around.
        """
        if fan.stopping:
            return
        fan.stopping = True
        for number in fan.running:
            self.unwind(self.branches[int(number)], Unwind(0, "interrupt" if gently else "stop"))

    # --- timers and calls --------------------------------------------------------------------------------------

    def arm(self, branch: Branch, purpose: str, path: str, deadline_us: int, summary: str) -> None:
        """Start a timer; its id is made of purpose and path."""
        timer_id = f"{purpose}:{path}"
        self.timers[timer_id] = Timer(branch.id, purpose, path)
        self.late.pop(timer_id, None)
        self.asked += COMMAND_WEIGHT
        self.effects.start_timer(timer_id, deadline_us, summary)

    def disarm(self, purpose: str, path: str) -> None:
        """Forget a timer if it is running."""
        timer_id = f"{purpose}:{path}"
        if self.timers.pop(timer_id, None) is not None:
            self.effects.cancel_timer(timer_id)

    def start_call(self, branch: Branch, frame: CallFrame, call: Call, started: dict[str, Json]) -> None:
        """Start a call and say so; `started` is the body of the event."""
        frame.parked = False
        guard = branch.stack[-2]
        if isinstance(guard, GuardFrame):
            guard.call_id = call.id
        self.calls[call.id] = branch.id
        before = self.told
        self.emit(EventType.EFFECT_STARTED, started)
        self.asked += self.told - before + CALL_WEIGHT
        self.effects.start_call(call)

    def start_quiet_call(self, branch: Branch, frame: CallFrame, call: Call, weight: int) -> None:
        """Start a call of which nothing is told; `weight` is the number of characters that it carries."""
        frame.parked = False
        self.calls[call.id] = branch.id
        self.asked += weight + CALL_WEIGHT
        self.effects.start_call(call)

    def open_wait(self, wait_id: str) -> None:
        """Note that a wait is open and tell the outside."""
        self.open_waits[wait_id] = None
        self.effects.set_waiting(tuple(self.open_waits))

    def close_wait(self, wait_id: str) -> None:
        """Note that a wait is closed and tell the outside."""
        self.open_waits.pop(wait_id, None)
        self.effects.set_waiting(tuple(self.open_waits))
