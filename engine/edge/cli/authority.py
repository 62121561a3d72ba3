"""Shows what a task can reach and what bounds it: `everstep explain --authority TASK`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.edge.cli.output import Mode, as_json, write

if TYPE_CHECKING:
    from engine.core.plan.ir import Plan

_NOTES = {
    "tools": "What a Python tool itself does is up to the operator who registered it.",
    "hosts": "These are the hosts of HTTP tools; whom a Python tool calls is up to the operator.",
    "tasks": "They may reach at most what `allow` of this task permits; ask for each of them by its name.",
}


def show_authority(plan: Plan, output: Mode) -> None:
    """Print what a task can reach.

    Args:
        plan: Its plan.
        output: How to print it.
    """
    write(_as_text(plan) if output is Mode.TEXT else as_json(authority_json(plan), pretty=output is Mode.JSON))


def stored_plan(task: str, address: str, api_key: str | None) -> Plan:
    """Return the plan of a task of the server as it was stored.

    Args:
        task: Its id or name, `@VERSION` or `@ALIAS` behind.
        address: Address of the API.
        api_key: Its key.

    Raises:
        NotFound: There is no such task.
    """
    from engine.core.plan.codec import plan_from_json
    from engine.edge.cli.api import Api
    from engine.edge.cli.tasks import find_task

    api = Api(address, api_key)
    found = find_task(api, task)
    return plan_from_json(api.get(f"/tasks/{found['id']}/versions/{found['version']}")["plan"])


def authority_json(plan: Plan) -> dict[str, Any]:
    """Return {task, reach, allow, at_run, effects}.

    `allow` has the kinds that are bounded; `at_run` has what can be compared with it only when the step runs.

    Args:
        plan: The plan of the task.
    """
    from engine.core.plan.grant import unsettled
    from engine.core.plan.reach import reach_of

    reach = reach_of(plan)
    return {
        "task": plan.task,
        "reach": reach.to_json(),
        "allow": plan.allow.to_json(),
        "at_run": {kind: list(names) for kind, names in unsettled(plan.allow, reach).kinds() if names},
        "effects": {name: plan.tools[name].effect.value for name in reach.tools if name in plan.tools},
    }


def _as_text(plan: Plan) -> str:
    from engine.core.plan.grant import KINDS

    facts = authority_json(plan)
    bounded: dict[str, list[str]] = facts["allow"]
    lines = [f"What '{plan.task}' can reach" + ("" if bounded else ", with no `allow` to bound it") + ":"]
    for kind in KINDS:
        names = [_shown(kind, name, facts["effects"]) for name in facts["reach"][kind]]
        lines.append(f"\n  {kind:8} {', '.join(names) or 'none'}")
        if kind in bounded:
            note = " (compared when the step runs)" if kind in facts["at_run"] else ""
            lines.append(f"           allow.{kind}: {', '.join(bounded[kind]) or 'none'}{note}")
        elif bounded:
            lines.append(f"           allow.{kind}: open")
        if _needs_note(plan, kind, facts["reach"][kind]):
            lines.append(f"           {_NOTES[kind]}")
    if facts["at_run"]:
        lines.append("\nA call beyond `allow` ends with the error authority.denied before it is made.")
    return "\n".join(lines)


def _needs_note(plan: Plan, kind: str, names: list[str]) -> bool:
    if kind == "tools":
        return any(plan.tools[name].type == "python" for name in names if name in plan.tools)
    return bool(names) and kind in _NOTES


def _shown(kind: str, name: str, effects: dict[str, str]) -> str:
    from engine.core.plan.grant import ANY, DEFAULT_MODEL

    if name == ANY:
        return f"any of the {kind}, as the step computes it"
    if kind == "models" and name == DEFAULT_MODEL:
        return "the operator's default model"
    return f"{name} (effect: {effects[name]})" if kind == "tools" and name in effects else name
