"""Finds the lists of steps in a plan by their paths; of a list that jumps, each block has its own. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator

from engine.core.plan.ir import Plan
from engine.core.plan.ops import (
    ForeachOp,
    IfElseOp,
    ListenOp,
    MapReduceOp,
    Op,
    ParallelOp,
    RaceOp,
    SwitchOp,
    UntilOp,
    WhileOp,
)


def inner_blocks(op: Op) -> list[int]:
    """Return the blocks inside an op, in the order of the source, `on_error` and `undo` last."""
    blocks: list[int] = []
    match op:
        case IfElseOp():
            blocks = [op.then] if op.otherwise is None else [op.then, op.otherwise]
        case SwitchOp():
            blocks = [case.then for case in op.cases]
        case ForeachOp() | WhileOp() | UntilOp() | ListenOp():
            blocks = [op.do]
        case MapReduceOp():
            blocks = [op.map]
        case ParallelOp() | RaceOp():
            blocks = list(op.branches)
        case _:
            pass
    return [*blocks, *(block for block in (op.mods.on_error, op.mods.undo) if block is not None)]


def named_lists(plan: Plan) -> dict[str, int]:
    """Return the first block of each named list, `finally` last."""
    return plan.workflows if plan.ending is None else {**plan.workflows, "finally": plan.ending}


def jumps(plan: Plan, block: int) -> bool:
    """Return whether control leaves a block by jumps."""
    return bool(plan.blocks[block].exits) or plan.blocks[block].on_failure is not None


def positions(plan: Plan, name: str, block: int) -> dict[str, int]:
    """Return the blocks that a named list consists of, by their paths.

    Args:
        plan: The plan.
        name: The list.
        block: Its first block.

    Returns:
        {name: block} for a list without jumps. In one with jumps each block that control may jump to, or that nothing
        holds or leads to, is named `LIST.BLOCK`; they stand in the order of the source.
    """
    if not any(jumps(plan, number) for number in range(len(plan.blocks))):
        return {name: block}
    held = {number for each in plan.blocks for op in each.ops for number in inner_blocks(op)}
    others = {number for other, number in named_lists(plan).items() if other != name}
    found = [number for number in range(len(plan.blocks)) if number not in held and number not in others]
    return {f"{name}.{plan.blocks[number].name}": number for number in found}


def step_places(plan: Plan) -> Iterator[tuple[str, Op]]:
    """Yield all steps with their paths, in the order of the source; those inside a step follow it."""
    for name, first in named_lists(plan).items():
        for path, block in positions(plan, name, first).items():
            yield from _steps_of(plan, block, path)


def _steps_of(plan: Plan, number: int, path: str) -> Iterator[tuple[str, Op]]:
    for index, op in enumerate(plan.blocks[number].ops):
        here = f"{path}.{index}"
        yield here, op
        for inner in inner_blocks(op):
            yield from _steps_of(plan, inner, f"{here}.{plan.blocks[inner].name}")
