"""Reads the tools that a task takes over from its agent. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.core.diagnostics import Findings
from engine.core.spec import codes
from engine.core.spec.dialects.julep_tools import plain_tool
from engine.core.spec.model import TaskSpec, ToolSpec
from engine.core.spec.nodes import node_from_json
from engine.core.spec.read_tools import read_tool
from engine.core.values import Json


def with_inherited(spec: TaskSpec, definitions: Sequence[Mapping[str, Json]], findings: Findings) -> TaskSpec:
    """Return a task with the tools of its agent behind its own, which win by name; as it is if it wants none.

    Args:
        spec: The task.
        definitions: The agent's tools as Julep's clients define them.
        findings: Where to put which of them cannot be used.
    """
    if not spec.inherit_tools:
        return spec
    own = {tool.name.text for tool in spec.tools}
    found: list[ToolSpec] = []
    for definition in definitions:
        name = str(definition["name"])
        if name in own:
            continue
        problems = Findings()
        node = node_from_json({key: value for key, value in definition.items() if key != "id"})
        tool = read_tool(plain_tool(node), problems, f"agent.tools.{name}", julep=True)
        if tool is not None and not problems.errors:
            found.append(replace(tool, inherited=True, id=str(definition.get("id", ""))))
        else:
            leave_out(name, problems, findings)
    return replace(spec, tools=(*spec.tools, *found))


def leave_out(name: str, problems: Findings, findings: Findings) -> None:
    """Warn that a tool of the agent cannot be used by the task.

    Args:
        name: Its name.
        problems: What is wrong with it.
        findings: Where to put the warning.
    """
    first = problems.errors[0]
    findings.warn(
        codes.NO_EFFECT,
        f"the agent's tool '{name}' is left out: {first.message}",
        hint=first.hint,
        path=f"agent.tools.{name}",
    )
