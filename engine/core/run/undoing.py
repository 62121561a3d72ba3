"""Stage: undoing — what succeeded in a block that fails or is stopped, in reverse order, shielded. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import LimitExceeded
from engine.core.kinds import EventType
from engine.core.plan.ops import Op
from engine.core.run.frames import BlockFrame, GuardFrame, UndoFrame, UndoRecord, Unwind
from engine.core.run.state import Branch
from engine.core.run.walker import Walker, error_json
from engine.core.values import Json


def note_undo(frame: BlockFrame, op: Op, output: Json) -> None:
    """Remember how to undo the step that a block frame stands at, if it did anything."""
    if op.mods.undo is not None and not frame.unmade:
        place = f"{frame.workflow}[{frame.pc}]"
        frame.undos.append(UndoRecord(op.mods.undo, output, f"{frame.path}.{frame.pc}", place))
    frame.unmade = False


def hand_down(branch: Branch, undos: list[UndoRecord]) -> None:
    """Give what has to be undone to the block, or the guarded step, around the one that ended and is off the stack.

    A guarded step keeps it, because only the failure of that step is what its guard handles.
    """
    if not undos:
        return
    for below in reversed(branch.stack):
        if isinstance(below, (BlockFrame, GuardFrame)):
            below.undos += undos
            return
    branch.undos += undos


def begin_undo(walker: Walker, branch: Branch, frame: BlockFrame | GuardFrame, unwind: Unwind) -> None:
    """Undo what happened inside a frame that is being taken down, before anything else is done about it."""
    deadline_us = walker.effects.now_us() + round(walker.plan.defaults.clean_up_s * 1e6)
    undo = UndoFrame(frame.path, frame.undos, unwind, deadline_us)
    frame.undos = []
    walker.state.undone = True
    mark_guards(walker, branch)
    branch.stack.append(undo)
    branch.unwind = None
    branch.returned = False
    arm_undo(walker, branch, undo)


def mark_guards(walker: Walker, branch: Branch) -> None:
    """Note for all steps around that something inside them was undone, so that their next attempts make new calls."""
    # a receiver that knows the key of a call would not make it again after it was undone
    around: Branch | None = branch
    while around is not None:
        for frame in around.stack:
            if isinstance(frame, GuardFrame):
                frame.undone = True
        around = None if around.parent is None else walker.branches.get(around.parent)


def arm_undo(walker: Walker, branch: Branch, frame: UndoFrame) -> None:
    """Watch the clock of an undoing."""
    walker.arm(branch, "undo", frame.path, frame.deadline_us, f"time limit of the undoing of {frame.path}")


def undo_next(walker: Walker, branch: Branch, frame: UndoFrame) -> None:
    """Undo the step before, or go on with the unwinding."""
    if not frame.records:
        walker.disarm("undo", frame.path)
        branch.stack.pop()
        branch.unwind = frame.unwind
        return
    record = frame.records.pop()
    walker.push_block(
        branch, record.block, record.output, f"{record.path}.undo", f"{record.workflow}.undo", construct="undo"
    )


def undo_failed(walker: Walker, branch: Branch, frame: UndoFrame) -> None:
    """Say that the undoing of one step failed; that of the others goes on."""
    error = branch.unwind.error if branch.unwind is not None else None
    branch.unwind = None
    walker.emit(EventType.BRANCH_FAILED, {"path": f"{frame.path}.undo", "error": error, "taken": "undo"})


def undo_timed_out(walker: Walker, branch: Branch, path: str) -> None:
    """Give up the undoing of a block, which took too long."""
    for index, frame in enumerate(branch.stack):
        if isinstance(frame, UndoFrame) and frame.path == path:
            frame.records.clear()
            limit_s = walker.plan.defaults.clean_up_s
            error = LimitExceeded(f"undoing took longer than {limit_s:g} s", code="limit.undo")
            walker.unwind(branch, Unwind(index + 1, "raise", error_json(error, path)))
            return
