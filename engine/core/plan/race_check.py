"""Checks races: a branch that is stopped in the middle must not leave half an effect behind. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core.diagnostics import Findings
from engine.core.plan.ir import ToolContract
from engine.core.spec import codes
from engine.core.spec.model import RaceStep, StepList, ToolCallStep, YieldStep
from engine.core.spec.walk import all_steps


def check_races(workflows: Mapping[str, StepList], tools: Mapping[str, ToolContract], findings: Findings) -> None:
    """Report tools in branches of races that may neither be stopped nor made twice.

    Args:
        workflows: The named lists.
        tools: Contracts of the tools that the steps call.
        findings: Where to put what is wrong.
    """
    reported: set[str] = set()
    for steps in workflows.values():
        for step in all_steps(steps):
            if not isinstance(step, RaceStep):
                continue
            for branch in step.branches:
                for call in _calls(branch, workflows, set()):
                    contract = tools.get(call.tool.text)
                    if contract is None or contract.repeatable or call.path in reported:
                        continue
                    reported.add(call.path)
                    findings.error(
                        codes.UNSAFE_RACE,
                        f"the tool '{contract.name}' changes something outside, and a race stops who loses",
                        call.tool.position,
                        path=f"{call.path}.tool",
                        hint="call it after the race, or declare the tool idempotent if a stopped call does no harm",
                    )


def _calls(steps: StepList, workflows: Mapping[str, StepList], seen: set[str]) -> Iterator[ToolCallStep]:
    for step in all_steps(steps):
        if isinstance(step, ToolCallStep):
            yield step
        elif isinstance(step, YieldStep) and step.workflow.text in workflows and step.workflow.text not in seen:
            seen.add(step.workflow.text)
            yield from _calls(workflows[step.workflow.text], workflows, seen)
