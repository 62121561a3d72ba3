"""The interpreter: runs branches until all wait for the outside, and takes what the outside reports. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from engine.core.contracts.execution import AnswerSignal, EventSignal
from engine.core.errors import BugError, LimitExceeded, RunError
from engine.core.kinds import EventType
from engine.core.plan.codec import check_library
from engine.core.plan.ir import Plan
from engine.core.plan.planned import check_runnable
from engine.core.run import answers, guards, inbox
from engine.core.run.calls import send_call, take_outcome
from engine.core.run.children import is_child, send_child, take_child
from engine.core.run.effects import CallOutcome, Effects, Failed, Ok, Stopped
from engine.core.run.ending import begin_finally, final_outcome, finally_timed_out, look_at_ending
from engine.core.run.fans import BranchOutcome, Returned, child_ended, fold_one, resume_race, stagger_passed
from engine.core.run.loops import next_item, round_ended
from engine.core.run.release import let_go
from engine.core.run.state import (
    BlockFrame,
    Branch,
    CallFrame,
    FanFrame,
    FoldFrame,
    ForeachFrame,
    GuardFrame,
    LoopFrame,
    MachineState,
    Scope,
    SleepFrame,
    UndoFrame,
    Unwind,
    WaitFrame,
    YieldFrame,
)
from engine.core.run.steps import begin_body, end_step, leave_block, start_step
from engine.core.run.telling import tell_end
from engine.core.run.undoing import arm_undo, begin_undo, hand_down, undo_failed, undo_next, undo_timed_out
from engine.core.run.waits import arm_deadline, expire
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


Action = Callable[[Walker, Branch], None]

OUR_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a mistake in the interpreter raises. Left as they are, these would fail the workflow task and be tried again for
ever without anybody being told; as BugError they end the execution."""


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

    def start(self, given: Json) -> None:
        """Begin an execution with its input."""
        walker = self.walker
        identity, plan = walker.identity, walker.plan
        scope = Scope(walker.scope_id("main"), "main", given)
        origin = identity.origin
        parent = {} if origin is None else {"parent": {"execution_id": origin.execution_id, "path": origin.path}}
        root = Branch(0, None, [BlockFrame(plan.workflows["main"], 0, given, "main", "main", "list")], [scope])
        walker.branches[0] = root
        walker.emit(
            EventType.INIT,
            {
                "workflow": "main",
                "scope": scope.id,
                "input": given,
                "task": plan.task,
                "task_id": identity.task_id,
                "version": identity.task_version,
                "tenant": identity.tenant,
                "agent_id": plan.agent.id,
                "metadata": identity.metadata or {},
                **_told_of(identity),
                **parent,
            },
        )
        if plan.limits.seconds is not None:
            walker.state.deadline_us = walker.effects.now_us() + round(plan.limits.seconds * 1e6)
            self._arm_limit()
        walker.enqueue(root)

    def resume(self) -> None:
        """Go on from carried state: start clocks and held-back calls again."""
        walker = self.walker
        self._look_at_clock()
        self._arm_limit()
        look_at_ending(walker)
        for branch in list(walker.branches.values()):
            guards.restore_timers(walker, branch)
            top = branch.stack[-1] if branch.stack else None
            if isinstance(top, SleepFrame):
                walker.arm(branch, "sleep", top.timer_id, top.deadline_us, f"sleep of {top.timer_id}")
            elif isinstance(top, WaitFrame):
                walker.open_waits[top.wait_id] = None
                arm_deadline(walker, branch, top)
            elif isinstance(top, FanFrame):
                resume_race(walker, branch, top)
            for frame in branch.stack:
                if isinstance(frame, UndoFrame):
                    arm_undo(walker, branch, frame)
        if walker.open_waits:
            walker.effects.set_waiting(tuple(walker.open_waits))
        self.end_drain()

    def _arm_limit(self) -> None:
        deadline = self.walker.state.deadline_us
        if deadline is not None and self.walker.state.ending is None:
            self.walker.arm(self.walker.branches[0], "limit", "", deadline, "time limit of the execution")

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
        return bool(self.walker.runnable) and self.result is None

    @property
    def calls_under_way(self) -> int:
        """Number of calls whose outcome is not known yet."""
        return len(self.walker.calls)

    def carry(self) -> MachineState:
        """Return the state for the next run; no call may be under way.

        Raises:
            BugError: If a call is under way.
        """
        if self.walker.calls or self.walker.runnable:
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
        while (walker.runnable or self._let_held_go()) and self.result is None:
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
            return self._attempt(branch, _take_value)
        if isinstance(top, BlockFrame):
            return self._attempt(branch, lambda walker, moved: start_step(walker, moved, top))
        if isinstance(top, UndoFrame):
            undo_next(self.walker, branch, top)
            return True
        if isinstance(top, FoldFrame):
            return self._attempt(branch, lambda walker, moved: fold_one(walker, moved, top))
        if isinstance(top, CallFrame) and top.parked and not self.walker.draining:
            return self._send_parked(branch)
        return False

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
        return self._attempt(branch, lambda walker, held: send(walker, held, _call_frame(held)))

    def _attempt(self, branch: Branch, action: Action) -> bool:
        try:
            action(self.walker, branch)
        except RunError as error:
            frame = self.walker.step_frame(branch)
            self.walker.fail(branch, error, f"{frame.path}.{frame.pc}")
        except OUR_MISTAKES as error:
            raise BugError(f"the interpreter broke: {type(error).__name__}: {error}", code="bug.interpreter") from error
        return True

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
            if unwind.then != "return" and isinstance(top, (BlockFrame, GuardFrame)) and top.undos:
                begin_undo(self.walker, branch, top, unwind)
                return True
            if depth <= unwind.depth:
                if unwind.then == "return":
                    break
                if unwind.then == "raise" and isinstance(top, GuardFrame) and self._guard_takes(branch, top, unwind):
                    branch.unwind = None
                    return True
            if not let_go(self.walker, top):
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
        if branch.parent is None:
            if not begin_finally(walker, outcome, branch):
                self.result = Finished(final_outcome(walker, outcome))
            return
        parent = walker.branches[branch.parent]
        fan = parent.stack[-1]
        assert isinstance(fan, FanFrame)
        hand_down(parent, branch.undos)
        self._attempt(parent, lambda _walker, _parent: child_ended(walker, parent, fan, branch.id, outcome))
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
            self._attempt(branch, lambda walker, moved: take(walker, moved, _call_frame(moved), outcome))
        self.walker.enqueue(branch)

    def timer_fired(self, timer_id: str) -> None:
        """Take the news that a timer reached its deadline."""
        walker = self.walker
        self._look_at_clock()
        timer = walker.timers.pop(timer_id, None)
        branch = walker.branches.get(timer.branch) if timer is not None else None
        if timer is None or branch is None:
            return
        if timer.purpose == "limit":
            self._out_of_time(branch)
        elif timer.purpose == "finally":
            finally_timed_out(walker, branch)
        elif timer.purpose == "sleep":
            top = branch.stack[-1]
            if isinstance(top, SleepFrame) and branch.unwind is None:
                branch.stack.pop()
                walker.give(branch, top.value)
        elif timer.purpose == "undo":
            undo_timed_out(walker, branch, timer.path)
        elif timer.purpose in ("wait", "stagger"):
            self._frame_timer(branch, timer.purpose)
        else:
            self._guard_timer(branch, timer.purpose, timer.path)
        walker.enqueue(branch)

    def _frame_timer(self, branch: Branch, purpose: str) -> None:
        top = branch.stack[-1] if branch.stack else None
        if branch.unwind is not None:
            return
        if purpose == "wait" and isinstance(top, WaitFrame):
            self._attempt(branch, lambda walker, moved: expire(walker, moved, top))
        elif purpose == "stagger" and isinstance(top, FanFrame):
            self._attempt(branch, lambda walker, moved: stagger_passed(walker, moved, top))

    def _out_of_time(self, root: Branch) -> None:
        limit = self.walker.plan.limits.seconds
        error = LimitExceeded(f"the execution took longer than its limit of {limit} s", code="limit.time")
        self.walker.unwind(root, Unwind(0, "raise", error_json(error, "main")))

    def _guard_timer(self, branch: Branch, purpose: str, path: str) -> None:
        guard = guards.find_guard(branch, path)
        if guard is None or (branch.returned and branch.stack[-1] is guard):
            return  # the step has its value already: what is done before the clock strikes counts
        if purpose == "attempt":
            guards.attempt_timed_out(self.walker, branch, guard)
        elif purpose == "total":
            guards.total_timed_out(self.walker, branch, guard)
        elif branch.unwind is None and guard.phase == "pause":
            self._next_attempt(branch, guard)

    def _next_attempt(self, branch: Branch, guard: GuardFrame) -> None:
        walker = self.walker
        op = walker.op_at(walker.step_frame_below(branch, guard))
        guard.attempt += 1
        guard.phase, guard.deadline_us, guard.call_id = "body", None, ""
        if guard.state is not None:
            branch.scope.state = dict(guard.state)
        guards.arm_attempt(walker, branch, guard, op)
        self._attempt(branch, lambda _walker, moved: begin_body(_walker, moved, op, guard.path, guard.input))

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

    def cancel(self, reason: str, actor: str) -> None:
        """Stop everything and end the execution as cancelled."""
        root = self.walker.branches.get(0)
        if root is None or self.walker.state.ending is not None:
            return  # the finally steps are shielded: the end is decided already
        self.walker.state.cancel = {"reason": reason, "actor": actor}
        self.walker.unwind(root, Unwind(0, "stop"))


def _told_of(identity: Identity) -> dict[str, Json]:
    """Return what an execution's first event tells beside its task, as far as there is something to tell."""
    told: dict[str, Json] = {
        "labels": list(identity.labels),
        "actor": identity.actor,
        "created_us": identity.created_us,
        "trace": identity.trace,
    }
    return {name: value for name, value in told.items() if value}


def _has_parked_call(branch: Branch) -> bool:
    top = branch.stack[-1] if branch.stack else None
    return isinstance(top, CallFrame) and top.parked and branch.unwind is None


def _call_frame(branch: Branch) -> CallFrame:
    top = branch.stack[-1]
    if not isinstance(top, CallFrame):
        raise BugError(f"branch {branch.id} does not wait for a call")
    return top


def _take_value(walker: Walker, branch: Branch) -> None:
    """Let the topmost frame take the value that was handed to it."""
    top = branch.stack[-1]
    value = branch.value
    branch.returned, branch.value = False, None
    if isinstance(top, BlockFrame):
        end_step(walker, branch, top, value)
    elif isinstance(top, GuardFrame):
        guards.release_guard(walker, top)
        branch.stack.pop()
        hand_down(branch, top.undos)
        walker.step_frame(branch).unmade = top.phase == "handler"
        walker.give(branch, value)
    elif isinstance(top, ForeachFrame):
        top.outputs.append(value)
        next_item(walker, branch, top)
    elif isinstance(top, LoopFrame):
        round_ended(walker, branch, top, value)
    elif isinstance(top, YieldFrame):
        branch.stack.pop()
        branch.scopes.pop()
        walker.give(branch, value)
    elif isinstance(top, UndoFrame):
        pass  # what an undoing gives is nobody's input; the next one follows
    else:
        raise BugError(f"a {top.t} frame was handed a value")
