"""Stage: how the topmost frame of a branch takes the value that was handed to it. Workflow-safe."""

from __future__ import annotations

from engine.core.errors import BugError
from engine.core.run import guards, recorded
from engine.core.run.agents import turn_ended as agent_turn_ended
from engine.core.run.frames import BlockFrame, ForeachFrame, GuardFrame, LoopFrame, UndoFrame, YieldFrame
from engine.core.run.listening import turn_ended
from engine.core.run.loops import next_item, round_ended
from engine.core.run.state import Branch
from engine.core.run.steps import end_step
from engine.core.run.talk_frames import AgentFrame, ListenFrame
from engine.core.run.undoing import hand_down
from engine.core.run.walker import Walker


def take_value(walker: Walker, branch: Branch) -> None:
    """Let the topmost frame take the value that was handed to it.

    Raises:
        RunError: If what follows from it at once fails.
    """
    top = branch.stack[-1]
    value = branch.value
    branch.returned, branch.value = False, None
    if isinstance(top, BlockFrame):
        if walker.state.forked is not None:
            recorded.step_ended(walker, f"{top.path}.{top.pc}")
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
    elif isinstance(top, ListenFrame):
        turn_ended(walker, branch, top, value)
    elif isinstance(top, AgentFrame):
        agent_turn_ended(walker, branch, top)
    elif isinstance(top, YieldFrame):
        branch.stack.pop()
        branch.scopes.pop()
        walker.give(branch, value)
    elif isinstance(top, UndoFrame):
        pass  # what an undoing gives is nobody's input; the next one follows
    else:
        raise BugError(f"a {top.t} frame was handed a value")
