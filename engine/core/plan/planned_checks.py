"""Warns of each place of a task that can be planned, but is not run by this engine. Workflow-safe."""

from __future__ import annotations

from engine.core.diagnostics import Findings, Position
from engine.core.plan.planned import CACHE, COST, HINTS, KINDS
from engine.core.spec import codes
from engine.core.spec.model import TaskSpec
from engine.core.spec.walk import all_steps


def report_planned(what: str, findings: Findings, position: Position, path: str) -> None:
    """Warn of something that is only planned."""
    message = f"{what} is planned, but this engine does not run it yet"
    findings.warn(codes.PLANNED, message, position, hint=HINTS.get(what, ""), path=path)


def check_planned(spec: TaskSpec, findings: Findings) -> None:
    """Warn of each place of a task that is only planned.

    Args:
        spec: The task.
        findings: Where to put it.
    """
    if spec.limits.cost_usd is not None:
        report_planned(COST, findings, spec.limits.cost_position, "limits.cost")
    for steps in (*spec.workflows.values(), *(() if spec.ending is None else (spec.ending,))):
        for step in all_steps(steps):
            if step.kind in KINDS:
                report_planned(KINDS[step.kind], findings, step.position, step.path)
            if step.mods.cache is not None:
                report_planned(CACHE, findings, step.mods.cache.position, f"{step.path}.cache")
