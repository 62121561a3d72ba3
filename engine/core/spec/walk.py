"""Walks the steps of a task: the lists inside a step with the part of the path that leads into each. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator

from engine.core.spec.steps import (
    ForeachStep,
    IfElseStep,
    ListenStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    StepList,
    StepSpec,
    SwitchStep,
    UntilStep,
    WhileStep,
)


def inner_lists(step: StepSpec) -> list[tuple[str, StepList]]:
    """Return the lists inside a step, `on_error` and `undo` last, with their names in step paths."""
    lists: list[tuple[str, StepList]] = []
    match step:
        case IfElseStep():
            lists.append(("then", step.then))
            if step.otherwise is not None:
                lists.append(("else", step.otherwise))
        case SwitchStep():
            lists.extend((f"case[{index}]", case.then) for index, case in enumerate(step.cases))
        case ForeachStep() | WhileStep() | UntilStep() | ListenStep():
            lists.append(("do", step.do))
        case MapReduceStep():
            lists.append(("map", step.map))
        case ParallelStep() | RaceStep():
            lists.extend((str(index), branch) for index, branch in enumerate(step.branches))
        case _:
            pass
    if step.mods.on_error is not None:
        lists.append(("on_error", step.mods.on_error))
    if step.mods.undo is not None:
        lists.append(("undo", step.mods.undo))
    return lists


def all_steps(steps: StepList) -> Iterator[StepSpec]:
    """Yield every step of a list and of the lists inside its steps, in the order of the source."""
    for step in steps.steps:
        yield step
        for _, inner in inner_lists(step):
            yield from all_steps(inner)
