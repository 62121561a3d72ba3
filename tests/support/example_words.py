"""Computes from a plan which words of the task language a task uses, and which words there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

from engine.core.kinds import Dialect
from engine.core.plan import ops, policies
from engine.core.plan.ir import Limits, Plan
from engine.core.spec.vocabulary import DEFAULT_ROUNDS, MARKER_OF, ON_FAIL

NAMES = {
    "checks": "check",
    "cost_usd": "cost",
    "ending": "finally",
    "initial_s": "initial",
    "max_s": "max",
    "otherwise": "else",
    "stagger_s": "stagger",
    "timeout_s": "timeout",
    "total_timeout_s": "total_timeout",
}
"""Members of a plan that authors know by another name."""
NO_WORDS = frozenset(
    ["task", "blocks", "workflows", "tools", "agent", "limits", "dialect", "format", "stdlib", "defaults", "drift"]
)
TASK_MEMBERS = tuple(item.name for item in dataclasses.fields(Plan) if item.name not in NO_WORDS)
ON_ITEM_ERROR = ("collect", "skip")
NO_MEMBERS = ("op", "mods", "label", "hands_over")
"""Members of steps that no task can say, or that all steps have."""
NOT_RUN = frozenset({"contenox"})
"""What is only planned in this version."""


def words_of(plan: Plan) -> set[str]:
    """Return the words that a plan shows, such as `race`, `race.stagger`, `check.on_fail: ask` and `julep-2024`."""
    found = {str(plan.dialect), *(_name(member) for member in _said(plan) if member in TASK_MEMBERS)}
    limits = [f"limits.{_name(member)}" for member in _said(plan.limits)]
    found.update(limits, ["limits"] if limits else [])
    for block in plan.blocks:
        for op in block.ops:
            found.update(_words_of_op(op))
    return found


def _words_of_op(op: Any) -> Iterator[str]:
    marker = MARKER_OF[op.op]
    yield marker
    for member in _said(op):
        if member == "label":
            yield member
        elif member == "on_item_error":
            yield f"{marker}.{member}: {op.on_item_error}"
        elif member not in ("op", "mods") and (member, getattr(op, member)) != ("max_rounds", DEFAULT_ROUNDS):
            yield f"{marker}.{_name(member)}"
    yield from map(_name, _said(op.mods))
    yield from (f"check.on_fail: {check.on_fail}" for check in op.mods.checks)
    if op.mods.retry is not None:
        yield from (f"retry.{_name(member)}" for member in _said(op.mods.retry))


def all_words() -> set[str]:
    """Return all words that a task can show and that this version runs."""
    words = {*get_args(Dialect), "label", "limits", *map(_name, TASK_MEMBERS)}
    words.update(f"check.on_fail: {word}" for word in ON_FAIL)
    words.update(_members(policies.Modifiers), (f"retry.{member}" for member in _members(policies.RetryPolicy)))
    words.update(f"limits.{member}" for member in _members(Limits))
    for kind in get_args(get_args(ops.Op)[0]):
        words.update(_words_of_kind(kind))
    return {word for word in words if word not in NOT_RUN and word.split(".")[0] not in NOT_RUN}


def _words_of_kind(kind: type[Any]) -> Iterable[str]:
    marker = MARKER_OF[get_args(get_type_hints(kind)["op"])[0]]
    yield marker
    for member in _members(kind):
        if member == "on_item_error":
            yield from (f"{marker}.{member}: {word}" for word in ON_ITEM_ERROR)
        elif member not in NO_MEMBERS:
            yield f"{marker}.{member}"


def _said(thing: Any) -> Iterator[str]:
    """Yield the members that differ from their defaults, or have none."""
    for item in dataclasses.fields(thing):
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if getattr(thing, item.name) != default:
            yield item.name


def _members(kind: type[Any]) -> Iterator[str]:
    return (_name(item.name) for item in dataclasses.fields(kind))


def _name(member: str) -> str:
    return NAMES.get(member, member)
