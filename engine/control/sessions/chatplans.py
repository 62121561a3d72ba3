"""Makes of what a turn asks a task that is run once: one prompt, or an agent that calls tools until it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from engine.control.compiling import compile_text
from engine.control.sessions.prompting import Prepared
from engine.core.plan.codec import plan_hash, plan_to_json
from engine.core.plan.ir import AgentSnapshot, Plan, ToolContract
from engine.core.plan.ops import AgentOp
from engine.core.values import Json
from engine.store.definitions import TaskFacts

CHAT_TASK: Final = "chat"
"""Name of the task that executions of turns show; it is stored nowhere."""
CHAT_TASK_ID: Final = "00000000-0000-7000-8000-000000000001"
"""Its id, the same in every session."""
_FILE: Final = "chat.json"
_NOT_PART_OF_IT: Final = ("id", "created_at", "updated_at", "agent_id", "inherited")
"""What stored tools tell of themselves beside their definition."""


def chat_task(
    prepared: Prepared,
    *,
    tenant: str,
    calls_tools: bool,
    contracts: Mapping[str, ToolContract],
    created_us: int,
) -> TaskFacts:
    """Return the task of a turn; what it is told comes by the input, so that nothing in it is read as a template.

    Args:
        prepared: What is asked.
        tenant: Tenant id.
        calls_tools: Whether tools that the model calls are run, and it is asked again.
        contracts: The operator's tools by name.
        created_us: When the turn was taken.

    Raises:
        CompileError: A tool is not one that can be offered; carries the findings.
    """
    spec = _spec(prepared, calls_tools=calls_tools)
    source = json.dumps(spec)
    compiled = compile_text(
        source, file=_FILE, contracts=contracts, agent=AgentSnapshot(id=prepared.agent_id), tenant=tenant
    )
    compiled.check_runs()
    plan = _handing_over(compiled.plan)
    return TaskFacts(
        id=CHAT_TASK_ID,
        tenant=tenant,
        agent_id=prepared.agent_id,
        name=CHAT_TASK,
        spec=compiled.spec,
        source=source,
        plan=plan_to_json(plan),
        plan_hash=plan_hash(plan),
        created_us=created_us,
        updated_us=created_us,
    )


def chat_input(prepared: Prepared) -> dict[str, Json]:
    """Return the input of such a task."""
    return {"messages": prepared.messages, "model": prepared.model, "settings": prepared.settings}


def _spec(prepared: Prepared, *, calls_tools: bool) -> dict[str, Any]:
    tools = [{key: value for key, value in tool.items() if key not in _NOT_PART_OF_IT} for tool in prepared.tools]
    choice = prepared.tool_choice
    # who may call nothing needs no loop
    as_agent = calls_tools and bool(tools) and choice != "none"
    step: dict[str, Any] = {"agent" if as_agent else "prompt": "$ _.messages"}
    # expressions know no characters that are escaped as two halves
    step["settings"] = {name: f"$ _.settings[{json.dumps(name, ensure_ascii=False)}]" for name in prepared.settings}
    if prepared.model:
        step["model"] = "$ _.model"
    if tools:
        step["tools"] = "all"
    if tools and not as_agent and choice is not None:
        step["tool_choice"] = choice
    if as_agent and isinstance(choice, dict):
        step["rules"] = {choice["function"]["name"]: {"first": True}}
    return {"name": CHAT_TASK, "dialect": "julep-2025", "tools": tools, "main": [step]}


def _handing_over(plan: Plan) -> Plan:
    """Let calls of functions that the client runs end the turn."""
    blocks = tuple(
        replace(block, ops=tuple(replace(op, hands_over=True) if isinstance(op, AgentOp) else op for op in block.ops))
        for block in plan.blocks
    )
    return replace(plan, blocks=blocks)
