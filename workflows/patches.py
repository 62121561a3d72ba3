"""Keeps code and histories of different versions apart: patches, and work that needs a newer worker. Workflow-safe."""

from __future__ import annotations

from engine.core.contracts.execution import ExecutionParams
from engine.core.contracts.patches import INTERPRETER, PATCHES, Patch
from engine.core.errors import BugError
from engine.core.plan.ir import PLAN_FORMAT, STDLIB_VERSION
from engine.core.plan.upgrade import format_of
from temporalio import workflow


class NewerThanWorkerError(RuntimeError):
    """What an execution needs is newer than this worker.

    It is none of our errors on purpose: these end an execution, while this one fails the workflow task. Temporal then
    offers it again until a newer worker takes it; meanwhile the execution is `stuck.workflow_task_fails`.
    """


def is_patched(patch: Patch) -> bool:
    """Whether this run takes the new way of a patch; a run that has passed the place without it stays on the old one.

    Args:
        patch: An entry of PATCHES.

    Raises:
        BugError: `bug.patch` if the table does not have it.
    """
    if patch not in PATCHES:
        raise BugError(f"the patch '{patch.name}' is not in the table of patches", code="bug.patch")
    return workflow.patched(patch.name)


def check_versions(params: ExecutionParams) -> None:
    """Leave an execution to a newer worker if this one is too old for it.

    Raises:
        NewerThanWorkerError: The interpreter, the format of the plan or the expression library it needs is newer.
    """
    library = params.plan.get("stdlib")
    needs = (
        ("the interpreter", params.interpreter, INTERPRETER),
        ("the plan's format", format_of(params.plan), PLAN_FORMAT),
        ("the expression library", library if isinstance(library, int) else 0, STDLIB_VERSION),
    )
    for what, needed, known in needs:
        if needed > known:
            raise NewerThanWorkerError(
                f"the execution {params.execution_id} needs version {needed} of {what}, this worker has {known}: "
                "upgrade the workers"
            )
