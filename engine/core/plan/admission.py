"""What `dispatch.admission` of a task means for a start: its rules. Workflow-safe.

The rules are no part of the plan; they are made of the task as its author wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.core.diagnostics import Findings
from engine.core.kinds import Dialect
from engine.core.plan.checks import StepNames
from engine.core.plan.computed import Expr
from engine.core.plan.dialects import make_resolver
from engine.core.plan.resolve import INPUT_NAMES
from engine.core.spec.dispatch import Busy, CollectSpec, DispatchSpec
from engine.core.spec.model import TaskSpec
from engine.core.spec.nodes import Node, node_from_json
from engine.core.spec.read import read_task

Gathering = Literal["", "debounce", "collect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How starts of a task are let in.

    Attributes:
        gathering: Whether starts become one execution, and how: the last one counts, or all are gathered.
        gather_key: What these have in common; None = nothing.
        wait_s: How long to wait for others.
        at_most_s: After which time not to wait any longer; None = never.
        size: How many are enough.
        busy: What becomes of a start while one runs; None = any number may run.
        single_key: As `gather_key`, of those of which one runs at a time.
        limit: How many executions of the task run at a time; None = any number.
        per_key: How many of those with the same key.
        limit_key: That key.
    """

    gathering: Gathering = ""
    gather_key: Expr | None = None
    wait_s: float = 0.0
    at_most_s: float | None = None
    size: int = 0
    busy: Busy | None = None
    single_key: Expr | None = None
    limit: int | None = None
    per_key: int | None = None
    limit_key: Expr | None = None


def has_rules(spec: Mapping[str, Any]) -> bool:
    """Whether a task, as its author wrote it, has rules of admission at all."""
    dispatch = spec.get("dispatch")
    return isinstance(dispatch, dict) and bool(dispatch.get("admission"))


def rules_of(spec: Mapping[str, Any], dialect: Dialect) -> Rules | None:
    """Read the rules of a task.

    Args:
        spec: The task as its author wrote it, which was checked when it was stored.
        dialect: The dialect of its texts.

    Returns:
        Its rules; None if every start is let in at once.
    """
    if not has_rules(spec):
        return None
    task, _ = read_task(node_from_json(dict(spec)), dialect)
    return None if task.dispatch is None else _Reader(task).read(task.dispatch)


class _Reader:
    def __init__(self, task: TaskSpec) -> None:
        self._findings = Findings()
        self._resolver = make_resolver(task, self._findings)
        self._scope = StepNames(INPUT_NAMES, "dispatch", frozenset(), 0, 0, self._findings)

    def read(self, dispatch: DispatchSpec) -> Rules | None:
        gathered, single, places = dispatch.debounce or dispatch.collect, dispatch.singleton, dispatch.concurrency
        if gathered is None and single is None and places is None:
            return None
        collects = isinstance(gathered, CollectSpec)
        return Rules(
            gathering="" if gathered is None else "collect" if collects else "debounce",
            gather_key=None if gathered is None else self._key(gathered.key),
            wait_s=0.0 if gathered is None else gathered.wait_s,
            at_most_s=None if dispatch.debounce is None else dispatch.debounce.at_most_s,
            size=gathered.size if isinstance(gathered, CollectSpec) else 0,
            busy=None if single is None else single.busy,
            single_key=None if single is None else self._key(single.key),
            limit=None if places is None else places.limit,
            per_key=None if places is None else places.per_key,
            limit_key=None if places is None else self._key(places.key),
        )

    def _key(self, node: Node | None) -> Expr | None:
        return None if node is None else self._resolver.expression(node, "dispatch.admission", self._scope)
