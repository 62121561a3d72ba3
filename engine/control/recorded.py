"""From the events of an execution to what a fork takes over: what the steps gave that come before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.control.steppaths import ATTEMPT, is_inside, position, race_of, steps_to
from engine.control.tracking import Block, Tracker
from engine.core.contracts.execution import Recorded, RecordedTurn
from engine.core.kinds import EventType, StepKind
from engine.core.plan.paths import plain_path
from engine.core.run.events import EventRecord
from engine.core.values import Json

_OWN_SCOPE = ("yield", "parallel[", "mapreduce[", "race[")
"""Constructs whose state and labels are not seen behind them: named lists, and branches with a copy of the scope."""
_HANDLERS = ("on_error", "undo")


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
        self.turns = {path: turn for path, turn in self.turns.items() if not is_inside(path, plain)}

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


def _unattempted(path: str) -> str:
    """Return the path under which a step tells of its end: without the mark of its own attempt."""
    return ATTEMPT.sub("", path)


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
        inside = is_inside(point, path)
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
        turn.stopped and is_inside(path, place) and not is_inside(point, place)
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
