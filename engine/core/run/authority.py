"""Holds calls to what the plan's bound permits, where a name is known only when the step runs. Workflow-safe.

What is written out was compared when the task was compiled. It is compared again here, since the bound of a child
execution is narrowed by its parent's when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.lang.secret import names_of, used
from engine.core.plan.grant import ANY, OPEN, Grant, check_permitted
from engine.core.plan.ir import Plan, ToolContract
from engine.core.plan.reach import hosts_of_call
from engine.core.values import Json


def model_bound(plan: Plan, model: str) -> Grant | None:
    """Return what a model call carries of the plan's bound; histories do not grow by more than the activity needs.

    Args:
        plan: The plan.
        model: The model's name, which is compared here; empty = the operator's default, which the activity compares.
    """
    return None if model or plan.allow.models is None else Grant(models=plan.allow.models)


def tool_bound(plan: Plan, contract: ToolContract, slots: Sequence[Mapping[str, Json]] = ()) -> Grant | None:
    """Return what a tool call carries of the plan's bound.

    That is the hosts of HTTP tools, which redirects show only later, and the secrets, which only the activity reads.

    Args:
        plan: The plan.
        contract: The tool.
        slots: Where the arguments have secrets.
    """
    if contract.type == "system":
        # what it does with tasks is compared where they are known
        return None if plan.allow == OPEN else plan.allow
    hosts = plan.allow.hosts if contract.takes_address else None
    secrets = plan.allow.secrets if slots or contract.secrets else None
    return None if hosts is None and secrets is None else Grant(hosts=hosts, secrets=secrets)


def check_secrets(plan: Plan, contract: ToolContract, slots: Sequence[Mapping[str, Json]]) -> None:
    """Refuse secrets that the plan may not read, and those that a client would be told or that would be kept.

    Args:
        plan: The plan.
        contract: The tool.
        slots: Where the arguments have secrets.

    Raises:
        AuthorityError: `authority.denied`.
        ExpressionError: `expression.secret`.
    """
    if slots and contract.refuses_secrets:
        raise used(contract.refuses_secrets)
    for name in names_of([*contract.secrets, *slots]):
        check_permitted(plan.allow, "secrets", name)


def check_model(plan: Plan, model: str) -> None:
    """Refuse a model that the plan may not ask.

    Args:
        plan: The plan.
        model: Its name; empty = the operator's default, which the activity compares once it knows it.

    Raises:
        AuthorityError: `authority.denied`.
    """
    if model:
        check_permitted(plan.allow, "models", model)


def check_tool(plan: Plan, contract: ToolContract, arguments: dict[str, Json]) -> None:
    """Refuse a tool that the plan may not call, or the host that the call would go to.

    Args:
        plan: The plan.
        contract: The tool.
        arguments: The arguments as computed.

    Raises:
        AuthorityError: `authority.denied`.
    """
    check_permitted(plan.allow, "tools", contract.name)
    if contract.takes_address and plan.allow.hosts is not None:
        for host in hosts_of_call(contract, arguments):
            # where a redirect leads, and what an unreadable address means, only the activity can tell
            if host != ANY:
                check_permitted(plan.allow, "hosts", host)
