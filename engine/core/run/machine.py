"""The interpreter: runs branches until all wait for the outside, and takes what the outside reports. Workflow-safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from engine.core.contracts.execution import AnswerSignal, ControlSignal, EventSignal, MessageSignal
from engine.core.errors import BugError
from engine.core.plan.codec import check_library
from engine.core.plan.ir import Plan
from engine.core.plan.planned import check_runnable
from engine.core.run import answers, breaks, control, guards, inbox, recorded
from engine.core.run.agents import begin_turn, is_turn, take_turn
from engine.core.run.beginning import begin, go_on
from engine.core.run.calls import send_call, take_outcome
from engine.core.run.children import is_child, send_child, take_child
from engine.core.run.clocks import end_by_force, strike, strike_late
from engine.core.run.effects import CallOutcome, Effects, Failed, Ok, Stopped
from engine.core.run.ending import begin_finally, final_outcome
from engine.core.run.fans import BranchOutcome, Returned, child_ended, fold_one
from engine.core.run.frames import BlockFrame, CallFrame, FanFrame, FoldFrame, GuardFrame, UndoFrame, Unwind, YieldFrame
from engine.core.run.listening import listen_on, take_message, turn_stopped
from engine.core.run.lookups import is_lookup, send_lookup, take_lookup
from engine.core.run.release import let_go
from engine.core.run.state import Branch, MachineState
from engine.core.run.steps import leave_block, start_step
from engine.core.run.taking import take_value
from engine.core.run.talk_frames import AgentFrame, ListenFrame
from engine.core.run.telling import tell_end
from engine.core.run.trying import OUR_MISTAKES as OUR_MISTAKES
from engine.core.run.trying import attempt
from engine.core.run.undoing import begin_undo, hand_down, undo_failed, undo_next
from engine.core.run.walker import Identity, Walker, error_json, error_of
from engine.core.values import Json

STEPS_PER_ACTIVATION = 5_000
FUEL_PER_ACTIVATION = 400_000
"""Less than half a second of expression work; Temporal's deadlock detector allows two, also on a busy machine."""
TEXT_PER_ACTIVATION = 8_000_000
"""Characters of events; to write and hash so many takes some tenths of a second."""
WEIGHT_PER_ACTIVATION = 1_000_000
"""Characters of requests, with what calls and timers weigh beside: Temporal takes the commands of an activation as one
message of at most 4 MB, and its SDK needs some tenths of a millisecond for each."""
MOST_CALLS = 1_000
"""Calls under way at one time; at 2,000 pending activities Temporal refuses every further step of a run, and each
of them makes the others slower long before."""


class Pace(Enum):
    """Why the interpreter stopped running."""

    WAITING = auto()
    """Every branch waits for the outside."""
    BREATHER = auto()
    """It ran long enough for one activation: give it a very short timer and run on."""
    DONE = auto()
    """The execution has ended; `result` says how."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How an execution ended: Ok with its output, Failed with its error, Stopped by a cancel."""

    outcome: Ok | Failed | Stopped


class Machine:
    """One execution of a plan.

    Args:
        plan: The plan.
        effects: The outside world.
        identity: Who runs.
        state: State carried over from an earlier run; None to begin.

    Raises:
        BugError: `plan.stdlib` if the plan was made for an expression library that gives other results than this one.
    """

    def __init__(self, plan: Plan, effects: Effects, identity: Identity, state: MachineState | None = None) -> None:
        check_library(plan)
        check_runnable(plan)
        self.walker = Walker(plan, effects, identity, state)
        self.result: Finished | None = None

    # --- beginning and continuing ------------------------------------------------------------------------------

    def start(self, given: Json, breaks: Sequence[str] = ()) -> None:
        """Begin an execution with its input; `breaks` = steps before which it pauses."""
        begin(self.walker, given, breaks)

    def resume(self) -> None:
        """Go on from carried state: start clocks and held-back calls again."""
        self._look_at_clock()
        go_on(self.walker)
        self.end_drain()

    def begin_drain(self) -> None:
        """Hold new calls back, so that the running ones end and the state can be carried to a new run."""
        self.walker.draining = True

    def end_drain(self) -> None:
        """Let the calls that were held back start."""
        self.walker.draining = False
        for branch in self.walker.branches.values():
            if _has_parked_call(branch):
                self.walker.enqueue(branch)

    def _look_at_clock(self) -> None:
        # expressions see the time of the present activation, also those that run before `run` does
        self.walker.evaluator.now_us = self.walker.effects.now_us()

    @property
    def draining(self) -> bool:
        """Whether new calls are held back."""
        return self.walker.draining

    @property
    def holds_calls(self) -> bool:
        """Whether a branch has a call that is held back."""
        return any(_has_parked_call(branch) for branch in self.walker.branches.values())

    @property
    def has_work(self) -> bool:
        """Whether a branch can run on at once."""
        return bool(self.walker.runnable) and self.result is None and not self.paused

    @property
    def paused(self) -> bool:
        """Whether it stands still because an operator wants it to, or before a break."""
        return self.walker.state.paused is not None

    @property
    def calls_under_way(self) -> int:
        """Number of calls whose outcome is not known yet."""
        return len(self.walker.calls)

    def carry(self) -> MachineState:
        """Return the state for the next run; no call may be under way.

        Raises:
            BugError: If a call is under way.
        """
        if self.walker.calls or self.has_work:
            raise BugError("an execution cannot be carried over while calls or branches are running")
        self.walker.state.branches = list(self.walker.branches.values())
        return self.walker.state

    # --- running -----------------------------------------------------------------------------------------------

    def run(self) -> Pace:
        """Run until every branch waits, the execution ends, or it is time for a breather."""
        walker = self.walker
        self._look_at_clock()
        last_step = walker.state.steps_run + STEPS_PER_ACTIVATION
        walker.evaluator.fuel_used = walker.told = walker.asked = 0
        while self.result is None and walker.state.paused is None and (walker.runnable or self._let_held_go()):
            if (
                walker.state.steps_run >= last_step
                or walker.evaluator.fuel_used >= FUEL_PER_ACTIVATION
                or walker.told >= TEXT_PER_ACTIVATION
                or walker.asked >= WEIGHT_PER_ACTIVATION
            ):
                return Pace.BREATHER
            branch = walker.branches.get(walker.runnable[0])
            if branch is None or not self._move(branch):
                walker.runnable.popleft()
                if walker.state.forked is not None and not walker.runnable and self.result is None:
                    attempt(walker, walker.branches[0], lambda moved, _: recorded.check_progress(moved))
        return Pace.WAITING if self.result is None else Pace.DONE

    def _move(self, branch: Branch) -> bool:
        """Move a branch by one step; False when it waits or has ended."""
        if branch.unwind is not None:
            return self._unwind(branch)
        if not branch.stack:
            if not branch.returned:
                raise BugError(f"branch {branch.id} has nothing to do")
            self._end_branch(branch, Ok(branch.value))
            return False
        top = branch.stack[-1]
        if branch.returned:
            return attempt(self.walker, branch, take_value)
        if isinstance(top, BlockFrame):
            if self.walker.state.breaks or self.walker.state.forked is not None:
                return self._look_and_start(branch, top)
            return attempt(self.walker, branch, lambda walker, moved: start_step(walker, moved, top))
        if isinstance(top, UndoFrame):
            undo_next(self.walker, branch, top)
            return True
        if isinstance(top, FoldFrame):
            return attempt(self.walker, branch, lambda walker, moved: fold_one(walker, moved, top))
        if isinstance(top, ListenFrame):
            return attempt(self.walker, branch, lambda walker, moved: listen_on(walker, moved, top))
        if isinstance(top, AgentFrame):
            return attempt(self.walker, branch, lambda walker, moved: begin_turn(walker, moved, top))
        if isinstance(top, CallFrame) and top.parked and not self.walker.draining:
            return self._send_parked(branch)
        return False

    def _look_and_start(self, branch: Branch, frame: BlockFrame) -> bool:
        """Start a step, unless its output is recorded, a break stands before it or a fork has to come first."""
        walker = self.walker
        if recorded.is_recorded(walker, frame):
            return attempt(walker, branch, lambda walker, moved: recorded.take_recorded(walker, moved, frame))
        if recorded.hold_back(walker, branch, frame):
            return False
        path = f"{frame.path}.{frame.pc}"
        op = walker.op_at(frame)
        if path == walker.state.passed:
            walker.state.passed = ""
        elif walker.state.breaks and breaks.stops_before(walker, branch, frame, op):
            control.stop_before(walker, path)
            return True

        def begin_here(walker: Walker, branch: Branch) -> None:
            recorded.begin_own_step(walker, branch, frame)
            start_step(walker, branch, frame)

        return attempt(walker, branch, begin_here)

    def _let_held_go(self) -> bool:
        walker = self.walker
        free = 0 if walker.draining else MOST_CALLS - len(walker.calls)
        while walker.held and len(walker.runnable) < free:
            walker.runnable.append(walker.held.popleft())
        return bool(walker.runnable)

    def _send_parked(self, branch: Branch) -> bool:
        if len(self.walker.calls) >= MOST_CALLS:
            self.walker.held.append(branch.id)
            return False
        send = send_child if is_child(self.walker, branch) else send_call
        send = send_lookup if is_lookup(self.walker, branch) else send
        return attempt(self.walker, branch, lambda walker, held: send(walker, held, _call_frame(held)))

    # --- unwinding ---------------------------------------------------------------------------------------------

    def _unwind(self, branch: Branch) -> bool:
        unwind = branch.unwind
        assert unwind is not None
        while branch.stack:
            depth = len(branch.stack)
            top = branch.stack[-1]
            if isinstance(top, UndoFrame):
                undo_failed(self.walker, branch, top)
                return True
            undoes = unwind.then not in ("return", "interrupt")
            if undoes and isinstance(top, (BlockFrame, GuardFrame)) and top.undos:
                begin_undo(self.walker, branch, top, unwind)
                return True
            if depth <= unwind.depth:
                if unwind.then in ("return", "interrupt", "rollback"):
                    break
                if unwind.then == "raise" and isinstance(top, GuardFrame) and self._guard_takes(branch, top, unwind):
                    branch.unwind = None
                    return True
            if not let_go(self.walker, top, gently=unwind.then == "interrupt"):
                return False
            branch.stack.pop()
            if isinstance(top, BlockFrame) and unwind.then == "return":
                op = self.walker.op_at(top)
                body = self.walker.step_body(branch, top, op, unwind.value, last=True)
                leave_block(self.walker, branch, body, below=len(branch.stack))
            if isinstance(top, (BlockFrame, GuardFrame)):
                hand_down(branch, top.undos)
            if isinstance(top, YieldFrame):
                branch.scopes.pop()
        branch.unwind = None
        return self._unwound(branch, unwind)

    def _unwound(self, branch: Branch, unwind: Unwind) -> bool:
        if branch.stack and unwind.then in ("interrupt", "rollback"):
            turn_stopped(self.walker, branch, unwind.then)
            return True
        if branch.stack:
            self.walker.give(branch, unwind.value)
            return True
        if unwind.then == "return":
            self._end_branch(branch, Ok(unwind.value) if branch.id == 0 else Returned(unwind.value))
        elif unwind.then == "raise":
            self._end_branch(branch, Failed(error_of(unwind.error or {})))
        else:
            self._end_branch(branch, Stopped())
        return False

    def _guard_takes(self, branch: Branch, guard: GuardFrame, unwind: Unwind) -> bool:
        error = error_of(unwind.error or {})
        if guards.handle_error(self.walker, branch, guard, error):
            return True
        unwind.error = error_json(error, guard.path)
        return False

    # --- ends --------------------------------------------------------------------------------------------------

    def _end_branch(self, branch: Branch, outcome: BranchOutcome) -> None:
        walker = self.walker
        del walker.branches[branch.id]
        recorded.branch_ended(walker, branch)
        if branch.parent is None:
            if not begin_finally(walker, outcome, branch):
                self.result = Finished(final_outcome(walker, outcome))
            return
        parent = walker.branches[branch.parent]
        fan = parent.stack[-1]
        assert isinstance(fan, FanFrame)
        hand_down(parent, branch.undos)
        attempt(self.walker, parent, lambda _walker, _parent: child_ended(walker, parent, fan, branch.id, outcome))
        walker.enqueue(parent)

    # --- what the outside reports ------------------------------------------------------------------------------

    def call_done(self, call_id: str, outcome: CallOutcome) -> None:
        """Take the outcome of a call."""
        self._look_at_clock()
        branch = self.walker.branches.get(self.walker.calls.pop(call_id, -1))
        if branch is None or not branch.stack:
            return
        top = branch.stack[-1]
        if not isinstance(top, CallFrame) or top.call_id != call_id:
            self.walker.enqueue(branch)
            return
        tell_end(self.walker, branch, top, outcome)
        if branch.unwind is None:
            take = take_child if is_child(self.walker, branch) else take_outcome
            take = take_lookup if is_lookup(self.walker, branch) else take
            take = take_turn if is_turn(self.walker, branch) else take
            attempt(self.walker, branch, lambda walker, moved: take(walker, moved, _call_frame(moved), outcome))
        self.walker.enqueue(branch)

    def timer_fired(self, timer_id: str) -> None:
        """Take the news that a timer reached its deadline."""
        self._look_at_clock()
        strike(self.walker, timer_id)

    def answer(self, signal: AnswerSignal) -> None:
        """Take an answer from outside."""
        if self.result is None:
            answers.take_answer(self.walker, signal)

    def expects(self, signal: AnswerSignal) -> bool:
        """Whether an answer has a wait that is open."""
        return answers.is_expected(self.walker, signal)

    def take_event(self, signal: EventSignal) -> None:
        """Take an event from outside."""
        if self.result is None:
            inbox.take_event(self.walker, signal)

    def take_message(self, signal: MessageSignal) -> None:
        """Take a message; what becomes of it is told in an event with its id."""
        self._look_at_clock()
        if self.result is None:
            take_message(self.walker, signal)

    def control(self, signal: ControlSignal) -> None:
        """Take what an operator wants; the outcome is told in an event with its key."""
        self._look_at_clock()
        if self.result is None and control.take_control(self.walker, signal):
            strike_late(self.walker)

    def cancel(self, reason: str, actor: str) -> None:
        """Stop everything and end the execution as cancelled."""
        self._look_at_clock()
        if self.result is None:
            end_by_force(self.walker, "cancel", actor)
        root = self.walker.branches.get(0)
        if root is not None and self.walker.state.ending is None:
            self.walker.state.cancel = {"reason": reason, "actor": actor}
            self.walker.unwind(root, Unwind(0, "stop"))
        # the finally steps are shielded: the end is decided already
        strike_late(self.walker)


def _has_parked_call(branch: Branch) -> bool:
    top = branch.stack[-1] if branch.stack else None
    return isinstance(top, CallFrame) and top.parked and branch.unwind is None


def _call_frame(branch: Branch) -> CallFrame:
    top = branch.stack[-1]
    if not isinstance(top, CallFrame):
        raise BugError(f"branch {branch.id} does not wait for a call")
    return top
