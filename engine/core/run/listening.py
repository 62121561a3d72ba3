"""Stage: steps that listen — messages become turns; what comes while one runs goes by policy. Workflow-safe."""

from __future__ import annotations

from engine.core.contracts.execution import MessageSignal, RecordedTurn
from engine.core.contracts.patches import INNER_LISTENS
from engine.core.errors import ForkDiverged, RunError
from engine.core.kinds import EventType
from engine.core.plan.ops import ListenOp
from engine.core.plan.paths import plain_path
from engine.core.run.answers import fitting_problems
from engine.core.run.frames import BlockFrame, UndoFrame, Unwind, WaitFrame
from engine.core.run.loops import count_round
from engine.core.run.state import Branch
from engine.core.run.talk_frames import Before, KeptMessage, ListenFrame
from engine.core.run.trying import attempt
from engine.core.run.waits import arm_deadline, close, open_wait, seconds_of
from engine.core.run.walker import Walker, error_json
from engine.core.values import Json

MOST_KEPT = 1_000
"""Messages that one step, or the execution as a whole, keeps for later."""
MOST_REMEMBERED = 1_000

URGENT = ("interrupt", "rollback")
"""Policies that stop the turn which runs."""
_TOLD = {"enqueue": "queued", "join": "joined", "interrupt": "interrupting", "rollback": "rolling_back"}


# --- turns ---------------------------------------------------------------------------------------------------------


def begin_listen(walker: Walker, branch: Branch, op: ListenOp, path: str, given: Json) -> None:
    """Begin to listen; messages that came before are taken first."""
    walker.state.waits_opened += 1
    frame = ListenFrame(path, walker.state.waits_opened, given)
    for message in walker.state.messages:
        if message.name == op.messages and not fitting_problems(message.value, op.schema):
            how = "join" if _policy(op, message.busy) == "join" else "enqueue"
            frame.queue.append(KeptMessage(message.id, message.name, message.value, message.actor, how))
    waiting = {message.id for message in frame.queue}
    walker.state.messages = [message for message in walker.state.messages if message.id not in waiting]
    branch.stack.append(frame)


def listen_on(walker: Walker, branch: Branch, frame: ListenFrame) -> None:
    """Begin the next turn, or wait for the next message; the frame is on top of the branch's stack.

    Raises:
        RunError: If the rounds are used up, or the time to wait cannot be computed.
        ForkDiverged: If a fork should come to a turn that was not recorded.
    """
    recorded = _recorded_turn(walker, frame)
    if recorded is not None:
        count_round(walker)
        _enter_turn(walker, branch, frame, recorded.input, recorded.messages)
        if recorded.stopped:
            _skip_turn(walker, branch, recorded)
    elif frame.queue:
        begin_turn(walker, branch, frame)
    else:
        _wait_for_message(walker, branch, frame)


def begin_turn(walker: Walker, branch: Branch, frame: ListenFrame) -> None:
    """Begin a turn with the first message that lies there, and with all that joined it.

    Raises:
        LimitExceeded: `limit.rounds`.
    """
    count_round(walker)
    first = frame.queue.pop(0)
    taken = [first]
    if first.busy == "join":
        taken += [message for message in frame.queue if message.busy == "join"]
        frame.queue = [message for message in frame.queue if message.busy != "join"]
    values: list[Json] = [message.value for message in taken]
    given = values if _op(walker, branch, frame).joins else values[0]
    _enter_turn(walker, branch, frame, given, [message.id for message in taken])
    if frame.queue and frame.queue[0].busy in URGENT:
        # it came while this turn was about to begin
        _stop_turn(walker, branch, frame, frame.queue[0].busy)


def _enter_turn(walker: Walker, branch: Branch, frame: ListenFrame, given: Json, messages: list[str]) -> None:
    op, block = _op(walker, branch, frame), _block(branch, frame)
    if op.rolls_back:
        frame.before = Before(dict(branch.scope.state), dict(branch.scope.labels))
    number = frame.turns
    frame.turns += 1
    construct = f"listen[{number}]"
    workflow = f"{block.workflow}[{block.pc}].{construct}"
    path = f"{frame.path}.do[{number}]"
    told: dict[str, Json] = {"messages": list(messages)}
    walker.push_block(branch, op.do, given, path, workflow, construct=construct, more=told)


def turn_ended(walker: Walker, branch: Branch, frame: ListenFrame, output: Json) -> None:
    """Take the output of a turn, and end the step if it was the last one.

    Raises:
        RunError: If the condition fails.
    """
    frame.value, frame.before = output, None
    op = _op(walker, branch, frame)
    if op.until is not None:
        seed = f"{frame.path}/until/{frame.turns}"
        if walker.evaluator.truthy(op.until, branch, seed, output):
            keep_again(walker, frame)
            branch.stack.pop()
            walker.give(branch, output)


def turn_stopped(walker: Walker, branch: Branch, how: str, recorded: RecordedTurn | None = None) -> None:
    """Take the news that a turn was stopped for a message; what it did stays, unless it was rolled back."""
    frame = branch.stack[-1]
    assert isinstance(frame, ListenFrame)
    if how == "rollback" and frame.before is not None:
        branch.scope.state, branch.scope.labels = dict(frame.before.state), dict(frame.before.labels)
    frame.before = None
    path = f"{frame.path}.do[{frame.turns - 1}]"
    error = RunError("a message interrupted the turn", code="message.interrupted")
    if how == "rollback":
        error = RunError("a message rolled the turn back", code="message.rolled_back")
    body: dict[str, Json] = {"path": path, "error": error_json(error, path), "taken": how}
    if recorded is not None:
        body |= {"recorded": True, "at_us": recorded.at_us, "state": recorded.state, "labels": dict(recorded.labels)}
    walker.emit(EventType.BRANCH_FAILED, body)


def _recorded_turn(walker: Walker, frame: ListenFrame) -> RecordedTurn | None:
    """Return the turn that comes next of those recorded in the execution that this one was forked from."""
    forked = walker.state.forked
    if forked is None:
        return None
    path = plain_path(frame.path)
    turn = forked.turns.pop(f"{path}.do[{frame.turns}]", None)
    if turn is None and not forked.reached and forked.path.startswith(f"{path}."):
        raise ForkDiverged(
            f"the execution goes another way than the one it was forked from: {path} has no turn {frame.turns} there",
            hint="retry or fork from an earlier step",
        )
    return turn


def _skip_turn(walker: Walker, branch: Branch, recorded: RecordedTurn) -> None:
    """Leave a turn that was stopped when it was recorded; what it did by then stays, unless it was rolled back."""
    scope, forked = branch.scope, walker.state.forked
    scope.state.update(recorded.state)
    scope.labels.update(recorded.labels)
    if forked is not None and branch.id in forked.times:
        forked.times[branch.id] = recorded.at_us
    branch.stack.pop()
    turn_stopped(walker, branch, recorded.stopped, recorded)


def _stop_turn(walker: Walker, branch: Branch, frame: ListenFrame, how: str) -> None:
    depth = branch.stack.index(frame) + 1
    walker.unwind(branch, Unwind(depth, "rollback" if how == "rollback" else "interrupt"))


def keep_again(walker: Walker, frame: ListenFrame) -> None:
    """Give back the messages that a step has not come to: others that listen take them, or later ones."""
    left, frame.queue = frame.queue, []
    kept: list[KeptMessage] = []
    for message in left:
        others = [place for place in _open_listens(walker, message.name) if place[1] is not frame]
        found = _that_fits(walker, others, message.value)[0]
        if found is None:
            kept.append(message)
        else:
            _hand_over(walker, *found, message)
    walker.state.messages[:0] = kept


def _hand_over(walker: Walker, branch: Branch, frame: ListenFrame, message: KeptMessage) -> None:
    message.busy = "join" if _policy(_op(walker, branch, frame), message.busy) == "join" else "enqueue"
    frame.queue.append(message)
    wait = branch.stack[-1]
    if isinstance(wait, WaitFrame) and _is_idle(branch, frame):
        _begin_from_idle(walker, branch, frame, wait, message)


# --- between turns -------------------------------------------------------------------------------------------------


def _wait_for_message(walker: Walker, branch: Branch, frame: ListenFrame) -> None:
    op, block = _op(walker, branch, frame), _block(branch, frame)
    wait = WaitFrame(f"{frame.path}.do[{frame.turns}]", walker.state.waits_opened + 1, op.schema, inbox=op.messages)
    if op.idle is not None:
        seconds = seconds_of(walker, branch, op.idle, f"{frame.path}/idle", frame.value, "wait for")
        wait.deadline_us = walker.effects.now_us() + round(seconds * 1e6)
    walker.state.waits_opened += 1
    branch.stack.append(wait)
    arm_deadline(walker, branch, wait)
    info: Json = {"messages": op.messages, "busy": op.busy}
    open_wait(walker, branch, wait, path=f"{block.path}.{block.pc}", label=op.label, info=info)


def idle_passed(walker: Walker, branch: Branch, wait: WaitFrame) -> None:
    """Take the news that no message came for too long: the step ends.

    Raises:
        RunError: If its default cannot be computed.
    """
    frame = branch.stack[-2]
    assert isinstance(frame, ListenFrame)
    op, output = _op(walker, branch, frame), frame.value
    if op.default is not None:
        output = walker.evaluator.evaluate(op.default, branch, f"{frame.path}/default", frame.value)
    close(walker, branch, wait, output, {"wait_id": wait.wait_id, "key": "", "actor": "", "expired": True})
    branch.stack.pop()
    walker.give(branch, output)


# --- messages ------------------------------------------------------------------------------------------------------


def take_message(walker: Walker, signal: MessageSignal) -> None:
    """Take a message, and tell what becomes of it; an id that was seen before gets the first disposition again."""
    state = walker.state
    known = state.messages_taken.get(signal.id)
    if known is not None:
        walker.emit(EventType.MESSAGE_TAKEN, {**known, "repeated": True})
        return
    listens = _open_listens(walker, signal.name)
    found, problems = _that_fits(walker, listens, signal.value)
    if found is not None:
        _take(walker, *found, signal)
    elif listens:
        _tell(walker, signal, "rejected", {"code": "input.rejected", "message": "; ".join(problems)})
    elif len(state.messages) >= MOST_KEPT:
        _refuse_full(walker, signal)
    else:
        state.messages = [*state.messages, _kept(signal, signal.busy)]
        _tell(walker, signal, "kept", {})


Listening = tuple[Branch, ListenFrame]


def _that_fits(walker: Walker, listens: list[Listening], value: Json) -> tuple[Listening | None, list[str]]:
    """Return the first step that a message fits, or what is wrong with it for the last one."""
    problems: list[str] = []
    for branch, frame in listens:
        problems = fitting_problems(value, _op(walker, branch, frame).schema, whole="message")
        if not problems:
            return (branch, frame), []
    return None, problems


def _open_listens(walker: Walker, name: str) -> list[Listening]:
    """Return the steps that listen under a name: those without a turn first, and the oldest first among them."""
    found = [
        (branch, frame)
        for branch in walker.branches.values()
        for index, frame in enumerate(branch.stack)
        if isinstance(frame, ListenFrame) and not _goes_away(branch, index)
        if _op(walker, branch, frame).messages == name
    ]
    right = sorted(found, key=lambda place: (not _is_idle(*place), place[1].opened))
    # before, a step whose turn waited for anything counted as one without a turn
    before = sorted(found, key=lambda place: (not isinstance(place[0].stack[-1], WaitFrame), place[1].opened))
    is_other = [frame for _, frame in right] != [frame for _, frame in before]
    return right if not is_other or walker.effects.patched(INNER_LISTENS) else before


def _is_idle(branch: Branch, frame: ListenFrame) -> bool:
    """Return whether a step waits for a message, which nothing in a turn of its own does."""
    return isinstance(branch.stack[-1], WaitFrame) and branch.stack[-2] is frame


def _goes_away(branch: Branch, index: int) -> bool:
    """Return whether a frame is being taken down with what stands on it."""
    shields = (frame.unwind for frame in branch.stack[index + 1 :] if isinstance(frame, UndoFrame))
    return any(unwind is not None and unwind.depth <= index for unwind in (branch.unwind, *shields))


def _take(walker: Walker, branch: Branch, frame: ListenFrame, signal: MessageSignal) -> None:
    op = _op(walker, branch, frame)
    top = branch.stack[-1]
    if isinstance(top, WaitFrame) and _is_idle(branch, frame):
        _take_idle(walker, branch, frame, top, signal)
        return
    policy = _policy(op, signal.busy)
    if top is frame and not branch.returned and not frame.queue:
        frame.queue.append(_kept(signal, policy))
        _tell(walker, signal, "started", _place(frame, frame.turns))
    elif policy == "reject":
        told: dict[str, Json] = {"code": "inbox.busy", "message": "a turn runs, and the inbox takes no message then"}
        _tell(walker, signal, "rejected", {**_place(frame), **told})
    elif len(frame.queue) >= MOST_KEPT:
        _refuse_full(walker, signal)
    elif policy in URGENT:
        _take_urgent(walker, branch, frame, signal, policy)
    else:
        frame.queue.append(_kept(signal, policy))
        _tell(walker, signal, _TOLD[policy], _place(frame))


def _take_idle(walker: Walker, branch: Branch, frame: ListenFrame, wait: WaitFrame, signal: MessageSignal) -> None:
    _tell(walker, signal, "started", _place(frame, frame.turns))
    message = _kept(signal, "enqueue")
    frame.queue.append(message)
    _begin_from_idle(walker, branch, frame, wait, message)


def _begin_from_idle(walker: Walker, branch: Branch, frame: ListenFrame, wait: WaitFrame, message: KeptMessage) -> None:
    how: dict[str, Json] = {"wait_id": wait.wait_id, "key": message.id, "actor": message.actor, "message": message.name}
    close(walker, branch, wait, message.value, how)
    attempt(walker, branch, lambda _, moved: begin_turn(walker, moved, frame))


def _take_urgent(walker: Walker, branch: Branch, frame: ListenFrame, signal: MessageSignal, policy: str) -> None:
    # those that came before it have their turns before it, and it stops the last of these as soon as that begins
    ahead = next((n for n, message in enumerate(frame.queue) if message.busy not in URGENT), len(frame.queue))
    frame.queue.insert(ahead, _kept(signal, policy))
    runs = branch.stack[-1] is not frame
    _tell(walker, signal, _TOLD[policy] if runs or ahead else "queued", _place(frame, frame.turns + ahead))
    if runs and not ahead:
        _stop_turn(walker, branch, frame, policy)


def _refuse_full(walker: Walker, signal: MessageSignal) -> None:
    message = f"{MOST_KEPT:,} messages are waiting already"
    _tell(walker, signal, "rejected", {"code": "inbox.full", "message": message})


def _tell(walker: Walker, signal: MessageSignal, disposition: str, more: dict[str, Json]) -> None:
    body: dict[str, Json] = {
        "message_id": signal.id,
        "name": signal.name,
        "disposition": disposition,
        "actor": signal.actor,
        **more,
    }
    taken = walker.state.messages_taken
    taken[signal.id] = body
    while len(taken) > MOST_REMEMBERED:
        del taken[next(iter(taken))]
    walker.emit(EventType.MESSAGE_TAKEN, {**body, "value": signal.value})


# --- places --------------------------------------------------------------------------------------------------------


def _policy(op: ListenOp, wanted: str) -> str:
    return wanted if wanted in op.allow_busy else op.busy


def _kept(signal: MessageSignal, busy: str) -> KeptMessage:
    return KeptMessage(signal.id, signal.name, signal.value, signal.actor, busy)


def _place(frame: ListenFrame, turn: int | None = None) -> dict[str, Json]:
    return {"path": frame.path} if turn is None else {"path": frame.path, "turn": turn}


def _block(branch: Branch, frame: ListenFrame) -> BlockFrame:
    """Return the block frame that stands at the step which listens."""
    below = branch.stack[: branch.stack.index(frame)]
    return next(found for found in reversed(below) if isinstance(found, BlockFrame))


def _op(walker: Walker, branch: Branch, frame: ListenFrame) -> ListenOp:
    op = walker.op_at(_block(branch, frame))
    assert isinstance(op, ListenOp)
    return op
