"""What expressions of tasks in Julep's dialects see beyond the names of ours. Workflow-safe."""

from __future__ import annotations

from typing import Any

from engine.core.kinds import JULEP_NAMES
from engine.core.run.frames import BlockFrame
from engine.core.run.state import Branch
from engine.core.values import Json


def add_julep_name(env: dict[str, Any], name: str, branch: Branch, given: Json, *, plain: bool) -> None:
    """Complete what a name stands for.

    The running step has its input already in `steps` and `inputs`. With plain names, a name that is unknown otherwise
    is a key of an earlier input; the latest input that has it wins.

    Args:
        env: Names and their values so far.
        name: The name that an expression reads.
        branch: The branch whose scope is seen.
        given: What `_` means.
        plain: Whether keys of earlier inputs are names.
    """
    if name in ("steps", "inputs"):
        _add_running_step(env, name, branch)
    elif plain and name not in env:
        earlier = (record["input"] for record in reversed(branch.scope.steps))
        for value in (given, *earlier, branch.scope.input):
            if isinstance(value, dict) and name in value:
                env[name] = value[name]
                return
    if name == "arguments":
        env[name] = branch.scope.input
    elif name in JULEP_NAMES:
        env[name] = None


def _add_running_step(env: dict[str, Any], name: str, branch: Branch) -> None:
    scope = branch.scope
    number = len(scope.steps)
    lists = [frame for frame in branch.stack if isinstance(frame, BlockFrame) and frame.role == "list"]
    if not number:
        # also in branches that run concurrently, which have no frame of the list
        current = scope.input
    elif lists:
        current = lists[-1].value
    else:
        return
    if name == "steps":
        env["steps"][number] = {"input": current}
    else:
        env["inputs"].append(current)
