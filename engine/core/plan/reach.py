"""What a plan may touch, read off the plan itself: tools, models, hosts, secrets, other tasks. Workflow-safe.

Static reach is an upper bound: what no step can name is never touched, what some step names may be. A name that is
computed only when the step runs counts as ANY.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from engine.core.lang.secret import names_of
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.grant import ANY, DEFAULT_MODEL, KINDS, Reach, host_entry
from engine.core.plan.ir import Plan, ToolContract
from engine.core.plan.ops import AgentOp, EmbedOp, Op, PromptOp, SearchOp, TaskOp, ToolCallOp
from engine.core.values import Json

_SECRET = re.compile(r"\bsecrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\])?")
_STATIC_HOST = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://([^/?#{}\s]+)[/?#]")


def reach_of(plan: Plan) -> Reach:
    """Return what a plan may touch.

    Args:
        plan: The plan; the agent's settings count as they stand in it.

    Returns:
        Names of all steps, also of those in lists that no step runs.
    """
    parts = [op_reach(plan, op) for block in plan.blocks for op in block.ops]
    parts.append(Reach(secrets=secrets_in(plan.require)))
    lists = ([name for part in parts for name in getattr(part, kind)] for kind in KINDS)
    return Reach(*(_sorted(names) for names in lists))


def op_reach(plan: Plan, op: Op) -> Reach:
    """Return what one step may touch; the steps in its blocks are not looked at.

    Args:
        plan: The plan that has the tools and the agent's settings.
        op: The step.
    """
    secrets = secrets_in(op)
    if isinstance(op, ToolCallOp):
        contract = plan.tools.get(op.tool)
        secrets = _sorted((*secrets, *_secrets_of(contract)))
        hosts = _hosts_of_call(contract, op.arguments) if contract is not None and contract.takes_address else []
        return Reach(tools=(op.tool,), hosts=_sorted(hosts), secrets=secrets, tasks=_run_by([contract]))
    if isinstance(op, PromptOp):
        return Reach(models=_models_of(plan, op), secrets=secrets)
    if isinstance(op, AgentOp):
        contracts = [plan.tools.get(name) for name in op.tools]
        secrets = _sorted((*secrets, *(name for contract in contracts for name in _secrets_of(contract))))
        return Reach(
            tools=op.tools,
            models=_models_of(plan, op),
            hosts=_hosts_of_agent(plan, op),
            secrets=secrets,
            tasks=_run_by(contracts),
        )
    if isinstance(op, EmbedOp):
        return Reach(models=(op.model or DEFAULT_MODEL,), secrets=secrets)
    if isinstance(op, SearchOp) and op.text is not None:
        # words are looked for by their meaning as well, which a model gives
        return Reach(models=(DEFAULT_MODEL,), secrets=secrets)
    return Reach(tasks=_sorted(_tasks_of(op)), secrets=secrets)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _tasks_of(op: Op) -> list[str]:
    return [op.task] if isinstance(op, TaskOp) else []


def _run_by(contracts: Iterable[ToolContract | None]) -> tuple[str, ...]:
    """Return the tasks that tools run."""
    return _sorted(contract.runs for contract in contracts if contract is not None and contract.runs)


# --- models --------------------------------------------------------------------------------------------------------


def model_names(value: Json) -> tuple[str, ...]:
    """Return the models that a setting names, by one name or by a list of them; what is empty names none."""
    names = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(str(name) for name in names if name))


def _models_of(plan: Plan, op: PromptOp | AgentOp) -> tuple[str, ...]:
    if op.model:
        return _sorted((op.model, *op.models))
    agents = model_names(plan.agent.settings.get("model")) or model_names(plan.agent.model) or (DEFAULT_MODEL,)
    match op.settings:
        case Lit(value=dict() as members):
            return _sorted(model_names(members.get("model")) or agents)
        case Obj():
            named = op.settings.items.get("model")
            return agents if named is None else _sorted(_computed_models(named) or agents)
        case Lit():
            return agents
        case _:
            return (ANY,)


def _computed_models(value: Value) -> tuple[str, ...]:
    match value:
        case Lit():
            return model_names(value.value)
        case Arr():
            return tuple(name for item in value.items for name in _computed_models(item))
        case _:
            return (ANY,)


# --- hosts ---------------------------------------------------------------------------------------------------------


def _hosts_of_call(contract: ToolContract, arguments: Value) -> list[str]:
    if contract.type in ("openapi", "acp"):
        # no argument says where the service is, and no redirect is followed
        return [_host_of(Lit(contract.spec.get("base_url")))]
    given, computed = _argument(arguments, "url")
    if computed and _takes(contract, "url"):
        return [ANY]
    if given is None or given == Lit(None):
        given = Lit(contract.spec.get("url"))
    host = _host_of(given)
    return [ANY, host] if _may_be_sent_on(contract, arguments) else [host]


def _hosts_of_agent(plan: Plan, op: AgentOp) -> tuple[str, ...]:
    """Return the hosts of an agent's HTTP tools, whose arguments the model makes."""
    contracts = (plan.tools.get(name) for name in op.tools)
    hosts = (
        _hosts_of_call(contract, Expr("_")) for contract in contracts if contract is not None and contract.takes_address
    )
    return _sorted(host for found in hosts for host in found)


def hosts_of_call(contract: ToolContract, arguments: dict[str, Json]) -> tuple[str, ...]:
    """Return the hosts that a call of a tool that takes an address may go to, its arguments being known.

    Args:
        contract: The tool.
        arguments: The arguments.

    Returns:
        The host of the address, and ANY if redirects are followed or the address cannot be read.
    """
    return _sorted(_hosts_of_call(contract, Lit(arguments)))


def _may_be_sent_on(contract: ToolContract, arguments: Value) -> bool:
    """Whether a call may follow a redirect, which can lead to any host."""
    given, computed = _argument(arguments, "follow_redirects")
    if computed and _takes(contract, "follow_redirects"):
        return True
    if given is None or given == Lit(None):
        given = Lit(contract.spec.get("follow_redirects"))
    return not isinstance(given, Lit) or given.value not in (None, False)


def _takes(contract: ToolContract, name: str) -> bool:
    """Whether a computed object of arguments could hold a member of that name."""
    schema = contract.parameters
    if not isinstance(schema, dict) or schema.get("additionalProperties") is not False:
        return True
    return name in schema.get("properties", {})


def _argument(arguments: Value, name: str) -> tuple[Value | None, bool]:
    """Return a member of the arguments, and whether the arguments as a whole are computed."""
    match arguments:
        case Obj():
            return arguments.items.get(name), False
        case Lit(value=dict() as members):
            return (Lit(members[name]), False) if name in members else (None, False)
        case Expr() | Tmpl():
            return None, True
        case Lit() | Arr():
            return None, False


def _host_of(url: Value) -> str:
    """Return the host of an address, also of one whose path is computed."""
    text = ""
    if isinstance(url, Lit) and isinstance(url.value, str):
        try:
            text = urlsplit(url.value.strip()).netloc
        except ValueError:
            return ANY
    elif isinstance(url, Tmpl):
        found = _STATIC_HOST.match(url.source)
        text = found.group(1) if found else ""
    host = text.rpartition("@")[2].lower()
    return host_entry(host) or host or ANY


# --- secrets -------------------------------------------------------------------------------------------------------


def _secrets_of(contract: ToolContract | None) -> list[str]:
    """Return the secrets in the definition of a tool."""
    return [] if contract is None else names_of(contract.secrets)


def secrets_in(value: Any) -> tuple[str, ...]:
    """Return the secrets that the expressions and templates in a value read, wherever they stand in it."""
    found = (match for text in _sources(value) for match in _SECRET.finditer(text))
    return _sorted(next((name for name in match.groups() if name), ANY) for match in found)


def _sources(value: Any) -> Iterator[str]:
    """Yield the texts of all expressions and templates, wherever they stand."""
    if isinstance(value, (Expr, Tmpl)):
        yield value.source
    elif isinstance(value, Lit):
        return
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _sources(getattr(value, item.name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _sources(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _sources(inner)
