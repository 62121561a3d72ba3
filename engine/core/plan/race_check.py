"""Checks races: a branch that is stopped in the middle must not leave half an effect behind. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core.diagnostics import Findings
from engine.core.plan.ir import ToolContract
from engine.core.spec import codes
from engine.core.spec.parts import NameSpec
from engine.core.spec.steps import AgentStep, RaceStep, StepList, StepSpec, TaskStep, ToolCallStep, YieldStep
from engine.core.spec.walk import all_steps


def check_races(
    workflows: Mapping[str, StepList],
    tools: Mapping[str, ToolContract],
    findings: Findings,
    own: tuple[str, ...] = (),
) -> None:
    """Report tools in branches of races that may neither be stopped nor made twice, and tasks, which may call some.

    Args:
        workflows: The named lists.
        tools: Contracts of the tools that the steps call.
        findings: Where to put what is wrong.
        own: The task's own tools, which an agent with `tools: all` may call.
    """
    reported: set[str] = set()
    for steps in workflows.values():
        for step in all_steps(steps):
            if not isinstance(step, RaceStep):
                continue
            for branch in step.branches:
                for tool, path in _calls(branch, workflows, set(), own):
                    contract = tools.get(tool.text)
                    if contract is None or contract.repeatable or path in reported:
                        continue
                    reported.add(path)
                    findings.error(
                        codes.UNSAFE_RACE,
                        f"the tool '{contract.name}' changes something outside, and a race stops who loses",
                        tool.position,
                        path=path,
                        hint="call it after the race, or declare the tool idempotent if a stopped call does no harm",
                    )
                _warn_of_tasks(branch, workflows, reported, findings)


def _warn_of_tasks(branch: StepList, workflows: Mapping[str, StepList], reported: set[str], findings: Findings) -> None:
    for step in _steps(branch, workflows, set()):
        if isinstance(step, TaskStep) and step.path not in reported:
            reported.add(step.path)
            findings.warn(
                codes.TASK_IN_RACE,
                f"a race stops who loses, and what the task '{step.task.text}' has changed outside by then stays",
                step.task.position,
                path=f"{step.path}.task",
                hint="give its steps an `undo`, or run it after the race",
            )


def _calls(
    steps: StepList, workflows: Mapping[str, StepList], seen: set[str], own: tuple[str, ...]
) -> Iterator[tuple[NameSpec, str]]:
    """Yield the tools that some steps may call, with the place where each is named."""
    for step in _steps(steps, workflows, seen):
        if isinstance(step, ToolCallStep):
            yield step.tool, f"{step.path}.tool"
        elif isinstance(step, AgentStep):
            named = [NameSpec(name, step.position) for name in own] if step.tools == "all" else step.tools
            for index, tool in enumerate(named):
                if isinstance(tool, NameSpec):
                    yield tool, f"{step.path}.tools[{index}]"


def _steps(steps: StepList, workflows: Mapping[str, StepList], seen: set[str]) -> Iterator[StepSpec]:
    """Yield some steps with all that they hold and all that they run of this task."""
    for step in all_steps(steps):
        yield step
        if isinstance(step, YieldStep) and step.workflow.text in workflows and step.workflow.text not in seen:
            seen.add(step.workflow.text)
            yield from _steps(workflows[step.workflow.text], workflows, seen)
