"""Runs an example of the language reference in memory, with the tools that stand beside it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from engine.reference.entry import Example
from engine.testing.running import TaskRun, run_task
from engine.tooling import Tool


def tools_of(example: Example) -> list[Tool[..., Any]]:
    """Return the tools of an example's module; its annotations are looked up there, so it has to be a real one."""
    if not example.tools:
        return []
    module = ModuleType("example_tools")
    sys.modules[module.__name__] = module
    try:
        exec(compile(example.tools, "tools.py", "exec"), module.__dict__)
        found = [value for value in vars(module).values() if isinstance(value, Tool)]
        # the schema is made on first use, and needs the module's names
        for tool in found:
            assert tool.parameters
    finally:
        del sys.modules[module.__name__]
    return found


def run_example(example: Example) -> TaskRun:
    """Run an example as its page says."""
    tools = tools_of(example)
    return run_task(
        example.task,
        example.given,
        replies=example.replies,
        answers=example.answers,
        tools=tools,
        run_tools=[tool.name for tool in tools],
    )
