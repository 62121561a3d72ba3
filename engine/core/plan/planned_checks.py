"""Warns of each place of a task that can be planned, but is not run by this engine. Workflow-safe."""

from __future__ import annotations

from engine.core.diagnostics import Findings, Position
from engine.core.plan.planned import HINTS
from engine.core.spec import codes


def report_planned(what: str, findings: Findings, position: Position, path: str) -> None:
    """Warn of something that is only planned."""
    message = f"{what} is planned, but this engine does not run it yet"
    findings.warn(codes.PLANNED, message, position, hint=HINTS.get(what, ""), path=path)
