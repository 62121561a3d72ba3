"""Checks that a `get` reads a key which a `set` of the same named list writes. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.diagnostics import Findings
from engine.core.plan.resolve import is_template, mark_length
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import MapNode, ScalarNode
from engine.core.spec.steps import GetStep, SetStep, StepList
from engine.core.spec.walk import all_steps


def check_state_keys(workflows: Mapping[str, StepList], findings: Findings) -> None:
    """Warn about keys that no step writes; each named list has a state of its own.

    Args:
        workflows: The named lists.
        findings: Where to put what is wrong.
    """
    for name, steps in workflows.items():
        written = _written(steps)
        if written is None:
            continue
        for step in all_steps(steps):
            key = step.key if isinstance(step, GetStep) else None
            if not isinstance(key, ScalarNode) or not isinstance(key.value, str) or key.value in written:
                continue
            if not mark_length(key.value) and not is_template(key.value):
                message = f"no `set` of '{name}' writes '{key.value[:60]}'"
                hint = suggest(findings, key.value, written) or "write it with `set` first"
                findings.warn(codes.MISSPELT, message, key.position, hint=hint, path=f"{step.path}.get")


def _written(steps: StepList) -> frozenset[str] | None:
    """Return the keys that the list writes, or None if one of its `set` steps computes them."""
    keys: set[str] = set()
    for step in all_steps(steps):
        if isinstance(step, SetStep):
            if not isinstance(step.values, MapNode):
                return None
            keys.update(step.values.keys())
    return frozenset(keys)
