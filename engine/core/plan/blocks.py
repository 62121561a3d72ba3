"""Compiles the steps that hold other steps: branches, loops and what runs concurrently. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.core.plan.checks import StepNames
from engine.core.plan.computed import Lit
from engine.core.plan.ops import (
    Case,
    ForeachOp,
    IfElseOp,
    MapReduceOp,
    Op,
    ParallelOp,
    RaceOp,
    SwitchOp,
    UntilOp,
    WhileOp,
)
from engine.core.plan.resolve import Resolver
from engine.core.spec.steps import (
    ForeachStep,
    IfElseStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    StepList,
    SwitchStep,
    UntilStep,
    WhileStep,
)

BlockStep = IfElseStep | SwitchStep | ForeachStep | WhileStep | UntilStep | MapReduceStep | ParallelStep | RaceStep


@dataclass(frozen=True, slots=True)
class BlockCompiler:
    """Turns a step that holds steps into its op.

    Attributes:
        resolver: Reads expressions and values.
        scope: What the step's expressions see.
        reducing: What the expression of a reduce sees.
        block: Compiles a list of steps under a name and returns the number of its block.
    """

    resolver: Resolver
    scope: StepNames
    reducing: StepNames
    block: Callable[[str, StepList], int]

    def compile(self, step: BlockStep) -> Op:
        """Return the op of a step; inner lists are compiled in the order of the source."""
        resolver, path, scope = self.resolver, step.path, self.scope
        match step:
            case IfElseStep():
                return IfElseOp(
                    condition=resolver.expression(step.condition, f"{path}.if", scope),
                    then=self.block("then", step.then),
                    otherwise=None if step.otherwise is None else self.block("else", step.otherwise),
                )
            case SwitchStep():
                return SwitchOp(cases=tuple(self._case(step, number) for number in range(len(step.cases))))
            case ForeachStep():
                items = resolver.expression(step.items, f"{path}.foreach.in", scope)
                return ForeachOp(items=items, do=self.block("do", step.do))
            case WhileStep():
                condition = resolver.expression(step.condition, f"{path}.while", scope)
                return WhileOp(condition=condition, do=self.block("do", step.do), max_rounds=step.max_rounds)
            case UntilStep():
                condition = resolver.expression(step.condition, f"{path}.until", scope)
                return UntilOp(condition=condition, do=self.block("do", step.do), max_rounds=step.max_rounds)
            case MapReduceStep():
                return self._map_reduce(step)
            case ParallelStep():
                branches = self._branches(step.branches)
                return ParallelOp(branches=branches, parallelism=step.parallelism, on_item_error=step.on_item_error)
            case RaceStep():
                branches = self._branches(step.branches)
                return RaceOp(branches=branches, take=step.take, stagger_s=step.stagger_s)

    def _case(self, step: SwitchStep, number: int) -> Case:
        case = step.cases[number]
        path = f"{step.path}.switch[{number}].case"
        condition = None if case.condition is None else self.resolver.expression(case.condition, path, self.scope)
        return Case(self.block(f"case[{number}]", case.then), condition)

    def _map_reduce(self, step: MapReduceStep) -> Op:
        resolver, path = self.resolver, step.path
        over = resolver.expression(step.over, f"{path}.over", self.scope)
        reduce = None if step.reduce is None else resolver.expression(step.reduce, f"{path}.reduce", self.reducing)
        initial = Lit([]) if step.initial is None else resolver.value(step.initial, f"{path}.initial", self.scope)
        return MapReduceOp(
            over=over,
            map=self.block("map", step.map),
            parallelism=step.parallelism,
            on_item_error=step.on_item_error,
            reduce=reduce,
            initial=initial,
        )

    def _branches(self, branches: tuple[StepList, ...]) -> tuple[int, ...]:
        return tuple(self.block(str(number), steps) for number, steps in enumerate(branches))
