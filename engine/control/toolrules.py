"""What everstep.toml says of the operator's tools by globs of their names: pools, tenants, approvals."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from engine.core.errors import CompileError
from engine.core.plan.agent_rules import Approval
from engine.core.plan.computed import Expr, Lit
from engine.core.plan.drift import drifts, present_of
from engine.core.plan.ir import Block, Plan, ToolContract
from engine.core.plan.ops import Op, PromptOp
from engine.core.plan.toolbox import offer
from engine.settings import ApproveConfig, ToolsConfig

OF_TASKS = frozenset({"api_call", "function", "provider", "system", "task"})
"""Types of tools that tasks bring themselves, whatever the operator has of their names."""


def rules_for(names: Iterable[str], config: ToolsConfig) -> dict[str, dict[str, Any]]:
    """Return the members of contracts that everstep.toml sets, for each tool of which it says something.

    Args:
        names: Names of tools.
        config: The operator's tools.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        members: dict[str, Any] = {}
        pool = next((pool for glob, pool in config.pools.items() if fnmatch.fnmatchcase(name, glob)), "")
        if pool:
            members["pool"] = pool
        approve = tuple(_approval(rule) for glob, rule in config.approve.items() if fnmatch.fnmatchcase(name, glob))
        if approve:
            members["approve"] = approve
        fitting = [tenants for glob, tenants in config.tenants.items() if fnmatch.fnmatchcase(name, glob)]
        if fitting:
            members["tenants"] = tuple(sorted({tenant for tenants in fitting for tenant in tenants}))
        if members:
            found[name] = members
    return found


def ruled(contracts: Mapping[str, ToolContract], config: ToolsConfig) -> dict[str, ToolContract]:
    """Return contracts with what everstep.toml says of them.

    Args:
        contracts: By name, as their sources tell them.
        config: The operator's tools.
    """
    rules = rules_for(contracts, config)
    return {name: replace(contract, **rules.get(name, {})) for name, contract in contracts.items()}


def _approval(rule: bool | ApproveConfig) -> Approval:
    if not isinstance(rule, ApproveConfig):
        return Approval()
    return Approval(
        condition=Expr(rule.condition) if rule.condition else None,
        deadline=None if rule.deadline_s is None else Lit(rule.deadline_s),
    )


def offered_to(contracts: Mapping[str, ToolContract], tenant: str | None) -> Mapping[str, ToolContract]:
    """Return the contracts that a tenant's tasks may name, without a word on who else may.

    Args:
        contracts: The operator's.
        tenant: The tenant; None = whoever has the file: all of them.
    """
    if not any(contract.tenants for contract in contracts.values()):
        return contracts
    return {
        name: replace(contract, tenants=()) if contract.tenants else contract
        for name, contract in contracts.items()
        if tenant is None or not contract.tenants or tenant in contract.tenants
    }


def present_tools(plan: Plan, contracts: Mapping[str, ToolContract], tenant: str) -> Plan:
    """Return a stored plan with the tools as they are now, and with what differs in them.

    A tool that is gone stays as it was: a worker may have it, and says so if it does not.

    Args:
        plan: The plan as it was stored.
        contracts: The operator's tools.
        tenant: Whose task it is.

    Raises:
        CompileError: `task.not_runnable` if the tenant may not use one of them any more.
    """
    offered = offered_to(contracts, tenant)
    own = {name: pinned for name, pinned in plan.tools.items() if pinned.type not in OF_TASKS}
    used = {name: tool.spec["integration"] for name, tool in plan.tools.items() if "integration" in tool.spec}
    for name in (*own, *used.values()):
        if name in contracts and name not in offered:
            raise CompileError(
                f"the task '{plan.task}' cannot be run: there is no tool '{name}'",
                code="task.not_runnable",
                hint="the operator registers tools, and says who may use them",
                file=plan.task,
            )
    found = drifts(own, {name: offered.get(name) for name in own})
    present = {name: present_of(pinned, offered[name]) for name, pinned in own.items() if name in offered}
    blocks = _offering(plan.blocks, [(own[name], tool) for name, tool in present.items()])
    for name, integration in used.items():
        if name not in own and integration in offered:
            # whose it is: the operator's word on who is asked, and where it runs, counts as it is now
            rules = offered[integration]
            present[name] = replace(plan.tools[name], approve=rules.approve, pool=rules.pool)
    return replace(plan, blocks=blocks, tools={**plan.tools, **present}, drift=found)


def _offering(blocks: tuple[Block, ...], tools: Iterable[tuple[ToolContract, ToolContract]]) -> tuple[Block, ...]:
    """Return blocks whose prompts offer tools as they are now; what a prompt says of a tool in its own words stays."""
    shapes = [tuple(offer(tool.name, tool.description, tool.parameters) for tool in pair) for pair in tools]
    changed = [(before, after) for before, after in shapes if before != after]
    if not changed:
        return blocks

    def renewed(op: Op) -> Op:
        if not isinstance(op, PromptOp) or not op.tools:
            return op
        return replace(op, tools=tuple(next((new for old, new in changed if old == tool), tool) for tool in op.tools))

    return tuple(replace(block, ops=tuple(renewed(op) for op in block.ops)) for block in blocks)
