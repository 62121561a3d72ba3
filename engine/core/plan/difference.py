"""Says in words how one version of a plan differs from another, and what it newly permits. Workflow-safe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from engine.core.plan.codec import plan_to_json
from engine.core.plan.grant import ANY, DEFAULT_MODEL, VERBS, Reach, granted, within
from engine.core.plan.ir import Plan
from engine.core.plan.lists import inner_blocks, named_lists, positions
from engine.core.plan.ops import Op
from engine.core.plan.reach import reach_of
from engine.core.plan.render import op_title
from engine.core.spec.vocabulary import MARKER_OF
from engine.core.values import Json, canonical_json

NUMBERS: Final = frozenset({"parallelism", "repair", "take", "max_rounds", "attempts", "at_most"})
"""Members of ops that are whole numbers and no numbers of blocks."""
WALKED: Final = frozenset({"format", "stdlib", "defaults", "blocks", "workflows", "tools", "agent", "ending", "drift"})
"""Members of a plan that are compared by their own rules, or are not the author's."""
VALUE: Final = "the value"
WORDS: Final = {
    "otherwise": "else",
    "value": VALUE,
    "values": VALUE,
    "items": "in",
    "seconds": "the time",
    "message": "the message",
    "stagger_s": "stagger",
    "timeout_s": "timeout",
    "total_timeout_s": "total_timeout",
    "checks": "check",
    "cost_usd": "cost",
    "models": "model",
}
"""What authors call members of ops and modifiers that have another name in a plan."""
MARKED: Final = frozenset({"messages", "condition"})
"""Members that stand at the key by which a step shows its kind."""


NOTHING: Final = Reach()


@dataclass(frozen=True, slots=True)
class Difference:
    """How a plan differs from an older one.

    Attributes:
        changes: What is new, gone or changed, one sentence each.
        gains: What it may touch and the older one may not.
        losses: What the older one may touch and it may not.
        reach: Names behind `gains`.
    """

    changes: list[str] = field(default_factory=list)
    gains: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    reach: Reach = NOTHING

    def to_json(self) -> dict[str, Any]:
        """Return {changes, gains, losses, reach}."""
        return {"changes": self.changes, "gains": self.gains, "losses": self.losses, "reach": self.reach.to_json()}


def plan_difference(old: Plan | None, new: Plan) -> Difference:
    """Compare two plans.

    Args:
        old: The older one; None = there was none, so that everything is new.
        new: The newer one.
    """
    reach = within(new.allow, reach_of(new))
    if old is None:
        return Difference([], list(_reach_words(new, reach)), [], reach)
    before = within(old.allow, reach_of(old))
    beyond = reach.beyond(before)
    gains = [*_reach_words(new, beyond), *_child_words(new, old), *_worse_tools(old, new)]
    changes = [*_task_changes(old, new), *_step_changes(old, new), *_tool_changes(old, new)]
    losses = [*_reach_words(old, before.beyond(reach)), *_child_words(old, new)]
    return Difference(changes, gains, losses, beyond)


# --- reach in words ------------------------------------------------------------------------------------------------


def _reach_words(plan: Plan, reach: Reach) -> Iterator[str]:
    for name in reach.tools:
        contract = plan.tools.get(name)
        effect = f" (effect: {contract.effect.value})" if contract is not None else ""
        yield f"call the tool '{name}'{effect}"
    for name in reach.models:
        if name == ANY:
            yield "ask any model: its name is computed when the step runs"
        else:
            yield "ask the default model" if name == DEFAULT_MODEL else f"ask the model '{name}'"
    for name in reach.hosts:
        if name == ANY:
            yield "call any host that the operator allows: the address is computed when the step runs"
        else:
            yield f"call the host {name}"
    for name in reach.secrets:
        yield "read any secret" if name == ANY else f"read the secret '{name}'"
    for name in reach.tasks:
        yield "run any task" if name == ANY else f"run the task '{name}'"


def _child_words(plan: Plan, other: Plan) -> Iterator[str]:
    """Say what the tasks that both plans run may touch under the one's bound, and may not under the other's."""
    if plan.allow != other.allow and set(reach_of(plan).tasks) & set(reach_of(other).tasks):
        for kind, names in granted(plan.allow).beyond(granted(other.allow)).kinds():
            for name in names:
                deed = VERBS[kind].replace(" the ", " any ") if name == ANY else f"{VERBS[kind]} '{name}'"
                yield f"let the tasks that it runs {deed}"


_HARM: Final = ("none", "read", "write", "external")


def _worse_tools(old: Plan, new: Plan) -> Iterator[str]:
    for name, contract in new.tools.items():
        before = old.tools.get(name)
        if before is not None and _HARM.index(contract.effect.value) > _HARM.index(before.effect.value):
            yield f"let the tool '{name}' {contract.effect.value}, which could only {before.effect.value} before"


# --- the task ------------------------------------------------------------------------------------------------------


def _task_changes(old: Plan, new: Plan) -> Iterator[str]:
    before, after = plan_to_json(old), plan_to_json(new)
    for key in sorted({*before, *after} - WALKED):
        if before.get(key) == after.get(key):
            continue
        name = "name" if key == "task" else key
        if isinstance(before.get(key), str) and isinstance(after.get(key), str):
            yield f"the task's {name} is '{after[key]}', was '{before[key]}'"
        elif key not in before:
            yield f"the task has '{name}' now"
        elif key not in after:
            yield f"the task has no '{name}' any more"
        else:
            yield f"the task's {name}: {_members(before[key], after[key])}"


def _members(before: Json, after: Json) -> str:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return "changed"
    names = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return f"{', '.join(WORDS.get(name, name) for name in names)} changed"


def _tool_changes(old: Plan, new: Plan) -> Iterator[str]:
    for name, contract in new.tools.items():
        before = old.tools.get(name)
        if before is None or before == contract:
            continue
        items = dataclasses.fields(contract)
        names = [item.name for item in items if getattr(contract, item.name) != getattr(before, item.name)]
        yield f"the tool '{name}': {', '.join(WORDS.get(each, each) for each in names)} changed"


# --- steps ---------------------------------------------------------------------------------------------------------


def _lists(plan: Plan) -> dict[str, int]:
    """Return the blocks of all named lists by their paths; in lists that jump, each block counts as a list."""
    return {
        path: number
        for name, first in named_lists(plan).items()
        for path, number in positions(plan, name, first).items()
    }


def _step_changes(old: Plan, new: Plan) -> Iterator[str]:
    before, after = _lists(old), _lists(new)
    for name in [*after, *(name for name in before if name not in after)]:
        if name not in before:
            yield f"the list '{name}' is new ({_count(new, after[name])})"
        elif name not in after:
            yield f"the list '{name}' is gone ({_count(old, before[name])})"
        else:
            yield from _block_changes(old, before[name], new, after[name], name)


def _count(plan: Plan, block: int) -> str:
    number = len(plan.blocks[block].ops)
    return f"{number} step{'' if number == 1 else 's'}"


def _block_changes(old: Plan, old_block: int, new: Plan, new_block: int, path: str) -> Iterator[str]:
    before, after = old.blocks[old_block].ops, new.blocks[new_block].ops
    keys_before, keys_after = [_key_of(op) for op in before], [_key_of(op) for op in after]
    matcher = SequenceMatcher(None, keys_before, keys_after, autojunk=False)
    for verb, start, end, first, last in matcher.get_opcodes():
        if verb == "equal":
            for offset in range(end - start):
                place = f"{path}.{first + offset}"
                yield from _op_changes(old, before[start + offset], new, after[first + offset], place)
            continue
        yield from _replaced(old, list(range(start, end)), before, new, list(range(first, last)), after, path)


def _replaced(
    old: Plan, gone: list[int], before: tuple[Op, ...], new: Plan, come: list[int], after: tuple[Op, ...], path: str
) -> Iterator[str]:
    """Pair steps of one kind, in order, as changed ones; what is left over is new or gone."""
    for index in come:
        match = next((one for one in gone if before[one].op is after[index].op), None)
        if match is None:
            yield f"{path}.{index}: new step: {_called(after[index])}"
            continue
        gone.remove(match)
        yield from _op_changes(old, before[match], new, after[index], f"{path}.{index}")
    for index in gone:
        yield f"{path}.{index} (before): step gone: {_called(before[index])}"


def _called(op: Op) -> str:
    return f"{MARKER_OF[op.op]} '{op.label}'" if op.label else op_title(op)


def _key_of(op: Op) -> str:
    return canonical_json([op.op.value, op.label]) if op.label else canonical_json([op.op.value, "", _facts_of(op)])


def _op_changes(old: Plan, before: Op, new: Plan, after: Op, place: str) -> Iterator[str]:
    facts_before, facts_after = _facts_of(before), _facts_of(after)
    marker = MARKER_OF[after.op]
    names = [marker if name in MARKED else WORDS.get(name, name) for name in _changed(facts_before, facts_after)]
    if before.label != after.label:
        yield f"{place}: the label is '{after.label}', was '{before.label}'"
    if names:
        yield f"{place}: {_called(after)}: {', '.join(dict.fromkeys(names))} changed"
    inner_before = {old.blocks[number].name: number for number in inner_blocks(before)}
    inner_after = {new.blocks[number].name: number for number in inner_blocks(after)}
    for name, number in inner_after.items():
        if name in inner_before:
            yield from _block_changes(old, inner_before[name], new, number, f"{place}.{name}")
        else:
            yield f"{place}: {_called(after)}: `{name}` is new ({_count(new, number)})"
    for name, number in inner_before.items():
        if name not in inner_after:
            yield f"{place}: {_called(after)}: `{name}` is gone ({_count(old, number)})"


def _changed(before: dict[str, Json], after: dict[str, Json]) -> Iterator[str]:
    """Yield the names of what differs; of the modifiers, each one's."""
    for key, value in after.items():
        old = before.get(key)
        if old == value:
            continue
        if key == "mods" and isinstance(old, dict) and isinstance(value, dict):
            yield from _changed(old, value)
        else:
            yield key


def _facts_of(op: Op) -> dict[str, Json]:
    """Return an op's members without the numbers of its blocks, which change with every step before it."""
    inside = frozenset(inner_blocks(op))
    return {
        item.name: _plain(getattr(op, item.name), item.name, inside)
        for item in dataclasses.fields(op)
        if item.name not in ("op", "label")
    }


def _plain(value: Any, name: str, inside: frozenset[int]) -> Json:
    if isinstance(value, int) and not isinstance(value, bool):
        return None if name not in NUMBERS and value in inside else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # the names of values' own members, such as `value` of a literal, say nothing about blocks
        nested = frozenset[int]() if hasattr(value, "t") else inside
        return {item.name: _plain(getattr(value, item.name), item.name, nested) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item, "", frozenset()) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, name, inside) for item in value]
    return value
