"""Knows where the labels of a named list stand, and which can have run at another place of it. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.spec.steps import (
    ForeachStep,
    ListenStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    StepList,
    StepSpec,
    UntilStep,
    WhileStep,
)
from engine.core.spec.walk import inner_lists

LATER = "later"
OPEN = "open"
BRANCH = "branch"
OTHER = "other"

_BESIDE = ("on_error", "undo")
"""Lists that stand beside what a step does and run after it."""


@dataclass(frozen=True, slots=True)
class _Hop:
    """A step on the way to a place, and the list of it that the way goes into; empty where the way ends."""

    index: int
    step: StepSpec
    into: str = ""

    @property
    def rounds(self) -> bool:
        """Whether what stands inside may run again after it has run: then it sees also what comes after it."""
        if self.into in _BESIDE:
            return False
        loops = isinstance(self.step, (ForeachStep, WhileStep, UntilStep, ListenStep))
        return loops or self.step.mods.retry is not None

    @property
    def concurrent(self) -> bool:
        """Whether the way goes into a branch, whose labels nobody outside of it sees."""
        return self.into not in _BESIDE and isinstance(self.step, (MapReduceStep, ParallelStep, RaceStep))


_Way = tuple[_Hop, ...]


class LabelPlaces:
    """The places of the steps of a named list, and of its labels."""

    def __init__(self, steps: StepList) -> None:
        """Note all places.

        Args:
            steps: The named list.
        """
        self._labels: dict[str, _Way] = {}
        self._ways: dict[str, _Way] = {}
        self._note(steps, ())

    def _note(self, steps: StepList, way: _Way) -> None:
        for index, step in enumerate(steps.steps):
            here = (*way, _Hop(index, step))
            self._ways[step.path] = here
            if step.label is not None:
                self._labels.setdefault(step.label.text, here)
            for name, inner in inner_lists(step):
                self._note(inner, (*way, _Hop(index, step, name)))

    def hidden(self, label: str, step: StepSpec) -> str:
        """Say why the output of a labelled step can never be read in an expression of another one.

        Args:
            label: A label of the named list.
            step: The step that the expression belongs to.

        Returns:
            LATER, OPEN (it has not ended), BRANCH (it is inside of a branch) or OTHER (only one of the two runs); empty
            if it can be read, or where that shows only when the task runs.
        """
        there, here = self._labels.get(label), self._ways.get(step.path)
        if there is None or here is None:
            return ""
        common = 0
        # while both ways go into the same list of the same step
        while common < min(len(there), len(here)) - 1 and _same(there[common], here[common]):
            common += 1
        if any(hop.concurrent for hop in there[common:-1]):
            return BRANCH
        sides = (*there[common:], *here[common:])
        if any(hop.rounds for hop in here[:common]) or any(hop.into == "undo" for hop in (*sides, *here)):
            return ""
        return _order(there[common:], here[common:])


def _same(one: _Hop, other: _Hop) -> bool:
    return one.step is other.step and one.into == other.into != ""


def _order(there: _Way, here: _Way) -> str:
    """Return why the first place cannot come before the second one; the ways begin where they part."""
    if there[0].index != here[0].index:
        return LATER if there[0].index > here[0].index else ""
    step = here[0].step
    if len(there) == 1:
        return OPEN
    if isinstance(step, (WhileStep, UntilStep, ListenStep)) or step.mods.retry is not None:
        # the condition of a loop sees the round before, and a repeated step what its last attempt left
        return ""
    if here[0].into == "on_error":
        return ""
    return LATER if len(here) == 1 or there[0].into == "on_error" else OTHER
