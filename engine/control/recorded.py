"""From the events of an execution to what a fork takes over: where steps stand in it, and what they gave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from engine.core.contracts.execution import Recorded, RecordedTurn
from engine.core.errors import BugError
from engine.core.kinds import EventType, StepKind
from engine.core.plan.paths import plain_path
from engine.core.run.events import EventRecord, body_of
from engine.core.values import Json

ENDS = frozenset({EventType.STEP.value, EventType.FINISH_BRANCH.value, EventType.FINISH.value})
"""Events that tell of the end of a step; the last two are those of the last step of a block."""

_READ = ENDS | {EventType.INIT.value, EventType.INIT_BRANCH.value, EventType.BRANCH_FAILED.value}
_STEP = re.compile(r"\.\d+(?:[~!]\d+)*(?=[.\[]|$)")
_ATTEMPT = re.compile(r"[~!](\d+)\Z")
_NUMBERS = re.compile(r"\d+")
_OWN_SCOPE = ("yield", "parallel[", "mapreduce[", "race[")
"""Constructs whose state and labels are not seen behind them: named lists, and branches with a copy of the scope."""
_HANDLERS = ("on_error", "undo")


class Block(NamedTuple):
    """A block that an execution is in.

    Attributes:
        construct: What it is of its step: `if_else.then`, `foreach[3]`, `yield`; `list` for main and finally.
        value: Input of the step that comes next in it.
        position: Number of that step.
        since: Number of the event with which that step began.
    """

    construct: str
    value: Json
    position: int
    since: int


@dataclass(slots=True)
class Step:
    """A step that an execution has come to.

    Attributes:
        recorded: What it gave, once it ended.
        seq: Number of the event that told it.
        handed: Whether the step around it knows of what it wrote.
        inner: Steps inside it, by plain path.
        writes: What it and steps inside it wrote into the state of their list, in order.
        labels: Records of labelled steps inside it.
    """

    recorded: Recorded | None = None
    seq: int = 0
    handed: bool = False
    inner: dict[str, Step] = field(default_factory=dict)
    writes: list[dict[str, Json] | Step] = field(default_factory=list)
    labels: dict[str, dict[str, Json]] = field(default_factory=dict)

    def state(self) -> dict[str, Json]:
        """Return what was written, later writes over earlier ones."""
        found: dict[str, Json] = {}
        for write in self.writes:
            found |= write.state() if isinstance(write, Step) else write
        return found


@dataclass(slots=True)
class Turn:
    """A turn of a step that listens.

    Attributes:
        input: What it began with.
        messages: Ids of the messages that began it.
        seq: Number of the event with which it began.
        writes: Number of the step's writes before it.
        labels: Labels inside the step before it.
        stopped: `interrupt` or `rollback` if another message stopped it.
        at_us: When it did.
        state: What it wrote by then, if that stayed.
        fresh: Labels inside it, if they stayed.
    """

    input: Json
    messages: list[str]
    seq: int
    writes: int
    labels: dict[str, dict[str, Json]]
    stopped: str = ""
    at_us: int = 0
    state: dict[str, Json] = field(default_factory=dict)
    fresh: dict[str, dict[str, Json]] = field(default_factory=dict)


def steps_to(path: str) -> list[str]:
    """Return the paths of the steps around a step and its own, the outermost first, marks kept."""
    return [path[: match.end()] for match in _STEP.finditer(path)]


def order_of(path: str) -> tuple[int, ...]:
    """Return what sorts the steps of an execution into the order in which a task has them."""
    return tuple(int(number) for number in _NUMBERS.findall(plain_path(path)))


class Tracker:
    """Follows the blocks of an execution through its events.

    Attributes:
        blocks: Blocks it is in, by path with its marks.
        races: Plain paths of the races it came to.
        undone: Steps whose undoing has begun and that were not made anew since, by plain path.
        anything_undone: Whether anything was ever undone.
        cleaned_up: Whether the `finally` steps began.
        forked: What it was itself forked from, as its first event tells.
        parent: The execution that started it, as its first event tells.
        first_us: When it began.
        last_seq: Number of the last event.
        missing: Numbers of events that are not there: the first one, or 0.
    """

    def __init__(self) -> None:
        self.blocks: dict[str, Block] = {}
        self._inside: dict[str, set[str]] = {}
        self._attempts: dict[str, int] = {}
        self.races: set[str] = set()
        self.undone: dict[str, None] = {}
        self.anything_undone = self.cleaned_up = False
        self.forked: dict[str, Any] = {}
        self.parent: dict[str, Any] = {}
        self.first_us = self.last_seq = self.missing = 0

    @property
    def took_back(self) -> bool:
        """Whether anything was taken back, so that calls that are made again are other calls."""
        return self.anything_undone or self.cleaned_up

    def apply(self, record: EventRecord) -> None:
        """Take one more event."""
        if record.seq > self.last_seq + 1 and not self.missing:
            self.missing = self.last_seq + 1
        self.last_seq = max(self.last_seq, record.seq)
        if record.type in _READ:
            body = body_of(record)
            if record.type == EventType.INIT:
                self._begin(record, body)
            elif record.type == EventType.INIT_BRANCH:
                self.entered(record, body)
            elif record.type == EventType.BRANCH_FAILED:
                self._leave_branch(str(body.get("path", "")))
                if body.get("taken") in ("interrupt", "rollback"):
                    self.turn_stopped(record, body)
            elif body.get("path"):
                self.ended(record, body)

    def _begin(self, record: EventRecord, body: dict[str, Any]) -> None:
        self.first_us = record.now_us
        self.forked, self.parent = body.get("forked") or {}, body.get("parent") or {}
        self._enter("main", Block("list", body.get("input"), 0, record.seq))

    def entered(self, record: EventRecord, body: dict[str, Any]) -> None:
        """Take the news that a block was entered."""
        path, construct = str(body["path"]), str(body.get("construct", ""))
        if construct == "finally":
            self.cleaned_up = True
            construct = "list"
        around = steps_to(path)
        if around and (mark := _ATTEMPT.search(around[-1])):
            plain, attempt = plain_path(around[-1]), int(mark.group(1))
            if attempt > self._attempts.get(plain, 1):
                self.restarted(plain)
                self._attempts[plain] = attempt
        if construct == "undo":
            self.anything_undone = True
            self.undone[plain_path(path.removesuffix(".undo"))] = None
        if construct.startswith("race["):
            self.races.add(plain_path(around[-1]))
        self._enter(path, Block(construct, body.get("input"), 0, record.seq))

    def turn_stopped(self, record: EventRecord, body: dict[str, Any]) -> None:
        """Take the news that a message stopped a turn: what was undone in it is of the past."""
        del record
        for path in [path for path in self.undone if _is_inside(path, plain_path(str(body["path"])))]:
            del self.undone[path]

    def restarted(self, plain: str) -> None:
        """Take the news of another attempt at a block: whatever the one before left open or undid is of the past."""
        self._leave(plain)
        for path in [path for path in self.undone if _is_inside(path, plain)]:
            del self.undone[path]
        for path in [path for path in self._attempts if _is_inside(path, plain)]:
            del self._attempts[path]

    def ended(self, record: EventRecord, body: dict[str, Any]) -> None:
        """Take the news that a step ended."""
        path = str(body["path"])
        plain = plain_path(path)
        for other in [other for other in self.undone if other == plain or _is_inside(other, plain)]:
            del self.undone[other]
        self._leave(plain)
        self._attempts.pop(plain, None)
        block_path = path.rpartition(".")[0]
        block = self.blocks.get(block_path)
        following = body.get("next")
        if block is not None and record.type == EventType.STEP and isinstance(following, int):
            self.blocks[block_path] = Block(block.construct, body.get("output"), following, record.seq)
        else:
            self._drop(block_path)

    # --- the blocks ------------------------------------------------------------------------------------------------

    def _enter(self, path: str, block: Block) -> None:
        self.blocks[path] = block
        for step in steps_to(plain_path(path)):
            self._inside.setdefault(step, set()).add(path)

    def _drop(self, path: str) -> None:
        if self.blocks.pop(path, None) is None:
            return
        for step in steps_to(plain_path(path)):
            inside = self._inside.get(step)
            if inside is not None:
                inside.discard(path)
                if not inside:
                    del self._inside[step]

    def _leave(self, plain: str) -> None:
        """Forget the blocks inside a step that has ended."""
        for path in list(self._inside.get(plain, ())):
            self._drop(path)

    def _leave_branch(self, path: str) -> None:
        """Forget a branch that failed, with all that is inside it."""
        around = steps_to(plain_path(path))
        for inner in list(self._inside.get(around[-1], ())) if around else []:
            if inner == path or inner.startswith(f"{path}."):
                self._drop(inner)

    def under_way(self) -> list[str]:
        """Return the plain paths of the innermost steps that have begun and not ended, in the order of the task."""
        begun = {f"{plain_path(path)}.{block.position}" for path, block in self.blocks.items()}
        around = {outer for path in begun for outer in steps_to(path)[:-1]}
        return sorted(begun - around, key=order_of)


class Recorder(Tracker):
    """Keeps what the steps of an execution gave, as far as a fork may need it.

    Args:
        point: Plain path of the step that a fork is to begin with: steps around it are kept open.
        never: Plain paths of steps that are not taken over; neither are those around them.

    Attributes:
        root: Holds the outermost steps.
        point_seq: Number of the event with which the point last began; 0 = it was not come to.
        turns: Turns of steps that listen, by plain path.
    """

    def __init__(self, point: str, never: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.root = Step()
        self.point_seq = 0
        self.turns: dict[str, Turn] = {}
        self._point = point
        self._open = {outer for path in (point, *never) for outer in steps_to(path)}
        self._left: set[str] = set()

    def entered(self, record: EventRecord, body: dict[str, Any]) -> None:
        """See `Tracker.entered`."""
        super().entered(record, body)
        self._see_point(str(body["path"]), 0, record.seq)
        if str(body.get("construct", "")).startswith("listen["):
            path = plain_path(str(body["path"]))
            step = self._at(steps_to(path)[-1])
            messages = [str(name) for name in body.get("messages") or ()]
            self.turns[path] = Turn(body.get("input"), messages, record.seq, len(step.writes), dict(step.labels))

    def turn_stopped(self, record: EventRecord, body: dict[str, Any]) -> None:
        """See `Tracker.turn_stopped`."""
        super().turn_stopped(record, body)
        path = plain_path(str(body["path"]))
        turn = self.turns.get(path)
        if turn is None:
            return
        around = steps_to(path)
        step = self._at(around[-1])
        told = body if body.get("recorded") else {}
        turn.stopped, turn.at_us = str(body["taken"]), int(told.get("at_us") or record.now_us)
        if told:
            # nothing of it was run here, so that what it did is told with it
            step.writes += [dict(told["state"])] if told.get("state") else []
            step.labels |= told.get("labels") or {}
        fresh = {label: entry for label, entry in step.labels.items() if turn.labels.get(label) is not entry}
        if turn.stopped == "rollback":
            del step.writes[turn.writes :]
            for owner in map(self._at, around):
                for label in [label for label, entry in fresh.items() if owner.labels.get(label) is entry]:
                    del owner.labels[label]
                    if label in turn.labels:
                        owner.labels[label] = turn.labels[label]
        else:
            turn.state = Step(writes=step.writes[turn.writes :]).state()
            turn.fresh = fresh

    def restarted(self, plain: str) -> None:
        """See `Tracker.restarted`."""
        super().restarted(plain)
        step = self._at(plain)
        # what the attempt before gave is made anew, and the state was put back
        step.inner, step.writes = {}, []
        self.turns = {path: turn for path, turn in self.turns.items() if not _is_inside(path, plain)}

    def _see_point(self, block_path: str, index: int, seq: int) -> None:
        if f"{plain_path(block_path)}.{index}" == self._point:
            self.point_seq = seq

    def _begin(self, record: EventRecord, body: dict[str, Any]) -> None:
        super()._begin(record, body)
        self._see_point("main", 0, record.seq)

    def ended(self, record: EventRecord, body: dict[str, Any]) -> None:
        """See `Tracker.ended`."""
        path = str(body["path"])
        block_path = path.rpartition(".")[0]
        block = self.blocks.get(block_path)
        self._keep(record, body, path, block)
        super().ended(record, body)
        following = body.get("next")
        if record.type == EventType.STEP and isinstance(following, int):
            self._see_point(block_path, following, record.seq)

    def _keep(self, record: EventRecord, body: dict[str, Any], path: str, block: Block | None) -> None:
        plain, output, kind = plain_path(path), body.get("output"), body.get("kind")
        given = None if block is None else block.value
        step = self._at(path)
        handled = any(inner.startswith(f"{plain}.on_error.") for inner in step.inner)
        told = body if body.get("recorded") else {}
        if told:
            # of one that was taken over itself, what it did is told with it
            step.writes, step.labels = [told["state"]] if told.get("state") else [], dict(told.get("labels") or {})
        elif kind == StepKind.SET and isinstance(output, dict) and not handled:
            step.writes = [output]
        # a `set` that hands its input on may have been left out by `when`: nothing tells, so it is to run again
        unsure = kind == StepKind.SET and output == given and not told
        if kind == StepKind.RETURN or unsure:
            self._left |= set(self._steps_left(path))
        step.seq = record.seq
        if kind == StepKind.RETURN or unsure or path in self._left:
            self._left.discard(path)
            step.recorded = None
        else:
            written = step.state()
            at_us = int(told.get("at_us") or record.now_us)
            step.recorded = Recorded(output=output, at_us=at_us, state=written, labels=dict(step.labels))
            if plain not in self._open:
                step.inner = {}
            step.writes = [written] if written else []
        label = body.get("label")
        self._hand_up(path, step, {str(label): {"input": given, "output": output}} if label else {})

    def _steps_left(self, path: str) -> Iterator[str]:
        """Yield the steps around one that cannot be taken over, up to the named list: neither can they as a whole.

        Of a `return` these are the steps that end with it.
        """
        around = steps_to(path)
        for outer, inner in zip(reversed(around[:-1]), reversed(around[1:]), strict=True):
            block = self.blocks.get(inner.rpartition(".")[0])
            if block is None or block.construct in ("yield", "list"):
                return
            yield _unattempted(outer)

    def _hand_up(self, path: str, step: Step, own: dict[str, dict[str, Json]]) -> None:
        """Let the steps around see what was written and which labels there are, as far as the scope is theirs."""
        around = steps_to(path)
        labels = step.labels | own
        for outer, inner in zip(reversed(around[:-1]), reversed(around[1:]), strict=True):
            block = self.blocks.get(inner.rpartition(".")[0])
            if block is None or block.construct.startswith(_OWN_SCOPE) or block.construct == "list":
                return
            owner = self._at(outer)
            if labels:
                owner.labels |= labels
            if step.writes and not step.handed:
                owner.writes.append(step)
                step.handed = True
            step = owner

    def _at(self, path: str) -> Step:
        here = self.root
        for part in steps_to(path):
            here = here.inner.setdefault(plain_path(part), Step())
        return here


def _is_inside(path: str, step: str) -> bool:
    return path.startswith(step) and path[len(step) : len(step) + 1] in (".", "[", "~", "!")


def _unattempted(path: str) -> str:
    """Return the path under which a step tells of its end: without the mark of its own attempt."""
    return _ATTEMPT.sub("", path)


# --- what comes before a step ----------------------------------------------------------------------------------------


def before(recorder: Recorder, point: str, never: frozenset[str] = frozenset()) -> dict[str, Recorded]:
    """Return what a fork that begins with a step takes over: the outermost ended steps that do not follow it.

    Args:
        recorder: Has seen the events.
        point: Plain path of the step.
        never: Plain paths of steps that are not taken over.

    Returns:
        What they gave, by plain path.
    """
    found: dict[str, Recorded] = {}
    around = set(steps_to(point))
    barred = {outer for path in never for outer in steps_to(path)}
    left: list[tuple[str, Step]] = list(reversed(recorder.root.inner.items()))
    while left:
        path, step = left.pop()
        if path == point or not _comes_before(recorder, path, step, point):
            continue
        if _was_stopped(recorder, path, point):
            continue
        if step.recorded is not None and path not in around and path not in barred:
            found[path] = step.recorded
        elif path not in never:
            left += reversed(step.inner.items())
    return found


def turns_before(recorder: Recorder, point: str) -> dict[str, RecordedTurn]:
    """Return the turns of steps that listen which a fork that begins with a step goes through again.

    Args:
        recorder: Has seen the events.
        point: Plain path of the step.

    Returns:
        What they began with, and how they were stopped, by plain path.
    """
    found: dict[str, RecordedTurn] = {}
    for path, turn in recorder.turns.items():
        inside = _is_inside(point, path)
        where = "before" if inside else position(f"{path}.0", point)
        if where == "after" or turn.seq > recorder.point_seq:
            continue
        found[path] = RecordedTurn(
            input=turn.input,
            messages=list(turn.messages),
            # the turn of the point itself goes on
            stopped="" if inside else turn.stopped,
            at_us=turn.at_us,
            state=dict(turn.state),
            labels=dict(turn.fresh),
        )
    return found


def _was_stopped(recorder: Recorder, path: str, point: str) -> bool:
    """Whether a step stands in a turn that was stopped, and the point does not."""
    return any(
        turn.stopped and _is_inside(path, place) and not _is_inside(point, place)
        for place, turn in recorder.turns.items()
        if turn.stopped
    )


def _comes_before(recorder: Recorder, path: str, step: Step, point: str) -> bool:
    """Whether a step does not follow the point: later in its list, in a later round, or handling a failure."""
    if not path.startswith("main.") or any(word in _HANDLERS for word in path.split(".")):
        return False
    where = position(path, point)
    if where == "beside" and race_of(path, point) in recorder.races:
        # one that wins a race keeps the others from running at all
        return 0 < step.seq <= recorder.point_seq
    return where != "after"


Position = Literal["around", "before", "beside", "after"]


def position(path: str, point: str) -> Position:
    """Say where a step stands to another one; both are plain paths of steps of `main`.

    Returns:
        `around` if one stands in the other; `beside` in branches of one map, parallel or race; `before` or `after`.
    """
    common = 0
    for mine, theirs in zip(steps_to(path), steps_to(point), strict=False):
        if mine != theirs:
            return _compare(path[common:], point[common:])
        common = len(mine)
    return "around"


def race_of(path: str, point: str) -> str:
    """Return the path of the innermost step that two steps stand in."""
    common = [mine for mine, theirs in zip(steps_to(path), steps_to(point), strict=False) if mine == theirs]
    return common[-1] if common else ""


def _compare(mine: str, theirs: str) -> Position:
    """Compare two ways out of the same step, or from the top."""
    my_block, my_index = _first_step(mine)
    their_block, their_index = _first_step(theirs)
    if my_block == their_block:
        return "before" if my_index < their_index else "after"
    if my_block.startswith(("[", ".map[")):
        return "beside"
    my_round, their_round = _NUMBERS.findall(my_block), _NUMBERS.findall(their_block)
    return "before" if my_round and their_round and int(my_round[0]) < int(their_round[0]) else "after"


def _first_step(rest: str) -> tuple[str, int]:
    match = _STEP.search(rest)
    number = None if match is None else _NUMBERS.search(match.group())
    if match is None or number is None:
        raise BugError(f"{rest!r} is no path of a step")
    return rest[: match.start()], int(number.group())
