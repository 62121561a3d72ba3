"""Answers about tasks: our own view, and for Julep's clients the same with steps and tools as their types take them."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from engine.control.definitions import task_view
from engine.core.spec.vocabulary import TASK_KEYS
from engine.edge.http.clients import is_fern, is_stainless
from engine.edge.native.julep_steps import legacy_view, step_view, tool_view
from engine.store.definitions import TaskFacts

_OURS = ("id", "version", "agent_id", "plan_hash", "created_at", "updated_at", *TASK_KEYS)


def task_answer(request: Request, task: TaskFacts) -> dict[str, Any]:
    """Return a task as JSON for whoever asks.

    Args:
        request: The request, whose headers tell the client.
        task: The task.
    """
    view = task_view(task)
    is_legacy = is_fern(request.headers)
    if not is_legacy and not is_stainless(request.headers):
        return view
    told_step = legacy_view if is_legacy else step_view
    lists = {
        name: [told_step(step) for step in (steps if isinstance(steps, list) else [steps])]
        for name, steps in task.spec.items()
        if name == "main" or name not in _OURS
    }
    inherits = view.get("inherit_tools")
    default = task.spec.get("dialect") == "julep-2024"
    return {
        **view,
        **lists,
        "tools": [tool_view(tool) for tool in view.get("tools") or []],
        "inherit_tools": default if inherits is None else inherits,
    }
