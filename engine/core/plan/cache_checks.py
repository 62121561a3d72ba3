"""Refuses `cache` where a kept outcome would not stand for what the step does. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.diagnostics import Findings
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.core.plan.planned import CACHED_KINDS
from engine.core.spec import codes
from engine.core.spec.model import TaskSpec
from engine.core.spec.steps import StepSpec, ToolCallStep
from engine.core.spec.walk import all_steps

_HARMLESS = (ToolEffect.NONE, ToolEffect.READ)


def check_caches(spec: TaskSpec, tools: Mapping[str, ToolContract], findings: Findings) -> None:
    """Report each `cache` that cannot do what it says.

    Args:
        spec: The task.
        tools: Contracts of the tools that it calls, by name.
        findings: Where to put it.
    """
    for steps in (*spec.workflows.values(), *(() if spec.ending is None else (spec.ending,))):
        for step in all_steps(steps):
            if step.mods.cache is not None:
                _check(step, tools, findings)


def _check(step: StepSpec, tools: Mapping[str, ToolContract], findings: Findings) -> None:
    cache = step.mods.cache
    assert cache is not None
    text = hint = ""
    if step.kind not in CACHED_KINDS:
        text = "'cache' keeps what a model or a tool answered, so it stands on `prompt` and `tool` steps only"
        hint = "leave it out, or put it on the calls inside"
    elif isinstance(step, ToolCallStep) and _runs_task(tools.get(step.tool.text)):
        text = f"the tool '{step.tool.text}' runs a task, whose output is not kept"
        hint = "leave `cache` out, and put it on the calls of the task"
    elif isinstance(step, ToolCallStep) and _changes_something(tools.get(step.tool.text)):
        text = f"the tool '{step.tool.text}' changes something, which an output that was kept would leave out"
        hint = "leave `cache` out; if the tool only reads, its contract should say so with `effect: read`"
    if text:
        findings.error(codes.CONFLICT, text, cache.position, hint=hint, path=f"{step.path}.cache")


def _runs_task(contract: ToolContract | None) -> bool:
    return contract is not None and contract.type == "task"


def _changes_something(contract: ToolContract | None) -> bool:
    return contract is not None and contract.effect not in _HARMLESS
