"""Sorts the tools of an agent by whether a turn can offer them: one that cannot be keeps the agent from no answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from engine.control.compiling import compile_text
from engine.core.errors import DefinitionError
from engine.core.plan.ir import ToolContract

MOST_OF_REASON: Final = 500
"""Characters."""

log = structlog.get_logger("everstep.sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools of an agent.

    Attributes:
        tools: Those that can be offered, as Julep tool objects.
        left_out: The others: {name, message, hint}.
    """

    tools: list[dict[str, Any]]
    left_out: list[dict[str, Any]]


def offer_of(
    tools: Sequence[dict[str, Any]],
    *,
    calls_tools: bool,
    tenant: str,
    contracts: Mapping[str, ToolContract],
    agent_id: str,
) -> Offer:
    """Return which tools of an agent can be offered now; what becomes of the others is logged.

    A tool is stored before its provider is switched on, and outlives what it needs.

    Args:
        tools: The agent's tools, as Julep tool objects.
        calls_tools: Whether they are run when the model calls them.
        tenant: Tenant id.
        contracts: The operator's tools by name.
        agent_id: The agent.
    """
    kept, left_out = [], []
    for tool in tools:
        try:
            _compile(tool, "agent" if calls_tools else "prompt", tenant, contracts)
        except DefinitionError as error:
            told = _reason(error)
            log.warning("an agent's tool is left out", agent=agent_id, tool=tool["name"], reason=told["message"])
            left_out.append({"name": tool["name"], **told})
        else:
            kept.append(tool)
    return Offer(tools=kept, left_out=left_out)


def _compile(tool: Mapping[str, Any], step: str, tenant: str, contracts: Mapping[str, ToolContract]) -> None:
    """Compile a task with nothing but a tool in it.

    Raises:
        DefinitionError: The tool cannot be offered.
    """
    spec = {"name": "offer", "dialect": "julep-2025", "tools": [tool], "main": [{step: "$ _", "tools": "all"}]}
    compile_text(json.dumps(spec), file="offer", contracts=contracts, tenant=tenant).check_runs()


def _reason(error: DefinitionError) -> dict[str, str]:
    first = next(iter(error.diagnostics), error)
    return {"message": first.message[:MOST_OF_REASON], "hint": first.hint[:MOST_OF_REASON]}
