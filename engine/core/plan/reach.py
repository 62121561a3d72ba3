"""What a plan may touch, read off the plan itself: tools, models, hosts, secrets, other tasks. Workflow-safe.

Static reach is an upper bound: what no step can name is never touched, what some step names may be. A name that is
computed only when the step runs counts as ANY.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import Plan, ToolContract
from engine.core.plan.ops import Op, PromptOp, ToolCallOp

ANY: Final = "*"
"""A name that is known only when the step runs."""
DEFAULT_MODEL: Final = "(default)"
"""The model that the operator's first backend takes when nobody names one."""

_SECRET = re.compile(r"\bsecrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\])?")
_STATIC_HOST = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://([^/?#{}\s]+)[/?#]")


@dataclass(frozen=True, slots=True)
class Reach:
    """Names that a plan may touch, each kind sorted.

    Attributes:
        tools: Tools that its steps call.
        models: Models that it asks; DEFAULT_MODEL if a prompt names none.
        hosts: Hosts (`host` or `host:port`) that its HTTP tools call; those of Python tools are the operator's matter.
        secrets: Secrets that its expressions read.
        tasks: Tasks that it runs as child executions.
    """

    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def beyond(self, other: Reach) -> Reach:
        """Return what this reach has and another does not; where the other has ANY, nothing is beyond it."""
        return Reach(
            *(
                () if ANY in theirs else tuple(name for name in mine if name not in theirs)
                for mine, theirs in zip(_parts(self), _parts(other), strict=True)
            )
        )

    def to_json(self) -> dict[str, list[str]]:
        """Return {tools, models, hosts, secrets, tasks}."""
        return {item.name: list(getattr(self, item.name)) for item in dataclasses.fields(self)}


def _parts(reach: Reach) -> tuple[tuple[str, ...], ...]:
    return reach.tools, reach.models, reach.hosts, reach.secrets, reach.tasks


def reach_of(plan: Plan) -> Reach:
    """Return what a plan may touch.

    Args:
        plan: The plan; the agent's settings count as they stand in it.

    Returns:
        Names of all steps, also of those in lists that no step runs.
    """
    tools: list[str] = []
    models: list[str] = []
    hosts: list[str] = []
    tasks: list[str] = []
    for op in (op for block in plan.blocks for op in block.ops):
        if isinstance(op, ToolCallOp):
            tools.append(op.tool)
            contract = plan.tools.get(op.tool)
            if contract is not None and contract.type == "api_call":
                hosts += _hosts_of_call(contract, op.arguments)
        elif isinstance(op, PromptOp):
            models.append(_model_of(plan, op))
        else:
            tasks += _tasks_of(op)
    return Reach(_sorted(tools), _sorted(models), _sorted(hosts), _sorted(_secrets_of(plan)), _sorted(tasks))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _tasks_of(op: Op) -> list[str]:
    if op.op.value != "task":
        return []
    name = getattr(op, "task", ANY)
    return [name if isinstance(name, str) else ANY]


# --- models --------------------------------------------------------------------------------------------------------


def _model_of(plan: Plan, op: PromptOp) -> str:
    default = str(plan.agent.settings.get("model") or "") or plan.agent.model or DEFAULT_MODEL
    if op.model:
        return op.model
    match op.settings:
        case Lit(value=dict() as members):
            return str(members.get("model") or "") or default
        case Obj():
            named = op.settings.items.get("model")
            if named is None:
                return default
            return str(named.value or "") or default if isinstance(named, Lit) else ANY
        case Lit():
            return default
        case _:
            return ANY


# --- hosts ---------------------------------------------------------------------------------------------------------


def _hosts_of_call(contract: ToolContract, arguments: Value) -> list[str]:
    spec = contract.spec
    hosts = [ANY] if spec.get("follow_redirects") is True else []
    given, computed = _argument(arguments, "url")
    if computed and _takes(contract, "url"):
        return [ANY]
    if given is not None:
        return [*hosts, _host_of(given)]
    return [*hosts, _host_of(Lit(spec.get("url")))]


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
    if isinstance(url, Lit) and isinstance(url.value, str):
        try:
            return urlsplit(url.value.strip()).netloc.rpartition("@")[2].lower() or ANY
        except ValueError:
            return ANY
    if isinstance(url, Tmpl):
        found = _STATIC_HOST.match(url.source)
        return found.group(1).rpartition("@")[2].lower() if found else ANY
    return ANY


# --- secrets -------------------------------------------------------------------------------------------------------


def _secrets_of(plan: Plan) -> Iterator[str]:
    for text in _sources(plan):
        for found in _SECRET.finditer(text):
            yield next((name for name in found.groups() if name), ANY)


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
