"""What can be planned, but is not run by this engine: finds it in a plan, and refuses to run it. Workflow-safe.

The language is whole before the engine is. What is named here is read, checked and planned like everything else, so
that it can be drawn, compared and stored; the compiler warns of each place (W614), and an execution is refused with
`task.not_runnable` before anything is created.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from engine.core.diagnostics import Diagnostic
from engine.core.errors import BugError, CompileError
from engine.core.kinds import StepKind
from engine.core.plan.ir import Plan
from engine.core.plan.lists import jumps, step_places

CHAIN: Final = "a contenox chain"
CACHE: Final = "`cache` on a step that calls neither a model nor a tool"
CACHED_KINDS: Final = (StepKind.PROMPT, StepKind.TOOL_CALL)
"""Kinds of steps whose outcome can be kept; older compilers let `cache` stand on others."""

HINTS: Final = MappingProxyType(
    {
        CHAIN: "write it as a task with `main:`, for example with `switch` and sub-workflows",
        CACHE: "put it on the calls inside",
    }
)

MOST_PLACES: Final = 20
"""Places that an error names."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Something in a plan that this engine does not run: its path, such as `main.2`, and what it is."""

    path: str
    what: str


def planned_only(plan: Plan) -> Iterator[Planned]:
    """Yield what of a plan this engine does not run; a plan of which nothing is yielded can be run."""
    if any(jumps(plan, number) for number in range(len(plan.blocks))) or plan.dialect == "contenox":
        yield Planned("main", CHAIN)
    for path, op in step_places(plan):
        if op.mods.cache is not None and op.op not in CACHED_KINDS:
            yield Planned(path, CACHE)


def refuse_planned(plan: Plan, *, diagnostics: Sequence[Diagnostic] = (), file: str = "", source: str = "") -> None:
    """Refuse to run a plan of which something is only planned.

    Args:
        plan: The plan.
        diagnostics: What the compiler said about these places, if it was just asked.
        file: Name of their source.
        source: Their source.

    Raises:
        CompileError: `task.not_runnable` with {places: [{path, what}]} in the details.
    """
    found = list(planned_only(plan))
    if not found:
        return
    first, more = found[0], len(found) - 1
    rest = f", and {more} more {'place' if more == 1 else 'places'}" if more else ""
    places: list[dict[str, Any]] = [{"path": item.path, "what": item.what} for item in found[:MOST_PLACES]]
    raise CompileError(
        f"the task '{plan.task}' cannot be run by this engine yet: {first.what} at {first.path}{rest}",
        code="task.not_runnable",
        hint=HINTS.get(first.what, "it can be stored, drawn and compared until a version that runs it is installed"),
        details={"places": places},
        diagnostics=diagnostics,
        file=file or plan.task,
        source=source,
    )


def check_runnable(plan: Plan) -> None:
    """Refuse a plan that reached the interpreter although this engine cannot run it, such as one of a newer API.

    Raises:
        BugError: `plan.not_runnable`.
    """
    for item in planned_only(plan):
        raise BugError(
            f"this version does not run {item.what} ({item.path})",
            code="plan.not_runnable",
            hint="run a worker of the version that started the execution, or a newer one",
        )
