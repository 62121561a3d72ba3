"""The interpreter's state as JSON, to travel over continue-as-new. Workflow-safe.

A concurrent branch works on a copy of its parent's scope, and its parent stands still meanwhile. So only what the
branch added to that copy is written down: a map with hundreds of branches would else carry the input and all outputs
so far hundreds of times.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from engine.core.run.scopes import Scope
from engine.core.run.state import Branch, MachineState
from engine.core.values import Json


@functools.cache
def _adapter() -> TypeAdapter[MachineState]:
    """Return what reads and writes the state; it takes 40 ms to make, and few workers ever continue a run as new."""
    return TypeAdapter(MachineState)


def state_to_json(state: MachineState) -> dict[str, Any]:
    """Return the state as a JSON object."""
    by_id = {branch.id: branch for branch in state.branches}
    slim = [_without_inherited(branch, by_id) for branch in state.branches]
    body: dict[str, Any] = _adapter().dump_python(replace(state, branches=slim), mode="json")
    return body


def state_from_json(body: dict[str, Any]) -> MachineState:
    """Read a state back."""
    state = _adapter().validate_python({"times": None, **body})
    by_id = {branch.id: branch for branch in state.branches}
    # a parent has a lower number than its children, so its own scope is whole when theirs are filled
    for number in sorted(by_id):
        branch = by_id[number]
        if branch.parent is not None:
            branch.scopes[0] = _with_inherited(branch.scopes[0], by_id[branch.parent].scope)
    return state


def _without_inherited(branch: Branch, by_id: dict[int, Branch]) -> Branch:
    if branch.parent is None:
        return branch
    scope, parent = branch.scopes[0], by_id[branch.parent].scope
    own = Scope(
        scope.id,
        scope.workflow,
        None,
        scope.steps[len(parent.steps) :],
        _added(scope.labels, parent.labels),
        _added(scope.state, parent.state),
    )
    return replace(branch, scopes=[own, *branch.scopes[1:]])


def _added(own: dict[str, Json], inherited: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in own.items() if key not in inherited or inherited[key] is not value}


def _with_inherited(own: Scope, parent: Scope) -> Scope:
    return Scope(
        own.id,
        own.workflow,
        parent.input,
        [*parent.steps, *own.steps],
        {**parent.labels, **own.labels},
        {**parent.state, **own.state},
    )
