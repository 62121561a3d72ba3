"""Follows the blocks of an execution through its events: which it is in, which steps were undone."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.control.steppaths import ATTEMPT, is_inside, order_of, steps_to
from engine.core.kinds import EventType
from engine.core.plan.paths import plain_path
from engine.core.run.events import EventRecord, body_of
from engine.core.values import Json

ENDS = frozenset({EventType.STEP.value, EventType.FINISH_BRANCH.value, EventType.FINISH.value})
"""Events that tell of the end of a step; the last two are those of the last step of a block."""

_READ = ENDS | {EventType.INIT.value, EventType.INIT_BRANCH.value, EventType.BRANCH_FAILED.value}


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
        if around and (mark := ATTEMPT.search(around[-1])):
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
        for path in [path for path in self.undone if is_inside(path, plain_path(str(body["path"])))]:
            del self.undone[path]

    def restarted(self, plain: str) -> None:
        """Take the news of another attempt at a block: whatever the one before left open or undid is of the past."""
        self._leave(plain)
        for path in [path for path in self.undone if is_inside(path, plain)]:
            del self.undone[path]
        for path in [path for path in self._attempts if is_inside(path, plain)]:
            del self._attempts[path]

    def ended(self, record: EventRecord, body: dict[str, Any]) -> None:
        """Take the news that a step ended."""
        path = str(body["path"])
        plain = plain_path(path)
        for other in [other for other in self.undone if other == plain or is_inside(other, plain)]:
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
