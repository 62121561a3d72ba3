"""Compiles `allow` of a task, and finds the steps that reach beyond it. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine.core.diagnostics import Findings, Position
from engine.core.plan.grant import ANY, DEFAULT_MODEL, VERBS, Grant, Reach, excess, host_entry
from engine.core.plan.ir import Plan
from engine.core.plan.ops import Op
from engine.core.plan.reach import op_reach, secrets_in
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.model import AllowSpec, TaskSpec
from engine.core.spec.nodes import MapNode
from engine.core.spec.parts import NameSpec
from engine.core.spec.steps import StepSpec

_KEY_OF: Final = {"tools": "tool", "models": "model", "tasks": "task"}
"""The key of a step that names what is of a kind."""
_COMPUTED: Final = {
    "tools": "which tool it calls",
    "models": "which model it asks",
    "hosts": "which host it calls",
    "secrets": "which secret it reads",
    "tasks": "which task it runs",
}


def compile_allow(spec: AllowSpec | None, findings: Findings) -> Grant:
    """Return the bound that a task puts on its steps, each kind sorted.

    Args:
        spec: `allow`; None = no bound.
        findings: Where to put what is wrong.
    """
    if spec is None:
        return Grant()
    hosts = spec.names.get("hosts")
    lists = {kind: tuple(sorted({name.text for name in names})) for kind, names in spec.names.items()}
    if hosts is not None:
        lists["hosts"] = tuple(sorted({_host(name, findings) for name in hosts}))
    return Grant(**lists)


def _host(name: NameSpec, findings: Findings) -> str:
    found = host_entry(name.text)
    if found is not None:
        return found
    is_url = "/" in name.text
    findings.error(
        codes.BAD_NAME,
        f"'{name.text[:60]}' in 'hosts' is no host",
        name.position,
        path="allow.hosts",
        hint="write the host alone, such as api.example.com"
        if is_url
        else "write host, host:port, host:* or *.host; a name in another script as `xn--…`",
    )
    return name.text


def check_reach(plan: Plan, steps: Sequence[tuple[StepSpec, Op]], task: TaskSpec, findings: Findings) -> None:
    """Report what surely is beyond the plan's bound.

    Args:
        plan: The plan with its bound.
        steps: All steps, each with what it became.
        task: The task.
        findings: Where to put what is wrong.
    """
    if task.allow is None:
        return
    for step, op in steps:
        for kind, names in excess(plan.allow, op_reach(plan, op)).kinds():
            for name in names:
                if kind != "tools" or name in plan.tools:  # a tool that there is not was reported already
                    at, path = _place_of(step, kind, name)
                    _report(plan.allow, kind, name, at, path, findings)
    for number, (spec, requirement) in enumerate(zip(task.require, plan.require, strict=True)):
        reach = Reach(secrets=secrets_in(requirement))
        for name in excess(plan.allow, reach).secrets:
            _report(plan.allow, "secrets", name, spec.position, f"require[{number}]", findings)


def _report(grant: Grant, kind: str, name: str, at: Position, path: str, findings: Findings) -> None:
    entries = grant.of(kind) or ()
    if name == ANY:
        message = f"the step computes {_COMPUTED[kind]}, but `allow.{kind}` permits {_listed(entries)}"
        hint = "write the name out, and add it to the list"
    elif kind == "models" and name == DEFAULT_MODEL:
        message = "the step asks the operator's default model, but `allow.models` permits none"
        hint = "name a model and add it to `allow.models`, or add '(default)' there"
    else:
        message = f"`allow.{kind}` does not permit to {VERBS[kind]} '{name[:60]}'"
        near = suggest(findings, name, entries)
        hint = " ".join(part for part in (near, f"add it to `allow.{kind}`, or leave the step out") if part)
    findings.error(codes.BEYOND_ALLOW, message, at, path=path, hint=hint)


def _listed(entries: Iterable[str]) -> str:
    return ", ".join(list(entries)[:5]) or "none"


def _place_of(step: StepSpec, kind: str, name: str) -> tuple[Position, str]:
    """Return where a step names what it reaches, and the path of that."""
    key = "tool" if kind == "hosts" else _KEY_OF.get(kind, "")
    named = getattr(step, key, None) if key else None
    if kind == "hosts":
        url = arguments.entry("url") if isinstance(arguments := getattr(step, "arguments", None), MapNode) else None
        if url is not None:
            return url.value.position, f"{step.path}.arguments.url"
    several = getattr(step, "models", ()) if kind == "models" else ()
    for index, item in enumerate((named, *several) if several else ()):
        if isinstance(item, NameSpec) and item.text == name:
            return item.position, f"{step.path}.{key}[{index}]"
    if isinstance(named, NameSpec):
        return named.position, f"{step.path}.{key}"
    offered = getattr(step, "tools", ())
    for index, item in enumerate(offered if kind == "tools" and isinstance(offered, tuple) else ()):
        if isinstance(item, NameSpec) and item.text == name:
            return item.position, f"{step.path}.tools[{index}]"
    return step.position, step.path
