"""Stage: checks of results — what does not hold is repaired, ends the attempt, or asks a person. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.errors import RunError
from engine.core.plan.ops import Op
from engine.core.plan.policies import Check
from engine.core.run.frames import WaitFrame
from engine.core.run.state import Branch
from engine.core.run.waits import open_wait
from engine.core.run.walker import Walker
from engine.core.values import Json, compact_json

JUDGEMENT: Json = {
    "type": "object",
    "properties": {"accept": {"type": "boolean"}, "output": {}},
    "required": ["accept"],
}
"""What a person answers: whether the result stands, and what shall stand in its place."""
MAX_SHOWN_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that does not hold, and what it says."""

    check: Check
    message: str

    def error(self, output: Json) -> RunError:
        """Return the error that ends the attempt."""
        shown = output if isinstance(output, str) else compact_json(output)
        return RunError(
            f"the result does not pass its check: {self.message}",
            code="check.failed",
            details={"output": shown[:MAX_SHOWN_CHARS]},
        )


def first_failed(walker: Walker, branch: Branch, op: Op, path: str, output: Json) -> FailedCheck | None:
    """Return the first check of a step that does not hold for a result.

    Raises:
        ExpressionError: If a check cannot be evaluated.
    """
    for number, check in enumerate(op.mods.checks):
        place = f"{path}/check/{number}"
        if not walker.evaluator.truthy(check.condition, branch, place, output):
            message = walker.evaluator.evaluate(check.message, branch, f"{place}/message", output)
            return FailedCheck(check, message if isinstance(message, str) else compact_json(message))
    return None


def ask_person(
    walker: Walker, branch: Branch, op: Op, path: str, wait_id: str, found: FailedCheck, output: Json
) -> None:
    """Open a wait in which a person judges a result."""
    walker.state.waits_opened += 1
    frame = WaitFrame(wait_id, walker.state.waits_opened, JUDGEMENT, asks=True, subject=output, problem=found.message)
    branch.stack.append(frame)
    info: Json = {"problem": found.message, "output": output}
    open_wait(walker, branch, frame, path=path, label=op.label, info=info)
