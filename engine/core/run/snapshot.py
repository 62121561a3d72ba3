"""The interpreter's state as JSON, to travel over continue-as-new. Workflow-safe."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from engine.core.run.state import MachineState

_ADAPTER: TypeAdapter[MachineState] = TypeAdapter(MachineState)


def state_to_json(state: MachineState) -> dict[str, Any]:
    """Return the state as a JSON object."""
    body: dict[str, Any] = _ADAPTER.dump_python(state, mode="json")
    return body


def state_from_json(body: dict[str, Any]) -> MachineState:
    """Read a state back."""
    return _ADAPTER.validate_python(body)
