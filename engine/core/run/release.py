"""Stage: letting go of what frames hold outside (calls, branches, timers, waits) as they go. Workflow-safe."""

from __future__ import annotations

from engine.core.run import guards
from engine.core.run.frames import CallFrame, FanFrame, Frame, GuardFrame, SleepFrame, WaitFrame
from engine.core.run.listening import keep_again
from engine.core.run.talk_frames import ListenFrame
from engine.core.run.walker import COMMAND_WEIGHT, Walker


def let_go(walker: Walker, frame: Frame, *, gently: bool = False) -> bool:
    """Let go of what a frame holds outside.

    Args:
        walker: The execution.
        frame: A frame that is about to be taken off.
        gently: Branches are stopped without undoing anything in them.

    Returns:
        False while that still takes time: a call or branches are being stopped.
    """
    if isinstance(frame, CallFrame):
        if frame.parked or frame.call_id not in walker.calls:
            return True
        if not frame.cancelling:
            frame.cancelling = True
            walker.asked += COMMAND_WEIGHT
            walker.effects.cancel_call(frame.call_id)
        return False
    if isinstance(frame, FanFrame):
        walker.disarm("stagger", frame.path)
        if frame.running:
            walker.stop_children(frame, gently=gently)
        return not frame.running
    if isinstance(frame, SleepFrame):
        walker.disarm("sleep", frame.timer_id)
    elif isinstance(frame, WaitFrame):
        walker.disarm("wait", frame.wait_id)
        walker.close_wait(frame.wait_id)
    elif isinstance(frame, ListenFrame):
        keep_again(walker, frame)
    elif isinstance(frame, GuardFrame):
        guards.release_guard(walker, frame)
    return True
